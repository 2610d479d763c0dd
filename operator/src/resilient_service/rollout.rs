//! What the Deployment, its ReplicaSets and the pods say about a rollout: how far it is, and why it does not get on. Pure.

use super::dereference::{Observed, ReadyPod, TEMPLATE_LABEL, named};
use crate::runtime::{
    Hindrance,
    apply::controller_of,
    hindrance::{Remedies, of_pods, refused},
};
use chrono::{DateTime, Utc};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use kube::ResourceExt;

/// Longest text that is taken over from Kubernetes. Unit: characters.
const TEXT_LIMIT: usize = 256;
/// Annotation that Kubernetes puts on a Deployment and on its ReplicaSets: those of one number belong together.
const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";
const REMEDIES: Remedies = Remedies {
    image: "check its name, its tag and spec.imagePullSecrets",
    resources: "spec.resources",
};

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Whether there is a Deployment.
    pub exists: bool,
    /// Whether Kubernetes has seen the newest Deployment.
    pub observed: bool,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods of the current template, ready or not.
    pub updated: i32,
    /// Pods that are available, of whichever template.
    pub available: i32,
    /// Ready pods of the current template; none are known before its ReplicaSet is.
    pub current: usize,
    /// The hash of the current template, once its ReplicaSet is known.
    pub template: Option<String>,
    /// Kubernetes gave up waiting: its own words.
    pub deadline_exceeded: Option<String>,
    /// Why pods of the current template are missing.
    pub hindrance: Option<Hindrance>,
}

impl Rollout {
    /// Reads the Deployment `name` and what belongs to it.
    pub fn of(observed: &Observed, name: &str) -> Self {
        let Some(deployment) = named(&observed.children.deployments, name) else {
            return Self::default();
        };
        let status = deployment.status.clone().unwrap_or_default();
        let template = current_template(observed, deployment);
        let is_observed = status.observed_generation >= deployment.metadata.generation;
        let current = observed.ready_pods.values().filter(|pod| {
            let of_pod = pod.template.as_deref();
            is_observed && of_pod.is_some() && of_pod == template
        });
        Self {
            exists: true,
            observed: is_observed,
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            current: current.count(),
            template: template.map(str::to_owned),
            deadline_exceeded: condition(deployment, "Progressing")
                .filter(|progressing| progressing.reason.as_deref() == Some("ProgressDeadlineExceeded"))
                .map(|progressing| cut(progressing.message.as_deref().unwrap_or_default())),
            // What Kubernetes has not seen yet it has not tried either.
            hindrance: is_observed.then(|| hindrance(observed, deployment, template)).flatten(),
        }
    }

    /// Whether a pod is known to be of an earlier template: it is on its way out, and what it cannot do is no fault of the
    /// current one.
    pub fn replaces(&self, pod: &ReadyPod) -> bool {
        let pair = (self.template.as_ref(), pod.template.as_ref());
        matches!(pair, (Some(current), Some(of_pod)) if of_pod != current)
    }

    /// Whether the pods of the current template serve alone: nobody misses those of before.
    pub fn serves(&self, desired: i32) -> bool {
        self.is_complete(desired) && self.available >= desired
    }

    /// Whether there is nothing to roll: every pod that exists is of the current template, and there are enough. One
    /// that crashes later begins no rollout.
    pub fn is_complete(&self, desired: i32) -> bool {
        self.exists && self.observed && self.updated >= desired && self.replicas <= self.updated
    }
}

impl Observed {
    /// Whether a ready pod that stays does not say that it runs the policy with this hash.
    pub fn awaits(&self, hash: &str, rollout: &Rollout, now: DateTime<Utc>) -> bool {
        let runs = |pod: &ReadyPod| pod.evidence(now).and_then(|report| report.policy.hash.as_deref()) == Some(hash);
        !self.ready_pods.values().all(|pod| rollout.replaces(pod) || runs(pod))
    }
}

/// The hash of the template that the Deployment rolls out, or has.
fn current_template<'a>(observed: &'a Observed, deployment: &Deployment) -> Option<&'a str> {
    let revision = deployment.annotations().get(REVISION_ANNOTATION)?;
    let current = observed.replica_sets.iter().find(|set| {
        controller_of(&***set).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref()
            && set.annotations().get(REVISION_ANNOTATION) == Some(revision)
    })?;
    current.labels().get(TEMPLATE_LABEL).map(String::as_str)
}

