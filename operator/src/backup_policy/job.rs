//! The Jobs of backups and restores: what they run, and what they and their pods tell: how far one is, why it does not
//! start, how it ended. Pure.

use crate::runtime::{
    clock,
    hindrance::{self, Hindrance, Remedies},
};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};
use kube::ResourceExt;

/// What the operator was told about the runner of backups and restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Image of the Job's container.
    pub image: String,
    /// ClusterRole that the Job's ServiceAccount is bound to.
    pub cluster_role: String,
}

/// How long a Job may be without a pod before that is asked about.
pub const POD_PATIENCE: TimeDelta = TimeDelta::seconds(15);

/// A Job, as far as a record or a run by hand wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It may still start pods.
    Active,
    /// A pod ended with 0.
    Complete,
    /// It has given up.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// The state of a Job.
pub fn job_state(job: &Job) -> JobState {
    if job.metadata.deletion_timestamp.is_some() {
        return JobState::Terminating;
    }
    if job_condition(job, "Failed").is_some() {
        return JobState::Failed;
    }
    if job_condition(job, "Complete").is_some() {
        JobState::Complete
    } else {
        JobState::Active
    }
}

/// The condition of this type, while it is true.
pub fn job_condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")
}

/// What the user can do about pods of a backup that do not start.
const REMEDIES: Remedies = Remedies {
    image: "check backup.image of the chart",
    resources: "spec.job.resources (spec.scratch.sizeLimit for ephemeral-storage)",
};

/// Why a Job's next pod does not start. `refused` is what the API server answered to the Job when it has no pod at all.
pub fn hindrance<'a>(pods: impl Iterator<Item = &'a Pod>, refused: Option<&str>) -> Option<Hindrance> {
    match refused {
        Some(said) => Some(hindrance::refused(said, &REMEDIES)),
        None => hindrance::of_pods(pods.filter(|pod| !is_ended(pod)), &REMEDIES),
    }
}

/// Whether the pod has ended, well or not: the Job has counted it.
pub fn is_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a Job that was made long enough ago has no pod that works or waits.
pub fn lacks_pod<'a>(job: &Job, mut pods: impl Iterator<Item = &'a Pod>, now: DateTime<Utc>) -> bool {
    job_state(job) == JobState::Active
        && job
            .creation_timestamp()
            .is_some_and(|made| now - clock::from_time(&made) > POD_PATIENCE)
        && pods.all(is_ended)
}

/// Whether a Job is kept from starting its next pod, by what the pods or their absence tell.
pub fn is_stuck<'a>(job: &Job, pods: impl Iterator<Item = &'a Pod> + Clone, now: DateTime<Utc>) -> bool {
    lacks_pod(job, pods.clone(), now) || hindrance(pods, None).is_some()
}

/// How the pod or a container of it ended, unless well.
pub fn termination(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if let (Some(reason @ "Evicted"), Some(message)) = (status.reason.as_deref(), status.message.as_deref()) {
        return Some(format!("its pod was ended ({reason}): {message}"));
    }
    status.container_statuses.iter().flatten().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then(|| {
            format!(
                "its container ended with {} ({})",
                ended.exit_code,
                ended.reason.as_deref().unwrap_or("no reason")
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use serde_json::{Value, json};

    fn job(metadata: Value, conditions: Value) -> Job {
        serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}})).unwrap()
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    fn container(state: Value) -> Value {
        json!({"containerStatuses": [{"name": "backup", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    #[test]
    fn a_job_is_what_its_true_conditions_say_unless_it_goes() {
        let failed = json!([{"type": "Failed", "status": "True"}]);
        for (metadata, conditions, expected) in [
            (json!({}), json!([]), JobState::Active),
            (
                json!({}),
                json!([{"type": "Failed", "status": "False"}]),
                JobState::Active,
            ),
            (json!({}), failed.clone(), JobState::Failed),
            (
                json!({}),
                json!([{"type": "Complete", "status": "True"}]),
                JobState::Complete,
            ),
            (
                json!({"deletionTimestamp": "2026-08-21T04:00:00Z"}),
                failed,
                JobState::Terminating,
            ),
        ] {
            assert_eq!(job_state(&job(metadata, conditions)), expected);
        }
    }

    #[test]
    fn what_hinders_a_pod_has_one_word_each() {
        let scheduled = |status: &str| {
            pod(
                json!({"conditions": [{"type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": "no node"}]}),
            )
        };
        let waits = |reason: &str| pod(container(json!({"waiting": {"reason": reason, "message": "m"}})));
        for (pod, expected) in [
            (scheduled("True"), None),
            (scheduled("False"), Some("Unschedulable")),
            (waits("ContainerCreating"), None),
            (waits("ErrImagePull"), Some("ImagePullFailed")),
            (waits("ImagePullBackOff"), Some("ImagePullFailed")),
            (waits("InvalidImageName"), Some("ImagePullFailed")),
            (waits("CreateContainerConfigError"), Some("ContainerNotCreated")),
            (waits("RunContainerError"), Some("ContainerCannotRun")),
        ] {
            let found = hindrance([&pod].into_iter(), None);
            assert_eq!(found.map(|found| found.reason.as_str()), expected, "{pod:?}");
        }
        // A pod that has ended hinders nothing: the Job makes another.
        let mut ended = container(json!({"terminated": {"exitCode": 10}}));
        ended["phase"] = json!("Failed");
        assert_eq!(hindrance([&pod(ended)].into_iter(), None), None);
    }

    #[test]
    fn a_job_whose_pod_is_refused_says_by_what_and_where_to_help() {
        let now = fixtures::now();
        let job = |made: TimeDelta, conditions: Value| {
            job(
                json!({"name": "j", "creationTimestamp": clock::time(now - made)}),
                conditions,
            )
        };
        let young = job(POD_PATIENCE, json!([]));
        let old = job(POD_PATIENCE + TimeDelta::seconds(1), json!([]));
        let failed = job(TimeDelta::hours(1), json!([{"type": "Failed", "status": "True"}]));
        let (ended, running) = (pod(json!({"phase": "Failed"})), pod(json!({"phase": "Running"})));
        assert!(lacks_pod(&old, [].into_iter(), now) && lacks_pod(&old, [&ended].into_iter(), now));
        assert!(!lacks_pod(&old, [&ended, &running].into_iter(), now));
        assert!(!lacks_pod(&young, [].into_iter(), now) && !lacks_pod(&failed, [].into_iter(), now));
        let said = "Error creating: pods \"shop-1-abcde\" is forbidden: failed quota: must-limit: must specify limits.cpu for: backup";
        let found = hindrance([].into_iter(), Some(said)).unwrap();
        assert_eq!(found.reason.as_str(), "PodRefused");
        assert!(
            found.message.contains("failed quota: must-limit") && found.message.contains("spec.job.resources"),
            "{}",
            found.message
        );
        assert!(!found.message.contains("abcde"), "the same sentence at each attempt");
    }

    #[test]
    fn only_a_bad_end_is_told() {
        let ended = |code: i32| termination(&pod(container(json!({"terminated": {"exitCode": code}}))));
        assert_eq!(ended(0), None);
        assert_eq!(ended(21).unwrap(), "its container ended with 21 (no reason)");
        let evicted = pod(
            json!({"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume \"scratch\" exceeds the limit \"4Gi\". "}),
        );
        assert!(termination(&evicted).unwrap().contains("exceeds the limit"));
    }
}
