//! What works and deserves a look. Pure.

use super::{draft::ConditionDraft, inputs::Remembered, reason::Reason};
use crate::resilient_service::{
    build::{is_budget_left_out, is_eviction_forbidden},
    dereference::Observed,
    validate::{fewest_replicas, least_replicas},
};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use valerix_crds::{ConditionStatus, LimitScope, ResilientService, Target};

/// Requests that a replica's share of a limit should have: below it one request more or less is a matter of chance.
const FAIR_SHARE: i64 = 20;

/// Everything that there is to say, none when that is nothing: the first one's reason, and those that follow by theirs.
pub fn warning(
    service: &ResilientService,
    observed: &Observed,
    remembered: Remembered,
    now: DateTime<Utc>,
) -> Option<ConditionDraft> {
    let mut all = warnings(service, observed, remembered, now).into_iter();
    let (reason, first) = all.next()?;
    // Each is bounded, and so are they together.
    let message = all.fold(first, |message, (reason, text)| {
        format!("{message}; {}: {text}", reason.as_str())
    });
    Some(ConditionDraft::new(ConditionStatus::True, reason, message))
}

/// What weighs most comes first.
fn warnings(
    service: &ResilientService,
    observed: &Observed,
    remembered: Remembered,
    now: DateTime<Utc>,
) -> Vec<(Reason, String)> {
    let mut all = Vec::new();
    if service.spec.paused {
        let text = "spec.paused is true: drift is not put back and experiments are refused";
        all.push((Reason::Paused, text.to_owned()));
    }
    if remembered.yields_replicas {
        let name = service.name_any();
        let text = format!(
            "something else keeps setting spec.replicas of Deployment {name}, so they are left to it for ten minutes; \
             let a HorizontalPodAutoscaler target ResilientService {name} instead, which has a scale subresource"
        );
        all.push((Reason::ReplicasContested, text));
    }
    if let Some(scaling) = service.spec.autoscaling.as_ref().filter(|_| service.spec.replicas != 1) {
        let text = format!(
            "spec.replicas is {} and is ignored, as spec.autoscaling keeps {} to {} pods; remove one of the two",
            service.spec.replicas,
            least_replicas(scaling),
            scaling.max_replicas
        );
        all.push((Reason::ReplicasIgnored, text));
    }
    if is_budget_left_out(&service.spec) {
        let text = "spec.disruption bounds nothing with fewer than two pods, so a drain may take the last one; \
                    raise spec.replicas or spec.autoscaling.minReplicas to 2, or remove spec.disruption";
        all.push((Reason::DisruptionUnbounded, text.to_owned()));
    }
    if is_eviction_forbidden(&service.spec) {
        let text = format!(
            "spec.disruption spares none of {} pods, so a drain of a node waits for them without end; \
             let one be missing (maxUnavailable: 1), or run more",
            fewest_replicas(&service.spec)
        );
        all.push((Reason::EvictionForbidden, text));
    }
    if !observed.unresolved.is_empty() {
        let text = format!(
            "there is no such Service for these targets, so that nothing answers unless a name is one of the nodes' own search \
             domains: {}; correct url, or make the Service",
            observed.unresolved.join(", ")
        );
        all.push((Reason::TargetUnresolved, text));
    }
    let over = ended_overrides(service, now);
    if !over.is_empty() {
        let text = format!(
            "the override of these targets is over, and their circuits work by themselves: {}; remove it, or set another time",
            over.join(", ")
        );
        all.push((Reason::OverrideEnded, text));
    }
    let rejected = observed
        .children
        .service_monitors
        .iter()
        .find_map(|monitor| monitor.rejection());
    if let Some((prometheus, why)) = rejected {
        let why: String = why.chars().take(256).collect();
        let text = format!(
            "Prometheus {prometheus} does not take the ServiceMonitor: {why}; correct spec.monitoring, or its ServiceMonitor rules"
        );
        all.push((Reason::MonitorRejected, text));
    }
    let fields = ignored_fields(observed, now);
    if !fields.is_empty() {
        let text = format!(
            "pods do not know these fields of the policy and ignore them: {}; use a newer version of their library",
            fields.join(", ")
        );
        all.push((Reason::FieldsIgnoredByPods, text));
    }
    let replicas = observed.asked_replicas(service);
    let small = small_shares(service, replicas);
    if !small.is_empty() {
        let text = format!(
            "these limits of scope Service have fewer than {FAIR_SHARE} requests for each of {} replicas, so the shares are \
             not fair: {}; use scope Distributed, or a longer window with more requests",
            replicas,
            small.join(", ")
        );
        all.push((Reason::SmallShares, text));
    }
    all
}

fn ended_overrides(service: &ResilientService, now: DateTime<Utc>) -> Vec<String> {
    let resilience = service.spec.resilience.iter();
    let targets = resilience.flat_map(|resilience| &resilience.targets);
    let is_over = |target: &&Target| {
        target
            .manual_override
            .as_ref()
            .is_some_and(|by_hand| by_hand.until <= now)
    };
    targets
        .filter(is_over)
        .map(|target| target.name.clone())
        .take(5)
        .collect()
}

fn ignored_fields(observed: &Observed, now: DateTime<Utc>) -> Vec<String> {
    let mut fields: Vec<String> = observed
        .ready_pods
        .values()
        .filter_map(|pod| pod.evidence(now))
        .flat_map(|report| report.policy.ignored_fields.iter())
        .map(|field| field.chars().take(64).collect())
        .collect();
    fields.sort();
    fields.dedup();
    fields.truncate(5);
    fields
}

/// Judged here and not by the schema, which would refuse to scale out under load.
fn small_shares(service: &ResilientService, replicas: i32) -> Vec<String> {
    let rules = service
        .spec
        .resilience
        .iter()
        .filter_map(|resilience| resilience.inbound.as_ref()?.rate_limit.as_ref())
        .flat_map(|limit| &limit.rules);
    let least = FAIR_SHARE * i64::from(replicas);
    rules
        .filter(|rule| rule.scope == Some(LimitScope::Service) && i64::from(rule.requests) < least)
        .map(|rule| rule.name.clone())
        .take(5)
        .collect()
}
