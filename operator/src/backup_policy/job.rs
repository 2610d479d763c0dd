//! What a Job and its pods tell: how far it is, why it does not start, how it ended. Pure.

use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};

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

/// Why a pod does not start: one word and a sentence. Kubernetes alternates between words for the same trouble; these do not.
pub fn waiting(pod: &Pod) -> Option<(&'static str, String)> {
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.message.clone());
    if let Some(why) = unschedulable {
        return Some(("Unschedulable", format!("the backup's pod cannot be scheduled: {why}")));
    }
    status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Some((
                "ImageUnavailable",
                format!(
                    "the image {} cannot be pulled: check backup.image of the chart",
                    container.image
                ),
            )),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some((
                "ContainerNotCreated",
                format!(
                    "the backup's container cannot be made: {}",
                    waiting.message.as_deref().unwrap_or_default()
                ),
            )),
            _ => None,
        }
    })
}

/// How a container of the pod ended, unless well.
pub fn termination(pod: &Pod) -> Option<String> {
    pod.status
        .as_ref()?
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| {
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
            pod(json!({"conditions": [{"type": "PodScheduled", "status": status, "message": "no node"}]}))
        };
        let waits = |reason: &str| pod(container(json!({"waiting": {"reason": reason, "message": "m"}})));
        for (pod, expected) in [
            (scheduled("True"), None),
            (scheduled("False"), Some("Unschedulable")),
            (waits("ContainerCreating"), None),
            (waits("ErrImagePull"), Some("ImageUnavailable")),
            (waits("ImagePullBackOff"), Some("ImageUnavailable")),
            (waits("InvalidImageName"), Some("ImageUnavailable")),
            (waits("CreateContainerConfigError"), Some("ContainerNotCreated")),
            (waits("RunContainerError"), Some("ContainerNotCreated")),
        ] {
            assert_eq!(waiting(&pod).map(|(word, _)| word), expected, "{pod:?}");
        }
    }

    #[test]
    fn only_a_bad_end_is_told() {
        let ended = |code: i32| termination(&pod(container(json!({"terminated": {"exitCode": code}}))));
        assert_eq!(ended(0), None);
        assert_eq!(ended(21).unwrap(), "its container ended with 21 (no reason)");
    }
}
