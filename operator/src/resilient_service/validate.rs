//! Second step: the specification as a plan, or what is wrong with it. Pure.
//!
//! The schema has refused most of what can be wrong; here stands what needs defaults merged in or several fields
//! looked at together.

use super::build::policy_document;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use std::{collections::BTreeSet, sync::Arc};
use valerix_crds::{HttpProbeSpec, ReportProtocol, ResilientService, ResilientServiceSpec};

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
    /// Port of the report, if the image reports.
    pub report_port: Option<i32>,
    /// Count of ready pods for `runtime.json`.
    pub ready_replicas: u32,
}

/// Something in the specification that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it and what to do.
    pub message: String,
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

/// Checks the specification and renders the policy; `ready_replicas` is the debounced count for `runtime.json`.
///
/// # Errors
/// Every violation that was found.
pub fn validate(service: &Arc<ResilientService>, ready_replicas: u32) -> Result<Plan, Vec<Violation>> {
    let mut violations = Vec::new();
    ports(&service.spec, &mut violations);
    probes(&service.spec, &mut violations);
    let policy = match policy_document::render(&service.spec) {
        Ok(policy) => policy,
        Err(found) => {
            violations.extend(found);
            String::new()
        }
    };
    let Some(owner) = service.controller_owner_ref(&()).filter(|_| violations.is_empty()) else {
        return Err(violations);
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
        report_port: report_port(&service.spec),
        ready_replicas,
    })
}

fn ports(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let mut container_ports = BTreeSet::new();
    let mut service_ports = BTreeSet::new();
    let report_port = report_port(spec);
    for (index, port) in spec.ports.iter().enumerate() {
        let mut refuse = |field: &str, message: String| {
            violations.push(Violation {
                field: format!("spec.ports[{index}].{field}"),
                message,
            });
        };
        if !container_ports.insert(port.container_port) {
            refuse(
                "containerPort",
                format!("{} is listed twice; remove one", port.container_port),
            );
        }
        let service_port = port.service_port.unwrap_or(port.container_port);
        if !service_ports.insert(service_port) {
            refuse(
                "servicePort",
                format!(
                    "{service_port} is offered twice (containerPort counts where servicePort is absent); choose another"
                ),
            );
        }
        if report_port.is_some() && port.name == REPORT_PORT_NAME {
            refuse(
                "name",
                "`report` is the name of the report's own port; choose another".to_owned(),
            );
        }
        if report_port == Some(port.container_port) {
            refuse(
                "containerPort",
                format!(
                    "{} is the report's port; choose another, or set spec.resilience.reportPort",
                    port.container_port
                ),
            );
        }
    }
}

fn probes(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let Some(probes) = &spec.probes else { return };
    let kinds: [(&str, &Option<HttpProbeSpec>); 3] = [
        ("startup", &probes.startup),
        ("readiness", &probes.readiness),
        ("liveness", &probes.liveness),
    ];
    for (kind, probe) in kinds {
        let Some(probe) = probe else { continue };
        let known = match &probe.port {
            Some(name) => spec.ports.iter().any(|port| port.name == *name),
            None => !spec.ports.is_empty(),
        };
        if !known {
            violations.push(Violation {
                field: format!("spec.probes.{kind}.port"),
                message: match &probe.port {
                    Some(name) => format!("no port is named `{name}`; add it to spec.ports or name one of them"),
                    None => "there is no port to ask; add one to spec.ports".to_owned(),
                },
            });
        }
    }
}

/// The violations in one sentence.
pub fn describe(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations
        .iter()
        .take(5)
        .map(|violation| format!("{}: {}", violation.field, violation.message))
        .collect();
    let mut text = texts.join("; ");
    if violations.len() > 5 {
        text.push_str(&format!("; and {} more", violations.len() - 5));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use serde_json::{Value, json};

    fn violations(spec: Value) -> Vec<String> {
        let service = Arc::new(fixtures::service("order", spec));
        match validate(&service, 1) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.into_iter().map(|violation| violation.field).collect(),
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

    #[test]
    fn the_description_is_bounded() {
        let many = vec![
            Violation {
                field: "spec.x".into(),
                message: "no".into()
            };
            7
        ];
        assert!(describe(&many).ends_with("; and 2 more"));
        assert!(describe(&many[..5]).ends_with("spec.x: no"));
    }
}
