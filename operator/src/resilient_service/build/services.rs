//! The two Services: one address for callers, and one that names every pod.
//!
//! Ports target numbers: the name of a port is that of the pods' current template, and while a renamed one rolls out
//! the pods of before have it under another name. While one that keeps its name moves to another number, they target the
//! name, which each pod has at the number where it listens. One that gets another name and another number at once is at
//! one place in the pods of before and at another in the new ones: its Service leads to whichever of them are more.

use super::{
    super::validate::{Plan, REPORT_PORT_NAME},
    metadata::{labels, metadata, selector, some},
};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use valerix_crds::{
    ContainerPort, ServiceType,
    names::{HEADLESS_LABEL, pods_service},
};

/// The address of the service; none without ports, since such a Service cannot exist.
pub fn build_service(plan: &Plan) -> Option<Service> {
    let ports = plan
        .service
        .spec
        .ports
        .iter()
        .map(|port| {
            let number = port.service_port.unwrap_or(port.container_port);
            build_port(&port.name, number, service_target(plan, port))
        })
        .collect();
    let exposure = plan.service.spec.service.clone().unwrap_or_default();
    Some(Service {
        metadata: ObjectMeta {
            annotations: (!exposure.annotations.is_empty()).then_some(exposure.annotations),
            ..metadata(plan, plan.name.clone())
        },
        spec: Some(ServiceSpec {
            type_: Some(
                match exposure.kind {
                    Some(ServiceType::NodePort) => "NodePort",
                    Some(ServiceType::LoadBalancer) => "LoadBalancer",
                    Some(ServiceType::ClusterIP | ServiceType::Unknown) | None => "ClusterIP",
                }
                .to_owned(),
            ),
            selector: Some(selector(&plan.name)),
            ports: Some(some(ports)?),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// The addresses of the ready pods, for clients that balance by themselves and for the operator that follows them.
pub fn build_pods_service(plan: &Plan) -> Service {
    let mut ports: Vec<ServicePort> = plan
        .service
        .spec
        .ports
        .iter()
        .map(|port| {
            let guarded = plan.guard.as_ref().and_then(|guard| guard.inbound(&port.name));
            build_port(&port.name, guarded.unwrap_or(port.container_port), target(plan, port))
        })
        .collect();
    if let Some(port) = plan.report_port {
        ports.push(build_port(REPORT_PORT_NAME, port, IntOrString::Int(port)));
    }
    let mut all_labels = labels(plan);
    all_labels.insert(HEADLESS_LABEL.to_owned(), "true".to_owned());
    Service {
        metadata: ObjectMeta {
            labels: Some(all_labels),
            ..metadata(plan, pods_service(&plan.name))
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector(&plan.name)),
            ports: some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Where a port of the Service leads: to where the pods have it now, unless more of those that are ready have it where it
/// has led so far.
pub fn service_target(plan: &Plan, port: &ContainerPort) -> IntOrString {
    let wanted = target(plan, port);
    let number = port.service_port.unwrap_or(port.container_port);
    let Some(standing) = plan
        .standing_targets
        .get(&number)
        .filter(|standing| **standing != wanted)
    else {
        return wanted;
    };
    let name = IntOrString::String(port.name.clone());
    let ready = &plan.ready_ports;
    if ready.behind(standing) > ready.behind(&wanted) {
        standing.clone()
    } else if !ready.are_all_behind(&wanted) && ready.behind(&name) == ready.behind(&wanted) {
        // By number it would lead to the pods of before too, where nobody listens.
        name
    } else {
        wanted
    }
}

/// Where a port of the pods is: at the guard, where one stands before it. While pods stand that are reached otherwise,
/// by the name, which each of them has at the right number.
fn target(plan: &Plan, port: &ContainerPort) -> IntOrString {
    let guarded = plan.guard.as_ref().and_then(|guard| guard.inbound(&port.name));
    let number = guarded.unwrap_or(port.container_port);
    let numbers = plan.standing_ports.get(&port.name);
    let is_elsewhere = numbers.is_some_and(|numbers| numbers.iter().any(|standing| *standing != number));
    if is_elsewhere || (guarded.is_some() && plan.has_pods_of_another_shape) {
        IntOrString::String(port.name.clone())
    } else {
        IntOrString::Int(number)
    }
}

fn build_port(name: &str, port: i32, target: IntOrString) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        // Written out, because server-side apply tells ports apart by port and protocol.
        protocol: Some("TCP".to_owned()),
        target_port: Some(target),
        ..ServicePort::default()
    }
}
