//! The Job that runs the backup runner: its environment, its mounts, its rights, and what its exit codes mean.

use super::{Plan, Slot, account, labels};
use k8s_openapi::{
    api::{
        batch::v1::{
            CronJob, Job, JobSpec, JobTemplateSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector,
            PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
            SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Resource, api::ObjectMeta};
use std::collections::BTreeMap;
use valerix_crds::{
    BackupDatabase, DestinationChoice, SecretReference,
    backup_runner::{
        AGE_FOLDER, CONNECTIONS_FOLDER, DESTINATION_FOLDER, FINAL_EXIT_CODES, JOB_NAME_ENV, JOB_NAME_LABEL,
        NAMESPACE_ENV, POD_UID_ENV, POLICY_ENV, POLICY_UID_ENV, S3_AUTHORITY_FOLDER, S3_CREDENTIALS_FOLDER,
        SCRATCH_FOLDER, SPEC_ENV, job_name,
    },
    names::{RUN_ANNOTATION, SLOT_LABEL},
};

/// Room for dumps and archive when the policy does not say.
const DEFAULT_SCRATCH_SIZE: &str = "4Gi";
/// Name of the container, which the failure policy speaks of.
pub(crate) const CONTAINER: &str = "backup";
/// User and group of the image.
pub(crate) const USER: i64 = 65532;
/// How long a pod may go on with the one request to a bucket after it was asked to end.
pub(crate) const PUT_GRACE_SECONDS: i64 = 4096;
/// Pods after the first that a crash or an unreachable API server may cost.
const RETRIES: i32 = 2;

/// Builds what the CronJob makes Jobs from.
pub fn build_job_template(plan: &Plan) -> JobTemplateSpec {
    JobTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(&plan.name)),
            ..ObjectMeta::default()
        }),
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(plan.deadline_seconds),
            // A second pod never runs beside a first one that is still ending.
            pod_replacement_policy: Some("Failed".into()),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(&plan.name)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(plan, account(plan), Work::Run)),
            },
            ..JobSpec::default()
        }),
    }
}

/// Builds the Job of a slot as the CronJob would make it, under the name that it would give it; `by_hand` is the id of
/// the run by hand that it is, if it is one. `None` while the CronJob has no UID.
pub fn build_job(plan: &Plan, cron_job: &CronJob, slot: Slot, by_hand: Option<&str>) -> Option<Job> {
    let template = cron_job.spec.as_ref()?.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(SLOT_LABEL.to_owned(), slot.day.to_string());
    let mut annotations = metadata.annotations.unwrap_or_default();
    if let Some(run) = by_hand {
        annotations.insert(RUN_ANNOTATION.to_owned(), run.to_owned());
        annotations.insert("cronjob.kubernetes.io/instantiate".to_owned(), "manual".to_owned());
    }
    Some(Job {
        metadata: ObjectMeta {
            name: Some(job_name(&plan.name, slot.at)),
            namespace: Some(plan.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![cron_job.controller_owner_ref(&())?]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    })
}

pub(crate) fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".into(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: "True".into(),
                }]),
                on_exit_codes: None,
            },
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(CONTAINER.into()),
                    operator: "In".into(),
                    values: FINAL_EXIT_CODES.map(i32::from).into(),
                }),
                on_pod_conditions: None,
            },
        ],
    }
}

/// What a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It reads databases and writes the destination.
    Run,
    /// It reads the destination.
    TrialRestore,
    /// It removes from the destination.
    Removal,
}

pub(super) fn pod(plan: &Plan, account: String, work: Work) -> PodSpec {
    PodSpec {
        service_account_name: Some(account),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        restart_policy: Some("Never".into()),
        termination_grace_period_seconds: grace(plan, work),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: CONTAINER.into(),
            image: Some(plan.runner.image.clone()),
            image_pull_policy: Some("IfNotPresent".into()),
            command: Some(vec!["/bin/backup".into()]),
            env: Some(environment(plan, work)),
            resources: Some(resources(plan, work)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".into()]),
                    add: None,
                }),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(mounts(plan, work)),
            ..Container::default()
        }],
        volumes: Some(volumes(plan, work)),
        ..PodSpec::default()
    }
}

/// A request to a bucket that is cut costs the day, so a pod that sends one is given the time that 4 GiB take. Any other
/// ends at once.
fn grace(plan: &Plan, work: Work) -> Option<i64> {
    let puts = work == Work::Run && matches!(plan.destination, DestinationChoice::S3(_));
    puts.then_some(PUT_GRACE_SECONDS)
}

pub(crate) fn value(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value),
        value_from: None,
    }
}

pub(crate) fn field(name: &str, path: String) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path,
                api_version: Some("v1".into()),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn environment(plan: &Plan, work: Work) -> Vec<EnvVar> {
    // A specification that came from the API server always becomes JSON again.
    let spec = serde_json::to_string(&plan.spec).unwrap_or_default();
    let mut environment = vec![
        value(POLICY_ENV, plan.name.clone()),
        value(POLICY_UID_ENV, plan.uid.clone()),
        value(SPEC_ENV, spec),
        field(NAMESPACE_ENV, "metadata.namespace".into()),
        field(POD_UID_ENV, "metadata.uid".into()),
    ];
    if work == Work::Run {
        environment.push(field(JOB_NAME_ENV, format!("metadata.labels['{JOB_NAME_LABEL}']")));
    }
    environment
}

