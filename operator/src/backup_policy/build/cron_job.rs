//! What starts the daily Job.

use super::{Plan, job, metadata};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};

/// How many ended Jobs are kept for a look at their logs.
const HISTORY: i32 = 3;

/// Builds the CronJob, of the policy's name: the names of its Jobs carry the slot.
pub fn build_cron_job(plan: &Plan) -> CronJob {
    CronJob {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(CronJobSpec {
            schedule: plan.schedule.cron(),
            time_zone: Some(plan.schedule.zone.name().to_owned()),
            concurrency_policy: Some("Forbid".into()),
            starting_deadline_seconds: i64::try_from(plan.schedule.window.as_secs()).ok(),
            successful_jobs_history_limit: Some(HISTORY),
            failed_jobs_history_limit: Some(HISTORY),
            suspend: Some(plan.spec.suspend),
            job_template: job::build_job_template(plan),
        }),
        status: None,
    }
}
