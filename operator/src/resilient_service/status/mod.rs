//! Fifth step: what was seen, as a status. Pure: time is an argument.
//!
//! Every figure is an answer of a running pod or of the API server; what nobody answered is Unknown.

mod circuits;
mod config;
mod news;
#[cfg(test)]
mod tests;

pub use news::news;

use super::{
    apply::Applied,
    build::selector,
    dereference::Observed,
    rollout::{Obstacle, Rollout, obstacle},
    validate::{self, Plan, Violation},
};
use crate::runtime::{
    Category,
    apply::Outcome,
    conditions::{ConditionUpdate, find_condition, remove_condition, set_condition},
    failure,
};
use chrono::{DateTime, Utc};
use config::Config;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use std::{collections::BTreeMap, time::Duration};
use valerix_crds::{
    ActiveFault, ConditionStatus, ResilientService, ResilientServiceStatus, ServiceSummary,
    names::{FAULTS_KEY, condition, policy_config_map},
};
use valerix_policy::{FaultState, Faults};

/// What this reconcile did about the children.
#[derive(Debug)]
pub enum Work {
    /// They were applied.
    Applied {
        /// What was built.
        plan: Box<Plan>,
        /// What came of it.
        applied: Applied,
    },
    /// They were left alone, because the user asked for it.
    Paused,
    /// They were left alone, because the specification cannot be built.
    Invalid(Vec<Violation>),
}

/// A status, and when it would be another one by the passing of time alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The status.
    pub status: ResilientServiceStatus,
    /// When to look again, if nothing changes before.
    pub look_again: Option<Duration>,
}

/// One condition's value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    status: ConditionStatus,
    reason: String,
    message: String,
}