fn mounts(plan: &Plan, work: Work) -> Vec<VolumeMount> {
    let mount = |name: String, path: String, read_only| VolumeMount {
        name,
        mount_path: path,
        read_only,
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("scratch".into(), SCRATCH_FOLDER.into(), None)];
    match &plan.destination {
        DestinationChoice::VolumeClaim(_) => {
            let read_only = (work == Work::TrialRestore).then_some(true);
            mounts.push(mount("destination".into(), DESTINATION_FOLDER.into(), read_only));
        }
        DestinationChoice::S3(destination) => {
            mounts.push(mount("s3-credentials".into(), S3_CREDENTIALS_FOLDER.into(), Some(true)));
            if destination.ca_secret_ref.is_some() {
                mounts.push(mount("s3-authority".into(), S3_AUTHORITY_FOLDER.into(), Some(true)));
            }
        }
    }
    if identity(plan, work).is_some() {
        mounts.push(mount("age".into(), AGE_FOLDER.into(), Some(true)));
    }
    let connections = connections(plan, work).len();
    mounts.extend((0..connections).map(|index| {
        mount(
            format!("connection-{index}"),
            format!("{CONNECTIONS_FOLDER}/{index}"),
            Some(true),
        )
    }));
    mounts
}

fn volumes(plan: &Plan, work: Work) -> Vec<Volume> {
    let mut volumes = vec![Volume {
        name: "scratch".into(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(scratch_size(plan)),
            medium: None,
        }),
        ..Volume::default()
    }];
    match &plan.destination {
        DestinationChoice::VolumeClaim(destination) => volumes.push(Volume {
            name: "destination".into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: destination.claim_name.clone(),
                read_only: None,
            }),
            ..Volume::default()
        }),
        DestinationChoice::S3(destination) => {
            volumes.push(secret("s3-credentials".into(), &destination.credentials_secret_ref));
            volumes.extend(
                destination
                    .ca_secret_ref
                    .as_ref()
                    .map(|reference| secret("s3-authority".into(), reference)),
            );
        }
    }
    volumes.extend(identity(plan, work).map(|reference| secret("age".into(), reference)));
    let connections = connections(plan, work).iter().enumerate();
    volumes.extend(
        connections.map(|(index, database)| secret(format!("connection-{index}"), &database.connection_secret_ref)),
    );
    volumes
}

/// The databases that a pod must reach.
fn connections(plan: &Plan, work: Work) -> &[BackupDatabase] {
    match work {
        Work::Run => &plan.spec.databases,
        Work::TrialRestore | Work::Removal => &[],
    }
}

/// The private key that opens archives, for a pod that opens them: whoever makes them never sees it.
fn identity(plan: &Plan, work: Work) -> Option<&SecretReference> {
    let encryption = plan.spec.encryption.as_ref().filter(|_| work == Work::TrialRestore)?;
    encryption.identity_secret_ref.as_ref()
}

/// A mounted Secret. Optional: the runner names what is missing, where a pod would only hang.
pub(crate) fn secret(name: String, reference: &SecretReference) -> Volume {
    Volume {
        name,
        secret: Some(SecretVolumeSource {
            secret_name: Some(reference.name.clone()),
            optional: Some(true),
            default_mode: Some(0o440),
            items: None,
        }),
        ..Volume::default()
    }
}

/// What dumps and archive may take of a node.
fn scratch_size(plan: &Plan) -> Quantity {
    let given = plan
        .spec
        .scratch
        .as_ref()
        .and_then(|scratch| scratch.size_limit.clone());
    Quantity(given.unwrap_or_else(|| DEFAULT_SCRATCH_SIZE.into()))
}

fn resources(plan: &Plan, work: Work) -> ResourceRequirements {
    const STORAGE: &str = "ephemeral-storage";
    let quantity = |text: &str| Quantity(text.to_owned());
    let (mut requests, limits) = match plan.spec.job.as_ref().and_then(|job| job.resources.as_ref()) {
        Some(resources) => (resources.requests.clone(), resources.limits.clone()),
        None => (
            [("cpu", "50m"), ("memory", "64Mi")]
                .map(|(name, amount)| (name.to_owned(), quantity(amount)))
                .into(),
            BTreeMap::new(),
        ),
    };
    // A node that cannot hold the scratch folder is not chosen, instead of being filled. A removal puts nothing there.
    if work != Work::Removal && !limits.contains_key(STORAGE) {
        requests.entry(STORAGE.to_owned()).or_insert_with(|| scratch_size(plan));
    }
    ResourceRequirements {
        requests: Some(requests).filter(|map| !map.is_empty()),
        limits: Some(limits).filter(|map| !map.is_empty()),
        claims: None,
    }
}
