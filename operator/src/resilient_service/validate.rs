//! Second step: the specification as a plan, or what is wrong with it. Pure.
//!
//! The schema has refused most of what can be wrong; here stands what needs defaults merged in or several fields
//! looked at together.

mod guard;
mod names;
mod parts;
mod pod;
mod resources;
mod workload;

pub use guard::{GuardPlan, authorities_file, inbound_ports, is_guarded};
pub use parts::Parts;
pub use pod::{AUTHORITIES_DIRECTORY, AUTHORITIES_VOLUME, POLICY_DIRECTORY, STATE_DIRECTORY};
pub use workload::{cpu_percent, least_replicas, pods_or_percent};

use super::{policy, ready_ports::ReadyPorts};
use crate::runtime::{Violation, Violations};
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{LabelSelector, OwnerReference},
    util::intstr::IntOrString,
};
use kube::{Resource, ResourceExt};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use valerix_crds::{ReportProtocol, ResilientService, ResilientServiceSpec, names::GUARD_CONTAINER};

/// Port of the report unless the specification says otherwise.
pub const DEFAULT_REPORT_PORT: i32 = 9090;
/// Name of the report's port on the container and on the headless Service.
pub const REPORT_PORT_NAME: &str = "report";

/// A specification that can be built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the service and of most children.
    pub name: String,
    /// Namespace of everything.
    pub namespace: String,
    /// The reference that makes a child ours.
    pub owner: OwnerReference,
    /// The service itself.
    pub service: Arc<ResilientService>,
    /// Text of `policy.v1.json`.
    pub policy: String,
    /// Lower-case hex sha256 of [`Plan::policy`].
    pub policy_hash: String,
    /// What is written as in Kubernetes, in Kubernetes' types.
    pub parts: Parts,
    /// The guard beside the container, if there is to be one.
    pub guard: Option<GuardPlan>,
    /// Whether pods stand that no guard, or one with other ports, stands before: they must be found in the old way.
    pub has_pods_of_another_shape: bool,
    /// The numbers at which the pods that stand have each named port.
    pub standing_ports: BTreeMap<String, BTreeSet<i32>>,
    /// Where each port of the Service that stands leads.
    pub standing_targets: BTreeMap<i32, IntOrString>,
    /// Where the pods that are ready listen.
    pub ready_ports: ReadyPorts,
    /// How the Deployment that stands selects its pods, which can never change: one that was taken over says it in its
    /// own way. None: there is no Deployment yet.
    pub selector: Option<LabelSelector>,
    /// Whether the cluster knows ServiceMonitors.
    pub knows_monitors: bool,
    /// Pods that the Deployment is to have: the specification's number, unless another writer decides.
    pub replicas: i32,
    /// Port of the report, if the image reports.
    pub report_port: Option<i32>,
    /// Count of ready pods for `runtime.json`.
    pub ready_replicas: u32,
}

/// The port on which pods report, if they do.
pub fn report_port(spec: &ResilientServiceSpec) -> Option<i32> {
    let resilience = spec.resilience.as_ref();
    match resilience
        .and_then(|resilience| resilience.protocol)
        .unwrap_or_default()
    {
        ReportProtocol::Report => Some(
            resilience
                .and_then(|resilience| resilience.report_port)
                .unwrap_or(DEFAULT_REPORT_PORT),
        ),
        ReportProtocol::None | ReportProtocol::Unknown => None,
    }
}

/// Fewest pods that the service is to have: what an autoscaler may go down to, else the specification's number.
pub fn fewest_replicas(spec: &ResilientServiceSpec) -> i32 {
    spec.autoscaling.as_ref().map_or(spec.replicas, least_replicas)
}

/// Checks the specification and renders the policy; `ready_replicas` is the debounced count for `runtime.json`,
/// `guard_image` that of guards for which the specification names none.
///
/// # Errors
/// Every violation that was found.
pub fn validate(service: &Arc<ResilientService>, ready_replicas: u32, guard_image: &str) -> Result<Plan, Violations> {
    let mut violations = Vec::new();
    ports(&service.spec, &mut violations);
    pod::probes(&service.spec, &mut violations);
    resources::resources(&service.spec, &mut violations);
    names::keys(&service.spec, &mut violations);
    names::paths(&service.spec, &mut violations);
    urls(&service.spec, &mut violations);
    let parts = Parts::read(&service.spec, &mut violations);
    pod::volumes(&service.spec, &parts, &mut violations);
    pod::overrides(&service.spec, &service.name_any(), &mut violations);
    pod::init_containers(&parts, &service.name_any(), &mut violations);
    let guard = guard::guard(&service.spec, &parts, guard_image, &mut violations);
    if guard.is_some() && service.name_any() == GUARD_CONTAINER {
        let message = "the guard's container has this name, and the service's own would have it too";
        violations.push(Violation::new("metadata.name", message, "choose another"));
    }
    workload::strategy(&service.spec, &mut violations);
    workload::autoscaling(&service.spec, &mut violations);
    let policy = match policy::render(&service.spec) {
        Ok(policy) => policy,
        Err(found) => {
            violations.extend(found);
            String::new()
        }
    };
    let Some(owner) = service.controller_owner_ref(&()).filter(|_| violations.is_empty()) else {
        return Err(Violations(violations));
    };
    Ok(Plan {
        name: service.name_any(),
        namespace: service.namespace().unwrap_or_default(),
        owner: OwnerReference {
            block_owner_deletion: Some(true),
            ..owner
        },
        service: service.clone(),
        policy_hash: valerix_policy::hash(policy.as_bytes()),
        policy,
        parts,
        guard,
        has_pods_of_another_shape: false,
        standing_ports: BTreeMap::new(),
        standing_targets: BTreeMap::new(),
        ready_ports: ReadyPorts::default(),
        selector: None,
        knows_monitors: false,
        replicas: fewest_replicas(&service.spec),
        report_port: report_port(&service.spec),
        ready_replicas,
    })
}

