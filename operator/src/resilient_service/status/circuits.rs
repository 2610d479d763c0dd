//! The breakers of all pods, counted by target: `CircuitsClosed`. Pure.

use super::{draft::ConditionDraft, reason::Reason};
use crate::resilient_service::{dereference::Observed, validate::report_port};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};
use valerix_crds::{CircuitBreakerStatus, ConditionStatus, ResilientService};
use valerix_policy::CircuitState;

/// The condition of the circuits, with its counts.
pub struct Circuits {
    pub closed: ConditionDraft,
    pub breakers: Vec<CircuitBreakerStatus>,
    pub summary: String,
}

/// Addresses named in a condition for each target.
const NAMED_HOSTS: usize = 3;

/// Counts, for each target of the specification, the pods in each state. A pod with several breakers for one target
/// (one per host) counts once, as its worst; the condition names the addresses.
pub fn judge(service: &ResilientService, observed: &Observed, now: DateTime<Utc>) -> Circuits {
    if report_port(&service.spec).is_none() {
        return Circuits {
            closed: ConditionDraft::new(
                ConditionStatus::Unknown,
                Reason::NotReported,
                "the image does not report its circuits",
            ),
            breakers: Vec::new(),
            summary: "-".to_owned(),
        };
    }
    let targets = service
        .spec
        .resilience
        .iter()
        .flat_map(|resilience| &resilience.targets);
    let mut breakers: Vec<CircuitBreakerStatus> = targets
        .map(|target| CircuitBreakerStatus {
            target: target.name.clone(),
            ..CircuitBreakerStatus::default()
        })
        .collect();
    if breakers.is_empty() {
        return Circuits {
            closed: ConditionDraft::new(
                ConditionStatus::True,
                Reason::NoTargets,
                "spec.resilience.targets is empty",
            ),
            breakers,
            summary: "-".to_owned(),
        };
    }
    let mut reporting = 0;
    let mut unheard: Vec<(Reason, &str)> = Vec::new();
    let mut troubled_hosts: BTreeMap<&str, BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut unknown: BTreeMap<&str, &str> = BTreeMap::new();
    for pod in observed.ready_pods.values() {
        let Some(report) = pod.evidence(now) else {
            let reason = match pod.contact.is_unreachable(now) {
                true => Reason::PodUnreachable,
                false => Reason::NoReports,
            };
            unheard.push((reason, &pod.name));
            continue;
        };
        reporting += 1;
        let mut worst: BTreeMap<&str, CircuitState> = BTreeMap::new();
        for breaker in &report.circuit_breakers {
            let state = worst.entry(&breaker.target).or_insert(breaker.state);
            if badness(breaker.state) > badness(*state) {
                *state = breaker.state;
            }
            // A pod is not believed to name anything but an address.
            let host = breaker.host.as_ref().and_then(|host| host.parse().ok());
            if let (Some(host), CircuitState::Open | CircuitState::HalfOpen) = (host, breaker.state) {
                troubled_hosts.entry(&breaker.target).or_default().insert(host);
            }
        }
        for breaker in &report.circuit_breakers {
            if let Some(word) = &breaker.new_state {
                unknown.entry(&breaker.target).or_insert(word);
            }
        }
        for breaker in &mut breakers {
            match worst.get(breaker.target.as_str()) {
                Some(CircuitState::Closed) => breaker.closed += 1,
                Some(CircuitState::Open) => breaker.open += 1,
                Some(CircuitState::HalfOpen) => breaker.half_open += 1,
                Some(CircuitState::Unknown) | None => {}
            }
        }
    }
    // One that is silent for good before one that may yet answer.
    let unheard = unheard
        .into_iter()
        .min_by_key(|(reason, name)| (*reason == Reason::NoReports, *name))
        .map(|(reason, pod)| match reason {
            Reason::PodUnreachable => (reason, format!("pod {pod} does not answer")),
            _ => (reason, format!("pod {pod} has not reported yet")),
        });
    let unknown = breakers.iter().find_map(|breaker| {
        let word = unknown.get(breaker.target.as_str())?;
        let why = format!(
            "a newer library says {word:?} of the circuit to {}, which this operator does not know; upgrade the operator",
            breaker.target
        );
        Some((Reason::CircuitUnknown, why))
    });
    let (closed, summary) = condition(&breakers, &troubled_hosts, reporting, unknown.or(unheard));
    Circuits {
        closed,
        breakers,
        summary,
    }
}

fn condition(
    breakers: &[CircuitBreakerStatus],
    troubled_hosts: &BTreeMap<&str, BTreeSet<SocketAddr>>,
    reporting: i32,
    unsure: Option<(Reason, String)>,
) -> (ConditionDraft, String) {
    let silent = |(reason, _): &(Reason, String)| *reason == Reason::NoReports;
    if reporting == 0 && unsure.as_ref().is_none_or(silent) {
        let draft = ConditionDraft::new(ConditionStatus::Unknown, Reason::NoReports, "no pod has reported yet");
        return (draft, "-".to_owned());
    }
    let open = breakers.iter().filter(|breaker| breaker.open > 0).count();
    let half_open = breakers
        .iter()
        .filter(|breaker| breaker.open == 0 && breaker.half_open > 0)
        .count();
    let troubled: Vec<String> = breakers
        .iter()
        .filter(|breaker| breaker.open + breaker.half_open > 0)
        .map(|breaker| {
            let state = match (breaker.open, breaker.half_open) {
                (open, 0) => format!("open in {open}"),
                (0, half) => format!("half-open in {half}"),
                (open, half) => format!("open in {open} and half-open in {half}"),
            };
            let hosts = troubled_hosts
                .get(breaker.target.as_str())
                .map(named)
                .unwrap_or_default();
            format!("{}: {state} of {reporting} pods{hosts}", breaker.target)
        })
        .collect();
    // What is open somewhere is open, whoever else is silent; that all are closed takes an answer of every pod that
    // can be understood.
    if troubled.is_empty() {
        let message = format!("no circuit is open in {reporting} pods");
        return match unsure {
            None => {
                let draft = ConditionDraft::new(ConditionStatus::True, Reason::AllClosed, message);
                (draft, "closed".to_owned())
            }
            Some((reason, why)) => {
                let draft = ConditionDraft::new(ConditionStatus::Unknown, reason, format!("{message}; {why}"));
                (draft, "unknown".to_owned())
            }
        };
    }
    let reason = if open > 0 {
        Reason::CircuitOpen
    } else {
        Reason::CircuitHalfOpen
    };
    let summary = match (open, half_open) {
        (0, half_open) => format!("{half_open} half-open"),
        (open, 0) => format!("{open} open"),
        (open, half_open) => format!("{open} open, {half_open} half-open"),
    };
    (
        ConditionDraft::new(ConditionStatus::False, reason, troubled.join("; ")),
        summary,
    )
}

/// The addresses that circuits of scope `Host` are about; the others of the target are called.
fn named(hosts: &BTreeSet<SocketAddr>) -> String {
    let mut names: Vec<String> = hosts.iter().take(NAMED_HOSTS).map(ToString::to_string).collect();
    if hosts.len() > NAMED_HOSTS {
        names.push(format!("{} more", hosts.len() - NAMED_HOSTS));
    }
    format!(" (only for {})", names.join(", "))
}

fn badness(state: CircuitState) -> u8 {
    match state {
        CircuitState::Closed => 0,
        CircuitState::Unknown => 1,
        CircuitState::HalfOpen => 2,
        CircuitState::Open => 3,
    }
}
