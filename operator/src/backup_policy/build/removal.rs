//! The Job that removes the archives of a policy that is deleted: the runner's image with the destination to write, no
//! Secret of a database, and no word with the API server.

use super::{Plan, job, labels};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use valerix_crds::backup_runner::{REMOVE, removal_job_name};

/// Pods after the first that a crash may cost.
const RETRIES: i32 = 2;
/// How long it may take. Unit: seconds.
const DEADLINE: i64 = 30 * 60;
/// How long the ended Job is kept for a look at its log. Unit: seconds.
const KEPT: i32 = 24 * 60 * 60;

/// Builds the Job. It has no owner: a policy that is deleted in the foreground would take it along before it has begun.
pub fn build_removal_job(plan: &Plan) -> Job {
    let metadata = ObjectMeta {
        labels: Some(labels(&plan.name)),
        ..ObjectMeta::default()
    };
    // The account of runs goes with the policy as well; every namespace has this one, and it is handed nothing.
    let named = plan.spec.job.as_ref().and_then(|job| job.service_account_name.clone());
    let account = named.unwrap_or_else(|| "default".into());
    let mut pod = job::pod(plan, account, job::Work::Removal);
    pod.automount_service_account_token = Some(false);
    if let Some(container) = pod.containers.first_mut() {
        container.command.get_or_insert_default().push(REMOVE.to_owned());
    }
    Job {
        metadata: ObjectMeta {
            name: Some(removal_job_name(&plan.name, &plan.uid)),
            namespace: Some(plan.namespace.clone()),
            ..metadata.clone()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(DEADLINE),
            pod_replacement_policy: Some("Failed".into()),
            pod_failure_policy: Some(job::failure_policy()),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec {
                metadata: Some(metadata),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}