/// The first thing that stands in the way of the current template, if any. Pods of an earlier one are on their way out.
fn hindrance(observed: &Observed, deployment: &Deployment, template: Option<&str>) -> Option<Hindrance> {
    let failure = condition(deployment, "ReplicaFailure").filter(|failure| failure.status == "True");
    if let Some(failure) = failure {
        return Some(refused(failure.message.as_deref().unwrap_or_default(), &REMEDIES));
    }
    let pods = observed.standing_pods().filter(|pod| {
        let of_pod = pod.labels().get(TEMPLATE_LABEL).map(String::as_str);
        template.is_none() || of_pod == template
    });
    of_pods(pods, &REMEDIES).or_else(|| observed.unmounted.clone())
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
    use crate::runtime::HindranceReason;
    use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
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

    fn waiting_pod(name: &str, template: &str, reason: &str) -> Value {
        json!({
            "metadata": {"name": name, "labels": {"pod-template-hash": template}},
            "status": {"containerStatuses": [{
                "name": "order", "image": "a", "imageID": "", "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": reason}}
            }]}
        })
    }

    #[test]
    fn a_pod_that_is_refused_comes_first() {
        let refused = observed(
            json!({"metadata": {"name": "order"}, "status": {"conditions": [
                {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods \"order-1\" is forbidden: exceeded quota"}
            ]}}),
            json!([waiting_pod("order-1", "new", "ImagePullBackOff")]),
        );
        let hindrance = Rollout::of(&refused, "order").hindrance.unwrap();
        assert_eq!(hindrance.reason, HindranceReason::PodRefused);
        let passed = observed(
            json!({"metadata": {"name": "order"}, "status": {"conditions": [
                {"type": "ReplicaFailure", "status": "False", "reason": "FailedCreate"}
            ]}}),
            json!([]),
        );
        assert_eq!(Rollout::of(&passed, "order").hindrance, None);
    }

    #[test]
    fn only_pods_of_the_template_that_is_rolled_out_are_told() {
        let deployment = json!({"metadata": {"name": "order", "uid": "d", "annotations": {"deployment.kubernetes.io/revision": "2"}}});
        let pods = json!([
            waiting_pod("order-a", "old", "CrashLoopBackOff"),
            waiting_pod("order-b", "new", "ContainerCreating")
        ]);
        let mut seen = observed(deployment, pods);
        let set = |hash: &str, revision: &str, owner: &str| -> Arc<ReplicaSet> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {
                    "name": format!("order-{hash}"), "labels": {"pod-template-hash": hash},
                    "annotations": {"deployment.kubernetes.io/revision": revision},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "order", "uid": owner, "controller": true}]
                }}))
                .unwrap(),
            )
        };
        seen.replica_sets = vec![set("old", "1", "d"), set("stranger", "2", "x"), set("new", "2", "d")];
        assert_eq!(Rollout::of(&seen, "order").hindrance, None);
        // Rolled back: the ReplicaSet of before is the current one again.
        seen.replica_sets = vec![set("old", "2", "d"), set("new", "1", "d")];
        let told = Rollout::of(&seen, "order").hindrance.unwrap();
        assert!(told.message.starts_with("pod order-a waits"), "{told:?}");
    }

    #[test]
    fn a_pod_that_was_evicted_hides_no_pod_that_waits() {
        let mut evicted = waiting_pod("order-a", "new", "Error");
        evicted["status"]["phase"] = json!("Failed");
        evicted["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 137}});
        let told = |reason: &str| {
            let pods = json!([evicted, waiting_pod("order-b", "new", reason)]);
            Rollout::of(&observed(json!({"metadata": {"name": "order"}}), pods), "order").hindrance
        };
        assert_eq!(told("ContainerCreating"), None);
        let pull = told("ErrImagePull").unwrap();
        assert_eq!(pull.reason, HindranceReason::ImagePullFailed);
        assert!(pull.message.starts_with("pod order-b waits"), "{pull:?}");
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
    fn a_rollout_is_complete_when_kubernetes_has_seen_it_and_every_pod_is_new() {
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
            // A pod of the current template crashed, or was killed: nothing is rolled out.
            (status(3, 2, 2, 1), true),
        ] {
            assert_eq!(Rollout::of(&observed, "order").is_complete(2), expected, "{observed:?}");
        }
    }
}
