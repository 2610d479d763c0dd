//! A service: its traffic light, and the reason for its colour.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use valerix_crds::names::condition as types;
use valerix_crds::{GuardMode, ReportProtocol, ResilientService};

use super::{ConditionView, Light, conditions, identity, moment};

/// The port on which pods report unless their service says otherwise.
const REPORT_PORT: u16 = 9090;

/// A ResilientService.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its traffic light.
    pub light: Light,
    /// One word on why the light has its colour.
    pub reason: String,
    /// A sentence on why.
    pub message: String,
    /// Since when the light has its colour.
    pub since: Option<DateTime<Utc>>,
    /// Ready of desired pods, such as `3/3`.
    pub replicas: String,
    /// Pods that run the configuration of ready ones, such as `3/3`.
    pub config: String,
    /// `closed`, or how many circuits are open.
    pub circuits: String,
    /// The image without its registry.
    pub image: String,
    /// Whether experiments may hurt it.
    pub chaos_allowed: bool,
    /// Breakers by target.
    pub breakers: Vec<BreakerView>,
    /// Faults that its pods report.
    pub faults: Vec<FaultView>,
    /// What the operator says.
    pub conditions: Vec<ConditionView>,
    /// Whether a guard stands beside its image, which reports in its place.
    #[serde(skip)]
    pub guarded: bool,
    /// The port on which its pods report; none where they do not.
    #[serde(skip)]
    pub report_port: Option<u16>,
}

/// In how many pods the breaker of a target is in which state.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerView {
    /// The target.
    pub target: String,
    /// Unit: pods.
    pub closed: i32,
    /// Unit: pods.
    pub open: i32,
    /// Unit: pods.
    pub half_open: i32,
}

/// A fault that pods report.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FaultView {
    /// The run that set it.
    pub run: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Pods that report it. Unit: pods.
    pub pods: i32,
}

impl From<&ResilientService> for ServiceView {
    fn from(service: &ResilientService) -> Self {
        let (namespace, name) = identity(&service.metadata);
        let status = service.status.clone().unwrap_or_default();
        let summary = status.summary.unwrap_or_default();
        let conditions = conditions(&status.conditions);
        let seen = status.observed_generation >= service.metadata.generation.unwrap_or_default();
        let (light, deciding) = light(&conditions, seen);
        let nothing = || ("NotSeen", "the operator has not said anything of this service yet");
        let unseen = ("Outdated", "the operator has not seen the newest change yet");
        let (reason, message) = match deciding {
            Some(condition) if seen || light == Light::Red => (condition.reason.as_str(), condition.message.as_str()),
            Some(_) => unseen,
            None => nothing(),
        };
        let created = service.metadata.creation_timestamp.as_ref().and_then(moment);
        Self {
            light,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: deciding.map_or(created, |condition| condition.since),
            replicas: summary.replicas,
            config: summary.config,
            circuits: summary.circuits,
            image: summary.image,
            chaos_allowed: allows_chaos(service),
            breakers: (status.circuit_breakers.into_iter())
                .map(|breaker| BreakerView {
                    target: breaker.target,
                    closed: breaker.closed,
                    open: breaker.open,
                    half_open: breaker.half_open,
                })
                .collect(),
            faults: (status.active_faults.into_iter())
                .map(|fault| FaultView {
                    run: fault.run,
                    kind: fault.kind,
                    pods: fault.pods,
                })
                .collect(),
            conditions,
            guarded: is_guarded(service),
            report_port: report_port(service),
            namespace,
            name,
        }
    }
}

/// The light, and the condition that decides it: the first of those that are not as they should be, the gravest first.
fn light(conditions: &[ConditionView], seen: bool) -> (Light, Option<&ConditionView>) {
    let named = |kind: &str| conditions.iter().find(|condition| condition.kind == kind);
    let is = |kind: &str, status: &str| named(kind).filter(|condition| condition.status == status);
    let red = is(types::STALLED, "True").or(is(types::AVAILABLE, "False"));
    if red.is_some() {
        return (Light::Red, red);
    }
    let ready = named(types::READY);
    if !seen {
        return (Light::Grey, ready);
    }
    let yellow = is(types::CIRCUITS_CLOSED, "False")
        .or(is(types::CONFIG_APPLIED, "False"))
        .or(is(types::RESOURCES_READY, "False"))
        .or(is(types::READY, "False"))
        .or(is(types::WARNING, "True"));
    if yellow.is_some() {
        return (Light::Yellow, yellow);
    }
    match ready {
        Some(ready) if ready.status == "True" => (Light::Green, Some(ready)),
        other => (Light::Grey, other),
    }
}

fn allows_chaos(service: &ResilientService) -> bool {
    let chaos = service.spec.chaos.as_ref();
    chaos.is_some_and(|chaos| super::word(&chaos.admission) == "Allowed")
}

fn is_guarded(service: &ResilientService) -> bool {
    let guard = service.spec.guard.as_ref();
    guard.is_some_and(|guard| guard.mode == Some(GuardMode::Sidecar))
}

fn report_port(service: &ResilientService) -> Option<u16> {
    let resilience = service.spec.resilience.as_ref();
    let protocol = resilience
        .and_then(|resilience| resilience.protocol)
        .unwrap_or_default();
    let asked = resilience.and_then(|resilience| resilience.report_port);
    let port = asked.and_then(|port| u16::try_from(port).ok()).unwrap_or(REPORT_PORT);
    (protocol == ReportProtocol::Report).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str) -> ConditionView {
        ConditionView {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: format!("{kind}{status}"),
            message: String::new(),
            since: None,
        }
    }

    #[test]
    fn the_gravest_condition_decides_the_light_and_is_named() {
        let ready = condition(types::READY, "True");
        let unready = condition(types::READY, "False");
        let open = condition(types::CIRCUITS_CLOSED, "False");
        let down = condition(types::AVAILABLE, "False");
        let warning = condition(types::WARNING, "True");
        for (conditions, seen, expected) in [
            (vec![ready.clone()], true, (Light::Green, "ReadyTrue")),
            (vec![ready.clone()], false, (Light::Grey, "ReadyTrue")),
            (
                vec![ready.clone(), open.clone()],
                true,
                (Light::Yellow, "CircuitsClosedFalse"),
            ),
            (vec![ready.clone(), warning], true, (Light::Yellow, "WarningTrue")),
            (vec![unready.clone()], true, (Light::Yellow, "ReadyFalse")),
            (vec![unready, open, down.clone()], true, (Light::Red, "AvailableFalse")),
            (vec![down], false, (Light::Red, "AvailableFalse")),
            (
                vec![condition(types::READY, "Unknown")],
                true,
                (Light::Grey, "ReadyUnknown"),
            ),
            (vec![], true, (Light::Grey, "")),
        ] {
            let (light, deciding) = light(&conditions, seen);
            let reason = deciding.map_or("", |condition| &condition.reason);
            assert_eq!((light, reason), expected, "{conditions:?}");
        }
    }
}
