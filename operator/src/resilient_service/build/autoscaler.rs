//! The HorizontalPodAutoscaler of the Deployment. Pure.

use super::{
    super::validate::{Plan, cpu_percent, least_replicas},
    metadata::{metadata, some},
    quantities::{write_targets, write_tolerances},
};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    MetricSpec, MetricTarget,
};

/// None where the specification says how many pods there are.
pub fn build_autoscaler(plan: &Plan) -> Option<HorizontalPodAutoscaler> {
    let scaling = plan.service.spec.autoscaling.as_ref()?;
    // Of the service's container alone: one beside it, which requests nothing, would leave nothing to measure against.
    let measured = |name: &str, percent: i32| MetricSpec {
        type_: "ContainerResource".to_owned(),
        container_resource: Some(ContainerResourceMetricSource {
            container: plan.name.clone(),
            name: name.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    let cpu = cpu_percent(scaling).map(|percent| measured("cpu", percent));
    let memory = scaling
        .target_memory_utilization_percentage
        .map(|percent| measured("memory", percent));
    let mut metrics: Vec<MetricSpec> = cpu
        .into_iter()
        .chain(memory)
        .chain(plan.parts.metrics.iter().cloned())
        .collect();
    write_targets(&mut metrics);
    let mut behavior = plan.parts.behavior.clone();
    behavior.iter_mut().for_each(write_tolerances);
    Some(HorizontalPodAutoscaler {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: plan.name.clone(),
            },
            min_replicas: Some(least_replicas(scaling)),
            max_replicas: scaling.max_replicas,
            metrics: some(metrics),
            behavior,
        }),
        ..HorizontalPodAutoscaler::default()
    })
}
