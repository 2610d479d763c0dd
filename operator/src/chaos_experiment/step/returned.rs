//! What came back for each victim, and when: the time to recover, split.
//!
//! Pure. Kubernetes names no successor of a pod, so those that were made since are taken in the order in which they were
//! made, for the victims in the order in which they went. Times are to the second, as Kubernetes keeps them.

use super::situation::Situation;
use crate::chaos_experiment::observed::{PodView, Removal};
use chrono::TimeDelta;
use valerix_crds::{ChaosExperimentStatus, TargetStatus};

/// The status with what is seen at the end of a run: which victim was replaced and is ready again.
pub(super) fn returned(situation: &Situation<'_>) -> ChaosExperimentStatus {
    let mut status = situation.status.clone();
    let mut hurt: Vec<&mut TargetStatus> = status
        .targets
        .iter_mut()
        .filter(|target| target.active_at.is_some())
        .collect();
    hurt.sort_by_key(|target| target.active_at);
    if situation.plan.evicts() {
        for (target, pod) in hurt.into_iter().zip(successors(situation)) {
            target.replaced_at = Some(pod.created_at);
            target.ready_again_at = pod.ready_since.filter(|_| pod.ready);
        }
    } else if situation.plan.fault.kind.ends_the_process {
        for target in hurt {
            let pod = situation.observed.pod(&target.uid).filter(|pod| pod.ready);
            let since = pod.and_then(|pod| pod.ready_since);
            target.ready_again_at = since.filter(|at| Some(*at + SECOND) > target.active_at);
        }
    }
    status
}

/// The resolution of the times that Kubernetes keeps.
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// The pods that were made since the intent, the oldest first.
fn successors<'a>(situation: &'a Situation<'_>) -> Vec<&'a PodView> {
    let targets = &situation.status.targets;
    let intent = situation.status.intent_at;
    let mut made: Vec<_> = situation
        .observed
        .pods
        .iter()
        .filter(|pod| pod.removal == Removal::None && Some(pod.created_at + SECOND) > intent)
        .filter(|pod| targets.iter().all(|target| target.uid != pod.uid))
        .collect();
    made.sort_by_key(|pod| pod.created_at);
    made
}
