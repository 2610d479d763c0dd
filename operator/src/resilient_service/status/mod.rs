//! Fifth step: what was seen, as a status. Pure: time is an argument.
//!
//! Every figure is an answer of a running pod or of the API server; what nobody answered is Unknown.

mod circuits;
mod config;
mod draft;
mod inputs;
mod news;
mod reason;
#[cfg(test)]
mod tests;
mod warnings;

pub use config::{overdue_since, wanted};
pub use inputs::{Remembered, Work};
pub use news::{CONFIG_ACCEPTED, news};
pub use reason::Reason;

use super::{
    build::selector,
    dereference::Observed,
    rollout::Rollout,
    validate::{fewest_replicas, least_replicas},
};
use crate::runtime::{
    Category,
    apply::Applied,
    conditions::{ConditionUpdate, remove_condition, set_condition},
    failure,
};
use chrono::{DateTime, Utc};
use config::Config;
use draft::{ConditionDraft, count};
use kube::ResourceExt;
use std::{collections::BTreeMap, time::Duration};
use valerix_crds::{
    ActiveFault, ConditionStatus, ResilientService, ResilientServiceStatus, ServiceSummary,
    names::{FAULTS_KEY, condition, policy_config_map},
};
use valerix_policy::{FaultState, Faults};

/// A status, and when it would be another one by the passing of time alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The status.
    pub status: ResilientServiceStatus,
    /// When to look again, if nothing changes before.
    pub look_again: Option<Duration>,
}

/// Judges a service.
pub fn status(
    service: &ResilientService,
    observed: &Observed,
    work: &Work,
    remembered: Remembered,
    now: DateTime<Utc>,
) -> Judged {
    let old = service.status.clone().unwrap_or_default();
    let name = service.name_any();
    let desired = desired(service, observed, work);
    let rollout = Rollout::of(observed, &name);
    let config = Config::judge(service, observed, work, &rollout, &old, remembered.awaited_since, now);
    let circuits = circuits::judge(service, observed, now);
    let resources = resources(work, observed, &name);
    let available = available(service, desired, &rollout, observed);
    let progressing = progressing(desired, &rollout, work);
    let ready = ready(
        work,
        desired,
        &rollout,
        [&resources, &available, &progressing, &config.applied],
    );
    let stalled = stalled(work, [&resources, &available, &progressing, &config.applied]);
    let reconciling = (stalled.is_none()
        && !(progressing.is(Reason::RolloutComplete) && config.is_settled() && resources.holds()))
    .then(|| ConditionDraft {
        status: ConditionStatus::True,
        ..match progressing.is(Reason::WaitingForTurn) {
            true => progressing.clone(),
            false => ready.clone(),
        }
    });
    let warning = warnings::warning(service, observed, remembered, now);

    let generation = service.metadata.generation.unwrap_or(0);
    let mut conditions = old.conditions.clone();
    for (kind, draft) in [
        (condition::READY, Some(ready)),
        (condition::AVAILABLE, Some(available)),
        (condition::PROGRESSING, Some(progressing)),
        (condition::CONFIG_APPLIED, Some(config.applied)),
        (condition::CIRCUITS_CLOSED, Some(circuits.closed)),
        (condition::RESOURCES_READY, Some(resources)),
        (condition::WARNING, warning),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
    ] {
        let Some(draft) = draft else {
            remove_condition(&mut conditions, kind);
            continue;
        };
        let update = ConditionUpdate {
            kind,
            status: draft.status,
            reason: draft.reason,
            message: draft.message,
        };
        set_condition(&mut conditions, update, generation, now);
    }

    let ready_replicas = count(observed.ready_pods.len());
    let status = ResilientServiceStatus {
        observed_generation: generation,
        replicas: rollout.replicas,
        ready_replicas,
        selector: Some(
            selector(&name)
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(","),
        ),
        summary: Some(ServiceSummary {
            replicas: format!("{ready_replicas}/{desired}"),
            config: format!(
                "{}/{ready_replicas}",
                config.status.as_ref().map_or(0, |config| config.applied_replicas)
            ),
            circuits: circuits.summary,
            image: short_image(&service.spec.image),
        }),
        config: config.status,
        circuit_breakers: circuits.breakers,
        active_faults: active_faults(observed, &policy_config_map(&name), now),
        last_experiment: old.last_experiment,
        conditions,
    };
    Judged {
        status,
        look_again: config.look_again,
    }
}

