//! The kubelet's probes. Pure.

use k8s_openapi::{
    api::core::v1::{ExecAction, GRPCAction, HTTPGetAction, HTTPHeader, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use valerix_crds::{ContainerPort, ProbeScheme, ProbeSpec, ProbeType, Probes};

use super::{super::validate::Plan, metadata::some};

/// Time between two probes and failures that count as down, where the specification leaves them out.
#[derive(Clone, Copy)]
pub struct Pace {
    pub period: i32,
    pub failures: i32,
}

/// None where there is no such probe, or no port that it could ask.
pub fn build_probe<'a>(
    plan: &'a Plan,
    choose: impl FnOnce(&'a Probes) -> Option<&'a ProbeSpec>,
    pace: Pace,
) -> Option<Probe> {
    let spec = &plan.service.spec;
    let probe = choose(spec.probes.as_ref()?)?;
    let paced = Probe {
        initial_delay_seconds: probe.initial_delay_seconds.filter(|seconds| *seconds > 0),
        period_seconds: Some(probe.period_seconds.unwrap_or(pace.period)),
        failure_threshold: Some(probe.failure_threshold.unwrap_or(pace.failures)),
        timeout_seconds: Some(probe.timeout_seconds.unwrap_or(2)),
        ..Probe::default()
    };
    let asked = match &probe.port {
        Some(name) => spec.ports.iter().find(|port| port.name == *name),
        None => spec.ports.first(),
    };
    // A name that the guard has is not the container's: the kubelet asks the container itself.
    let by_name = |port: &ContainerPort| match plan.guard.as_ref().and_then(|guard| guard.inbound(&port.name)) {
        Some(_) => IntOrString::Int(port.container_port),
        None => IntOrString::String(port.name.clone()),
    };
    Some(match probe.kind.unwrap_or_default() {
        ProbeType::HTTP | ProbeType::Unknown => Probe {
            http_get: Some(HTTPGetAction {
                path: probe.path.clone(),
                port: by_name(asked?),
                scheme: probe.scheme.and_then(scheme),
                http_headers: some(
                    probe
                        .http_headers
                        .iter()
                        .map(|header| HTTPHeader {
                            name: header.name.clone(),
                            value: header.value.clone(),
                        })
                        .collect(),
                ),
                ..HTTPGetAction::default()
            }),
            ..paced
        },
        ProbeType::TCP => Probe {
            tcp_socket: Some(TCPSocketAction {
                port: by_name(asked?),
                ..TCPSocketAction::default()
            }),
            ..paced
        },
        ProbeType::GRPC => Probe {
            grpc: Some(GRPCAction {
                // The one action that takes no name.
                port: asked?.container_port,
                service: probe.service.clone(),
            }),
            ..paced
        },
        ProbeType::Exec => Probe {
            exec: Some(ExecAction {
                command: some(probe.command.clone()),
            }),
            ..paced
        },
    })
}

fn scheme(scheme: ProbeScheme) -> Option<String> {
    match scheme {
        ProbeScheme::HTTPS => Some("HTTPS".to_owned()),
        // What Kubernetes takes without it.
        ProbeScheme::HTTP | ProbeScheme::Unknown => None,
    }
}
