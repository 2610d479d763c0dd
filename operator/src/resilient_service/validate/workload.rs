//! What is wrong with the pods as a set: replacement, and measures that nothing is measured against. Pure.

use crate::runtime::Violation;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use valerix_crds::{Autoscaling, ResilientServiceSpec, UpdateStrategy};

/// Use of a CPU request that is aimed at where nothing else is. Unit: percent.
const DEFAULT_CPU_PERCENT: i32 = 80;

/// The use of the CPU request that is aimed at, if it is.
pub fn cpu_percent(scaling: &Autoscaling) -> Option<i32> {
    let aims_elsewhere = scaling.target_memory_utilization_percentage.is_some() || !scaling.metrics.is_empty();
    scaling
        .target_cpu_utilization_percentage
        .or_else(|| (!aims_elsewhere).then_some(DEFAULT_CPU_PERCENT))
}

/// Fewest pods of an autoscaled service.
pub fn least_replicas(scaling: &Autoscaling) -> i32 {
    scaling.min_replicas.unwrap_or(1)
}

/// A number of pods as Kubernetes takes it: a text is a percentage there, and a number in quotes none.
pub fn pods_or_percent(written: &IntOrString) -> IntOrString {
    match written {
        IntOrString::String(text) => text.parse().map_or_else(|_| written.clone(), IntOrString::Int),
        IntOrString::Int(_) => written.clone(),
    }
}

/// A rolling update that may neither add nor miss a pod replaces none.
pub fn strategy(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let Some(UpdateStrategy {
        max_surge,
        max_unavailable,
        ..
    }) = &spec.strategy
    else {
        return;
    };
    let is_zero = |amount: &IntOrString| match amount {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(text) => text.trim_end_matches('%').parse() == Ok(0),
    };
    if max_surge.as_ref().is_some_and(is_zero) && max_unavailable.as_ref().is_none_or(is_zero) {
        violations.push(Violation::new(
            "spec.strategy.maxSurge",
            "no pod could be replaced while maxUnavailable is 0 too",
            "raise one of the two",
        ));
    }
}

/// A share of a request needs the request.
pub fn autoscaling(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let Some(scaling) = &spec.autoscaling else { return };
    // Kubernetes takes the limit for the request where only that is given.
    let is_requested = |name: &str| {
        spec.resources
            .as_ref()
            .is_some_and(|resources| resources.requests.contains_key(name) || resources.limits.contains_key(name))
    };
    for (percent, field, name) in [
        (cpu_percent(scaling), "targetCPUUtilizationPercentage", "cpu"),
        (
            scaling.target_memory_utilization_percentage,
            "targetMemoryUtilizationPercentage",
            "memory",
        ),
    ] {
        if let Some(percent) = percent.filter(|_| !is_requested(name)) {
            violations.push(Violation::new(
                format!("spec.autoscaling.{field}"),
                format!("there is no {name} request that {percent} percent could be taken of"),
                format!("set spec.resources.requests.{name}, or aim at something else"),
            ));
        }
    }
}
