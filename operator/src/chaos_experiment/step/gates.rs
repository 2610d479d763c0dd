//! Whether a run may begin, and on which pods.
//!
//! Pure. In: plan, settings and what is observed at this moment. Out: the victims, or why not, or until when to wait.
//! Everything here is asked again right before the intent is recorded, however long ago it was asked first; what keeps
//! the service alive is asked once more when the run fires ([`at_fire`]) and before each eviction ([`one_more`]).

use crate::chaos_experiment::entry::{Lock, experiment_of, lock};
use crate::chaos_experiment::hold::Hold;
use crate::chaos_experiment::identity::EntryName;
use crate::chaos_experiment::limits::Limits;
use crate::chaos_experiment::observed::{GuardView, Observed, PodView, Removal, ServiceView};
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::chaos_experiment::validate::{Count, Plan};
use chrono::TimeDelta;
use sha2::{Digest, Sha256};
use std::time::Duration;
use valerix_crds::{SparedPod, TargetStatus};

/// The most targets that status holds.
const MOST_TARGETS: usize = 100;
/// How far a pod's clock may be from the operator's: the fault's end depends on it.
pub(super) const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(2);

/// What the gates need to know of the run.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// Namespace of the experiment and its target.
    pub namespace: &'a str,
    /// The run's entry.
    pub name: &'a EntryName,
    /// Whether a schedule started it.
    pub scheduled: bool,
}

/// The pods to hurt.
///
/// # Errors
/// Why the run does not begin at this moment.
pub fn victims(plan: &Plan, limits: &Limits, attempt: &Attempt<'_>, observed: &Observed) -> Result<Vec<PodView>, Hold> {
    let service = consent(plan, limits, attempt, observed)?;
    if let Some(other) = &observed.busy {
        return Err(busy(plan, other).into());
    }
    cooldown(plan, attempt, observed)?;
    if !plan.evicts() && !service.config_applied {
        return Err(Hold::Waiting {
            reason: "WaitingForConfig",
            message: format!(
                "waiting until every ready pod of {0} runs what its spec says now; see condition ConfigApplied of ResilientService {0}",
                plan.service
            ),
            until: observed.now + TimeDelta::seconds(1),
        });
    }
    let victims = select(plan, attempt, observed)?;
    if plan.fault.kind.takes_pods_away {
        blast_radius(plan, observed, victims.len())?;
    }
    Ok(victims)
}

/// Whether the fault may still begin on the recorded targets: time has passed since they were chosen.
///
/// # Errors
/// Why it may not.
pub fn at_fire(
    plan: &Plan,
    limits: &Limits,
    attempt: &Attempt<'_>,
    observed: &Observed,
    targets: &[TargetStatus],
) -> Result<(), Ending> {
    consent(plan, limits, attempt, observed)?;
    if let Some(other) = &observed.unjudged {
        return Err(busy(plan, other));
    }
    if !plan.fault.kind.takes_pods_away {
        return Ok(());
    }
    let lives = |target: &&TargetStatus| {
        observed
            .pod(&target.uid)
            .is_some_and(|pod| pod.removal == Removal::None)
    };
    blast_radius(plan, observed, targets.iter().filter(lives).count())
}

/// Whether one more pod may be taken away now.
///
/// # Errors
/// Why not.
pub fn one_more(plan: &Plan, observed: &Observed) -> Result<(), Ending> {
    leaves_enough(plan, observed, 1)
}

/// Whether the operator may evict pods there.
///
/// # Errors
/// With the remedy, when it may not.
pub fn may_evict(limits: &Limits, namespace: &str) -> Result<(), Ending> {
    if limits.may_evict(namespace) {
        return Ok(());
    }
    Err(Ending::new(
        Reason::EvictionNotAllowed,
        format!(
            "podKill: the operator may not evict pods in namespace {namespace}; add {namespace} to the chart's value chaos.namespaces"
        ),
    ))
}

fn busy(plan: &Plan, other: &str) -> Ending {
    Ending::new(
        Reason::TargetBusy,
        format!(
            "experiment {other} has {} already; wait until it has ended",
            plan.service
        ),
    )
}

