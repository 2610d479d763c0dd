//! Whether a run may begin, and on which pods.
//!
//! Pure. In: plan, settings and what is observed at this moment. Out: the victims, or why not, or until when to wait.
//! Everything here is asked again right before the intent is recorded, however long ago it was asked first; what keeps
//! the service alive is asked once more when the run fires ([`at_fire`]) and before each eviction ([`one_more`]).

use crate::chaos_experiment::entry::{EntryName, Lock, experiment_of, lock};
use crate::chaos_experiment::limits::Limits;
use crate::chaos_experiment::observed::{GuardView, Observed, PodView, Removal, ServiceView};
use crate::chaos_experiment::report::verdict::{Ending, Reason};
use crate::chaos_experiment::validate::{Count, Plan};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use std::time::Duration;
use valerix_crds::{SparedPod, TargetStatus};

/// The most targets that status holds.
const MOST_TARGETS: usize = 100;
/// How far a pod's clock may be from the operator's: the fault's end depends on it.
const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(2);

/// Why a run does not begin at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It never will.
    Refused(Ending),
    /// Not yet.
    Waiting {
        /// One word on what is awaited.
        reason: &'static str,
        /// A sentence on what is awaited.
        message: String,
        /// When to look again at the latest.
        until: DateTime<Utc>,
    },
}

