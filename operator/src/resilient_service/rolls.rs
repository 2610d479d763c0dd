//! Whose turn it is to roll after an upgrade of the operator. Memory only.
//!
//! A new operator may render another template for every service. Were all of them written at once, the pods of the whole
//! cluster would be replaced in the same minutes; so a few services roll at a time, and the rest keep the pods of before.
//! What a user changes never waits.

use super::{Controller, Looks, dereference::Observed, dereference::named, rollout::Rollout, validate::Plan};
use crate::runtime::apply;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use valerix_crds::{ResilientService, names::APPLIED_ANNOTATION};

/// Services that roll at a time.
const AT_A_TIME: usize = 5;
/// Whoever waits is called when a turn is free, and asks this often all the same: the one called may need none any more.
const LOOK: Duration = Duration::from_secs(30);

/// Namespace and name of a service.
type Key = (String, String);

/// The turns.
#[derive(Default)]
pub struct Rolls {
    turns: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    rolling: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
}

impl Rolls {
    /// Whether this service may roll now. If not, it is called when it may ask again. One that does not exist any more,
    /// which may have gone while another replica led, has no turn.
    fn take(&self, key: &Key, exists: impl Fn(&Key) -> bool) -> bool {
        let mut turns = self.lock();
        turns.rolling.retain(exists);
        let may_roll = turns.rolling.contains(key) || turns.rolling.len() < AT_A_TIME;
        if may_roll {
            turns.waiting.remove(key);
            turns.rolling.insert(key.clone());
        } else {
            turns.waiting.insert(key.clone());
        }
        may_roll
    }

    /// Gives the turn of this service back, if it has one, and its wish for one. Returns those who may ask now.
    fn leave(&self, key: &Key) -> Vec<Key> {
        let mut turns = self.lock();
        turns.waiting.remove(key);
        if !turns.rolling.remove(key) {
            return Vec::new();
        }
        let free = AT_A_TIME.saturating_sub(turns.rolling.len());
        turns.waiting.iter().take(free).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the operator's own rendering has to do with a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roll {
    /// What it applied last is another one than it would apply now, to the same specification.
    Due,
    /// It is applied, and the pods of before are still needed.
    UnderWay,
    /// It is applied and serves, or Kubernetes gave up: the next one may try. So it is where none stands.
    Over,
}

/// Pure. `desired` is the hash of what would be applied, `applied` of what was applied last.
fn roll(desired: &str, applied: Option<&str>, rollout: &Rollout, replicas: i32) -> Roll {
    match applied {
        Some(applied) if applied != desired => Roll::Due,
        Some(_) if !rollout.serves(replicas) && rollout.deadline_exceeded.is_none() => Roll::UnderWay,
        Some(_) | None => Roll::Over,
    }
}

impl Controller {
    /// Whether the Deployment may be written. Side effect: memory only.
    pub(super) fn may_roll(
        &self,
        service: &ResilientService,
        observed: &Observed,
        plan: &Plan,
        desired: &Deployment,
        looks: &mut Looks,
    ) -> bool {
        let found = self.memory.with(service, |notes| notes.found);
        let desired = serde_json::to_value(desired).map(|desired| apply::hash(&desired));
        let (true, Ok(desired)) = (found.is_some() && found == service.metadata.generation, desired) else {
            self.leave_turn(service);
            return true;
        };
        let applied = named(&observed.children.deployments, &plan.name)
            .and_then(|live| live.annotations().get(APPLIED_ANNOTATION));
        let rollout = Rollout::of(observed, &plan.name);
        match roll(&desired, applied.map(String::as_str), &rollout, plan.replicas) {
            Roll::Due => {
                let services = &self.ctx.stores.services;
                let may_roll = self.rolls.take(&key(service), |(namespace, name)| {
                    services.get(namespace, name).is_some()
                });
                looks.within((!may_roll).then_some(LOOK));
                may_roll
            }
            Roll::UnderWay => true,
            Roll::Over => {
                self.memory.with(service, |notes| notes.found = None);
                self.leave_turn(service);
                true
            }
        }
    }

    /// Side effect: memory only; those who wait for a turn are looked at.
    pub(super) fn leave_turn(&self, service: &ResilientService) {
        self.leave_turn_of(&key(service));
    }

    /// The same, for one that may be gone.
    pub(super) fn leave_turn_of(&self, key: &(String, String)) {
        for (namespace, name) in self.rolls.leave(key) {
            self.ctx.stores.services.triggers().trigger(&namespace, &name);
        }
    }
}

fn key(service: &ResilientService) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_waits_until_one_of_five_is_over() {
        let rolls = Rolls::default();
        let key = |number: u32| ("shop".to_owned(), format!("s{number}"));
        let take = |number| rolls.take(&key(number), |_| true);
        for number in 1..=5 {
            assert!(take(number));
        }
        assert!(!take(6) && !take(7));
        assert!(take(1), "it has its turn");
        assert_eq!(rolls.leave(&key(8)), [], "it had none");
        assert_eq!(rolls.leave(&key(3)), [key(6)]);
        assert!(take(6) && !take(7));
        assert_eq!(rolls.leave(&key(7)), [], "it does not want one any more");
        let is_left = |other: &Key| *other != key(1);
        assert!(rolls.take(&key(7), is_left), "the first has gone unnoticed");
    }

    #[test]
    fn a_roll_is_over_when_the_new_pods_serve_or_kubernetes_gave_up() {
        let serving = Rollout {
            exists: true,
            observed: true,
            replicas: 2,
            updated: 2,
            available: 2,
            ..Rollout::default()
        };
        let starting = Rollout {
            available: 1,
            ..serving.clone()
        };
        let given_up = Rollout {
            deadline_exceeded: Some("why".into()),
            ..starting.clone()
        };
        for (applied, rollout, expected) in [
            (None, &Rollout::default(), Roll::Over),
            (Some("old"), &serving, Roll::Due),
            (Some("new"), &starting, Roll::UnderWay),
            (Some("new"), &serving, Roll::Over),
            (Some("new"), &given_up, Roll::Over),
        ] {
            assert_eq!(roll("new", applied, rollout, 2), expected, "{applied:?} {rollout:?}");
        }
    }
}
