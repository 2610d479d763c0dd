//! After the fault: it is taken out, read back as gone, the finalizer goes, and the steady state is awaited.
//!
//! Pure. Legal from every state: a target that was never hurt, is gone or has become another pod is recovered.

use super::action::{Action, SOON, VERY_SOON};
use super::delivery::{END_REPORT, lost};
use super::gates::TOLERATED_SKEW;
use super::heard::{outcome, undecided, unheard};
use super::returned::returned;
use super::situation::{Situation, has_finalizer};
use super::target::supersedes;
use crate::chaos_experiment::entry::{self, DELIVERY, Lock};
use crate::chaos_experiment::faults::pod_kill::EvictionResult;
use crate::chaos_experiment::observed::Removal;
use crate::chaos_experiment::probes::plan::ProbePlan;
use crate::chaos_experiment::probes::samples::{self, After, Window};
use crate::chaos_experiment::report::status::{self, decided};
use crate::chaos_experiment::report::verdict::{Ending, Reason, judge, judge_during};
use crate::runtime::conditions::is_true;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use kube::ResourceExt;
use std::slice;
use valerix_crds::names::FORCE_FINALIZE_ANNOTATION;
use valerix_crds::names::condition::RECOVERED;
use valerix_crds::{RefusedBy, TargetState, TargetStatus};
use valerix_policy::FaultState;

/// The resolution of the times that Kubernetes keeps.
const ONE_SECOND: TimeDelta = TimeDelta::seconds(1);

/// The one thing to do next after the fault.
pub(super) fn decide(situation: &Situation<'_>) -> Action {
    let Situation {
        experiment,
        status,
        plan,
        observed,
        ..
    } = situation;
    let lock = entry::lock(observed.faults(), &situation.name);
    let ours = matches!(lock, Lock::Ours(_));
    let released = entry::released(&situation.name.text());
    let recovered = is_true(&status.conditions, RECOVERED);
    if let Some(action) = outcome(situation, ours) {
        return action;
    }
    // An entry that hurts nobody keeps others away until the run is judged. One that has hurt stays until every pod has said
    // how that ended: of a fault that their document does not name they say nothing.
    let kept = ours
        && if plan.evicts() {
            !situation.deleting()
        } else {
            undecided(situation) && unheard(&status.targets).is_some()
        };
    let to_release = match lock {
        Lock::Ours(_) => !kept,
        // Pods go on with what they read last, so they are given something to read.
        Lock::Unreadable => !recovered,
        // A lock that was sent and never answered may still arrive: after this write its version is refused.
        Lock::Free => !recovered && observed.document.is_some() && observed.faults() != Some(&released),
        Lock::Other(_) => false,
    };
    if to_release {
        return Action::Release(released);
    }
    if !recovered {
        return read_back(situation);
    }
    if has_finalizer(experiment) {
        return Action::RemoveFinalizer;
    }
    if situation.deleting() {
        return Action::Rest { until: None };
    }
    match steady(situation) {
        Steady::Awaited(action) => action,
        Steady::Over(..) if ours => Action::Release(released),
        Steady::Over(ending, since) => situation.finish(&returned(situation), &ending, since),
    }
}

fn read_back(situation: &Situation<'_>) -> Action {
    let Situation {
        experiment,
        status,
        observed,
        ..
    } = situation;
    let editor = situation.editor();
    let mut targets = status.targets.clone();
    let mut awaited = Vec::new();
    let live = observed.faults().map(|text| valerix_policy::hash(text.as_bytes()));
    for target in &mut targets {
        if !is_recovered(situation, target, live.as_deref()) {
            awaited.push(target.pod.clone());
        }
    }
    if targets != status.targets {
        return Action::Write(Box::new(editor.targets(status, targets)));
    }
    let forced = experiment
        .annotations()
        .get(FORCE_FINALIZE_ANNOTATION)
        .is_some_and(|value| value == "true");
    if awaited.is_empty() || forced {
        if undecided(situation)
            && let Some(silent) = unheard(&status.targets)
        {
            let message = format!(
                "pod {} was lost before the fault's end: it never said how the fault ended in it",
                silent.pod
            );
            let ending = Ending::new(Reason::TargetsLost, message);
            return Action::Write(Box::new(editor.decide(status, &ending)));
        }
        return Action::Write(Box::new(editor.recovered(status, !awaited.is_empty())));
    }
    let names: Vec<_> = awaited.iter().map(String::as_str).collect();
    situation.write_or(editor.awaiting(status, &names), Action::Look(VERY_SOON))
}