/// What is wrong with a service that is not in a cluster yet, beyond what the schema refuses.
pub fn violations(service: &Arc<ResilientService>) -> Vec<Violation> {
    let mut named = ResilientService::clone(service);
    // Children name their owner by it, so a plan needs one.
    named.meta_mut().uid.get_or_insert_default();
    match validate(&Arc::new(named), 0, "guard") {
        Ok(_) => Vec::new(),
        Err(Violations(found)) => found,
    }
}

fn ports(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let mut container_ports = BTreeSet::new();
    let mut service_ports = BTreeSet::new();
    let report_port = report_port(spec);
    for (index, port) in spec.ports.iter().enumerate() {
        let mut refuse = |field: &str, message: String, remedy: &str| {
            violations.push(Violation::new(format!("spec.ports[{index}].{field}"), message, remedy));
        };
        let number = port.container_port;
        if !container_ports.insert(number) {
            refuse("containerPort", format!("{number} is listed twice"), "remove one");
        }
        let service_port = port.service_port.unwrap_or(number);
        if !service_ports.insert(service_port) {
            refuse(
                "servicePort",
                format!("{service_port} is offered twice (containerPort counts where servicePort is absent)"),
                "choose another",
            );
        }
        if report_port.is_some() && port.name == REPORT_PORT_NAME {
            let message = "`report` is the name of the report's own port".to_owned();
            refuse("name", message, "choose another");
        }
        if report_port == Some(number) {
            let message = format!("{number} is the report's port");
            refuse(
                "containerPort",
                message,
                "choose another, or set spec.resilience.reportPort",
            );
        }
    }
}

