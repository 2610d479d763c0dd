//! Third step: a plan as the objects that make it true. Pure: the same plan always gives the same objects.

mod cron_job;
pub(crate) mod job;
mod network_policy;
mod record;
mod removal;
mod role_binding;
mod service_account;
mod verification;

pub use cron_job::build_cron_job;
pub use job::build_job;
pub use record::{build_found_record, build_record};
pub use removal::build_removal_job;
pub use verification::build_verification_job;

use super::{slot::Slot, validate::Plan};
use k8s_openapi::{
    api::{batch::v1::CronJob, core::v1::ServiceAccount, networking::v1::NetworkPolicy, rbac::v1::RoleBinding},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::collections::BTreeMap;
use valerix_crds::{
    NetworkPolicyMode, TrialRestore,
    names::{COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, POLICY_LABEL, TRIAL_RESTORE},
};

/// Value of the name label of everything that runs a backup.
const RUNNER: &str = "valerix-backup";

/// Everything that the operator owns for one policy. Who takes it apart does so without `..`, so that a new child does
/// not compile before it is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// What the Job runs as, unless the policy names an account of somebody else's.
    pub service_account: Option<ServiceAccount>,
    /// What the Job may do.
    pub role_binding: RoleBinding,
    /// What a trial restore runs as and what that may do, where there are any.
    pub verifier: Option<(ServiceAccount, RoleBinding)>,
    /// Whom a trial restore may talk to, where there are any and they are held back.
    pub network_policy: Option<NetworkPolicy>,
    /// What starts the Job.
    pub cron_job: CronJob,
}

/// Builds everything.
pub fn build(plan: &Plan) -> Resources {
    let verification = plan.spec.verification.as_ref();
    let restores = verification.is_some_and(|verification| verification.restore != TrialRestore::Off);
    let own = own_account(plan);
    let made = |name: String| service_account::build_service_account(plan, name);
    let bound = |name: String, account: String| role_binding::build_role_binding(plan, name, account);
    let verifier = verifier(plan);
    Resources {
        service_account: (account(plan) == own).then(|| made(own.clone())),
        role_binding: bound(own, account(plan)),
        verifier: restores.then(|| (made(verifier.clone()), bound(verifier.clone(), verifier))),
        network_policy: (restores && holds_back(plan)).then(|| network_policy::build_network_policy(plan)),
        cron_job: build_cron_job(plan),
    }
}

/// Whether trial restores are held back by a NetworkPolicy of ours.
pub fn holds_back(plan: &Plan) -> bool {
    let verification = plan.spec.verification.as_ref();
    verification.and_then(|verification| verification.network_policy) != Some(NetworkPolicyMode::None)
}

