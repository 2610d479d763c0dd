//! What the Deployment and the pods say about a rollout: how far it is, and why it does not get on. Pure.

use super::dereference::{Observed, named};
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition},
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt;

/// Longest text that is taken over from Kubernetes. Unit: characters.
const TEXT_LIMIT: usize = 256;
/// Waiting reasons that are steps on the way, not obstacles.
const ON_THE_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// The kubelet goes back and forth between these, each with a text of its own: one word and one text keep status still.
const PULL_FAILURES: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Whether there is a Deployment.
    pub exists: bool,
    /// Whether Kubernetes has seen the newest Deployment.
    pub observed: bool,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods of the current template.
    pub updated: i32,
    /// Pods that are available.
    pub available: i32,
    /// Kubernetes gave up waiting: its own words.
    pub deadline_exceeded: Option<String>,
}

/// Why pods are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Kubernetes' own word, for example `CreateContainerConfigError`.
    pub reason: String,
    /// A sentence that names pod, cause and, where it is known, the remedy.
    pub message: String,
}

impl Rollout {
    /// Reads the Deployment `name`.
    pub fn of(observed: &Observed, name: &str) -> Self {
        let Some(deployment) = named(&observed.children.deployments, name) else {
            return Self::default();
        };
        let status = deployment.status.clone().unwrap_or_default();
        Self {
            exists: true,
            observed: status.observed_generation >= deployment.metadata.generation,
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            deadline_exceeded: condition(deployment, "Progressing")
                .filter(|progressing| progressing.reason.as_deref() == Some("ProgressDeadlineExceeded"))
                .map(|progressing| cut(progressing.message.as_deref().unwrap_or_default())),
        }
    }

    /// Whether every pod is of the current template and available.
    pub fn is_settled(&self, desired: i32) -> bool {
        self.exists && self.observed && self.updated == desired && self.replicas == desired && self.available == desired
    }
}

/// The first obstacle that Kubernetes names, if any.
pub fn obstacle(observed: &Observed, name: &str, namespace: &str) -> Option<Obstacle> {
    let refused = named(&observed.children.deployments, name)
        .and_then(|deployment| condition(deployment, "ReplicaFailure"))
        .filter(|failure| failure.status == "True")
        .map(|failure| Obstacle {
            reason: failure.reason.clone().unwrap_or_else(|| "ReplicaFailure".to_owned()),
            message: format!(
                "no pod can be made: {}",
                cut(failure.message.as_deref().unwrap_or_default())
            ),
        });
    let mut pods: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).collect();
    pods.sort_by_key(|pod| pod.name_any());
    refused
        .or_else(|| pods.iter().find_map(|pod| waiting(pod, namespace)))
        .or_else(|| pods.iter().find_map(|pod| unschedulable(pod)))
}

/// A container that waits for something, or ends again and again.
fn waiting(pod: &Pod, namespace: &str) -> Option<Obstacle> {
    let status = pod
        .status
        .as_ref()
        .filter(|_| pod.metadata.deletion_timestamp.is_none())?;
    let containers = status.container_statuses.iter().flatten();
    containers.into_iter().find_map(|container: &ContainerStatus| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting
            .reason
            .clone()
            .filter(|reason| !ON_THE_WAY.contains(&reason.as_str()))?;
        if PULL_FAILURES.contains(&reason.as_str()) {
            return Some(Obstacle {
                reason: "ImagePullFailed".to_owned(),
                message: format!(
                    "pod {} waits: image {} cannot be pulled; check its name, its tag and spec.imagePullSecrets",
                    pod.name_any(),
                    container.image
                ),
            });
        }
        let said = cut(waiting.message.as_deref().unwrap_or_default());
        let ended = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let mut message = format!("pod {} waits: ", pod.name_any());
        match (reason.as_str(), ended) {
            ("CrashLoopBackOff", Some(ended)) => {
                message.push_str(&format!(
                    "its container ended with exit code {}; read `kubectl logs --previous`",
                    ended.exit_code
                ));
            }
            _ => message.push_str(if said.is_empty() { &reason } else { &said }),
        }
        if let Some(missing) = missing_object(&said) {
            message.push_str(&format!("; create it in namespace {namespace}"));
            return Some(Obstacle {
                reason: missing.to_owned(),
                message,
            });
        }
        Some(Obstacle { reason, message })
    })
}

/// The kubelet says `secret "x" not found` or `configmap "x" not found` for variables.
fn missing_object(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    if !text.contains("not found") {
        return None;
    }
    if text.starts_with("secret ") {
        Some("SecretNotFound")
    } else if text.starts_with("configmap ") {
        Some("ConfigMapNotFound")
    } else {
        None
    }
}

fn unschedulable(pod: &Pod) -> Option<Obstacle> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| Obstacle {
        reason: scheduled.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
        message: format!(
            "pod {} finds no node: {}",
            pod.name_any(),
            cut(scheduled.message.as_deref().unwrap_or_default())
        ),
    })
}