/// The schema knows the form of a URL, and no numbers. Those of HTTP are judged with the rest of the policy.
fn urls(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let targets = spec.resilience.iter().flat_map(|resilience| &resilience.targets);
    for (index, url) in targets
        .enumerate()
        .filter_map(|(index, target)| Some((index, target.url.as_ref()?)))
        .filter(|(_, url)| url.starts_with("tcp://"))
    {
        let parsed = url.parse::<http::Uri>();
        let port = parsed.ok().and_then(|uri| uri.port_u16());
        if port.is_none_or(|port| port == 0) {
            violations.push(Violation::new(
                format!("spec.resilience.targets[{index}].url"),
                format!("`{url}` cannot be called"),
                "write a port between 1 and 65535, which tcp:// cannot do without",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use serde_json::{Value, json};

    fn violations(spec: Value) -> Vec<String> {
        let service = Arc::new(fixtures::service("order", spec));
        match validate(&service, 1, "guard:1") {
            Ok(_) => Vec::new(),
            Err(violations) => violations.0.into_iter().map(|violation| violation.field).collect(),
        }
    }

    #[test]
    fn every_violation_names_its_field() {
        let http = json!({"name": "http", "containerPort": 8080});
        let cases = [
            (json!({"image": "a"}), vec![]),
            (
                json!({"image": "a", "ports": [http], "probes": {"liveness": {"path": "/"}}}),
                vec![],
            ),
            (
                json!({"image": "a", "probes": {"liveness": {"path": "/"}}}),
                vec!["spec.probes.liveness.port"],
            ),
            (
                json!({"image": "a", "ports": [http], "probes": {"readiness": {"path": "/", "port": "admin"}}}),
                vec!["spec.probes.readiness.port"],
            ),
            (
                json!({"image": "a", "ports": [http, {"name": "b", "containerPort": 8080}]}),
                vec!["spec.ports[1].containerPort", "spec.ports[1].servicePort"],
            ),
            (
                json!({"image": "a", "ports": [http, {"name": "b", "containerPort": 81, "servicePort": 8080}]}),
                vec!["spec.ports[1].servicePort"],
            ),
            (
                json!({"image": "a", "ports": [{"name": "report", "containerPort": 9090}]}),
                vec!["spec.ports[0].name", "spec.ports[0].containerPort"],
            ),
            (
                json!({"image": "a", "ports": [{"name": "report", "containerPort": 9090}], "resilience": {"protocol": "None"}}),
                vec![],
            ),
            (
                json!({"image": "a", "ports": [{"name": "http", "containerPort": 9191}], "resilience": {"reportPort": 9191}}),
                vec!["spec.ports[0].containerPort"],
            ),
            (
                json!({"image": "a", "ports": [{"name": "http", "containerPort": 9090}], "resilience": {"reportPort": 9191}}),
                vec![],
            ),
            (
                json!({"image": "a", "resources": {
                    "requests": {"cpu": "1500m", "memory": "1Gi", "gpu": 1, "example.com/gpu": 1},
                    "limits": {"cpu": 1, "memory": "1024Mi", "hugepages-2Mi": "2Mi", "example.com/gpu": 1}
                }}),
                vec!["spec.resources.requests.gpu", "spec.resources.requests.cpu"],
            ),
            (
                json!({"image": "a", "resilience": {"targets": [
                    {"name": "a", "url": "http://a:99999"}, {"name": "b", "url": "http://b:8080/x"}, {"name": "c", "url": "http://c"},
                    {"name": "d", "url": "http://[fd00::1]"}, {"name": "e", "url": "http://[fd00::1]:0"}
                ]}}),
                vec!["spec.resilience.targets[0].url", "spec.resilience.targets[4].url"],
            ),
            (
                json!({"image": "a", "probes": {"startup": {"type": "Exec", "command": ["true"]}, "liveness": {"type": "TCP"}}}),
                vec!["spec.probes.liveness.port"],
            ),
            (
                json!({"image": "a", "volumes": [{"name": "policy", "emptyDir": {}}, {"name": "data", "emptyDir": {}}], "volumeMounts": [
                    {"name": "data", "mountPath": "/tmp"}, {"name": "dada", "mountPath": "/data"}, {"name": "data", "mountPath": "/tmp/"},
                    {"name": "data", "mountPath": "/etc/valerix"}, {"name": "data", "mountPath": "/var/lib/valerix/x"},
                    {"name": "data", "mountPath": "/var/lib/valerixes"}, {"name": "data", "mountPath": "/"},
                    {"name": "data", "mountPath": "/etc//valerix/./policy"}, {"name": "data", "mountPath": "/srv/../var/lib/valerix"},
                    {"name": "data", "mountPath": "//tmp"}, {"name": "data", "mountPath": "/etc/valerix/../app"}
                ]}),
                vec![
                    "spec.volumes[0].name",
                    "spec.volumeMounts[1].name",
                    "spec.volumeMounts[2].mountPath",
                    "spec.volumeMounts[3].mountPath",
                    "spec.volumeMounts[4].mountPath",
                    "spec.volumeMounts[6].mountPath",
                    "spec.volumeMounts[7].mountPath",
                    "spec.volumeMounts[8].mountPath",
                    "spec.volumeMounts[9].mountPath",
                ],
            ),
            (
                json!({"image": "a", "podOverrides": {
                    "serviceAccountName": "x", "restartPolicy": "Never", "dnsPolicy": "None",
                    "containers": [
                        {"name": "order", "image": "b", "workingDir": "/", "lifecycle": {"preStop": {}, "postStart": {}}},
                        {"name": "beside", "image": "b", "ports": [{"containerPort": 9090}]},
                        {"image": "c"}
                    ]
                }}),
                vec![
                    "spec.podOverrides.serviceAccountName",
                    "spec.podOverrides.restartPolicy",
                    "spec.podOverrides.containers[0].image",
                    "spec.podOverrides.containers[0].lifecycle.preStop",
                    "spec.podOverrides.containers[1].ports",
                    "spec.podOverrides.containers[2].name",
                ],
            ),
            (
                json!({"image": "a", "strategy": {"maxSurge": "0%"}, "autoscaling": {"maxReplicas": 3}}),
                vec![
                    "spec.strategy.maxSurge",
                    "spec.autoscaling.targetCPUUtilizationPercentage",
                ],
            ),
            (
                json!({"image": "a", "strategy": {"maxSurge": 0, "maxUnavailable": "10%"}, "resources": {"limits": {"cpu": "1"}},
                    "autoscaling": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70, "targetMemoryUtilizationPercentage": 60}}),
                vec!["spec.autoscaling.targetMemoryUtilizationPercentage"],
            ),
            (
                json!({"image": "a", "autoscaling": {"maxReplicas": 3, "metrics": [{"type": "External"}]}}),
                vec![],
            ),
            (
                json!({"image": "a", "resilience": {"targets": [
                    {"name": "a", "circuitBreaker": {"slowCallDuration": "1ms"}},
                    {"name": "b", "retry": {"backoff": {"base": "5s"}}}
                ]}}),
                vec![
                    "spec.resilience.targets[0].circuitBreaker.slowCallDuration",
                    "spec.resilience.targets[1].retry.backoff.max",
                ],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(violations(spec.clone()), expected, "{spec}");
        }
    }
}
