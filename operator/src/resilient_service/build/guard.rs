//! The guard's container, and what the service's own container is told of it. Pure.

use super::{
    super::{
        quantity,
        validate::{AUTHORITIES_DIRECTORY, AUTHORITIES_VOLUME, GuardPlan, Plan, REPORT_PORT_NAME, authorities_file},
    },
    mounts::{build_mounts, build_policy_mounts},
    port::build_port,
    security::least_privilege,
    variables::{build_own_variables, build_pod_variables, build_policy_variables, field_variable, variable},
};
use k8s_openapi::{
    api::core::v1::{
        ConfigMapProjection, Container, ContainerPort, EnvVar, HTTPGetAction, KeyToPath, Probe, ProjectedVolumeSource,
        ResourceRequirements, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use std::{collections::BTreeMap, path::Path};
use valerix_crds::names::GUARD_CONTAINER;
use valerix_policy::guard::{Protocol, TargetListener, WIRING_ENV};

/// What the guard asks for and is held to, unless the specification says otherwise.
const REQUESTS: [(&str, &str); 2] = [("cpu", "10m"), ("memory", "16Mi")];
const LIMITS: [(&str, &str); 1] = [("memory", "64Mi")];
/// Where the guard's listeners for the container are.
const LOOPBACK: &str = "127.0.0.1";
/// Whom a program reaches past the forward proxy: the guard's own listeners, and whatever else is in the pod.
const PAST_THE_PROXY: &str = "localhost,127.0.0.1,::1";
/// Tells the guard how many bytes of memory it may use: what clients can have it hold is bounded accordingly.
const MEMORY_LIMIT: &str = "MEMORY_LIMIT";
/// Names the file of the certificates that are believed.
const CERTIFICATES: &str = "SSL_CERT_FILE";
/// Key of a ConfigMap with authorities, unless the specification names another.
const DEFAULT_KEY: &str = "ca.crt";
/// Time that the guard has to start. Unit: probes, a second apart.
const START_PROBES: i32 = 60;

/// The guard beside the service's container. As an init container that is always restarted it stands before that one
/// starts and after it has ended, and the pod is not ready without it.
pub fn build_guard(plan: &Plan, guard: &GuardPlan) -> Container {
    let mut env = build_pod_variables(plan);
    env.push(field_variable("VALERIX_POD_NAME", "metadata.name"));
    env.push(field_variable("VALERIX_POD_IP", "status.podIP"));
    env.extend(build_policy_variables(plan));
    env.push(variable(WIRING_ENV, &guard.wiring_text()));
    let resources = build_resources(plan);
    env.extend(build_memory_limit(&resources));
    let shared: Vec<EnvVar> = build_own_variables(plan)
        .filter(|own| holds_for_both(&own.name))
        .collect();
    let mut mounts = build_policy_mounts();
    mounts.extend(build_certificates_mount(plan, &shared));
    mounts.extend(build_authorities(plan).map(|_| VolumeMount {
        name: AUTHORITIES_VOLUME.to_owned(),
        mount_path: AUTHORITIES_DIRECTORY.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }));
    env.extend(shared);
    Container {
        name: GUARD_CONTAINER.to_owned(),
        image: Some(guard.image.clone()),
        restart_policy: Some("Always".to_owned()),
        env: Some(env),
        ports: Some(build_ports(plan, guard)),
        resources: Some(resources),
        startup_probe: plan.report_port.map(|port| Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/health".to_owned()),
                port: IntOrString::Int(port),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(1),
            failure_threshold: Some(START_PROBES),
            timeout_seconds: Some(2),
            ..Probe::default()
        }),
        security_context: Some(least_privilege()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// What the service's own container is told of its surroundings, and the guard, which calls others in its place, must
/// know as well: where spans go, the Redis of shared limits, whose certificates are believed.
fn holds_for_both(name: &str) -> bool {
    name.starts_with("OTEL_") || matches!(name, "REDIS_LIMITS_URL" | CERTIFICATES)
}

/// The volume on which the certificates lie that the service's own container is told to believe.
fn build_certificates_mount(plan: &Plan, env: &[EnvVar]) -> Option<VolumeMount> {
    let variable = env.iter().find(|variable| variable.name == CERTIFICATES)?;
    let file = Path::new(variable.value.as_ref()?);
    let above = build_mounts(plan)
        .into_iter()
        .filter(|mount| file.starts_with(&mount.mount_path));
    let nearest = above.max_by_key(|mount| mount.mount_path.len())?;
    Some(VolumeMount {
        read_only: Some(true),
        ..nearest
    })
}

/// The volume with the authorities of targets, one file for each target that names some; none where none does. A ConfigMap
/// that is not there yet keeps no pod from starting: until it is, the guard reaches that target by nobody's word.
pub fn build_authorities(plan: &Plan) -> Option<Volume> {
    plan.guard.as_ref()?;
    let targets = plan
        .service
        .spec
        .resilience
        .iter()
        .flat_map(|resilience| &resilience.targets);
    let sources: Vec<VolumeProjection> = targets
        .filter_map(|target| {
            let bundle = target.tls.as_ref()?.ca_bundle_ref.as_ref()?;
            let item = KeyToPath {
                key: bundle.key.clone().unwrap_or_else(|| DEFAULT_KEY.to_owned()),
                path: authorities_file(target),
                ..KeyToPath::default()
            };
            Some(VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: bundle.name.clone(),
                    items: Some(vec![item]),
                    optional: Some(true),
                }),
                ..VolumeProjection::default()
            })
        })
        .collect();
    (!sources.is_empty()).then(|| Volume {
        name: AUTHORITIES_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    })
}

/// The addresses of the guard's listeners for the service's own container. What the user sets stays as it is.
pub fn build_addresses(plan: &Plan, guard: &GuardPlan) -> Vec<EnvVar> {
    let mut env: Vec<EnvVar> = guard.wiring.targets.iter().map(build_address).collect();
    if let Some(proxy) = &guard.wiring.forward_proxy {
        let address = format!("http://{LOOPBACK}:{}", proxy.listen);
        // Programs differ in which of the two they read.
        for (name, value) in [("http_proxy", address.as_str()), ("no_proxy", PAST_THE_PROXY)] {
            for name in [name.to_owned(), name.to_uppercase()] {
                if plan.service.spec.env.iter().all(|own| own.name != name) {
                    env.push(variable(&name, value));
                }
            }
        }
    }
    env
}

fn build_address(target: &TargetListener) -> EnvVar {
    let name = target.name.to_uppercase().replace('-', "_");
    let address = format!("{LOOPBACK}:{}", target.listen);
    match target.protocol {
        Protocol::Tcp => variable(&format!("VALERIX_TARGET_{name}_ADDR"), &address),
        Protocol::Http | Protocol::H2c => variable(&format!("VALERIX_TARGET_{name}_URL"), &format!("http://{address}")),
    }
}

/// The guard's ports have the names of those that they stand before: while pods with and without a guard stand beside
/// each other, each is found by the name at the right number.
fn build_ports(plan: &Plan, guard: &GuardPlan) -> Vec<ContainerPort> {
    let inbound = guard.wiring.inbound.iter();
    let mut ports: Vec<ContainerPort> = inbound
        .map(|listener| build_port(&listener.name, i32::from(listener.listen)))
        .collect();
    ports.extend(plan.report_port.map(|number| build_port(REPORT_PORT_NAME, number)));
    ports
}

/// None where nothing limits it.
fn build_memory_limit(resources: &ResourceRequirements) -> Option<EnvVar> {
    let limit = quantity::whole(resources.limits.as_ref()?.get("memory")?)?;
    Some(variable(MEMORY_LIMIT, &limit.to_string()))
}

fn build_resources(plan: &Plan) -> ResourceRequirements {
    let wanted = plan.service.spec.guard.as_ref();
    let quantities = |map: &BTreeMap<String, Quantity>| (!map.is_empty()).then(|| map.clone());
    let fixed = |list: &[(&str, &str)]| {
        let pairs = list
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())));
        Some(pairs.collect())
    };
    match wanted.and_then(|guard| guard.resources.as_ref()) {
        Some(resources) => ResourceRequirements {
            requests: quantities(&resources.requests),
            limits: quantities(&resources.limits),
            ..ResourceRequirements::default()
        },
        None => ResourceRequirements {
            requests: fixed(&REQUESTS),
            limits: fixed(&LIMITS),
            ..ResourceRequirements::default()
        },
    }
}
