//! The Jobs that run the restoring runner: their environment, mounts and rights.

use super::{Plan, account, labels, metadata};
use crate::backup_policy::build::job::{CONTAINER, USER, failure_policy, field, secret, value};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSecurityContext,
            PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;
use std::collections::BTreeMap;
use valerix_crds::{
    DestinationChoice,
    backup_runner::{
        AGE_FOLDER, CONNECTIONS_FOLDER, DESTINATION_FOLDER, NAMESPACE_ENV, POD_UID_ENV, S3_AUTHORITY_FOLDER,
        S3_CREDENTIALS_FOLDER, SCRATCH_FOLDER,
    },
    restore_runner::{
        ADMIN_MOUNT, CONNECTION_MOUNT, DROP_PREVIOUS, RESTORE, RESTORE_ENV, RESTORE_UID_ENV, SOURCE_ENV, SPEC_ENV,
        drop_job_name, job_name,
    },
};

/// Room for the archive and a dump when the Restore does not say.
const DEFAULT_SCRATCH_SIZE: &str = "4Gi";
/// Pods after the first: a killed one's heir puts back or goes on.
const RETRIES: i32 = 3;
/// How long a pod that is asked to end has to open the old database again. Unit: seconds.
const GRACE_SECONDS: i64 = 120;

/// The Job that restores.
pub fn build_job(plan: &Plan) -> Job {
    job(plan, job_name(&plan.name), &[RESTORE])
}

/// The Job that drops what was replaced.
pub fn build_drop_job(plan: &Plan) -> Job {
    job(plan, drop_job_name(&plan.name), &[RESTORE, DROP_PREVIOUS])
}

fn job(plan: &Plan, name: String, arguments: &[&str]) -> Job {
    Job {
        metadata: metadata(plan, name),
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
                spec: Some(pod(plan, arguments)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod(plan: &Plan, arguments: &[&str]) -> PodSpec {
    let (volumes, volume_mounts) = volumes(plan);
    let json = |text: Result<String, serde_json::Error>| text.unwrap_or_default();
    PodSpec {
        service_account_name: Some(account(plan)),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        restart_policy: Some("Never".into()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
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
            args: Some(arguments.iter().map(|argument| (*argument).to_owned()).collect()),
            // Specifications that came from the API server always become JSON again.
            env: Some(vec![
                value(RESTORE_ENV, plan.name.clone()),
                value(RESTORE_UID_ENV, plan.uid.clone()),
                value(SPEC_ENV, json(serde_json::to_string(&plan.spec))),
                value(SOURCE_ENV, json(serde_json::to_string(&plan.source))),
                field(NAMESPACE_ENV, "metadata.namespace".into()),
                field(POD_UID_ENV, "metadata.uid".into()),
            ]),
            resources: Some(resources(plan)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".into()]),
                    add: None,
                }),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(volume_mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Every volume, and where it is mounted. Nothing but scratch can be written.
fn volumes(plan: &Plan) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![Volume {
        name: "scratch".into(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(scratch_size(plan)),
            medium: None,
        }),
        ..Volume::default()
    }];
    let mut folders = vec![SCRATCH_FOLDER.to_owned()];
    let mut add = |volume: Volume, folder: String| {
        volumes.push(volume);
        folders.push(folder);
    };
    match plan.source.destination.choice() {
        Some(DestinationChoice::VolumeClaim(claim)) => add(
            Volume {
                name: "destination".into(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.claim_name,
                    read_only: None,
                }),
                ..Volume::default()
            },
            DESTINATION_FOLDER.into(),
        ),
        Some(DestinationChoice::S3(destination)) => {
            let credentials = secret("s3-credentials".into(), &destination.credentials_secret_ref);
            add(credentials, S3_CREDENTIALS_FOLDER.into());
            if let Some(authority) = &destination.ca_secret_ref {
                add(secret("s3-authority".into(), authority), S3_AUTHORITY_FOLDER.into());
            }
        }
        None => {}
    }
    if let Some(identity) = &plan.source.identity_secret_ref {
        add(secret("age".into(), identity), AGE_FOLDER.into());
    }
    let target = &plan.spec.target;
    let secrets = [
        (CONNECTION_MOUNT, Some(&target.connection_secret_ref)),
        (ADMIN_MOUNT, target.admin_secret_ref.as_ref()),
    ];
    for (index, reference) in secrets {
        if let Some(reference) = reference {
            let volume = secret(format!("connection-{index}"), reference);
            add(volume, format!("{CONNECTIONS_FOLDER}/{index}"));
        }
    }
    let mounts = volumes.iter().zip(folders).map(|(volume, folder)| VolumeMount {
        name: volume.name.clone(),
        mount_path: folder,
        read_only: (volume.name != "scratch").then_some(true),
        ..VolumeMount::default()
    });
    let mounts = mounts.collect();
    (volumes, mounts)
}

fn scratch_size(plan: &Plan) -> Quantity {
    let given = plan.spec.scratch.as_ref();
    let given = given.and_then(|scratch| scratch.size_limit.clone());
    Quantity(given.unwrap_or_else(|| DEFAULT_SCRATCH_SIZE.into()))
}

fn resources(plan: &Plan) -> ResourceRequirements {
    const STORAGE: &str = "ephemeral-storage";
    let (mut requests, limits) = match plan.spec.job.as_ref().and_then(|job| job.resources.as_ref()) {
        Some(resources) => (resources.requests.clone(), resources.limits.clone()),
        None => (
            [("cpu", "50m"), ("memory", "64Mi")]
                .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
                .into(),
            BTreeMap::new(),
        ),
    };
    // A node that cannot hold the scratch folder is not chosen, instead of being filled.
    if !limits.contains_key(STORAGE) {
        requests.entry(STORAGE.to_owned()).or_insert_with(|| scratch_size(plan));
    }
    ResourceRequirements {
        requests: Some(requests).filter(|map| !map.is_empty()),
        limits: Some(limits).filter(|map| !map.is_empty()),
        claims: None,
    }
}
