//! The Job that restores a stored archive on trial: the runner's image under an account of its own, with the destination to
//! read and no Secret of a database.

use super::{Plan, job, labels, metadata, trial_labels, verifier};
use chrono::NaiveDate;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use valerix_crds::{
    backup_runner::{SLOT_ENV, VERIFY, verification_job_name},
    names::SLOT_LABEL,
};

/// Pods after the first that a crash or an unreachable API server may cost.
const RETRIES: i32 = 1;
/// How long an ended Job is kept for a look at its log. Unit: seconds.
const KEPT: i32 = 24 * 60 * 60;

/// Builds the Job of a slot.
pub fn build_verification_job(plan: &Plan, slot: NaiveDate) -> Job {
    let mut metadata = metadata(plan, verification_job_name(&plan.name, slot));
    let mut all = labels(&plan.name);
    all.insert(SLOT_LABEL.to_owned(), slot.to_string());
    metadata.labels = Some(all);
    let mut pod = job::pod(plan, verifier(plan), job::Work::TrialRestore);
    if let Some(container) = pod.containers.first_mut() {
        container.command.get_or_insert_default().push(VERIFY.to_owned());
        let environment = container.env.get_or_insert_default();
        environment.push(job::value(SLOT_ENV, slot.to_string()));
    }
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(plan.deadline_seconds),
            pod_replacement_policy: Some("Failed".into()),
            // A node that is drained says nothing about the archive, which is tried once only.
            pod_failure_policy: Some(job::failure_policy()),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(trial_labels(&plan.name)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}