/// Whether the fault is over in this pod by evidence; says so in `target`.
fn is_recovered(situation: &Situation<'_>, target: &mut TargetStatus, live: Option<&str>) -> bool {
    let observed = situation.observed;
    let pod = observed.pod(&target.uid);
    if situation.plan.evicts() {
        read_eviction(situation, target);
        return true;
    }
    if matches!(
        target.state,
        TargetState::Recovered | TargetState::Gone | TargetState::Refused
    ) {
        // Whatever was said of the fault's end: a pod that is still hurt is not recovered.
        let report = observed.reports.get(&target.uid);
        let fault = report.and_then(|report| report.fault.as_ref());
        return pod.is_none() || fault.is_none_or(|fault| fault.state != FaultState::Active);
    }
    let report = observed.reports.get(&target.uid);
    let fault = report.and_then(|report| report.fault.as_ref());
    match fault.map(|fault| fault.state) {
        Some(FaultState::Ended | FaultState::Refused)
            if undecided(situation) && unheard(slice::from_ref(target)).is_some() =>
        {
            // Nobody has asked for its end, so a reason is one of the pod's own: its process may be another by now.
            match fault.and_then(|fault| fault.reason.as_ref()) {
                Some(why) => lost(target, &format!("the fault ended early: {why}")),
                None => target.state = TargetState::Recovered,
            }
            true
        }
        Some(FaultState::Refused) => {
            // Whom it has not hurt it did not end in.
            if target.state == TargetState::Injecting {
                target.state = TargetState::Refused;
                target.refused_by = Some(RefusedBy::Pod);
                target.message = fault.and_then(|fault| fault.reason.clone());
            }
            true
        }
        Some(FaultState::Ended) => {
            if target.state != TargetState::Intended {
                target.state = TargetState::Recovered;
            }
            true
        }
        _ if pod.is_none() => {
            target.state = TargetState::Gone;
            target.message = Some("the pod is gone, and the fault with it".into());
            true
        }
        Some(FaultState::Active) => {
            let over = situation.status.fault_ended_at.map(|at| at + END_REPORT);
            if undecided(situation) && report.map(|report| report.received_at) > over {
                lost(target, "the fault goes on after its time");
            }
            false
        }
        // It has read the document as it stands now, and there is no such fault in it; or it is too late to begin one,
        // whatever it has read and wherever the document went.
        None => report.is_some_and(|report| {
            let has_read = live.is_some() && report.faults_hash.as_deref() == live;
            has_read || is_too_late(situation, report.received_at)
        }),
    }
}

/// Whether no pod begins the fault any more: the entry says until when, and a pod whose clock is further off was refused.
fn is_too_late(situation: &Situation<'_>, at: DateTime<Utc>) -> bool {
    let asked = situation.experiment.spec.duration.as_ref();
    let longest = asked.and_then(|duration| duration.value().ok());
    let longest = TimeDelta::from_std(longest.unwrap_or(situation.limits.max_duration)).unwrap_or(TimeDelta::MAX);
    let intent = situation.status.intent_at;
    let until = intent.and_then(|intent| (intent + DELIVERY + TOLERATED_SKEW).checked_add_signed(longest));
    until.is_some_and(|until| at > until)
}

