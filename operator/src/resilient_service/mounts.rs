//! Why a pod waits for its volumes. A pod's own status does not say; the kubelet tells it in events, which are read
//! while a pod waits, and never at rest.

use super::{Controller, Looks, dereference::Observed};
use crate::runtime::{Hindrance, HindranceReason, failure};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{Event, Pod, PodCondition};
use kube::{Api, ResourceExt, api::ListParams};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use valerix_crds::ResilientService;

/// A volume that is there is mounted within this.
const GRACE: Duration = Duration::from_secs(5);
/// How often a pod that waits is asked about again.
const PACE: Duration = Duration::from_secs(15);
/// Longest text that is taken over from Kubernetes. Unit: characters.
const TEXT_LIMIT: usize = 256;
/// Reasons of the events that tell of it.
const REASONS: [&str; 2] = ["FailedMount", "FailedAttachVolume"];

/// What was found out about the volumes of one service's pods.
#[derive(Debug, Default)]
pub struct Mounts {
    asked_at: Option<Instant>,
    found: Option<Hindrance>,
}

impl Controller {
    /// Reads the events of one pod that waits for its volumes, at most every quarter of a minute.
    pub(super) async fn mounts(
        &self,
        service: &Arc<ResilientService>,
        observed: &Observed,
        looks: &mut Looks,
    ) -> Option<Hindrance> {
        let Some((pod, waited)) = observed
            .standing_pods()
            .find_map(|pod| Some((pod, waits_for_volumes(pod, Utc::now())?)))
        else {
            self.memory.with(service, |notes| notes.mounts = Mounts::default());
            return None;
        };
        if let Some(left) = GRACE.checked_sub(waited).filter(|left| !left.is_zero()) {
            looks.within(Some(left));
            return None;
        }
        let now = Instant::now();
        let (wait, known) = self.memory.with(service, |notes| {
            let mounts = &mut notes.mounts;
            let wait = mounts.asked_at.and_then(|at| PACE.checked_sub(now.duration_since(at)));
            if wait.is_none() {
                mounts.asked_at = Some(now);
            }
            (wait, mounts.found.clone())
        });
        looks.within(Some(wait.unwrap_or(PACE)));
        if wait.is_some() {
            return known;
        }
        let found = self.events_of(pod).await.or(known);
        self.memory.with(service, |notes| notes.mounts.found.clone_from(&found));
        found
    }

    /// What the kubelet told last; nothing where it told nothing, or where events cannot be read.
    async fn events_of(&self, pod: &Pod) -> Option<Hindrance> {
        let uid = pod.uid()?;
        let api: Api<Event> = self.ctx.runtime.clients.api(&pod.namespace().unwrap_or_default());
        let selector = format!("involvedObject.uid={uid}");
        let events = match api.list(&ListParams::default().fields(&selector)).await {
            Ok(events) => events.items,
            Err(error) => {
                tracing::info!(
                    pod = pod.name_any(),
                    error = failure::chain(&error),
                    "the events of a waiting pod cannot be read"
                );
                return None;
            }
        };
        let about = events.into_iter().filter(|event| {
            event.involved_object.uid.as_ref() == Some(&uid)
                && event.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason))
        });
        let newest = about.max_by(|left, right| left.last_timestamp.cmp(&right.last_timestamp))?;
        Some(hindrance(pod, newest.message.as_deref().unwrap_or_default()))
    }
}

/// How long a pod that has a node has not got what a container needs before it is made: volumes, an address.
fn waits_for_volumes(pod: &Pod, now: DateTime<Utc>) -> Option<Duration> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = |kind: &str| {
        conditions
            .iter()
            .find(|condition: &&PodCondition| condition.type_ == kind)
    };
    let scheduled = condition("PodScheduled").filter(|scheduled| scheduled.status == "True")?;
    condition("PodReadyToStartContainers").filter(|ready| ready.status == "False")?;
    let since = scheduled.last_transition_time.as_ref()?.0.as_second();
    Some(Duration::from_secs(u64::try_from(now.timestamp() - since).unwrap_or(0)))
}

fn hindrance(pod: &Pod, said: &str) -> Hindrance {
    // Before that stand the names of the volume and of the call.
    let cause = said.rsplit_once(" : ").map_or(said, |(_, cause)| cause);
    let cause: String = cause.chars().take(TEXT_LIMIT).collect();
    let namespace = pod.namespace().unwrap_or_default();
    let remedy = if cause.contains("not found") {
        format!("; create it in namespace {namespace}, or correct spec.volumes")
    } else {
        "; correct spec.volumes, or what they name".to_owned()
    };
    Hindrance {
        reason: HindranceReason::WaitingForVolumes,
        message: format!("pod {} waits for a volume: {cause}{remedy}", pod.name_any()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(conditions: Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "order-1", "namespace": "shop"}, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    #[test]
    fn only_a_pod_that_has_a_node_and_no_sandbox_waits_for_volumes() {
        let scheduled = |status: &str| json!({"type": "PodScheduled", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let started = |status: &str| json!({"type": "PodReadyToStartContainers", "status": status});
        let now: DateTime<Utc> = "2026-01-01T00:01:00Z".parse().unwrap();
        for (conditions, expected) in [
            (json!([scheduled("True"), started("False")]), Some(60)),
            (json!([scheduled("True"), started("True")]), None),
            (json!([scheduled("False"), started("False")]), None),
            (json!([scheduled("True")]), None),
            (json!([]), None),
        ] {
            let waited = waits_for_volumes(&pod(conditions.clone()), now);
            assert_eq!(waited, expected.map(Duration::from_secs), "{conditions}");
        }
        // A node's clock runs ahead.
        let early: DateTime<Utc> = "2025-12-31T23:59:00Z".parse().unwrap();
        let waited = waits_for_volumes(&pod(json!([scheduled("True"), started("False")])), early);
        assert_eq!(waited, Some(Duration::ZERO));
    }

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        for (said, expected) in [
            (
                "MountVolume.SetUp failed for volume \"keys\" : secret \"order-keys\" not found",
                "pod order-1 waits for a volume: secret \"order-keys\" not found; create it in namespace shop, or correct spec.volumes",
            ),
            (
                "MountVolume.SetUp failed for volume \"c\" : references non-existent config key: a.json",
                "pod order-1 waits for a volume: references non-existent config key: a.json; correct spec.volumes, or what they name",
            ),
        ] {
            assert_eq!(hindrance(&pod(json!([])), said).message, expected);
        }
    }
}
