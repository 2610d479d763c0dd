//! The pod around the container: as whom it runs, where, what it mounts, and the user's overrides last. Pure.

use super::{
    super::{
        quantity::{canonical, canonical_resource},
        validate::{POLICY_DIRECTORY, Plan, STATE_DIRECTORY},
    },
    guard::{build_authorities, build_guard},
    metadata::{selector, some},
};
use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, LocalObjectReference, PodSecurityContext,
        PodSpec, ResourceRequirements, SeccompProfile, SecurityContext, Toleration, TopologySpreadConstraint, Volume,
        VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use valerix_crds::{
    ResilientServiceSpec, SeccompProfileType, TaintEffect, TolerationOperator, TopologySpreadMode,
    names::policy_config_map,
};

/// User and group of every container, whatever the image says: images made for root do not start otherwise.
const USER: i64 = 65532;
/// Name of the volume at [`SCRATCH_DIRECTORY`], which a user's volume of that name replaces.
const SCRATCH_VOLUME: &str = "tmp";
/// What may be written although the root file system may not.
const SCRATCH_DIRECTORY: &str = "/tmp";
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

/// What one container may do: as little as the restricted profile asks for, unless the specification says otherwise.
pub fn build_container_security(wanted: &valerix_crds::SecurityContext) -> SecurityContext {
    let capabilities = wanted.capabilities.clone().unwrap_or_default();
    SecurityContext {
        allow_privilege_escalation: Some(wanted.allow_privilege_escalation.unwrap_or(false)),
        read_only_root_filesystem: Some(wanted.read_only_root_filesystem.unwrap_or(true)),
        capabilities: Some(Capabilities {
            add: some(capabilities.add),
            drop: some(capabilities.drop.unwrap_or_else(|| vec!["ALL".to_owned()])),
        }),
        ..SecurityContext::default()
    }
}

/// What the guard may do: as little as the restricted profile asks for, whatever the service's container needs.
pub fn least_privilege() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..build_container_security(&valerix_crds::SecurityContext::default())
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

/// Where whoever obeys the policy sees it.
pub fn build_policy_mounts() -> Vec<VolumeMount> {
    vec![
        VolumeMount {
            read_only: Some(true),
            ..mount("policy", POLICY_DIRECTORY)
        },
        mount("state", STATE_DIRECTORY),
    ]
}

/// Where the service's container sees volumes. The policy is not among them where a guard obeys it.
pub fn build_mounts(plan: &Plan) -> Vec<VolumeMount> {
    let spec = &plan.service.spec;
    let mut mounts = match plan.guard {
        Some(_) => Vec::new(),
        None => build_policy_mounts(),
    };
    if !mounts_scratch(spec) {
        mounts.push(mount(SCRATCH_VOLUME, SCRATCH_DIRECTORY));
    }
    mounts.extend(spec.volume_mounts.iter().map(|wanted| VolumeMount {
        sub_path: wanted.sub_path.clone(),
        // The API server leaves a false one out.
        read_only: wanted.read_only.filter(|read_only| *read_only),
        ..mount(&wanted.name, &wanted.mount_path)
    }));
    mounts
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// Whether the user mounts something of their own at `/tmp`.
fn mounts_scratch(spec: &ResilientServiceSpec) -> bool {
    spec.volume_mounts
        .iter()
        .any(|mount| mount.mount_path.trim_end_matches('/') == SCRATCH_DIRECTORY)
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

/// As the API server writes them, or they would look like drift to an operator that has just started.
fn write_quantities(pod: &mut PodSpec) {
    let containers = pod
        .containers
        .iter_mut()
        .chain(pod.init_containers.iter_mut().flatten());
    for ResourceRequirements { requests, limits, .. } in containers.filter_map(|container| container.resources.as_mut())
    {
        for quantity in [requests, limits]
            .into_iter()
            .flatten()
            .flat_map(|map| map.values_mut())
        {
            *quantity = canonical_resource(quantity);
        }
    }
    let directories = pod
        .volumes
        .iter_mut()
        .flatten()
        .filter_map(|volume| volume.empty_dir.as_mut());
    for size in directories.filter_map(|directory| directory.size_limit.as_mut()) {
        *size = canonical(size);
    }
}
