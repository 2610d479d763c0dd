//! The Deployment: one container under the restricted Pod Security profile, with the mounts and variables of the
//! pod's contract.

use super::{
    super::{
        quantity::canonical,
        validate::{Plan, REPORT_PORT_NAME},
    },
    metadata::{labels, metadata, selector, some},
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, ConfigMapEnvSource, ConfigMapKeySelector, ConfigMapVolumeSource, Container, ContainerPort,
            EmptyDirVolumeSource, EnvFromSource, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
            LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ResourceRequirements, SeccompProfile, SecretEnvSource, SecretKeySelector, SecurityContext, SleepAction,
            Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use std::collections::BTreeMap;
use valerix_crds::{HttpProbeSpec, ImagePullPolicy, ResilientServiceSpec, names::policy_config_map};

/// Where the documents are mounted.
const POLICY_DIRECTORY: &str = "/etc/valerix/policy";
/// Where a service keeps its last good document across restarts of the container.
const STATE_DIRECTORY: &str = "/var/lib/valerix";
/// User and group of every container, whatever the image says: images made for root do not start otherwise.
const USER: i64 = 65532;
/// Pause before a pod is told to end, unless the specification says otherwise. Unit: seconds.
const PRE_STOP_SECONDS: u64 = 5;

pub fn build_deployment(plan: &Plan) -> Deployment {
    Deployment {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(DeploymentSpec {
            replicas: Some(plan.replicas),
            selector: LabelSelector {
                match_labels: Some(selector(&plan.name)),
                ..LabelSelector::default()
            },
            // Never fewer pods than asked for while a new version comes up.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            revision_history_limit: Some(5),
            progress_deadline_seconds: Some(300),
            template: build_template(plan),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn build_template(plan: &Plan) -> PodTemplateSpec {
    let spec = &plan.service.spec;
    let mut pod_labels = spec.pod_labels.clone();
    pod_labels.extend(labels(plan));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: (!spec.pod_annotations.is_empty()).then(|| spec.pod_annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(plan.name.clone()),
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
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![build_container(plan)],
            volumes: Some(vec![
                Volume {
                    name: "policy".to_owned(),
                    config_map: Some(ConfigMapVolumeSource {
                        name: policy_config_map(&plan.name),
                        ..ConfigMapVolumeSource::default()
                    }),
                    ..Volume::default()
                },
                empty_dir("state"),
                empty_dir("tmp"),
            ]),
            ..PodSpec::default()
        }),
    }
}

fn build_container(plan: &Plan) -> Container {
    let spec = &plan.service.spec;
    Container {
        name: plan.name.clone(),
        image: Some(spec.image.clone()),
        image_pull_policy: spec.image_pull_policy.and_then(pull_policy),
        command: some(spec.command.clone()),
        args: some(spec.args.clone()),
        env: Some(build_env(plan)),
        env_from: some(spec.env_from.iter().map(build_env_from).collect()),
        ports: some(build_ports(plan)),
        resources: spec.resources.as_ref().map(|resources| ResourceRequirements {
            requests: build_quantities(&resources.requests),
            limits: build_quantities(&resources.limits),
            ..ResourceRequirements::default()
        }),
        startup_probe: build_probe(spec, |probes| probes.startup.as_ref(), 1, 60),
        readiness_probe: build_probe(spec, |probes| probes.readiness.as_ref(), 1, 3),
        liveness_probe: build_probe(spec, |probes| probes.liveness.as_ref(), 10, 3),
        lifecycle: build_lifecycle(spec),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "policy".to_owned(),
                mount_path: POLICY_DIRECTORY.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            mount("state", STATE_DIRECTORY),
            mount("tmp", "/tmp"),
        ]),
        ..Container::default()
    }
}

/// As the API server writes them, or they would look like drift to an operator that has just started.
fn build_quantities(quantities: &BTreeMap<String, Quantity>) -> Option<BTreeMap<String, Quantity>> {
    let canonical = quantities
        .iter()
        .map(|(name, amount)| (name.clone(), canonical(amount)));
    (!quantities.is_empty()).then(|| canonical.collect())
}

/// The operator's variables first, so that the user's may refer to them.
fn build_env(plan: &Plan) -> Vec<EnvVar> {
    let value = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    let mut env = vec![
        value("VALERIX_SERVICE", &plan.name),
        value("VALERIX_NAMESPACE", &plan.namespace),
        EnvVar {
            name: "VALERIX_POD_UID".to_owned(),
            value_from: Some(field_reference("metadata.uid")),
            ..EnvVar::default()
        },
        value("VALERIX_POLICY_DIR", POLICY_DIRECTORY),
        value("VALERIX_STATE_DIR", STATE_DIRECTORY),
    ];
    if let Some(port) = plan.report_port {
        env.push(value("VALERIX_REPORT_PORT", &port.to_string()));
    }
    env.extend(plan.service.spec.env.iter().map(|variable| EnvVar {
        name: variable.name.clone(),
        // The API server leaves an empty one out.
        value: variable.value.clone().filter(|value| !value.is_empty()),
        value_from: variable.value_from.as_ref().map(build_env_source),
    }));
    env
}

fn build_env_source(source: &valerix_crds::EnvVarSource) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: source.secret_key_ref.as_ref().map(|reference| SecretKeySelector {
            name: reference.name.clone(),
            key: reference.key.clone(),
            optional: reference.optional,
        }),
        config_map_key_ref: source
            .config_map_key_ref
            .as_ref()
            .map(|reference| ConfigMapKeySelector {
                name: reference.name.clone(),
                key: reference.key.clone(),
                optional: reference.optional,
            }),
        field_ref: source
            .field_ref
            .as_ref()
            .and_then(|reference| field_reference(&reference.field_path).field_ref),
        ..EnvVarSource::default()
    }
}