impl Verdict {
    fn new(status: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn holds(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// Judges a service.
pub fn status(service: &ResilientService, observed: &Observed, work: &Work, now: DateTime<Utc>) -> Judged {
    let old = service.status.clone().unwrap_or_default();
    let name = service.name_any();
    let namespace = service.namespace().unwrap_or_default();
    let desired = service.spec.replicas;
    let rollout = Rollout::of(observed, &name);
    let config = Config::judge(service, observed, work, &rollout, &old, now);
    let circuits = circuits::judge(service, observed);
    let resources = resources(work, observed, &name);
    let hindrance = obstacle(observed, &name, &namespace);
    let available = available(desired, &rollout, observed, hindrance.as_ref());
    let progressing = progressing(desired, &rollout, work);
    let ready = ready(work, desired, &available, &config.verdict, &resources);
    let stalled = stalled(work, &resources, &progressing, &config.verdict, &rollout);
    let reconciling = (stalled.is_none()
        && !(progressing_is_over(&progressing) && config.is_settled() && resources.holds()))
    .then(|| Verdict::new(ConditionStatus::True, &ready.reason, ready.message.clone()));
    let warning = warning(service, observed);

    let generation = service.metadata.generation.unwrap_or(0);
    let mut conditions = old.conditions.clone();
    let mut set = |kind: &str, verdict: &Verdict| {
        let update = ConditionUpdate {
            kind,
            status: verdict.status,
            reason: &verdict.reason,
            message: verdict.message.clone(),
        };
        set_condition(&mut conditions, update, generation, now);
    };
    set(condition::READY, &ready);
    set(condition::AVAILABLE, &available);
    set(condition::PROGRESSING, &progressing);
    set(condition::CONFIG_APPLIED, &config.verdict);
    set(condition::CIRCUITS_CLOSED, &circuits.verdict);
    set(condition::RESOURCES_READY, &resources);
    let passing = [
        (condition::WARNING, warning),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
    ];
    for (kind, verdict) in passing {
        match verdict {
            Some(verdict) => set_passing(&mut conditions, kind, &verdict, generation, now),
            None => remove_condition(&mut conditions, kind),
        }
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
        active_faults: active_faults(observed, &policy_config_map(&name)),
        last_experiment: old.last_experiment,
        conditions,
    };
    Judged {
        status,
        look_again: config.look_again,
    }
}

fn set_passing(conditions: &mut Vec<Condition>, kind: &str, verdict: &Verdict, generation: i64, now: DateTime<Utc>) {
    let update = ConditionUpdate {
        kind,
        status: verdict.status,
        reason: &verdict.reason,
        message: verdict.message.clone(),
    };
    set_condition(conditions, update, generation, now);
}

fn resources(work: &Work, observed: &Observed, name: &str) -> Verdict {
    let applied = match work {
        Work::Invalid(violations) => {
            return Verdict::new(ConditionStatus::False, "InvalidSpec", validate::describe(violations));
        }
        Work::Paused => {
            // What stands is left alone; whether it is enough shows in the other conditions.
            let exists = super::dereference::named(&observed.children.deployments, name).is_some();
            let status = if exists {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            };
            return Verdict::new(
                status,
                "Paused",
                "spec.paused is true: nothing is created, changed or put back",
            );
        }
        Work::Applied { applied, .. } => applied,
    };
    if let Some(error) = applied.first_error() {
        let reason = match error.category() {
            "NotOwned" => "NotOwned",
            _ => "ApplyFailed",
        };
        return Verdict::new(ConditionStatus::False, reason, failure::chain(error));
    }
    if let Some(child) = applied.with(Outcome::Terminating).next() {
        let message = format!(
            "{} {} is being deleted and is made again when it is gone",
            child.kind, child.name
        );
        return Verdict::new(ConditionStatus::False, "Terminating", message);
    }
    Verdict::new(
        ConditionStatus::True,
        "AllApplied",
        "every owned object stands as desired",
    )
}

fn available(desired: i32, rollout: &Rollout, observed: &Observed, hindrance: Option<&Obstacle>) -> Verdict {
    if desired == 0 {
        return Verdict::new(ConditionStatus::True, "ScaledToZero", "spec.replicas is 0");
    }
    let ready = count(observed.ready_pods.len());
    let so_many = format!("{ready} of {desired} pods are ready");
    if rollout.exists && rollout.observed && rollout.available >= desired && ready >= desired {
        return Verdict::new(ConditionStatus::True, "MinimumReplicasAvailable", so_many);
    }
    match hindrance {
        Some(obstacle) => Verdict::new(
            ConditionStatus::False,
            &obstacle.reason,
            format!("{so_many}; {}", obstacle.message),
        ),
        None => Verdict::new(ConditionStatus::False, "WaitingForPods", so_many),
    }
}

fn progressing(desired: i32, rollout: &Rollout, work: &Work) -> Verdict {
    // The cache shows the Deployment from before our own writing.
    let just_written = match work {
        Work::Applied { applied, .. } => [Outcome::Created, Outcome::Updated, Outcome::Repaired]
            .into_iter()
            .flat_map(|outcome| applied.with(outcome))
            .any(|child| child.kind == "Deployment"),
        Work::Paused | Work::Invalid(_) => false,
    };
    if let Some(said) = rollout
        .deadline_exceeded
        .as_ref()
        .filter(|_| !just_written && rollout.observed)
    {
        return Verdict::new(ConditionStatus::False, "ProgressDeadlineExceeded", said.clone());
    }
    if rollout.is_settled(desired) && !just_written {
        return Verdict::new(
            ConditionStatus::False,
            "RolloutComplete",
            format!("{desired} pods run the current template"),
        );
    }
    if !rollout.exists && !just_written {
        return Verdict::new(ConditionStatus::False, "NotStarted", "there is no Deployment yet");
    }
    Verdict::new(
        ConditionStatus::True,
        "RollingOut",
        format!("{} of {desired} pods run the current template", rollout.updated),
    )
}

fn progressing_is_over(progressing: &Verdict) -> bool {
    progressing.reason == "RolloutComplete"
}

/// Available, ConfigApplied and ResourcesReady together; the first that does not hold gives reason and message.
fn ready(work: &Work, desired: i32, available: &Verdict, config: &Verdict, resources: &Verdict) -> Verdict {
    if matches!(work, Work::Invalid(_)) {
        return resources.clone();
    }
    for part in [resources, available, config] {
        if !part.holds() {
            return part.clone();
        }
    }
    if desired == 0 {
        return available.clone();
    }
    Verdict::new(
        ConditionStatus::True,
        &config.reason,
        format!("{}; {}", available.message, config.message),
    )
}

/// What needs somebody's help: time alone will not make it good.
fn stalled(
    work: &Work,
    resources: &Verdict,
    progressing: &Verdict,
    config: &Verdict,
    rollout: &Rollout,
) -> Option<Verdict> {
    let cause = if matches!(work, Work::Invalid(_)) || resources.reason == "NotOwned" {
        resources
    } else if rollout.deadline_exceeded.is_some() && progressing.reason == "ProgressDeadlineExceeded" {
        progressing
    } else if config.reason == "DeadlineExceeded" || config.reason == "RejectedByPods" {
        config
    } else {
        return None;
    };
    Some(Verdict::new(
        ConditionStatus::True,
        &cause.reason,
        cause.message.clone(),
    ))
}

/// Works, but deserves a look. None when there is nothing to say.
fn warning(service: &ResilientService, observed: &Observed) -> Option<Verdict> {
    if service.spec.paused {
        let text = "spec.paused is true: drift is not put back and experiments are refused";
        return Some(Verdict::new(ConditionStatus::True, "Paused", text));
    }
    let mut fields: Vec<String> = observed
        .ready_pods
        .values()
        .filter_map(|pod| pod.report.as_ref())
        .flat_map(|report| report.report.policy.ignored_fields.iter())
        .map(|field| field.chars().take(64).collect())
        .collect();
    fields.sort();
    fields.dedup();
    fields.truncate(5);
    (!fields.is_empty()).then(|| {
        let text = format!(
            "pods do not know these fields of the policy and ignore them: {}; use a newer version of their library",
            fields.join(", ")
        );
        Verdict::new(ConditionStatus::True, "FieldsIgnoredByPods", text)
    })
}

/// The faults that pods report as active; a pod cannot report a run that nobody asked for.
fn active_faults(observed: &Observed, config_map: &str) -> Vec<ActiveFault> {
    let asked: Vec<String> = observed
        .document(config_map, FAULTS_KEY)
        .and_then(|text| Faults::parse(text.as_bytes()).ok())
        .map(|parsed| parsed.document.faults.into_iter().map(|entry| entry.run).collect())
        .unwrap_or_default();
    let mut pods: BTreeMap<(String, &'static str), i32> = BTreeMap::new();
    let reports = observed.ready_pods.values().filter_map(|pod| pod.report.as_ref());
    for fault in reports.flat_map(|report| report.report.faults.iter()) {
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

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The old condition of a type.
fn before<'a>(old: &'a ResilientServiceStatus, kind: &str) -> Option<&'a Condition> {
    find_condition(&old.conditions, kind)
}
