//! Third step: a plan as the objects that make it true. Pure: the same plan always gives the same objects.

mod account;
mod job;

pub use job::{build_drop_job, build_job};

use super::validate::Plan;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::ServiceAccount, rbac::v1::RoleBinding},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::collections::BTreeMap;
use valerix_crds::{
    names::{MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, RESTORE_LABEL},
    restore_runner::job_name,
};

/// Value of the name label of everything that restores.
const RUNNER: &str = "valerix-restore";

/// Everything that the operator owns for one Restore. Who takes it apart does so without `..`, so that a new child does
/// not compile before it is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// What the Job runs as.
    pub service_account: ServiceAccount,
    /// What the Job may do.
    pub role_binding: RoleBinding,
    /// The Job; it is made once.
    pub job: Job,
}

/// Builds everything that restores.
pub fn build(plan: &Plan) -> Resources {
    with_job(plan, build_job(plan))
}

/// Builds everything that drops what was replaced.
pub fn build_drop(plan: &Plan) -> Resources {
    with_job(plan, build_drop_job(plan))
}

fn with_job(plan: &Plan, job: Job) -> Resources {
    Resources {
        service_account: account::build_service_account(plan),
        role_binding: account::build_role_binding(plan),
        job,
    }
}

fn labels(restore: &str) -> BTreeMap<String, String> {
    [
        (RESTORE_LABEL, restore),
        (NAME_LABEL, RUNNER),
        (MANAGED_BY_LABEL, MANAGED_BY),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
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

/// Name of the ServiceAccount and of the RoleBinding: the Job's.
fn account(plan: &Plan) -> String {
    job_name(&plan.name)
}

#[cfg(test)]
mod tests {
    use super::super::{dereference::Observed, fixtures, validate};
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use valerix_crds::restore_runner::{SOURCE_ENV, SourceArchive};

    fn planned(changes: Value) -> Plan {
        let observed = Observed {
            records: vec![Arc::new(
                serde_json::from_value(fixtures::record("2026-08-21")).unwrap(),
            )],
            ..Observed::default()
        };
        validate::validate(&fixtures::restore(changes), &observed, &fixtures::runner()).unwrap()
    }

    fn replacing() -> Value {
        json!({
            "mode": "ReplaceDatabase", "databases": [{"name": "orders"}], "replace": {"confirm": "orders"},
            "target": {"connectionSecretRef": {"name": "orders-db"}, "adminSecretRef": {"name": "admin"}},
        })
    }

    #[test]
    fn everything_of_a_restore() {
        let Resources {
            service_account,
            role_binding,
            job,
        } = build(&planned(replacing()));
        insta::assert_yaml_snapshot!("service_account", service_account);
        insta::assert_yaml_snapshot!("role_binding", role_binding);
        insta::assert_yaml_snapshot!("job", job);
    }

    #[test]
    fn the_runner_is_told_where_the_archive_is_and_may_not_write_there() {
        let plan = planned(json!({}));
        let pod = build(&plan).job.spec.unwrap().template.spec.unwrap();
        let container = &pod.containers[0];
        let environment = container.env.as_ref().unwrap();
        let source = environment.iter().find(|variable| variable.name == SOURCE_ENV).unwrap();
        let told: SourceArchive = serde_json::from_str(source.value.as_ref().unwrap()).unwrap();
        assert_eq!(told, plan.source);
        let mounts = container.volume_mounts.as_ref().unwrap();
        let destination = mounts.iter().find(|mount| mount.name == "destination").unwrap();
        assert_eq!(destination.read_only, Some(true));
        assert!(
            !mounts.iter().any(|mount| mount.name == "connection-1"),
            "no admin was named"
        );

        let bucket = json!({"source": {"archive": {"key": "a.tar.zst", "destination": {"s3": {
            "bucket": "vault", "credentialsSecretRef": {"name": "keys"}, "caSecretRef": {"name": "authority"}}}}}});
        let pod = build(&planned(bucket)).job.spec.unwrap().template.spec.unwrap();
        let names: Vec<_> = pod
            .volumes
            .as_ref()
            .unwrap()
            .iter()
            .map(|volume| volume.name.as_str())
            .collect();
        assert_eq!(names, ["scratch", "s3-credentials", "s3-authority", "connection-0"]);
    }

    #[test]
    fn what_drops_sees_no_archive() {
        let observed = fixtures::restore(replacing());
        let plan = validate::validate_drop(&observed, &fixtures::runner()).unwrap();
        let job = build_drop(&plan).job;
        assert_eq!(job.metadata.name.as_deref(), Some("back-drop"));
        let pod = job.spec.unwrap().template.spec.unwrap();
        assert_eq!(
            pod.containers[0].args.as_deref(),
            Some(["restore", "--drop-previous"].map(String::from).as_slice())
        );
        let names: Vec<_> = pod
            .volumes
            .as_ref()
            .unwrap()
            .iter()
            .map(|volume| volume.name.as_str())
            .collect();
        assert_eq!(names, ["scratch", "connection-0", "connection-1"]);
    }
}