fn field_reference(path: &str) -> EnvVarSource {
    EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: path.to_owned(),
        }),
        ..EnvVarSource::default()
    }
}

fn build_env_from(source: &valerix_crds::EnvFrom) -> EnvFromSource {
    EnvFromSource {
        config_map_ref: source.config_map_ref.as_ref().map(|reference| ConfigMapEnvSource {
            name: reference.name.clone(),
            ..ConfigMapEnvSource::default()
        }),
        secret_ref: source.secret_ref.as_ref().map(|reference| SecretEnvSource {
            name: reference.name.clone(),
            ..SecretEnvSource::default()
        }),
        prefix: source.prefix.clone(),
    }
}

fn build_ports(plan: &Plan) -> Vec<ContainerPort> {
    let port = |name: &str, number: i32| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        // Written out, because server-side apply tells ports apart by port and protocol.
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let spec = &plan.service.spec;
    let mut ports: Vec<ContainerPort> = spec
        .ports
        .iter()
        .map(|item| port(&item.name, item.container_port))
        .collect();
    ports.extend(plan.report_port.map(|number| port(REPORT_PORT_NAME, number)));
    ports
}

fn build_probe<'a>(
    spec: &'a ResilientServiceSpec,
    choose: impl FnOnce(&'a valerix_crds::Probes) -> Option<&'a HttpProbeSpec>,
    period: i32,
    failures: i32,
) -> Option<Probe> {
    let probe = choose(spec.probes.as_ref()?)?;
    let port = match &probe.port {
        Some(name) => name.clone(),
        None => spec.ports.first()?.name.clone(),
    };
    Some(Probe {
        http_get: Some(HTTPGetAction {
            path: Some(probe.path.clone()),
            port: IntOrString::String(port),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(probe.period_seconds.unwrap_or(period)),
        failure_threshold: Some(probe.failure_threshold.unwrap_or(failures)),
        timeout_seconds: Some(probe.timeout_seconds.unwrap_or(2)),
        ..Probe::default()
    })
}

/// Sleeps by the kubelet's own action, so that no shell is needed in the image; whole seconds, rounded up.
fn build_lifecycle(spec: &ResilientServiceSpec) -> Option<Lifecycle> {
    let wanted = spec
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop_sleep.as_ref());
    let seconds = match wanted.map(valerix_crds::Duration::value) {
        Some(Ok(duration)) => duration.as_millis().div_ceil(1000),
        Some(Err(_)) | None => u128::from(PRE_STOP_SECONDS),
    };
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    // Rounding up must not lead beyond what Kubernetes takes.
    let seconds = seconds.min(spec.termination_grace_period_seconds);
    Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    })
}

fn pull_policy(policy: ImagePullPolicy) -> Option<String> {
    let text = match policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
        ImagePullPolicy::Unknown => return None,
    };
    Some(text.to_owned())
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}