/// An eviction cannot be taken back. What is not known of it yet is read off the pod once more.
fn read_eviction(situation: &Situation<'_>, target: &mut TargetStatus) {
    if target.state != TargetState::Injecting {
        return;
    }
    let observed = situation.observed;
    let evicted = match (observed.evictions.get(&target.uid), observed.pod(&target.uid)) {
        (Some(EvictionResult::Accepted(at)), _) => Some(*at),
        (_, None) => Some(observed.now),
        (_, Some(pod)) => match pod.removal {
            Removal::Evicted(at) => Some(at),
            Removal::Deleted(at) if situation.plan.deletes => Some(at),
            Removal::Deleted(_) | Removal::None => None,
        },
    };
    if let Some(at) = evicted {
        target.state = TargetState::Active;
        // A time of Kubernetes is cut to the second, and nothing happened before it was wanted.
        let at = at.max(situation.status.intent_at.unwrap_or(at));
        target.active_at = Some(status::milliseconds(at));
    } else {
        target.state = TargetState::Refused;
        target.refused_by = Some(RefusedBy::ApiServer);
        target.message = Some("no eviction of it was seen".into());
    }
}

/// Whether the run can be judged.
enum Steady {
    /// Not yet.
    Awaited(Action),
    /// It can, and the system is steady again since then, where that is known.
    Over(Ending, Option<DateTime<Utc>>),
}

fn steady(situation: &Situation<'_>) -> Steady {
    let Situation {
        status, plan, observed, ..
    } = situation;
    let verdict = decided(status);
    if let Some(ending) = &verdict
        && !ending.reason.awaits_the_steady_state()
    {
        return Steady::Over(ending.clone(), None);
    }
    if verdict.is_none()
        && let Some(stop) = situation.stop()
    {
        return Steady::Over(stop, None);
    }
    let Some(ended_at) = status.fault_ended_at else {
        // There was no fault that anything could have to recover from.
        let nothing = || Ending::new(Reason::InjectionFailed, "no target was hurt");
        return Steady::Over(verdict.unwrap_or_else(nothing), None);
    };
    let ends_the_process = plan.fault.kind.ends_the_process;
    if plan.probes.is_empty() && !ends_the_process {
        // Nothing tells when the system was itself again, so nothing is claimed.
        return Steady::Over(judge(verdict, false, &After::Met(ended_at), ""), None);
    }
    let gone_at = certainly_ended(situation, ended_at);
    let back_at = pods_back_at(situation, gone_at);
    let mut after = After::Met(gone_at);
    if !plan.probes.is_empty() {
        let Some(samples) = &observed.samples else {
            return Steady::Awaited(Action::StartProbes);
        };
        if let Some(recorded) = status::probes(status, samples, observed.now) {
            return Steady::Awaited(Action::Write(Box::new(recorded)));
        }
        // Answers to questions from the time of the fault may have come since. A process that was ended is missed until
        // the one after it is ready: until then the fault is on, as far as its effect goes.
        let window = Window {
            from: situation.first_active().unwrap_or(ended_at),
            until: if ends_the_process { back_at } else { Some(ended_at) },
            now: observed.now,
        };
        let during = samples::during(&plan.probes, samples, window);
        if let Some(ending) = judge_during(&during).filter(|ending| supersedes(status, ending)) {
            return Steady::Awaited(Action::Write(Box::new(situation.editor().decide(status, &ending))));
        }
        after = samples::after(&plan.probes, samples, gone_at, observed.now);
    }
    judge_recovery(situation, verdict, &after, ended_at, back_at)
}

