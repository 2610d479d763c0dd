//! The guard of a specification: what stands where, and what is wrong with it. Pure.
//!
//! The schema has refused what one rule can see; here is what needs the operator's settings, or the parts of the pod that
//! are written as in Kubernetes.

use super::{AUTHORITIES_DIRECTORY, Parts, report_port};
use crate::{resilient_service::tcp::is_tcp, runtime::Violation};
use k8s_openapi::api::core::v1::Container;
use valerix_crds::{
    ContainerPort, GuardMode, GuardProtocol, GuardTargets, ReportProtocol, ResilientServiceSpec, Target, UnknownHosts,
    names::GUARD_CONTAINER,
};
use valerix_policy::guard::{
    self, FIRST_INBOUND_PORT, FIRST_TARGET_PORT, FORWARD_PROXY_PORT, ForwardProxy, InboundListener, Protocol,
    TargetListener, Wiring,
};

/// Ports of inbound listeners and of targets' listeners, as the schema's rules bound them.
const LISTENERS: std::ops::RangeInclusive<i32> = 15100..=15299;

/// The guard that stands in every pod.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardPlan {
    /// Its image.
    pub image: String,
    /// Its listeners.
    pub wiring: Wiring,
}

impl GuardPlan {
    /// Where the guard listens for the port of this name; none if it does not stand before it.
    pub fn inbound(&self, name: &str) -> Option<i32> {
        let listener = self.wiring.inbound.iter().find(|listener| listener.name == name)?;
        Some(i32::from(listener.listen))
    }

    /// The wiring as the guard reads it. Names, numbers and URLs can always be written, so there is no error.
    pub fn wiring_text(&self) -> String {
        serde_json::to_string(&self.wiring).unwrap_or_default()
    }

    /// A hash of which ports the guard stands before, and by which: pods of before that differ in it are reached in
    /// another way. Names do not count, so that a renamed port is the same.
    pub fn shape(&self) -> String {
        let pairs: Vec<String> = self
            .wiring
            .inbound
            .iter()
            .map(|listener| format!("{}-{}", listener.listen, listener.forward))
            .collect();
        valerix_policy::hash(pairs.join(" ").as_bytes())
            .chars()
            .take(16)
            .collect()
    }
}

/// Whether the specification asks for a guard.
pub fn is_guarded(spec: &ResilientServiceSpec) -> bool {
    let mode = spec.guard.as_ref().and_then(|guard| guard.mode);
    mode == Some(GuardMode::Sidecar)
}

/// Whether the guard makes TLS for the target.
fn is_https(target: &Target) -> bool {
    target.url.as_ref().is_some_and(|url| url.starts_with("https://"))
}

/// The file with the authorities of a target that names some.
pub fn authorities_file(target: &Target) -> String {
    format!("{}.pem", target.name)
}

/// The ports before which a guard of this specification stands, with what is spoken there and their places among all
/// ports.
pub fn inbound_ports(spec: &ResilientServiceSpec) -> Vec<(usize, &ContainerPort, GuardProtocol)> {
    let chosen = spec
        .guard
        .as_ref()
        .and_then(|guard| guard.inbound.as_ref())
        .map(|inbound| inbound.ports.as_slice())
        .unwrap_or_default();
    let protocol = |port: &ContainerPort| {
        if chosen.is_empty() {
            return Some(GuardProtocol::HTTP);
        }
        let chosen = chosen.iter().find(|chosen| chosen.name == port.name)?;
        Some(match chosen.protocol.unwrap_or_default() {
            GuardProtocol::Unknown => GuardProtocol::HTTP,
            known => known,
        })
    };
    let numbered = spec.ports.iter().enumerate();
    numbered
        .filter_map(|(index, port)| Some((index, port, protocol(port)?)))
        .collect()
}

/// Reads the guard; none where there is none to be.
pub fn guard(
    spec: &ResilientServiceSpec,
    parts: &Parts,
    default_image: &str,
    violations: &mut Vec<Violation>,
) -> Option<GuardPlan> {
    ports_of_spec(spec, violations);
    targets(spec, violations);
    if !is_guarded(spec) {
        return None;
    }
    neighbours(parts, violations);
    let guard = spec.guard.clone().unwrap_or_default();
    let image = guard.image.unwrap_or_else(|| default_image.to_owned());
    if image.is_empty() {
        violations.push(Violation::new(
            "spec.guard.image",
            "the operator was told of no image for guards",
            "write one, or set guard.image of the operator's chart (GUARD_IMAGE)",
        ));
    }
    Some(GuardPlan {
        image,
        wiring: wiring(spec),
    })
}

