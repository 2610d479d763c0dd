//! When which pod of a service was ready, and when not: what a fault did to the pods shows in that. Bounded; in memory
//! alone, from the moment on at which the console began to follow. Pure.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::kinds::MOST_OBJECTS;
use crate::view::{Item, PodView};

/// Turns that are remembered of each service.
const MOST_TURNS: usize = 200;

/// What a pod is from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum PodState {
    /// Requests are sent to it.
    Ready,
    /// It is there, and gets none.
    Unready,
    /// It is not there any more.
    Gone,
}

/// A pod has become something.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Turn {
    /// The pod.
    pub pod: String,
    /// When that was seen.
    pub at: DateTime<Utc>,
    /// What it is from then on.
    pub state: PodState,
}

/// The turns of every service's pods, by namespace and name of the service.
#[derive(Debug, Default)]
pub struct Readiness(BTreeMap<(String, String), VecDeque<Turn>>);

impl Readiness {
    /// Learns at `now` that what was `before` is `after`; what is no pod is passed over.
    pub fn learn(&mut self, before: Option<&Item>, after: Option<&Item>, now: DateTime<Utc>) {
        let (before, after) = (pod(before), pod(after));
        let Some(known) = after.or(before) else { return };
        let state = |pod: &PodView| if pod.ready { PodState::Ready } else { PodState::Unready };
        let became = after.map_or(PodState::Gone, state);
        if before.map(state) == Some(became) {
            return;
        }
        let service = (known.namespace.clone(), known.service.clone());
        if self.0.len() >= MOST_OBJECTS && !self.0.contains_key(&service) {
            return;
        }
        let turns = self.0.entry(service).or_default();
        if turns.len() == MOST_TURNS {
            turns.pop_front();
        }
        turns.push_back(Turn {
            pod: known.name.clone(),
            at: now,
            state: became,
        });
    }

    /// The turns of a service's pods, the oldest first.
    pub fn of(&self, namespace: &str, service: &str) -> Vec<Turn> {
        let turns = self.0.get(&(namespace.to_owned(), service.to_owned()));
        turns.into_iter().flatten().cloned().collect()
    }
}

fn pod(item: Option<&Item>) -> Option<&PodView> {
    match item {
        Some(Item::Pod(pod)) => Some(pod),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, ready: bool, restarts: i32) -> Item {
        let pod = serde_json::json!({"metadata": {"namespace": "shop", "name": name, "labels": {valerix_crds::names::SERVICE_LABEL: "order"}},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [{"name": "main", "ready": ready, "restartCount": restarts, "image": "i", "imageID": "i"}]}});
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        Item::Pod(PodView::from(&pod))
    }

    #[test]
    fn a_turn_is_what_changed_and_nothing_else() {
        let mut readiness = Readiness::default();
        let at = |second: i64| DateTime::from_timestamp(second, 0).unwrap();
        readiness.learn(None, Some(&seen("a", true, 0)), at(1));
        readiness.learn(Some(&seen("a", true, 0)), Some(&seen("a", true, 1)), at(2));
        readiness.learn(Some(&seen("a", true, 1)), Some(&seen("a", false, 1)), at(3));
        readiness.learn(None, Some(&seen("b", false, 0)), at(4));
        readiness.learn(Some(&seen("a", false, 1)), None, at(5));
        let told: Vec<_> = (readiness.of("shop", "order").into_iter())
            .map(|turn| (turn.pod, turn.at.timestamp(), turn.state))
            .collect();
        let turn = |pod: &str, second, state| (pod.to_owned(), second, state);
        assert_eq!(
            told,
            [
                turn("a", 1, PodState::Ready),
                turn("a", 3, PodState::Unready),
                turn("b", 4, PodState::Unready),
                turn("a", 5, PodState::Gone),
            ]
        );
        assert!(readiness.of("vault", "order").is_empty());
        for second in 0..1_000 {
            let (before, after) = (seen("a", second % 2 == 0, 0), seen("a", second % 2 == 1, 0));
            readiness.learn(Some(&before), Some(&after), at(second));
        }
        assert_eq!(
            readiness.of("shop", "order").len(),
            MOST_TURNS,
            "as many as are remembered"
        );
    }
}
