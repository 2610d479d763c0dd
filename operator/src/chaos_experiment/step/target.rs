//! The target while a fault is on: taken, kept, given up. What `delivery` and `eviction` share.
//!
//! Pure.

use super::action::Action;
use super::situation::Situation;
use crate::chaos_experiment::entry::{self, DELIVERY};
use crate::chaos_experiment::report::status::decided;
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use valerix_crds::ChaosExperimentStatus;

/// Whether something can be done for the first time: never so late that a slow cluster is hurt twice as long.
pub(super) fn in_time(situation: &Situation<'_>) -> bool {
    let intent = situation.status.intent_at;
    intent.is_some_and(|intent| situation.now() < intent + DELIVERY)
}

/// Consent that was withdrawn while the fault is on, or between two evictions.
pub(super) fn consent_withdrawn(situation: &Situation<'_>) -> Option<Ending> {
    let service = situation.observed.service.as_ref()?;
    let message = format!(
        "ResilientService {} withdrew its consent while the run was under way; nothing is claimed",
        situation.plan.service
    );
    (!service.admitted).then(|| Ending::new(Reason::NotAdmitted, message).stopped())
}

/// Takes the target: writes the entry that is its lock, and the fault too where pods obey it.
pub(super) fn lock_target(situation: &Situation<'_>) -> Action {
    let Situation {
        status, plan, observed, ..
    } = situation;
    let Some(intent_at) = status.intent_at else {
        return situation.give_up(&Ending::new(
            Reason::InjectionFailed,
            "the intent's time is missing from status",
        ));
    };
    let (Some(_), Some(service)) = (&observed.document, &observed.service) else {
        let message = format!("ConfigMap {0}-policy or ResilientService {0} is gone", plan.service);
        return situation.give_up(&Ending::new(Reason::InjectionFailed, message));
    };
    let uids = status.targets.iter().map(|target| target.uid.clone()).collect();
    let spared = service.probe_paths.clone();
    match entry::taken(plan, &situation.name, uids, spared, intent_at) {
        Ok(text) => Action::Lock(text),
        Err(error) => {
            let message = format!("the pods would not read the fault: {error}; nothing was done");
            situation.give_up(&Ending::new(Reason::InvalidSpec, message))
        }
    }
}

pub(super) fn busy(other: &str) -> Ending {
    Ending::new(
        Reason::TargetBusy,
        format!(
            "experiment {} took the target first; wait until it has ended",
            entry::experiment_of(other)
        ),
    )
}

pub(super) fn not_delivered(situation: &Situation<'_>, what: &str) -> Action {
    let evicted = if situation.plan.evicts() {
        situation.status.injected_at
    } else {
        None
    };
    let undone = if evicted.is_some() {
        "pods that were evicted before stay so"
    } else {
        "everything was undone"
    };
    let message = format!("{what} within {}s; {undone}", DELIVERY.num_seconds());
    situation.give_up_at(&Ending::new(Reason::NotDelivered, message), evicted)
}

/// Whether `ending` says more than what was decided so far: a deviation that was seen outweighs a time that was not.
pub(super) fn supersedes(status: &ChaosExperimentStatus, ending: &Ending) -> bool {
    match decided(status) {
        None => true,
        Some(before) => ending.reason == Reason::SteadyStateDeviated && before.reason != ending.reason,
    }
}
