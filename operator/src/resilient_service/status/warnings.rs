//! What works and deserves a look. Pure.

use super::{draft::ConditionDraft, inputs::Remembered, reason::Reason};
use crate::resilient_service::dereference::Observed;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use valerix_crds::{ConditionStatus, LimitScope, ResilientService};

/// Requests that a replica's share of a limit should have: below it one request more or less is a matter of chance.
const FAIR_SHARE: i64 = 20;

/// The first warning, none when there is nothing to say.
pub fn warning(
    service: &ResilientService,
    observed: &Observed,
    remembered: Remembered,
    now: DateTime<Utc>,
) -> Option<ConditionDraft> {
    let warn = |reason: Reason, message: String| Some(ConditionDraft::new(ConditionStatus::True, reason, message));
    if service.spec.paused {
        let text = "spec.paused is true: drift is not put back and experiments are refused";
        return warn(Reason::Paused, text.to_owned());
    }
    if remembered.yields_replicas {
        let name = service.name_any();
        let text = format!(
            "something else keeps setting spec.replicas of Deployment {name}, so they are left to it for ten minutes; \
             let a HorizontalPodAutoscaler target ResilientService {name} instead, which has a scale subresource"
        );
        return warn(Reason::ReplicasContested, text);
    }
    let fields = ignored_fields(observed, now);
    if !fields.is_empty() {
        let text = format!(
            "pods do not know these fields of the policy and ignore them: {}; use a newer version of their library",
            fields.join(", ")
        );
        return warn(Reason::FieldsIgnoredByPods, text);
    }
    let small = small_shares(service);
    if !small.is_empty() {
        let text = format!(
            "these limits of scope Service have fewer than {FAIR_SHARE} requests for each of {} replicas, so the shares are \
             not fair: {}; use scope Distributed, or a longer window with more requests",
            service.spec.replicas,
            small.join(", ")
        );
        return warn(Reason::SmallShares, text);
    }
    None
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
fn small_shares(service: &ResilientService) -> Vec<String> {
    let rules = service
        .spec
        .resilience
        .iter()
        .filter_map(|resilience| resilience.inbound.as_ref()?.rate_limit.as_ref())
        .flat_map(|limit| &limit.rules);
    let least = FAIR_SHARE * i64::from(service.spec.replicas);
    rules
        .filter(|rule| rule.scope == Some(LimitScope::Service) && i64::from(rule.requests) < least)
        .map(|rule| rule.name.clone())
        .take(5)
        .collect()
}
