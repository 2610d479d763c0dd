//! The Job that removes the archives of a policy that is deleted: the runner's image with the destination to write, no
//! Secret of a database, and no word with the API server.

use super::{Plan, account, job, labels, own_account};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use valerix_crds::{
    OpenUpload,
    backup_runner::{OPEN_UPLOADS_ENV, REMOVE, removal_job_name},
};

/// Pods after the first that a crash may cost.
const RETRIES: i32 = 2;
/// How long the ended Job is kept for a look at its log. Unit: seconds.
const KEPT: i32 = 24 * 60 * 60;

/// Builds the Job, which may take so many seconds and aborts these uploads in parts too. It has no owner: a policy that is
/// deleted in the foreground would take it along before it has begun.
pub fn build_removal_job(plan: &Plan, deadline: i64, uploads: &[OpenUpload]) -> Job {
    let metadata = ObjectMeta {
        labels: Some(labels(&plan.name)),
        ..ObjectMeta::default()
    };
    // The account that the operator makes for runs, also where the policy names it, goes with the policy as well; every
    // namespace has this one, and it is handed nothing.
    let account = account(plan);
    let account = if account == own_account(plan) {
        "default".into()
    } else {
        account
    };
    let mut pod = job::pod(plan, account, job::Work::Removal);
    pod.automount_service_account_token = Some(false);
    if let Some(container) = pod.containers.first_mut() {
        container.command.get_or_insert_default().push(REMOVE.to_owned());
        if !uploads.is_empty() {
            // What came from the API server always becomes JSON again.
            let uploads = serde_json::to_string(uploads).unwrap_or_default();
            let environment = container.env.get_or_insert_default();
            environment.push(job::value(OPEN_UPLOADS_ENV, uploads));
        }
    }
    Job {
        metadata: ObjectMeta {
            name: Some(removal_job_name(&plan.name, &plan.uid)),
            namespace: Some(plan.namespace.clone()),
            ..metadata.clone()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(deadline),
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
