//! Quantities as the API server writes them, or they would look like drift to an operator that has just started. Pure.

use super::super::quantity::{canonical, canonical_resource};
use k8s_openapi::{
    api::{
        autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec},
        core::v1::{
            Container, DownwardAPIVolumeFile, PodSpec, ResourceFieldSelector, ResourceRequirements, Volume,
            VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};
use std::collections::BTreeMap;

/// Resources by name, where there are any.
type Amounts = Option<BTreeMap<String, Quantity>>;

/// Of the containers, of the volumes, and of the pod as a whole.
pub fn write_quantities(pod: &mut PodSpec) {
    let containers = pod
        .containers
        .iter_mut()
        .chain(pod.init_containers.iter_mut().flatten());
    containers.for_each(of_container);
    pod.volumes.iter_mut().flatten().for_each(of_volume);
    of_requirements(&mut pod.resources);
    amounts(&mut pod.overhead);
}

/// Of what an autoscaler measures.
pub fn write_targets(metrics: &mut [MetricSpec]) {
    for metric in metrics {
        let targets = [
            metric.pods.as_mut().map(|pods| &mut pods.target),
            metric.object.as_mut().map(|object| &mut object.target),
            metric.external.as_mut().map(|external| &mut external.target),
            metric.resource.as_mut().map(|resource| &mut resource.target),
            metric.container_resource.as_mut().map(|resource| &mut resource.target),
        ];
        for target in targets.into_iter().flatten() {
            one(&mut target.value);
            one(&mut target.average_value);
        }
    }
}

/// Of what an autoscaler puts up with before it does anything.
pub fn write_tolerances(behavior: &mut HorizontalPodAutoscalerBehavior) {
    let rules = [&mut behavior.scale_up, &mut behavior.scale_down];
    for rules in rules.into_iter().flatten() {
        one(&mut rules.tolerance);
    }
}

fn of_container(container: &mut Container) {
    of_requirements(&mut container.resources);
    let sources = container
        .env
        .iter_mut()
        .flatten()
        .filter_map(|variable| variable.value_from.as_mut());
    sources.for_each(|source| of_field(&mut source.resource_field_ref));
}

fn of_volume(volume: &mut Volume) {
    if let Some(directory) = &mut volume.empty_dir {
        one(&mut directory.size_limit);
    }
    let claim = volume
        .ephemeral
        .as_mut()
        .and_then(|ephemeral| ephemeral.volume_claim_template.as_mut());
    if let Some(VolumeResourceRequirements { requests, limits }) =
        claim.and_then(|template| template.spec.resources.as_mut())
    {
        amounts(requests);
        amounts(limits);
    }
    let sources = volume
        .projected
        .iter_mut()
        .flat_map(|projected| projected.sources.iter_mut().flatten());
    let projected = sources.filter_map(|source| source.downward_api.as_mut()?.items.as_mut());
    let own = volume
        .downward_api
        .iter_mut()
        .filter_map(|downward| downward.items.as_mut());
    let files = projected.chain(own).flatten();
    files.for_each(|file: &mut DownwardAPIVolumeFile| of_field(&mut file.resource_field_ref));
}

fn of_requirements(resources: &mut Option<ResourceRequirements>) {
    if let Some(ResourceRequirements { requests, limits, .. }) = resources {
        amounts(requests);
        amounts(limits);
    }
}

fn of_field(selector: &mut Option<ResourceFieldSelector>) {
    if let Some(selector) = selector {
        one(&mut selector.divisor);
    }
}

fn amounts(amounts: &mut Amounts) {
    for quantity in amounts.iter_mut().flat_map(|amounts| amounts.values_mut()) {
        *quantity = canonical_resource(quantity);
    }
}

fn one(quantity: &mut Option<Quantity>) {
    if let Some(quantity) = quantity {
        *quantity = canonical(quantity);
    }
}