fn condition<'a>(deployment: &'a Deployment, kind: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::super::dereference::Children;
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn observed(deployment: Value, pods: Value) -> Observed {
        Observed {
            children: Children {
                deployments: vec![Arc::new(serde_json::from_value(deployment).unwrap())],
                ..Children::default()
            },
            pods: serde_json::from_value::<Vec<Pod>>(pods)
                .unwrap()
                .into_iter()
                .map(Arc::new)
                .collect(),
            ..Observed::default()
        }
    }

    fn waiting_pod(reason: &str, message: &str) -> Value {
        json!({
            "metadata": {"name": "order-1"},
            "status": {"containerStatuses": [{
                "name": "order", "image": "a", "imageID": "", "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": reason, "message": message}},
                "lastState": {"terminated": {"exitCode": 2}}
            }]}
        })
    }

    #[rstest]
    #[case::secret(
        "CreateContainerConfigError",
        "secret \"db\" not found",
        "SecretNotFound",
        "pod order-1 waits: secret \"db\" not found; create it in namespace shop"
    )]
    #[case::image(
        "ImagePullBackOff",
        "Back-off pulling image \"x\"",
        "ImagePullFailed",
        "pod order-1 waits: image a cannot be pulled; check its name, its tag and spec.imagePullSecrets"
    )]
    #[case::crash(
        "CrashLoopBackOff",
        "back-off 10s restarting",
        "CrashLoopBackOff",
        "pod order-1 waits: its container ended with exit code 2; read `kubectl logs --previous`"
    )]
    #[case::config_map(
        "CreateContainerConfigError",
        "configmap \"region\" not found",
        "ConfigMapNotFound",
        "pod order-1 waits: configmap \"region\" not found; create it in namespace shop"
    )]
    #[case::silent(
        "CreateContainerError",
        "",
        "CreateContainerError",
        "pod order-1 waits: CreateContainerError"
    )]
    fn an_obstacle_has_kubernetes_words(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] expected: &str,
        #[case] text: &str,
    ) {
        let observed = observed(
            json!({"metadata": {"name": "order"}}),
            json!([waiting_pod(reason, message)]),
        );
        let obstacle = obstacle(&observed, "order", "shop").unwrap();
        assert_eq!((obstacle.reason.as_str(), obstacle.message.as_str()), (expected, text));
    }

    #[test]
    fn steps_on_the_way_are_no_obstacles_and_a_quota_comes_first() {
        let on_the_way = observed(
            json!({"metadata": {"name": "order"}}),
            json!([waiting_pod("ContainerCreating", "")]),
        );
        assert_eq!(obstacle(&on_the_way, "order", "shop"), None);
        let refused = observed(
            json!({"metadata": {"name": "order"}, "status": {"conditions": [
                {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
            ]}}),
            json!([waiting_pod("ImagePullBackOff", "")]),
        );
        assert_eq!(
            obstacle(&refused, "order", "shop").unwrap().message,
            "no pod can be made: exceeded quota"
        );
    }

    #[test]
    fn only_pods_that_stay_and_hindrances_that_hold_count_and_the_first_by_name_is_told() {
        let first = |pods: Value| {
            let failure = json!({"type": "ReplicaFailure", "status": "False", "reason": "FailedCreate"});
            let deployment = json!({"metadata": {"name": "order"}, "status": {"conditions": [failure]}});
            obstacle(&observed(deployment, pods), "order", "shop").map(|obstacle| obstacle.message)
        };
        let named = |name: &str, mut pod: Value| {
            pod["metadata"]["name"] = json!(name);
            pod
        };
        let scheduled = |status: &str| {
            json!({"metadata": {"name": "order-1"}, "status": {"conditions": [
                {"type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": "x".repeat(300)}
            ]}})
        };
        let mut going = waiting_pod("ImagePullBackOff", "");
        going["metadata"]["deletionTimestamp"] = json!("2026-08-21T12:00:00Z");
        assert_eq!(first(json!([going])), None);
        assert_eq!(first(json!([waiting_pod("PodInitializing", "")])), None);
        assert_eq!(first(json!([scheduled("True")])), None);
        let told = first(json!([scheduled("False")])).unwrap();
        assert_eq!(told, format!("pod order-1 finds no node: {}", "x".repeat(TEXT_LIMIT)));
        let waits = waiting_pod("CreateContainerError", "");
        let told = first(json!([named("order-2", waits.clone()), named("order-1", waits)])).unwrap();
        assert!(told.starts_with("pod order-1 waits"), "{told}");
    }

    #[test]
    fn kubernetes_gives_up_only_when_it_says_so() {
        let exceeded = |reason: &str| {
            let condition = json!({"type": "Progressing", "status": "False", "reason": reason, "message": "why"});
            let deployment = json!({"metadata": {"name": "order"}, "status": {"conditions": [condition]}});
            Rollout::of(&observed(deployment, json!([])), "order").deadline_exceeded
        };
        assert_eq!(exceeded("ProgressDeadlineExceeded").as_deref(), Some("why"));
        assert_eq!(exceeded("NewReplicaSetAvailable"), None);
    }

    #[test]
    fn a_rollout_is_settled_when_kubernetes_has_seen_it_and_every_pod_is_new() {
        let status = |generation, replicas, updated, available| {
            observed(
                json!({"metadata": {"name": "order", "generation": 3}, "status": {
                    "observedGeneration": generation, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available
                }}),
                json!([]),
            )
        };
        for (observed, expected) in [
            (status(3, 2, 2, 2), true),
            (status(2, 2, 2, 2), false),
            (status(3, 3, 2, 2), false),
            (status(3, 2, 1, 2), false),
            (status(3, 2, 2, 1), false),
        ] {
            assert_eq!(Rollout::of(&observed, "order").is_settled(2), expected, "{observed:?}");
        }
    }
}