fn consent<'a>(
    plan: &Plan,
    limits: &Limits,
    attempt: &Attempt<'_>,
    observed: &'a Observed,
) -> Result<&'a ServiceView, Ending> {
    let (namespace, service) = (attempt.namespace, plan.service.as_str());
    if limits.denied(namespace) {
        return Err(Ending::new(
            Reason::NamespaceDenied,
            format!(
                "no experiment may run in namespace {namespace}; use a namespace of its own for what is to be hurt"
            ),
        ));
    }
    let Some(view) = &observed.service else {
        return Err(Ending::new(
            Reason::TargetNotFound,
            format!(
                "spec.target.service: there is no ResilientService {service} in namespace {namespace}; create it or correct the name"
            ),
        ));
    };
    if !view.admitted {
        return Err(Ending::new(
            Reason::NotAdmitted,
            format!(
                "spec.target.service: {service} does not consent; set spec.chaos.admission: Allowed on ResilientService {service}"
            ),
        ));
    }
    if view.paused {
        return Err(Ending::new(
            Reason::ServicePaused,
            format!("ResilientService {service} is paused; set its spec.paused to false"),
        ));
    }
    if plan.evicts() {
        may_evict(limits, namespace)?;
    } else if !view.reports {
        return Err(Ending::new(
            Reason::ReportMissing,
            format!(
                "{} needs a service that reports; set spec.resilience.protocol: Report or spec.guard.mode: Sidecar on ResilientService {service}, or use podKill",
                plan.fault.kind.name
            ),
        ));
    }
    if let Some(guard) = view.guard {
        obeyed_by_guard(plan, guard)?;
    }
    if observed.document.is_none() {
        return Err(Ending::new(
            Reason::TargetNotFound,
            format!("ConfigMap {service}-policy does not exist yet; wait until ResilientService {service} is Ready"),
        ));
    }
    match lock(observed.faults(), attempt.name) {
        Lock::Other(other) => Err(busy(plan, experiment_of(&other))),
        Lock::Free | Lock::Ours(_) | Lock::Unreadable => Ok(view),
    }
}

/// What a guard can do in the place of the image.
fn obeyed_by_guard(plan: &Plan, guard: GuardView) -> Result<(), Ending> {
    let (service, kind) = (&plan.service, plan.fault.kind.name);
    if plan.fault.kind.hurts_the_process {
        return Err(Ending::new(
            Reason::InvalidSpec,
            format!(
                "spec: {kind} acts on the process that obeys it, and of {service} that is the guard, not the service; use podKill, latency or refuse"
            ),
        ));
    }
    let field = plan.fault.asks_for_requests().filter(|_| !guard.sees_requests);
    if let Some(field) = field {
        return Err(Ending::new(
            Reason::InvalidSpec,
            format!(
                "{field} acts on requests, and every port of {service} that its guard stands before is TCP; use latency, refuse or abort without routes, or partition with direction Egress"
            ),
        ));
    }
    Ok(())
}

fn cooldown(plan: &Plan, attempt: &Attempt<'_>, observed: &Observed) -> Result<(), Ending> {
    let usual = if attempt.scheduled {
        Duration::from_secs(300)
    } else {
        Duration::ZERO
    };
    let cooldown = TimeDelta::from_std(plan.cooldown.unwrap_or(usual)).unwrap_or(TimeDelta::MAX);
    match observed.last_fault_ended_at {
        Some(ended) if observed.now - ended < cooldown => Err(Ending::new(
            Reason::Cooldown,
            format!(
                "the last fault on {} ended {}s ago and spec.safety.cooldown is {}s",
                plan.service,
                (observed.now - ended).num_seconds(),
                cooldown.num_seconds()
            ),
        )),
        _ => Ok(()),
    }
}

fn select(plan: &Plan, attempt: &Attempt<'_>, observed: &Observed) -> Result<Vec<PodView>, Hold> {
    let ready: Vec<_> = observed.serving(|_| false).filter(|pod| is_meant(plan, pod)).collect();
    let wanted = match plan.count {
        Count::Pods(pods) => pods as usize,
        Count::Percent(percent) => ready.len() * percent as usize / 100,
    };
    if wanted == 0 || ready.is_empty() {
        return Err(Ending::new(
            Reason::NoTargets,
            format!(
                "spec.count selects none of the {} ready pods of {}{}; raise it or the replicas",
                ready.len(),
                plan.service,
                meant(plan)
            ),
        )
        .into());
    }
    if wanted > ready.len() || wanted > MOST_TARGETS {
        return Err(Ending::new(
            Reason::NotEnoughPods,
            format!(
                "spec.count asks for {wanted} pods, {} has {} ready ones{}, and one run may hurt {MOST_TARGETS}; lower it",
                plan.service,
                ready.len(),
                meant(plan)
            ),
        )
        .into());
    }
    let mut candidates: Vec<_> = ready
        .into_iter()
        .filter(|pod| keeps_time(plan, observed, pod))
        .collect();
    if candidates.len() < wanted {
        return Err(Ending::new(
            Reason::ClockSkew,
            format!(
                "clocks of pods of {} differ from the operator's by more than {}s, so a fault could not end on time; synchronise the nodes' clocks",
                plan.service,
                TOLERATED_SKEW.num_seconds()
            ),
        )
        .into());
    }
    // By age first, so that waiting is as short as it can be; then by lot, so that it is not always the same pod.
    candidates.sort_by_key(|pod| pod.created_at);
    let age = TimeDelta::from_std(plan.min_pod_age).unwrap_or(TimeDelta::MAX);
    let old_enough = |pod: &PodView| observed.now - pod.created_at >= age;
    if let Some(youngest) = candidates.get(wanted - 1).filter(|pod| !old_enough(pod)) {
        return Err(Hold::Waiting {
            reason: "WaitingForPodAge",
            until: youngest.created_at + age,
            message: format!(
                "waiting until {wanted} ready pods of {} are {}s old (spec.safety.minPodAge)",
                plan.service,
                age.num_seconds()
            ),
        });
    }
    let mut lots: Vec<_> = candidates.into_iter().filter(|pod| old_enough(pod)).collect();
    let seed = attempt.name.seed();
    lots.sort_by_key(|pod| lot(&seed, &pod.uid));
    let victims: Vec<_> = lots.into_iter().take(wanted).cloned().collect();
    if plan.fault.kind.ends_the_process && !plan.evicts() {
        ended_before(plan, observed, &victims)?;
    }
    Ok(victims)
}