/// The pods that the Deployment is to have.
fn desired(service: &ResilientService, observed: &Observed, work: &Work) -> i32 {
    match work {
        Work::Applied { plan, .. } => plan.replicas,
        Work::Paused | Work::Invalid(_) => observed.asked_replicas(service),
    }
}

fn resources(work: &Work, observed: &Observed, name: &str) -> ConditionDraft {
    use ConditionStatus::{False, True};
    let applied = match work {
        Work::Invalid(violations) => {
            return ConditionDraft::new(False, Reason::InvalidSpec, violations.to_string());
        }
        Work::Paused => {
            // What stands is left alone; whether it is enough shows in the other conditions.
            let exists = super::dereference::named(&observed.children.deployments, name).is_some();
            let status = if exists { True } else { False };
            let message = "spec.paused is true: nothing is created, changed or put back";
            return ConditionDraft::new(status, Reason::Paused, message);
        }
        Work::Applied { applied, .. } => applied,
    };
    if let Some(error) = applied.first_error() {
        let reason = match error.category() {
            "NotOwned" => Reason::NotOwned,
            _ => Reason::ApplyFailed,
        };
        return ConditionDraft::new(False, reason, failure::chain(error));
    }
    if let Some(child) = applied.with(Applied::Terminating).next() {
        let message = format!(
            "{} {} is being deleted and is made again when it is gone",
            child.kind, child.name
        );
        return ConditionDraft::new(False, Reason::Terminating, message);
    }
    if let Some(child) = applied.with(Applied::Waiting).next() {
        let message = format!(
            "{} {} is handed over and leads to the pods of before until those of this service are ready",
            child.kind, child.name
        );
        return ConditionDraft::new(False, Reason::TakingOver, message);
    }
    ConditionDraft::new(True, Reason::AllApplied, "every owned object stands as desired")
}

fn available(service: &ResilientService, desired: i32, rollout: &Rollout, observed: &Observed) -> ConditionDraft {
    use ConditionStatus::{False, True};
    if desired == 0 {
        return scaled_to_zero(service);
    }
    // Two sources that do not tell of a change at the same moment: what both know of is there.
    let available = count(observed.ready_pods.len()).min(rollout.available);
    let so_many = format!("{available} of {desired} pods are ready");
    if rollout.exists && rollout.observed && available >= desired {
        return ConditionDraft::new(True, Reason::MinimumReplicasAvailable, so_many);
    }
    match &rollout.hindrance {
        Some(hindrance) => ConditionDraft::new(False, hindrance.reason, format!("{so_many}; {}", hindrance.message)),
        // Enough of them, and nobody has looked yet at what is written since.
        None if available >= desired => {
            let message = format!("{so_many}; Kubernetes has not begun to roll the newest Deployment out");
            ConditionDraft::new(False, Reason::RollingOut, message)
        }
        None => ConditionDraft::new(False, Reason::WaitingForPods, so_many),
    }
}

/// No pods are good news for whoever asked for none.
fn scaled_to_zero(service: &ResilientService) -> ConditionDraft {
    use ConditionStatus::{False, True};
    let name = service.name_any();
    match &service.spec.autoscaling {
        _ if fewest_replicas(&service.spec) == 0 => {
            ConditionDraft::new(True, Reason::ScaledToZero, "spec.replicas is 0")
        }
        Some(scaling) => {
            let message = format!(
                "Deployment {name} was scaled to 0, which turns its autoscaler off; scale it to {}, or remove spec.autoscaling",
                least_replicas(scaling)
            );
            ConditionDraft::new(False, Reason::AutoscalingOff, message)
        }
        None => {
            let message = format!(
                "something else keeps scaling Deployment {name} to 0, while spec.replicas is {}",
                service.spec.replicas
            );
            ConditionDraft::new(False, Reason::ReplicasContested, message)
        }
    }
}