fn judge_recovery(
    situation: &Situation<'_>,
    verdict: Option<Ending>,
    after: &After,
    ended_at: DateTime<Utc>,
    back_at: Option<DateTime<Utc>>,
) -> Steady {
    let Situation { plan, observed, .. } = situation;
    let timeout = TimeDelta::from_std(plan.recovery_timeout).unwrap_or(TimeDelta::MAX);
    let in_words = format!("{:?}", plan.recovery_timeout);
    let late = observed.now >= ended_at + timeout;
    let not_yet = |message: String| After::NotYet {
        message,
        not_asked: false,
        watched: true,
    };
    match (after, back_at) {
        (After::Met(since), Some(back_at)) => {
            let steady_at = (*since).max(back_at);
            if !watched(situation, ended_at, steady_at) {
                let gap = Ending::new(
                    Reason::ObservationGap,
                    "nobody watched all the time from the fault's end until the system was steady again, so there is no verdict",
                );
                return Steady::Over(verdict.unwrap_or(gap), None);
            }
            let after = if steady_at > ended_at + timeout {
                let took = (steady_at - ended_at).as_seconds_f64();
                not_yet(format!("it took {took:.1}s"))
            } else {
                after.clone()
            };
            let ending = judge(verdict, !plan.probes.is_empty(), &after, &in_words);
            Steady::Over(ending, Some(steady_at))
        }
        _ if !late => Steady::Awaited(Action::Look(VERY_SOON)),
        (After::Met(_), None) => {
            let after = not_yet(format!("{} of {} pods are ready", ready(situation), wanted(situation)));
            Steady::Over(judge(verdict, true, &after, &in_words), None)
        }
        (After::NotYet { watched: false, .. }, _) if observed.now < ended_at + timeout + grace(situation) => {
            Steady::Awaited(Action::Look(SOON))
        }
        _ => Steady::Over(judge(verdict, true, after, &in_words), None),
    }
}

/// A process that takes over after the time is up asks once before it says that nobody watched.
fn grace(situation: &Situation<'_>) -> TimeDelta {
    let slowest = situation
        .plan
        .probes
        .iter()
        .map(ProbePlan::tolerated_gap)
        .max()
        .unwrap_or_default();
    TimeDelta::from_std(slowest).unwrap_or_default()
}

/// Whether somebody watched from the fault's end until the system was steady: else a deviation may have been missed, and
/// the time to recover is that of the look.
fn watched(situation: &Situation<'_>, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    let Situation { plan, observed, .. } = situation;
    let window = Window {
        from,
        until: Some(until),
        now: observed.now,
    };
    observed
        .samples
        .as_ref()
        .is_none_or(|samples| samples::watched(&plan.probes, samples, window))
}

/// From when on what is asked is asked after the fault. Of a process that was ended Kubernetes keeps the second alone: an
/// answer from that second may be one of the process before its end, and is no sign of a recovery.
fn certainly_ended(situation: &Situation<'_>, ended_at: DateTime<Utc>) -> DateTime<Utc> {
    if situation.plan.fault.kind.ends_the_process && !situation.plan.evicts() {
        ended_at.trunc_subsecs(0) + ONE_SECOND
    } else {
        ended_at
    }
}

/// Since when as many pods are ready as before, by what the pods say and not by when it was looked at.
fn pods_back_at(situation: &Situation<'_>, ended_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if !situation.plan.fault.kind.ends_the_process {
        return Some(ended_at);
    }
    let now = situation.now();
    if now < ended_at {
        return None;
    }
    // Kubernetes cuts its times to the second, so a pod was ready a second later at the latest.
    let mut since: Vec<_> = serving(situation)
        .map(|ready_since| ready_since.map_or(now, |at| (at + ONE_SECOND).min(now)))
        .collect();
    since.sort_unstable();
    match wanted(situation) {
        0 => Some(ended_at),
        wanted => since.get(wanted - 1).map(|at| (*at).max(ended_at)),
    }
}

/// Since when each pod serves that was not sent away.
fn serving(situation: &Situation<'_>) -> impl Iterator<Item = Option<DateTime<Utc>>> {
    let victims = &situation.status.targets;
    let goes = situation.plan.evicts();
    let is_victim = move |uid: &str| {
        goes && victims
            .iter()
            .any(|target| target.uid == uid && matches!(target.state, TargetState::Active | TargetState::Recovered))
    };
    situation.observed.serving(is_victim).map(|pod| pod.ready_since)
}

fn ready(situation: &Situation<'_>) -> usize {
    serving(situation).count()
}

/// As many as before, unless somebody wants fewer by now.
fn wanted(situation: &Situation<'_>) -> usize {
    let before = situation.status.ready_before.unwrap_or_default();
    situation
        .observed
        .workload
        .map_or(before, |workload| before.min(workload.desired)) as usize
}