fn labels(policy: &str) -> BTreeMap<String, String> {
    [
        (POLICY_LABEL, policy),
        (NAME_LABEL, RUNNER),
        (MANAGED_BY_LABEL, MANAGED_BY),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Those of the pods of a trial restore, by which they are told from those of runs.
fn trial_labels(policy: &str) -> BTreeMap<String, String> {
    let mut labels = labels(policy);
    labels.insert(COMPONENT_LABEL.to_owned(), TRIAL_RESTORE.to_owned());
    labels
}

fn metadata(plan: &Plan, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.namespace.clone()),
        labels: Some(labels(&plan.name)),
        owner_references: Some(vec![plan.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Name of the RoleBinding, and of the ServiceAccount that the operator makes.
fn own_account(plan: &Plan) -> String {
    format!("{}-backup", plan.name)
}

/// Name of the ServiceAccount that runs are made under.
fn account(plan: &Plan) -> String {
    let named = plan.spec.job.as_ref().and_then(|job| job.service_account_name.clone());
    named.unwrap_or_else(|| own_account(plan))
}

/// The same of a trial restore.
fn verifier(plan: &Plan) -> String {
    format!("{}-verify", plan.name)
}

#[cfg(test)]
mod tests {
    use super::super::{fixtures, validate::validate};
    use super::*;
    use valerix_crds::backup_runner;

    #[test]
    fn everything_of_a_policy() {
        let plan = validate(&fixtures::policy(), &fixtures::runner(), fixtures::now()).unwrap();
        let Resources {
            service_account,
            role_binding,
            verifier,
            network_policy,
            cron_job,
        } = build(&plan);
        assert_eq!(
            (verifier, network_policy),
            (None, None),
            "nothing is restored unless it is asked for"
        );
        insta::assert_yaml_snapshot!("service_account", service_account);
        insta::assert_yaml_snapshot!("role_binding", role_binding);
        insta::assert_yaml_snapshot!("cron_job", cron_job);
        insta::assert_yaml_snapshot!("record", build_record(&plan, plan.next));
        let mut live = cron_job;
        live.metadata.uid = Some("cron-uid".into());
        let job = build_job(&plan, &live, plan.today, Some("by-hand-1")).unwrap();
        insta::assert_yaml_snapshot!("job_by_hand", job.metadata);
        assert_eq!(job.spec, live.spec.and_then(|spec| spec.job_template.spec));
    }

    #[test]
    fn only_a_trial_restore_sees_the_key_that_opens_archives() {
        let mut policy = fixtures::policy();
        let encryption = serde_json::json!({"ageRecipients": ["age1"], "identitySecretRef": {"name": "backup-key"}});
        policy.spec.encryption = serde_json::from_value(encryption).unwrap();
        let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
        let run = build_cron_job(&plan).spec.unwrap().job_template.spec.unwrap().template;
        let trial = build_verification_job(&plan, plan.today.day).spec.unwrap().template;
        for (template, sees) in [(run, false), (trial, true)] {
            let pod = template.spec.unwrap();
            let text = serde_json::to_string(&pod.volumes).unwrap();
            assert_eq!(text.contains("\"backup-key\""), sees, "{text}");
            let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
            let mount = mounts
                .iter()
                .find(|mount| mount.mount_path == backup_runner::AGE_FOLDER);
            assert_eq!(mount.map(|mount| mount.read_only), sees.then_some(Some(true)));
        }
    }

    #[test]
    fn a_wide_policy_mounts_each_secret_by_its_place() {
        let mut policy = fixtures::policy();
        policy.spec.job = serde_json::from_value(serde_json::json!({
            "deadline": "90m", "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "256Mi"}},
        }))
        .unwrap();
        policy.spec.suspend = true;
        let plan = {
            let mut policy = policy.clone();
            policy
                .spec
                .job
                .as_mut()
                .unwrap()
                .resources
                .as_mut()
                .unwrap()
                .limits
                .clear();
            validate(&policy, &fixtures::runner(), fixtures::now()).unwrap()
        };
        let template = build_cron_job(&plan).spec.unwrap().job_template.spec.unwrap().template;
        let resources = template.spec.unwrap().containers[0].resources.clone().unwrap();
        assert_eq!(resources.limits, None, "an empty map would be drift for ever");
        let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
        let spec = build_cron_job(&plan).spec.unwrap();
        assert_eq!(spec.suspend, Some(true));
        let job = spec.job_template.spec.unwrap();
        assert_eq!(job.active_deadline_seconds, Some(5400));
        let pod = job.template.spec.unwrap();
        let secrets: Vec<_> = pod
            .volumes
            .iter()
            .flatten()
            .filter_map(|volume| Some((volume.name.clone(), volume.secret.as_ref()?.secret_name.clone()?)))
            .collect();
        assert_eq!(
            secrets,
            [
                ("connection-0".to_owned(), "orders-db".to_owned()),
                ("connection-1".to_owned(), "stock-db".to_owned())
            ]
        );
        let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
        for index in 0..2 {
            let path = format!("{}/{index}", backup_runner::CONNECTIONS_FOLDER);
            assert!(
                mounts
                    .iter()
                    .any(|mount| mount.mount_path == path && mount.name == format!("connection-{index}"))
            );
        }
        assert_eq!(
            pod.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0,
            "256Mi"
        );
    }

    #[test]
    fn runs_are_made_under_the_account_that_is_named() {
        let built = |account: &str| {
            let mut policy = fixtures::policy();
            policy.spec.job = serde_json::from_value(serde_json::json!({"serviceAccountName": account})).unwrap();
            policy.spec.verification = serde_json::from_value(serde_json::json!({"restore": "EveryRun"})).unwrap();
            build(&validate(&policy, &fixtures::runner(), fixtures::now()).unwrap())
        };
        let resources = built("vault-reader");
        assert_eq!(resources.service_account, None, "it is somebody else's to make");
        let binding = resources.role_binding;
        assert_eq!(binding.metadata.name.as_deref(), Some("shop-backup"));
        assert_eq!(binding.subjects.unwrap()[0].name, "vault-reader");
        let pod = resources
            .cron_job
            .spec
            .unwrap()
            .job_template
            .spec
            .unwrap()
            .template
            .spec
            .unwrap();
        assert_eq!(pod.service_account_name.as_deref(), Some("vault-reader"));
        let (account, _) = resources.verifier.unwrap();
        assert_eq!(
            account.metadata.name.as_deref(),
            Some("shop-verify"),
            "who checks stays another one"
        );
        assert!(
            built("shop-backup").service_account.is_some(),
            "the operator's own, by its name"
        );
    }

    #[test]
    fn archives_are_removed_by_a_job_that_sees_the_destination_and_nothing_else() {
        let mut policy = fixtures::policy();
        let encryption = serde_json::json!({"ageRecipients": ["age1"], "identitySecretRef": {"name": "backup-key"}});
        policy.spec.encryption = serde_json::from_value(encryption).unwrap();
        let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
        insta::assert_yaml_snapshot!("removal_job", build_removal_job(&plan, 1800, &[]));
    }

    #[test]
    fn a_removal_runs_under_an_account_that_stays_and_is_told_of_open_uploads() {
        let uploads = serde_json::json!([
            {"id": "u", "bucket": "b", "key": "k", "startedAt": "2026-08-20T00:00:00Z"},
        ]);
        let uploads: Vec<valerix_crds::OpenUpload> = serde_json::from_value(uploads).unwrap();
        for (named, expected) in [("vault-reader", "vault-reader"), ("shop-backup", "default")] {
            let mut policy = fixtures::policy();
            policy.spec.job = serde_json::from_value(serde_json::json!({"serviceAccountName": named})).unwrap();
            let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
            let spec = build_removal_job(&plan, 7, &uploads).spec.unwrap();
            assert_eq!(spec.active_deadline_seconds, Some(7));
            let pod = spec.template.spec.unwrap();
            assert_eq!(pod.service_account_name.as_deref(), Some(expected));
            let environment = pod.containers[0].env.as_ref().unwrap();
            let handed = environment
                .iter()
                .find(|variable| variable.name == backup_runner::OPEN_UPLOADS_ENV)
                .and_then(|variable| variable.value.as_deref())
                .unwrap();
            assert_eq!(
                serde_json::from_str::<Vec<valerix_crds::OpenUpload>>(handed).unwrap(),
                uploads
            );
        }
    }

    #[test]
    fn a_trial_restore_sees_the_destination_and_no_database() {
        let mut policy = fixtures::policy();
        policy.spec.verification = serde_json::from_value(serde_json::json!({"restore": "EveryRun"})).unwrap();
        let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
        let resources = build(&plan);
        let (account, binding) = resources.verifier.unwrap();
        assert_eq!(account.metadata.name.as_deref(), Some("shop-verify"));
        assert_eq!(binding.subjects.unwrap()[0].name, "shop-verify");
        let job = build_verification_job(&plan, plan.today.day);
        assert_eq!(job.metadata.name.as_deref(), Some("shop-v20260821"));
        assert_eq!(job.metadata.owner_references.as_ref().unwrap()[0].uid, "policy-uid");
        let spec = job.spec.unwrap();
        // The NetworkPolicy holds this pod back, and none of a run.
        let selector = resources.network_policy.unwrap().spec.unwrap().pod_selector.unwrap();
        let held = selector.match_labels.unwrap();
        assert_eq!(spec.template.metadata.unwrap().labels, Some(held.clone()));
        let run = resources.cron_job.spec.unwrap().job_template.spec.unwrap().template;
        let of_a_run = run.metadata.unwrap().labels.unwrap();
        assert!(
            held.iter().any(|(key, value)| of_a_run.get(key) != Some(value)),
            "{of_a_run:?}"
        );
        // An eviction costs no pod of the few that it has.
        let on = spec.pod_failure_policy.unwrap().rules[0]
            .on_pod_conditions
            .clone()
            .unwrap();
        assert_eq!(on[0].type_, "DisruptionTarget");
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
        assert_eq!(pod.service_account_name.as_deref(), Some("shop-verify"));
        let container = &pod.containers[0];
        assert_eq!(
            container.command.as_deref(),
            Some(["/bin/backup".to_owned(), "verify".to_owned()].as_slice())
        );
        let environment = container.env.as_ref().unwrap();
        let slot = environment
            .iter()
            .find(|variable| variable.name == backup_runner::SLOT_ENV)
            .unwrap();
        assert_eq!(slot.value.as_deref(), Some("2026-08-21"));
        assert!(
            !environment
                .iter()
                .any(|variable| variable.name == backup_runner::JOB_NAME_ENV)
        );
        assert!(pod.volumes.unwrap().iter().all(|volume| volume.secret.is_none()));
        let mounts = container.volume_mounts.as_ref().unwrap();
        let destination = mounts.iter().find(|mount| mount.name == "destination").unwrap();
        assert_eq!(destination.read_only, Some(true));
    }

    #[test]
    fn a_trial_is_held_back_unless_the_policy_says_none() {
        for (verification, expected) in [
            (serde_json::json!({"restore": "Weekly"}), true),
            (
                serde_json::json!({"restore": "Weekly", "networkPolicy": "Managed"}),
                true,
            ),
            (serde_json::json!({"restore": "Weekly", "networkPolicy": "Later"}), true),
            (serde_json::json!({"restore": "Weekly", "networkPolicy": "None"}), false),
            (serde_json::json!({"restore": "Off", "networkPolicy": "Managed"}), false),
        ] {
            let mut policy = fixtures::policy();
            policy.spec.verification = serde_json::from_value(verification.clone()).unwrap();
            let resources = build(&validate(&policy, &fixtures::runner(), fixtures::now()).unwrap());
            assert_eq!(resources.network_policy.is_some(), expected, "{verification}");
        }
    }

    #[test]
    fn a_bucket_is_reached_by_mounted_secrets_and_no_claim() {
        let mut policy = fixtures::policy();
        policy.spec.destination = serde_json::from_value(serde_json::json!({"s3": {
            "bucket": "b", "credentialsSecretRef": {"name": "store"}, "caSecretRef": {"name": "authority"},
        }}))
        .unwrap();
        let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
        let job = build_cron_job(&plan).spec.unwrap().job_template.spec.unwrap();
        let pod = job.template.spec.unwrap();
        let volumes = pod.volumes.unwrap();
        assert!(volumes.iter().all(|volume| volume.persistent_volume_claim.is_none()));
        let mounts = pod.containers[0].volume_mounts.clone().unwrap();
        for (secret, path) in [
            ("store", backup_runner::S3_CREDENTIALS_FOLDER),
            ("authority", backup_runner::S3_AUTHORITY_FOLDER),
        ] {
            let is_it = |volume: &&k8s_openapi::api::core::v1::Volume| {
                let source = volume.secret.as_ref();
                source.is_some_and(|source| {
                    source.secret_name.as_deref() == Some(secret) && source.optional == Some(true)
                })
            };
            let volume = volumes.iter().find(is_it).unwrap();
            let mount = mounts.iter().find(|mount| mount.name == volume.name).unwrap();
            assert_eq!((mount.mount_path.as_str(), mount.read_only), (path, Some(true)));
        }
        assert_eq!(
            pod.termination_grace_period_seconds,
            Some(4096),
            "one request is not cut"
        );
        let environment = pod.containers[0].env.clone().unwrap();
        assert!(environment.iter().all(|variable| variable.name.starts_with("VALERIX_")));
    }

    #[test]
    fn scratch_is_bounded_and_the_node_must_have_the_room() {
        let scratch = |spec: serde_json::Value, resources: serde_json::Value| {
            let mut policy = fixtures::policy();
            policy.spec.scratch = serde_json::from_value(spec).unwrap();
            policy.spec.job = serde_json::from_value(serde_json::json!({"resources": resources})).unwrap();
            let plan = validate(&policy, &fixtures::runner(), fixtures::now()).unwrap();
            let job = build_cron_job(&plan).spec.unwrap().job_template.spec.unwrap();
            let pod = job.template.spec.unwrap();
            let volume = pod
                .volumes
                .unwrap()
                .into_iter()
                .find(|volume| volume.name == "scratch")
                .unwrap();
            let requests = pod.containers[0]
                .resources
                .clone()
                .unwrap()
                .requests
                .unwrap_or_default();
            let asked = requests.get("ephemeral-storage").map(|quantity| quantity.0.clone());
            (volume.empty_dir.unwrap().size_limit.unwrap().0, asked)
        };
        let some = |text: &str| Some(text.to_owned());
        use serde_json::{Value::Null, json};
        assert_eq!(scratch(Null, Null), ("4Gi".into(), some("4Gi")));
        assert_eq!(
            scratch(json!({"sizeLimit": "20Gi"}), Null),
            ("20Gi".into(), some("20Gi"))
        );
        let cpu = json!({"requests": {"cpu": "1"}, "limits": {}});
        assert_eq!(scratch(Null, cpu).1, some("4Gi"));
        let own = json!({"requests": {"ephemeral-storage": "1Gi"}, "limits": {}});
        assert_eq!(scratch(Null, own).1, some("1Gi"), "the user's own word counts");
        let limit = json!({"requests": {}, "limits": {"ephemeral-storage": "5Gi"}});
        assert_eq!(scratch(Null, limit).1, None, "a limit is the request too");
    }
}