/// Waits until the last end of a process is told from the one that the fault will bring: Kubernetes keeps the second alone.
fn ended_before(plan: &Plan, observed: &Observed, victims: &[PodView]) -> Result<(), Hold> {
    let over = |pod: &PodView| Some(pod.process_ended_at? + TimeDelta::seconds(1));
    match victims.iter().filter_map(over).max() {
        Some(until) if until > observed.now => Err(Hold::Waiting {
            reason: "WaitingForPodAge",
            until,
            message: format!(
                "waiting until a second has passed since a process of {} ended",
                plan.service
            ),
        }),
        _ => Ok(()),
    }
}

/// A lot drawn per run and pod: the same one after a restart, another one in the next run.
fn lot(seed: &str, uid: &str) -> [u8; 32] {
    Sha256::digest(format!("{seed} {uid}")).into()
}

/// Whether the experiment is about this pod of the service.
fn is_meant(plan: &Plan, pod: &PodView) -> bool {
    other_zone(plan, pod).is_none() && other_labels(plan, pod).is_none()
}

fn other_zone(plan: &Plan, pod: &PodView) -> Option<String> {
    let wanted = plan.zone.as_ref()?;
    let found = pod.zone.as_deref().unwrap_or("a zone that is not known");
    (found != wanted).then(|| format!("it is in {found} and not in spec.target.zone {wanted}"))
}

fn other_labels(plan: &Plan, pod: &PodView) -> Option<String> {
    let (name, value) = plan
        .labels
        .iter()
        .find(|(name, value)| pod.labels.get(*name) != Some(value))?;
    Some(format!(
        "it has no label {name}={value}, which spec.target.podSelector asks for"
    ))
}

/// How the pods that are meant are fewer than all of the service, in words.
fn meant(plan: &Plan) -> String {
    let zone = plan.zone.as_ref().map(|zone| format!(" in zone {zone}"));
    let labels = plan
        .labels
        .iter()
        .map(|(name, value)| format!(" with label {name}={value}"));
    zone.into_iter().chain(labels).collect()
}

fn keeps_time(plan: &Plan, observed: &Observed, pod: &PodView) -> bool {
    plan.evicts()
        || observed
            .reports
            .get(&pod.uid)
            .is_none_or(|report| report.skew.abs() <= TOLERATED_SKEW)
}

/// The pods that a run with these victims spares, and why each.
pub fn spared(plan: &Plan, observed: &Observed, victims: &[PodView]) -> Vec<SparedPod> {
    let age = TimeDelta::from_std(plan.min_pod_age).unwrap_or(TimeDelta::MAX);
    let why = |pod: &PodView| {
        if pod.removal != Removal::None {
            "it is being removed".to_owned()
        } else if !pod.ready {
            "it is not ready".to_owned()
        } else if let Some(why) = other_zone(plan, pod).or_else(|| other_labels(plan, pod)) {
            why
        } else if !keeps_time(plan, observed, pod) {
            "its clock differs from the operator's".to_owned()
        } else if observed.now - pod.created_at < age {
            "it is younger than spec.safety.minPodAge".to_owned()
        } else {
            "the lot fell on others, and spec.count asks for no more".to_owned()
        }
    };
    let pods = observed.pods.iter();
    pods.filter(|pod| victims.iter().all(|victim| victim.uid != pod.uid))
        .take(MOST_TARGETS)
        .map(|pod| SparedPod {
            pod: pod.name.clone(),
            reason: why(pod).chars().take(256).collect(),
        })
        .collect()
}

fn blast_radius(plan: &Plan, observed: &Observed, victims: usize) -> Result<(), Ending> {
    if observed.workload.is_some_and(|workload| workload.progressing) {
        return Err(Ending::new(
            Reason::RolloutInProgress,
            format!(
                "the Deployment of {} is being rolled out; wait until it is complete",
                plan.service
            ),
        ));
    }
    leaves_enough(plan, observed, victims)
}

fn leaves_enough(plan: &Plan, observed: &Observed, victims: usize) -> Result<(), Ending> {
    let ready = observed.serving(|_| false).count();
    if ready < victims + plan.min_available as usize {
        return Err(Ending::new(
            Reason::NotEnoughPods,
            format!(
                "taking {victims} of {ready} ready pods of {} leaves fewer than spec.safety.minAvailable = {}; raise the replicas or lower one of the two",
                plan.service, plan.min_available
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
