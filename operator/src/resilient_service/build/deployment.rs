//! The Deployment: how its pods are replaced, and the service's own container with the mounts and variables of the
//! pod's contract.

use super::{
    super::validate::{Plan, REPORT_PORT_NAME, pods_or_percent},
    guard::build_addresses,
    metadata::{labels, metadata, selector, some},
    mounts::build_mounts,
    pod::build_pod,
    port::build_port,
    probes::{Pace, build_probe},
    security::build_container_security,
    variables::{build_own_variables, build_pod_variables, build_policy_variables},
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, EnvVar, Lifecycle, LifecycleHandler,
            PodTemplateSpec, ResourceRequirements, SecretEnvSource, SleepAction,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use std::collections::BTreeMap;
use valerix_crds::{
    ImagePullPolicy, ReloadStrategy, ResilientServiceSpec, UpdateStrategyType,
    names::{CONFIG_ANNOTATION, GUARD_LABEL, SERVICE_LABEL},
};

/// How long a rollout may stand still, unless the specification says otherwise. Unit: seconds.
const PROGRESS_DEADLINE_SECONDS: i32 = 300;
/// Pause before a pod is told to end, unless the specification says otherwise. Unit: seconds.
const PRE_STOP_SECONDS: u64 = 5;

pub fn build_deployment(plan: &Plan) -> Deployment {
    let spec = &plan.service.spec;
    let mut deployment = Deployment {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(DeploymentSpec {
            // What is not written belongs to whoever writes it.
            replicas: plan.service.spec.autoscaling.is_none().then_some(plan.replicas),
            selector: LabelSelector {
                match_labels: Some(selector(&plan.name)),
                ..LabelSelector::default()
            },
            strategy: Some(build_strategy(spec)),
            min_ready_seconds: spec.min_ready_seconds.filter(|seconds| *seconds > 0),
            revision_history_limit: Some(5),
            progress_deadline_seconds: Some(spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS)),
            template: build_template(plan),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    if let Some(standing) = &plan.selector {
        fit_selector(&mut deployment, standing);
    }
    deployment
}

/// Makes a Deployment select its pods as the one that stands does, and its pods be among those.
pub fn fit_selector(deployment: &mut Deployment, standing: &LabelSelector) {
    let Some(spec) = deployment.spec.as_mut() else { return };
    let labels = spec
        .template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    for (key, value) in standing.match_labels.iter().flatten() {
        if key != SERVICE_LABEL {
            labels.insert(key.clone(), value.clone());
        }
    }
    spec.selector = standing.clone();
}

/// Never fewer pods than asked for while a new version comes up, unless the user can spare some.
fn build_strategy(spec: &ResilientServiceSpec) -> DeploymentStrategy {
    let wanted = spec.strategy.clone().unwrap_or_default();
    match wanted.kind {
        Some(UpdateStrategyType::Recreate) => DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        },
        Some(UpdateStrategyType::RollingUpdate | UpdateStrategyType::Unknown) | None => DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_unavailable: Some(
                    wanted
                        .max_unavailable
                        .as_ref()
                        .map_or(IntOrString::Int(0), pods_or_percent),
                ),
                max_surge: Some(wanted.max_surge.as_ref().map_or(IntOrString::Int(1), pods_or_percent)),
            }),
        },
    }
}

fn build_template(plan: &Plan) -> PodTemplateSpec {
    let spec = &plan.service.spec;
    let mut pod_labels = spec.pod_labels.clone();
    pod_labels.extend(labels(plan));
    if let Some(guard) = &plan.guard {
        pod_labels.insert(GUARD_LABEL.to_owned(), guard.shape());
    }
    let mut annotations = spec.pod_annotations.clone();
    if spec.config_reload.as_ref().and_then(|reload| reload.strategy) == Some(ReloadStrategy::Rollout) {
        // Another policy is another template.
        annotations.insert(CONFIG_ANNOTATION.to_owned(), plan.policy_hash.clone());
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(build_pod(plan, build_container(plan))),
    }
}

fn build_container(plan: &Plan) -> Container {
    let spec = &plan.service.spec;
    let pace = |period, failures| Pace { period, failures };
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
        startup_probe: build_probe(plan, |probes| probes.startup.as_ref(), pace(1, 60)),
        readiness_probe: build_probe(plan, |probes| probes.readiness.as_ref(), pace(1, 3)),
        liveness_probe: build_probe(plan, |probes| probes.liveness.as_ref(), pace(10, 3)),
        lifecycle: build_lifecycle(spec),
        security_context: Some(build_container_security(
            &spec.security_context.clone().unwrap_or_default(),
        )),
        volume_mounts: some(build_mounts(plan)),
        ..Container::default()
    }
}

fn build_quantities(quantities: &BTreeMap<String, Quantity>) -> Option<BTreeMap<String, Quantity>> {
    (!quantities.is_empty()).then(|| quantities.clone())
}

/// The operator's variables first, so that the user's may refer to them.
fn build_env(plan: &Plan) -> Vec<EnvVar> {
    let mut env = build_pod_variables(plan);
    match &plan.guard {
        // The policy is the guard's to obey, and the report's port is its own.
        Some(guard) => env.extend(build_addresses(plan, guard)),
        None => env.extend(build_policy_variables(plan)),
    }
    env.extend(build_own_variables(plan));
    env
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
    let guard = plan.guard.as_ref();
    let ports = plan.service.spec.ports.iter().map(|item| {
        let port = build_port(&item.name, item.container_port);
        let is_guarded = guard.is_some_and(|guard| guard.inbound(&item.name).is_some());
        ContainerPort {
            // Whoever asks for the name is to find the guard.
            name: port.name.filter(|_| !is_guarded),
            ..port
        }
    });
    let report = plan.report_port.filter(|_| guard.is_none());
    ports
        .chain(report.map(|number| build_port(REPORT_PORT_NAME, number)))
        .collect()
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