fn wiring(spec: &ResilientServiceSpec) -> Wiring {
    let outbound = spec
        .guard
        .as_ref()
        .and_then(|guard| guard.outbound.clone())
        .unwrap_or_default();
    let inbound = inbound_ports(spec)
        .into_iter()
        .filter_map(|(index, port, protocol)| {
            Some(InboundListener {
                name: port.name.clone(),
                protocol: match protocol {
                    GuardProtocol::HTTP | GuardProtocol::Unknown => Protocol::Http,
                    GuardProtocol::H2C => Protocol::H2c,
                    GuardProtocol::TCP => Protocol::Tcp,
                },
                // By its place among all ports, so that one more before a guard moves no other.
                listen: numbered(FIRST_INBOUND_PORT, index)?,
                forward: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect();
    Wiring {
        inbound,
        targets: match outbound.targets.unwrap_or_default() {
            GuardTargets::Auto | GuardTargets::Unknown => target_listeners(spec),
            GuardTargets::None => Vec::new(),
        },
        forward_proxy: outbound.http_proxy.unwrap_or_default().then(|| ForwardProxy {
            listen: FORWARD_PROXY_PORT,
            unknown_hosts: match outbound.unknown_hosts.unwrap_or_default() {
                UnknownHosts::Forward | UnknownHosts::Unknown => guard::UnknownHosts::Forward,
                UnknownHosts::Refuse => guard::UnknownHosts::Refuse,
            },
        }),
    }
}

fn target_listeners(spec: &ResilientServiceSpec) -> Vec<TargetListener> {
    let targets = spec.resilience.iter().flat_map(|resilience| &resilience.targets);
    targets
        .enumerate()
        .filter_map(|(index, target)| {
            let tcp = is_tcp(target);
            let tls = target.tls.as_ref().filter(|_| is_https(target));
            let authorities = tls.filter(|tls| tls.ca_bundle_ref.is_some());
            Some(TargetListener {
                name: target.name.clone(),
                protocol: if tcp { Protocol::Tcp } else { Protocol::Http },
                listen: numbered(FIRST_TARGET_PORT, index)?,
                // The document says where an HTTP target is, so that a new address is no rollout; it has no word for this.
                url: target.url.clone().filter(|_| tcp),
                authorities: authorities.map(|_| format!("{AUTHORITIES_DIRECTORY}/{}", authorities_file(target))),
                server_name: tls.and_then(|tls| tls.server_name.clone()),
            })
        })
        .collect()
}

fn numbered(first: u16, index: usize) -> Option<u16> {
    first.checked_add(u16::try_from(index).ok()?)
}

/// What the schema refuses too, for objects that were stored before it did.
fn ports_of_spec(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let inbound = spec.guard.iter().flat_map(|guard| &guard.inbound);
    for (index, port) in inbound.flat_map(|inbound| &inbound.ports).enumerate() {
        if spec.ports.iter().all(|known| known.name != port.name) {
            violations.push(Violation::new(
                format!("spec.guard.inbound.ports[{index}].name"),
                format!("no port is named `{}`", port.name),
                "add it to spec.ports or name one of them",
            ));
        }
    }
    if !is_guarded(spec) {
        return;
    }
    let protocol = spec.resilience.as_ref().and_then(|resilience| resilience.protocol);
    if protocol.is_some_and(|protocol| protocol != ReportProtocol::Report) {
        violations.push(Violation::new(
            "spec.resilience.protocol",
            "a guard reports for any image",
            "remove it, or set spec.guard.mode to Off",
        ));
    }
    let numbers = spec.ports.iter().enumerate().map(|(index, port)| {
        let field = format!("spec.ports[{index}].containerPort");
        (field, port.container_port)
    });
    let report = report_port(spec).map(|port| ("spec.resilience.reportPort".to_owned(), port));
    for (field, number) in numbers.chain(report).filter(|(_, number)| is_own_port(*number)) {
        let message = format!("the guard listens on {number}");
        violations.push(Violation::new(field, message, "choose another"));
    }
}

/// Targets and a guard that fit each other.
fn targets(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let outbound = spec.guard.as_ref().and_then(|guard| guard.outbound.as_ref());
    let relays = is_guarded(spec) && outbound.and_then(|outbound| outbound.targets) != Some(GuardTargets::None);
    let targets = spec.resilience.iter().flat_map(|resilience| &resilience.targets);
    for (index, target) in targets.enumerate() {
        let mut refuse = |field: &str, message: &str, remedy: &str| {
            violations.push(Violation::new(
                format!("spec.resilience.targets[{index}].{field}"),
                message,
                remedy,
            ));
        };
        if target.url.is_none() && relays {
            let remedy = "write it, or set spec.guard.outbound.targets to None";
            refuse("url", "the guard must know where the target is", remedy);
        }
        if target.tls.is_some() && !is_https(target) {
            refuse(
                "tls",
                "only an https:// target has TLS",
                "write https:// in url, or remove it",
            );
        } else if target.tls.is_some() && !relays {
            let remedy = "set spec.guard.mode to Sidecar and spec.guard.outbound.targets to Auto, or remove it";
            refuse("tls", "only a guard makes TLS in the place of the image", remedy);
        }
        if !is_tcp(target) {
            continue;
        }
        if !relays {
            let remedy =
                "set spec.guard.mode to Sidecar and spec.guard.outbound.targets to Auto, or write http:// or https://";
            refuse("url", "only a guard relays what is no HTTP", remedy);
        }
        let of_requests = [
            ("retry", target.retry.is_some()),
            ("hedge", target.hedge.is_some()),
            ("idempotentRoutes", !target.idempotent_routes.is_empty()),
            ("balancing", target.balancing.is_some()),
        ];
        for (field, _) in of_requests.into_iter().filter(|(_, is_set)| *is_set) {
            refuse(field, "a tcp:// target has connections and no requests", "remove it");
        }
    }
}

/// What stands in the pod beside the guard.
fn neighbours(parts: &Parts, violations: &mut Vec<Violation>) {
    let beside = parts.pod_overrides.iter().flat_map(|pod| &pod.containers).enumerate();
    let beside = beside.map(|(index, container)| (format!("spec.podOverrides.containers[{index}]"), container));
    let before = parts.init_containers.iter().enumerate();
    let before = before.map(|(index, container)| (format!("spec.initContainers[{index}]"), container));
    for (field, container) in beside.chain(before) {
        if container.name == GUARD_CONTAINER {
            violations.push(Violation::new(
                format!("{field}.name"),
                format!("`{GUARD_CONTAINER}` is the guard's own container"),
                "choose another name",
            ));
        }
        if let Some(number) = numbers(container).find(|number| is_own_port(*number)) {
            let message = format!("the guard listens on {number}");
            violations.push(Violation::new(format!("{field}.ports"), message, "choose another"));
        }
    }
    let on_the_node = parts.pod_overrides.as_ref().and_then(|pod| pod.host_network);
    if on_the_node == Some(true) {
        violations.push(Violation::new(
            "spec.podOverrides.hostNetwork",
            "the guard's ports would be the node's, and every pod there would share them",
            "remove it, or set spec.guard.mode to Off",
        ));
    }
}

fn numbers(container: &Container) -> impl Iterator<Item = i32> {
    container.ports.iter().flatten().map(|port| port.container_port)
}

fn is_own_port(number: i32) -> bool {
    number == i32::from(FORWARD_PROXY_PORT) || LISTENERS.contains(&number)
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use super::super::validate;
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn plan(spec: Value, image: &str) -> Result<GuardPlan, Vec<String>> {
        let service = Arc::new(fixtures::service("order", spec));
        match validate(&service, 1, image) {
            Ok(plan) => plan.guard.ok_or_else(Vec::new),
            Err(violations) => Err(violations.0.into_iter().map(|violation| violation.field).collect()),
        }
    }

    fn spec(changes: Value) -> Value {
        let mut spec = json!({
            "image": "a",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "redis", "containerPort": 6379}],
            "guard": {"mode": "Sidecar"}
        });
        json_patch::merge(&mut spec, &changes);
        spec
    }

    #[test]
    fn what_cannot_be_names_its_field() {
        let target = |target: Value| json!({"resilience": {"targets": [target]}});
        let cases = [
            (json!({}), vec![]),
            (
                json!({"resilience": {"protocol": "None"}}),
                vec!["spec.resilience.protocol"],
            ),
            (
                json!({"ports": [{"name": "http", "containerPort": 15001}, {"name": "b", "containerPort": 15299}]}),
                vec!["spec.ports[0].containerPort", "spec.ports[1].containerPort"],
            ),
            (
                json!({"ports": [{"name": "a", "containerPort": 15000}, {"name": "b", "containerPort": 15300}]}),
                vec![],
            ),
            (
                json!({"resilience": {"reportPort": 15100}}),
                vec!["spec.resilience.reportPort"],
            ),
            (
                json!({"guard": {"inbound": {"ports": [{"name": "http"}, {"name": "grpc"}]}}}),
                vec!["spec.guard.inbound.ports[1].name"],
            ),
            (
                json!({"guard": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}}),
                vec!["spec.guard.resources.requests.memory"],
            ),
            (target(json!({"name": "api"})), vec!["spec.resilience.targets[0].url"]),
            (
                target(json!({"name": "cache", "url": "tcp://cache:99999"})),
                vec!["spec.resilience.targets[0].url"],
            ),
            (
                target(json!({"name": "cache", "url": "tcp://cache"})),
                vec!["spec.resilience.targets[0].url"],
            ),
            (
                target(json!({
                    "name": "cache", "url": "tcp://cache:1", "retry": {}, "hedge": {"delay": "1s"},
                    "idempotentRoutes": ["POST /"], "balancing": {"type": "None"}
                })),
                vec![
                    "spec.resilience.targets[0].retry",
                    "spec.resilience.targets[0].hedge",
                    "spec.resilience.targets[0].idempotentRoutes",
                    "spec.resilience.targets[0].balancing",
                ],
            ),
            (
                target(json!({"name": "bank", "url": "http://bank", "tls": {"serverName": "bank"}})),
                vec!["spec.resilience.targets[0].tls"],
            ),
            (
                json!({"guard": {"outbound": {"targets": "None"}}, "resilience": {"targets": [
                    {"name": "bank", "url": "https://bank", "tls": {"serverName": "bank"}}
                ]}}),
                vec!["spec.resilience.targets[0].tls"],
            ),
            (
                json!({"guard": {"outbound": {"targets": "None"}}, "resilience": {"targets": [
                    {"name": "cache", "url": "tcp://cache:1"}, {"name": "api"}
                ]}}),
                vec!["spec.resilience.targets[0].url"],
            ),
            (
                json!({"podOverrides": {"hostNetwork": true, "containers": [
                    {"name": "valerix-guard", "image": "b"}, {"name": "c", "image": "b", "ports": [{"containerPort": 15001}]}
                ]}, "initContainers": [{"name": "d", "image": "b", "ports": [{"containerPort": 15200}]}]}),
                vec![
                    "spec.podOverrides.containers[0].name",
                    "spec.podOverrides.containers[1].ports",
                    "spec.initContainers[0].ports",
                    "spec.podOverrides.hostNetwork",
                ],
            ),
        ];
        for (changes, expected) in cases {
            let found = plan(spec(changes.clone()), "guard:1").err().unwrap_or_default();
            assert_eq!(found, expected, "{changes}");
        }
    }

    #[test]
    fn an_image_is_named_by_the_specification_or_else_by_the_operator() {
        let own = json!({"guard": {"image": "mine:2"}});
        assert_eq!(plan(spec(own.clone()), "guard:1").unwrap().image, "mine:2");
        assert_eq!(plan(spec(own), "").unwrap().image, "mine:2");
        assert_eq!(plan(spec(json!({})), "guard:1").unwrap().image, "guard:1");
        assert_eq!(plan(spec(json!({})), "").unwrap_err(), ["spec.guard.image"]);
    }

    #[test]
    fn a_service_named_like_the_guards_container_cannot_have_one() {
        let service = Arc::new(fixtures::service(GUARD_CONTAINER, spec(json!({}))));
        assert_eq!(
            validate(&service, 1, "guard:1").unwrap_err().0[0].field,
            "metadata.name"
        );
    }

    #[test]
    fn a_guard_of_another_version_is_none_and_a_tcp_target_needs_one() {
        let unknown = json!({"guard": {"mode": "Ambient"}});
        assert_eq!(
            plan(spec(unknown.clone()), "guard:1").unwrap_err(),
            Vec::<String>::new()
        );
        let mut with_target = spec(unknown);
        with_target["resilience"] = json!({"targets": [{"name": "cache", "url": "tcp://cache:6379"}]});
        assert_eq!(
            plan(with_target, "guard:1").unwrap_err(),
            ["spec.resilience.targets[0].url"]
        );
    }

    #[test]
    fn the_shape_follows_what_stands_where_and_no_name() {
        let shape = |changes: Value| plan(spec(changes), "guard:1").unwrap().shape();
        let all = shape(json!({}));
        let renamed =
            json!({"ports": [{"name": "web", "containerPort": 8080}, {"name": "redis", "containerPort": 6379}]});
        assert_eq!(shape(renamed), all);
        let turned =
            json!({"ports": [{"name": "redis", "containerPort": 6379}, {"name": "http", "containerPort": 8080}]});
        assert_ne!(shape(turned), all);
        let fewer = json!({"guard": {"inbound": {"ports": [{"name": "redis", "protocol": "TCP"}]}}});
        assert_ne!(shape(fewer.clone()), all);
        let guard = plan(spec(fewer), "guard:1").unwrap();
        let places = [guard.inbound("http"), guard.inbound("redis")];
        assert_eq!(places, [None, Some(15101)], "by its place among all ports");
    }
}
