//! The pod around the container: as whom it runs, where, which volumes it has, and the user's overrides last. Pure.

use super::{
    super::validate::Plan,
    guard::{build_authorities, build_guard},
    metadata::{selector, some},
    mounts::{SCRATCH_VOLUME, mounts_scratch},
    quantities::write_quantities,
    security::{USER, build_container_security},
};
use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        ConfigMapVolumeSource, Container, EmptyDirVolumeSource, LocalObjectReference, PodSecurityContext, PodSpec,
        SeccompProfile, Toleration, TopologySpreadConstraint, Volume,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use valerix_crds::{
    ResilientServiceSpec, SeccompProfileType, TaintEffect, TolerationOperator, TopologySpreadMode,
    names::policy_config_map,
};

/// Label that Kubernetes puts on a pod: the hash of its template.
const TEMPLATE_LABEL: &str = "pod-template-hash";

/// The specification of the pods, with `container` as the service's own.
pub fn build_pod(plan: &Plan, container: Container) -> PodSpec {
    let spec = &plan.service.spec;
    let mut pod = PodSpec {
        service_account_name: Some(spec.service_account_name.clone().unwrap_or_else(|| plan.name.clone())),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(spec.termination_grace_period_seconds),
        image_pull_secrets: some(
            spec.image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect(),
        ),
        security_context: Some(build_pod_security(spec)),
        init_containers: some(plan.parts.init_containers.clone()),
        containers: vec![container],
        volumes: Some(build_volumes(plan)),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        tolerations: some(spec.tolerations.iter().map(build_toleration).collect()),
        affinity: plan.parts.affinity.clone(),
        priority_class_name: spec.priority_class_name.clone(),
        topology_spread_constraints: build_spread(plan),
        ..PodSpec::default()
    };
    if let Some(overrides) = &plan.parts.pod_overrides {
        pod.merge_from(overrides.clone());
    }
    let beside = pod
        .containers
        .iter_mut()
        .filter(|container| container.name != plan.name);
    for container in beside.chain(pod.init_containers.iter_mut().flatten()) {
        secure(spec, container);
    }
    if let Some(guard) = &plan.guard {
        // Before all others, so that those may already call through it; and after the user's wishes for their own.
        pod.init_containers
            .get_or_insert_default()
            .insert(0, build_guard(plan, guard));
    }
    write_quantities(&mut pod);
    pod
}

fn build_pod_security(spec: &ResilientServiceSpec) -> PodSecurityContext {
    let wanted = spec.security_context.clone().unwrap_or_default();
    let seccomp = wanted.seccomp_profile.unwrap_or(valerix_crds::SeccompProfile {
        kind: SeccompProfileType::RuntimeDefault,
        localhost_profile: None,
    });
    PodSecurityContext {
        run_as_non_root: Some(wanted.run_as_non_root.unwrap_or(true)),
        run_as_user: Some(wanted.run_as_user.unwrap_or(USER)),
        run_as_group: Some(wanted.run_as_group.unwrap_or(USER)),
        fs_group: Some(wanted.fs_group.unwrap_or(USER)),
        supplemental_groups: some(wanted.supplemental_groups),
        seccomp_profile: Some(SeccompProfile {
            type_: match seccomp.kind {
                SeccompProfileType::RuntimeDefault | SeccompProfileType::Unknown => "RuntimeDefault",
                SeccompProfileType::Localhost => "Localhost",
                SeccompProfileType::Unconfined => "Unconfined",
            }
            .to_owned(),
            localhost_profile: seccomp.localhost_profile,
        }),
        ..PodSecurityContext::default()
    }
}

/// Gives a container of the user's the service's own security where it says nothing: the restricted profile asks every one.
fn secure(spec: &ResilientServiceSpec, container: &mut Container) {
    let mut security = build_container_security(&spec.security_context.clone().unwrap_or_default());
    security.merge_from(container.security_context.take().unwrap_or_default());
    container.security_context = Some(security);
}

fn build_volumes(plan: &Plan) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "policy".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: policy_config_map(&plan.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        empty_dir("state"),
    ];
    let is_replaced = plan.parts.volumes.iter().any(|volume| volume.name == SCRATCH_VOLUME);
    if !is_replaced && !mounts_scratch(&plan.service.spec) {
        volumes.push(empty_dir(SCRATCH_VOLUME));
    }
    volumes.extend(build_authorities(plan));
    volumes.extend(plan.parts.volumes.iter().cloned());
    volumes
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

fn build_toleration(toleration: &valerix_crds::Toleration) -> Toleration {
    Toleration {
        key: toleration.key.clone(),
        operator: toleration.operator.and_then(|operator| match operator {
            TolerationOperator::Equal => Some("Equal".to_owned()),
            TolerationOperator::Exists => Some("Exists".to_owned()),
            TolerationOperator::Unknown => None,
        }),
        value: toleration.value.clone().filter(|value| !value.is_empty()),
        effect: toleration.effect.and_then(|effect| match effect {
            TaintEffect::NoSchedule => Some("NoSchedule".to_owned()),
            TaintEffect::PreferNoSchedule => Some("PreferNoSchedule".to_owned()),
            TaintEffect::NoExecute => Some("NoExecute".to_owned()),
            TaintEffect::Unknown => None,
        }),
        toleration_seconds: toleration.toleration_seconds,
    }
}

/// Zones and nodes share the pods of one template as evenly as possible; one that cannot be placed so is placed all
/// the same.
fn build_spread(plan: &Plan) -> Option<Vec<TopologySpreadConstraint>> {
    let mode = plan
        .service
        .spec
        .topology_spread
        .as_ref()
        .and_then(|spread| spread.mode);
    if mode == Some(TopologySpreadMode::None) {
        return None;
    }
    let constraint = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector(&plan.name)),
            ..LabelSelector::default()
        }),
        // Without it the pods that a rollout is about to end would push the new ones aside.
        match_label_keys: Some(vec![TEMPLATE_LABEL.to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    let keys = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"];
    Some(keys.into_iter().map(constraint).collect())
}