impl From<Ending> for Hold {
    fn from(ending: Ending) -> Self {
        Self::Refused(ending)
    }
}

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
        if !limits.may_evict(namespace) {
            return Err(Ending::new(
                Reason::EvictionNotAllowed,
                format!(
                    "podKill: the operator may not evict pods in namespace {namespace}; add {namespace} to the chart's value chaos.namespaces"
                ),
            ));
        }
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
    Ok(lots.into_iter().take(wanted).cloned().collect())
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
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{World, at};
    use rstest::rstest;
    use serde_json::json;

    fn refusal(world: &World) -> &'static str {
        match world.victims() {
            Err(Hold::Refused(ending)) => ending.reason.as_str(),
            Err(Hold::Waiting { reason, .. }) => reason,
            Ok(_) => "-",
        }
    }

    #[rstest]
    #[case::fine(|_: &mut World| {}, "-")]
    #[case::missing(|world: &mut World| world.observed.service = None, "TargetNotFound")]
    #[case::no_consent(|world: &mut World| world.service().admitted = false, "NotAdmitted")]
    #[case::paused(|world: &mut World| world.service().paused = true, "ServicePaused")]
    #[case::no_document(|world: &mut World| world.observed.document = None, "TargetNotFound")]
    #[case::rollout(|world: &mut World| world.workload().progressing = true, "RolloutInProgress")]
    #[case::no_pods(|world: &mut World| world.observed.pods.clear(), "NoTargets")]
    #[case::unready(|world: &mut World| world.observed.pods.iter_mut().for_each(|pod| pod.ready = false), "NoTargets")]
    #[case::one_is_going(|world: &mut World| world.observed.pods[0].removal = Removal::Deleted(at(100)), "NotEnoughPods")]
    #[case::too_many(|world: &mut World| world.spec["count"] = json!(3), "NotEnoughPods")]
    #[case::percent_rounds_down(|world: &mut World| world.spec["count"] = json!("49%"), "NoTargets")]
    #[case::all_of_them(|world: &mut World| world.spec["count"] = json!("100%"), "NotEnoughPods")]
    #[case::other_namespace(|world: &mut World| world.namespace = "other".into(), "EvictionNotAllowed")]
    #[case::denied(|world: &mut World| world.namespace = "kube-system".into(), "NamespaceDenied")]
    #[case::busy(|world: &mut World| world.lock_by_another(), "TargetBusy")]
    #[case::not_judged_yet(|world: &mut World| world.observed.busy = Some("other".into()), "TargetBusy")]
    #[case::config_does_not_matter(|world: &mut World| world.service().config_applied = false, "-")]
    #[case::cooldown(|world: &mut World| {
        world.spec["safety"] = json!({"cooldown": "5m"});
        world.observed.last_fault_ended_at = Some(world.observed.now - TimeDelta::seconds(299));
    }, "Cooldown")]
    #[case::cooled(|world: &mut World| {
        world.spec["safety"] = json!({"cooldown": "5m"});
        world.observed.last_fault_ended_at = Some(world.observed.now - TimeDelta::seconds(300));
    }, "-")]
    #[case::by_hand_there_is_none(|world: &mut World| world.observed.last_fault_ended_at = Some(world.observed.now), "-")]
    fn every_gate_of_a_pod_kill(#[case] change: fn(&mut World), #[case] expected: &str) {
        let mut world = World::pod_kill();
        change(&mut world);
        assert_eq!(refusal(&world), expected);
    }

    #[rstest]
    #[case::all_of_them(|world: &mut World| world.spec["count"] = json!("100%"), "-")]
    #[case::rollout_does_not_matter(|world: &mut World| world.workload().progressing = true, "-")]
    #[case::no_report(|world: &mut World| world.service().reports = false, "ReportMissing")]
    #[case::skewed(|world: &mut World| {
        world.report_of(0).skew = TimeDelta::milliseconds(-2_001);
        world.report_of(1).skew = TimeDelta::milliseconds(2_001);
    }, "ClockSkew")]
    #[case::one_skewed(|world: &mut World| world.report_of(0).skew = TimeDelta::seconds(3), "-")]
    #[case::stale_pods(|world: &mut World| world.service().config_applied = false, "WaitingForConfig")]
    #[case::elsewhere(|world: &mut World| world.namespace = "other".into(), "-")]
    fn every_gate_of_latency(#[case] change: fn(&mut World), #[case] expected: &str) {
        let mut world = World::latency();
        change(&mut world);
        assert_eq!(refusal(&world), expected);
    }

    const SEES_REQUESTS: GuardView = GuardView { sees_requests: true };
    const TCP_ALONE: GuardView = GuardView { sees_requests: false };

    /// What is refused because of a guard names the field, what is wrong, and what to write instead.
    #[rstest]
    #[case::requests(SEES_REQUESTS, json!({"errors": {"routes": ["GET /a"]}}), "-")]
    #[case::routes(SEES_REQUESTS, json!({"latency": {"delay": "1s", "routes": ["GET /a"]}}), "-")]
    #[case::its_process(SEES_REQUESTS, json!({"crash": {"times": 1}}), "spec: Crash acts on the process that obeys it")]
    #[case::its_processor(SEES_REQUESTS, json!({"cpuStress": {"loadPercent": 1, "workers": 1}}), "spec: CpuStress acts on the process that obeys it")]
    #[case::its_memory(SEES_REQUESTS, json!({"memoryStress": {"size": "1Mi"}}), "spec: MemoryStress acts on the process that obeys it")]
    #[case::connections_are_late(TCP_ALONE, json!({"latency": {"delay": "1s"}}), "-")]
    #[case::connections_are_refused(TCP_ALONE, json!({"refuse": {}}), "-")]
    #[case::connections_are_cut(TCP_ALONE, json!({"abort": {"percent": 50}}), "-")]
    #[case::connections_are_lost(TCP_ALONE, json!({"partition": {"peer": "order", "direction": "Egress"}}), "-")]
    #[case::of_a_caller(SEES_REQUESTS, json!({"partition": {"peer": "order", "direction": "Ingress"}}), "-")]
    #[case::of_nobody(TCP_ALONE, json!({"partition": {"peer": "order", "direction": "Ingress"}}), "spec.partition.direction Ingress acts on requests")]
    #[case::evicted(TCP_ALONE, json!({"podKill": {}}), "-")]
    #[case::no_answer_to_forge(TCP_ALONE, json!({"errors": {}}), "spec.errors acts on requests")]
    #[case::no_route(TCP_ALONE, json!({"latency": {"delay": "1s", "routes": ["GET /a"]}}), "spec.latency.routes acts on requests")]
    #[case::no_route_to_abort(TCP_ALONE, json!({"abort": {"percent": 50, "routes": ["GET /a"]}}), "spec.abort.routes acts on requests")]
    fn a_guard_is_asked_for_what_it_can_do(
        #[case] guard: GuardView,
        #[case] fault: serde_json::Value,
        #[case] expected: &str,
    ) {
        let mut world = World::latency();
        if let Some(spec) = world.spec.as_object_mut() {
            spec.remove("latency");
            spec.extend(fault.as_object().unwrap().clone());
        }
        world
            .observed
            .pods
            .iter_mut()
            .for_each(|pod| pod.ready_since = Some(at(0)));
        world.add_pods(2);
        world.service().guard = Some(guard);
        let told = match world.victims() {
            Err(Hold::Refused(ending)) => {
                assert_eq!(ending.reason, Reason::InvalidSpec, "{}", ending.message);
                assert!(ending.message.contains("; use "), "{}", ending.message);
                ending.message
            }
            Err(Hold::Waiting { message, .. }) => message,
            Ok(_) => "-".to_owned(),
        };
        assert!(told.starts_with(expected), "{told}");
    }

    fn placed() -> World {
        let mut world = World::latency();
        world.add_pods(2);
        for (index, pod) in world.observed.pods.iter_mut().enumerate() {
            pod.zone = Some(format!("west-{}", index % 2));
            pod.labels = [(
                "track".to_owned(),
                if index < 2 { "canary" } else { "stable" }.to_owned(),
            )]
            .into();
        }
        world
    }

    #[test]
    fn only_pods_of_the_zone_and_with_the_labels_are_hurt() {
        let mut world = placed();
        world.spec["count"] = json!("50%");
        world.spec["target"] = json!({"service": "inventory", "zone": "west-1"});
        let victims = world.victims().unwrap();
        assert_eq!(victims.len(), 1, "half of two, not of four");
        assert_eq!(victims[0].zone.as_deref(), Some("west-1"));

        world.spec["target"]["podSelector"] = json!({"matchLabels": {"track": "stable"}});
        assert_eq!(refusal(&world), "NoTargets", "half of one is nobody");
        world.spec["count"] = json!(1);
        let victims = world.victims().unwrap();
        assert_eq!(victims[0].uid, "pod-uid-3");

        let spared = spared(&world.plan(), &world.observed, &victims);
        let reasons: Vec<_> = spared
            .iter()
            .map(|pod| (pod.pod.as_str(), pod.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("inventory-0", "it is in west-0 and not in spec.target.zone west-1"),
                (
                    "inventory-1",
                    "it has no label track=stable, which spec.target.podSelector asks for"
                ),
                ("inventory-2", "it is in west-0 and not in spec.target.zone west-1"),
            ]
        );
    }

    #[test]
    fn a_pod_whose_zone_is_not_known_is_in_none() {
        let mut world = placed();
        world.spec["target"] = json!({"service": "inventory", "zone": "west-1"});
        world.observed.pods.iter_mut().for_each(|pod| pod.zone = None);
        let Err(Hold::Refused(ending)) = world.victims() else {
            panic!("somebody was chosen")
        };
        assert!(
            ending.message.contains("of inventory in zone west-1"),
            "{}",
            ending.message
        );
    }

    #[test]
    fn what_a_dry_run_says_of_each_pod_that_it_spares() {
        let mut world = World::latency();
        world.add_pods(3);
        world.observed.pods[0].removal = Removal::Deleted(at(100));
        world.observed.pods[1].ready = false;
        world.report_of(2).skew = TimeDelta::seconds(3);
        world.observed.pods[3].created_at = at(90);
        let victims = vec![world.observed.pods[4].clone()];
        let spared = spared(&world.plan(), &world.observed, &victims);
        for (pod, word) in spared.iter().zip(["removed", "not ready", "clock", "minPodAge"]) {
            assert!(pod.reason.contains(word), "{pod:?}");
        }
        assert_eq!(spared.len(), 4);
    }

    #[test]
    fn young_pods_are_awaited_just_long_enough() {
        let mut world = World::pod_kill();
        world.observed.pods[0].created_at = at(95);
        world.observed.pods[1].created_at = at(90);
        assert!(matches!(world.victims(), Err(Hold::Waiting { until, .. }) if until == at(120)));
        world.observed.now = at(120);
        assert_eq!(world.victims().unwrap()[0].uid, world.observed.pods[1].uid);
    }

    #[test]
    fn the_lot_is_the_same_after_a_restart_and_another_in_the_next_run() {
        let mut world = World::pod_kill();
        world.add_pods(20);
        let first = world.victims().unwrap();
        assert_eq!(world.victims().unwrap(), first);
        world.observed.pods.reverse();
        assert_eq!(world.victims().unwrap(), first);
        let mut others = (0..20).map(|run| {
            world.run = format!("run-{run}");
            world.victims().unwrap()
        });
        assert!(others.any(|victims| victims != first));
    }

    #[test]
    fn a_schedule_has_a_cooldown_of_five_minutes() {
        let mut world = World::pod_kill();
        world.observed.last_fault_ended_at = Some(world.observed.now - TimeDelta::seconds(299));
        world.scheduled = true;
        assert_eq!(refusal(&world), "Cooldown");
    }

    #[test]
    fn what_keeps_the_service_alive_is_asked_again_when_it_fires() {
        let mut world = World::pod_kill();
        let targets: Vec<_> = world.victims().unwrap().iter().map(World::target).collect();
        assert_eq!(world.at_fire(&targets), Ok(()));
        // A node was drained since: the other pod is all that is left.
        let other = world
            .observed
            .pods
            .iter()
            .position(|pod| pod.uid != targets[0].uid)
            .unwrap();
        world.observed.pods[other].removal = Removal::Deleted(at(100));
        assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::NotEnoughPods);
        assert_eq!(
            one_more(&world.plan(), &world.observed).unwrap_err().reason,
            Reason::NotEnoughPods
        );

        let mut world = World::pod_kill();
        world.workload().progressing = true;
        assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::RolloutInProgress);
        let mut world = World::latency();
        world.service().admitted = false;
        assert_eq!(world.at_fire(&targets).unwrap_err().reason, Reason::NotAdmitted);
    }
}
