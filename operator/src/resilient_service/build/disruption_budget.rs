//! The PodDisruptionBudget. Pure.

use super::{
    super::validate::{Plan, fewest_replicas, pods_or_percent},
    metadata::{metadata, selector},
};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use valerix_crds::ResilientServiceSpec;

/// Fewest pods of which one can be spared.
const ENOUGH: i32 = 2;

/// Whether there are too few pods for the budget that the specification asks for: with one alone it would either allow
/// everything or keep a node from ever being drained.
pub fn is_budget_left_out(spec: &ResilientServiceSpec) -> bool {
    spec.disruption.is_some() && fewest_replicas(spec) < ENOUGH
}

/// Whether the budget that the specification asks for lets no pod go even while all of them are ready: a drain of a node
/// would wait for ever.
pub fn is_eviction_forbidden(spec: &ResilientServiceSpec) -> bool {
    let disruption = spec.disruption.as_ref().filter(|_| !is_budget_left_out(spec));
    let pods = fewest_replicas(spec);
    disruption.is_some_and(
        |disruption| match (&disruption.min_available, &disruption.max_unavailable) {
            (Some(least), _) => of(least, pods) >= pods,
            (None, Some(most)) => of(most, pods) == 0,
            (None, None) => false,
        },
    )
}

/// How many of so many pods, a percentage rounded up, as Kubernetes does for budgets.
fn of(amount: &IntOrString, pods: i32) -> i32 {
    match pods_or_percent(amount) {
        IntOrString::Int(number) => number,
        IntOrString::String(text) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap_or_default();
            (percent * pods + 99) / 100
        }
    }
}

/// None where nothing is asked for, and where there are too few pods.
pub fn build_disruption_budget(plan: &Plan) -> Option<PodDisruptionBudget> {
    let spec = &plan.service.spec;
    let disruption = spec.disruption.as_ref().filter(|_| !is_budget_left_out(spec))?;
    let max_unavailable = match &disruption.min_available {
        Some(_) => None,
        None => Some(
            disruption
                .max_unavailable
                .as_ref()
                .map_or(IntOrString::Int(1), pods_or_percent),
        ),
    };
    Some(PodDisruptionBudget {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable,
            min_available: disruption.min_available.as_ref().map(pods_or_percent),
            selector: Some(LabelSelector {
                match_labels: Some(selector(&plan.name)),
                ..LabelSelector::default()
            }),
            // A pod that does not work must not keep its node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        ..PodDisruptionBudget::default()
    })
}