fn progressing(desired: i32, rollout: &Rollout, work: &Work) -> ConditionDraft {
    use ConditionStatus::{False, True};
    let so_many = format!("{} of {desired} pods are of the current template", rollout.updated);
    let hindrance = rollout.hindrance.as_ref().map(|hindrance| &hindrance.message);
    let with_hindrance = |text: String| hindrance.map_or(text.clone(), |why| format!("{text}; {why}"));
    if work.wrote_deployment() {
        return ConditionDraft::new(True, Reason::RollingOut, so_many);
    }
    if !rollout.exists {
        return ConditionDraft::new(False, Reason::NotStarted, "there is no Deployment yet");
    }
    if let Some(said) = rollout.deadline_exceeded.as_ref().filter(|_| rollout.observed) {
        return ConditionDraft::new(False, Reason::ProgressDeadlineExceeded, with_hindrance(said.clone()));
    }
    if rollout.is_complete(desired) && work.awaits_turn() {
        let message = "the operator was upgraded and makes its pods anew, of five services at a time; those of before serve \
                       until it is this one's turn";
        return ConditionDraft::new(False, Reason::WaitingForTurn, message);
    }
    if rollout.is_complete(desired) {
        return ConditionDraft::new(False, Reason::RolloutComplete, so_many);
    }
    ConditionDraft::new(True, Reason::RollingOut, with_hindrance(so_many))
}

/// Resources, availability, rollout and configuration together; the first that is not as it should be gives reason and
/// message. A rollout under way is not ready: the pods that serve are those of an earlier specification.
fn ready(
    work: &Work,
    desired: i32,
    rollout: &Rollout,
    [resources, available, progressing, config]: [&ConditionDraft; 4],
) -> ConditionDraft {
    if matches!(work, Work::Invalid(_)) {
        return resources.clone();
    }
    for part in [resources, available] {
        if !part.holds() {
            return part.clone();
        }
    }
    if !progressing.is(Reason::RolloutComplete) && !progressing.is(Reason::WaitingForTurn) {
        let mut draft = ConditionDraft {
            status: ConditionStatus::False,
            ..progressing.clone()
        };
        if let Some(hindrance) = rollout
            .hindrance
            .as_ref()
            .filter(|_| progressing.is(Reason::RollingOut))
        {
            draft.reason = hindrance.reason.as_str();
        }
        return draft;
    }
    if !config.holds() {
        return config.clone();
    }
    if desired == 0 {
        return available.clone();
    }
    ConditionDraft::new(
        ConditionStatus::True,
        config.reason,
        format!("{}; {}", available.message, config.message),
    )
}

/// What needs somebody's help: time alone will not make it good.
fn stalled(work: &Work, [resources, available, progressing, config]: [&ConditionDraft; 4]) -> Option<ConditionDraft> {
    let is_refused = match work {
        Work::Invalid(_) => true,
        Work::Paused => false,
        // What the API server refuses for what it says, it refuses the next time too.
        Work::Applied { applied, .. } => applied.first_error().is_some_and(|error| error.category() == "Invalid"),
    };
    let cause = if is_refused || resources.is(Reason::NotOwned) {
        resources
    } else if progressing.is(Reason::ProgressDeadlineExceeded) {
        progressing
    } else if available.is(Reason::AutoscalingOff) && progressing.is(Reason::RolloutComplete) {
        available
    } else if config.is(Reason::DeadlineExceeded) || config.is(Reason::RejectedByPods) {
        config
    } else {
        return None;
    };
    Some(ConditionDraft {
        status: ConditionStatus::True,
        ..cause.clone()
    })
}

/// The faults that pods report as active; a pod cannot report a run that nobody asked for.
fn active_faults(observed: &Observed, config_map: &str, now: DateTime<Utc>) -> Vec<ActiveFault> {
    let asked: Vec<String> = observed
        .document(config_map, FAULTS_KEY)
        .and_then(|text| Faults::parse(text.as_bytes()).ok())
        .map(|parsed| parsed.document.faults.into_iter().map(|entry| entry.run).collect())
        .unwrap_or_default();
    let mut pods: BTreeMap<(String, &'static str), i32> = BTreeMap::new();
    let reports = observed.ready_pods.values().filter_map(|pod| pod.evidence(now));
    for fault in reports.flat_map(|report| report.faults.iter()) {
        if fault.state == FaultState::Active && asked.contains(&fault.run) {
            *pods.entry((fault.run.clone(), fault.fault_type.as_str())).or_default() += 1;
        }
    }
    pods.into_iter()
        .take(16)
        .map(|((run, kind), pods)| ActiveFault {
            run: run.chars().take(256).collect(),
            kind: kind.to_owned(),
            pods,
        })
        .collect()
}

/// The image without its registry and path; a digest is shortened.
fn short_image(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let short = match last.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", digest.chars().take(12).collect::<String>()),
        None => last.to_owned(),
    };
    short.chars().take(256).collect()
}
