//! The PodDisruptionBudget. Pure.

use super::{
    super::validate::{Plan, fewest_replicas},
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

/// None where nothing is asked for, and where there are too few pods.
pub fn build_disruption_budget(plan: &Plan) -> Option<PodDisruptionBudget> {
    let spec = &plan.service.spec;
    let disruption = spec.disruption.as_ref().filter(|_| !is_budget_left_out(spec))?;
    let max_unavailable = match &disruption.min_available {
        Some(_) => None,
        None => Some(disruption.max_unavailable.clone().unwrap_or(IntOrString::Int(1))),
    };
    Some(PodDisruptionBudget {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable,
            min_available: disruption.min_available.clone(),
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
