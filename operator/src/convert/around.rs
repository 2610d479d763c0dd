//! What stands around a Deployment: its Service, its autoscaler, its disruption budget. Pure.

use super::{
    Notes, Spec,
    document::{Document, Fields, matches},
    ports::Ports,
};
use serde_json::{Map, Value, json};

/// What becomes part of the ResilientService.
pub struct Around {
    pub service: Option<Document>,
    pub autoscaler: Option<Document>,
    pub budget: Option<Document>,
}

/// Finds what belongs to a Deployment whose pods have these labels, and says of what stays beside it.
pub fn find(deployment: &Document, labels: &Value, all: &[Document], notes: &mut Notes) -> Around {
    let beside: Vec<&Document> = all.iter().filter(|document| document.is_beside(deployment)).collect();
    let chosen_by = |group: &str, kind: &str, selector: &str| -> Vec<Document> {
        let found = beside.iter().filter(|document| {
            let selector = document.body.pointer(selector).unwrap_or(&Value::Null);
            document.is(group, kind) && matches(selector, labels)
        });
        found.map(|document| (*document).clone()).collect()
    };
    let services = chosen_by("", "Service", "/spec/selector");
    let service = first(&services, &deployment.name);
    for other in services
        .iter()
        .filter(|other| Some(&other.name) != service.as_ref().map(|service| &service.name))
    {
        notes.warn(&format!(
            "Service {} stays as it is: the pods keep the labels that it selects",
            other.name
        ));
    }
    if let Some(service) = service.as_ref().filter(|service| service.name != deployment.name) {
        notes.warn(&format!(
            "Service {0} stays as it is, as the pods keep the labels that it selects; one named {1} with its ports is made beside it, \
             and {0} can go once nobody calls that name",
            service.name, deployment.name
        ));
    }
    let scalers: Vec<Document> = beside
        .iter()
        .filter(|document| {
            let target = &document.body["spec"]["scaleTargetRef"];
            document.is("autoscaling", "HorizontalPodAutoscaler")
                && target["kind"] == "Deployment"
                && target["name"] == deployment.name.as_str()
        })
        .map(|document| (*document).clone())
        .collect();
    let budgets = chosen_by("policy", "PodDisruptionBudget", "/spec/selector/matchLabels");
    for (kind, found, trouble) in [
        ("HorizontalPodAutoscaler", &scalers, "two would scale the same pods"),
        (
            "PodDisruptionBudget",
            &budgets,
            "Kubernetes evicts no pod that two of them cover",
        ),
    ] {
        for other in found.iter().filter(|other| other.name != deployment.name) {
            notes.warn(&format!(
                "delete {kind} {} when the ResilientService stands: {trouble}",
                other.name
            ));
        }
    }
    for policy in chosen_by("networking.k8s.io", "NetworkPolicy", "/spec/podSelector/matchLabels") {
        notes.warn(&format!(
            "NetworkPolicy {} stays as it is: the pods keep the labels that it selects; spec.networkPolicy can take its place",
            policy.name
        ));
    }
    Around {
        service,
        autoscaler: first(&scalers, &deployment.name),
        budget: first(&budgets, &deployment.name),
    }
}

/// The one of the Deployment's name, or the first.
fn first(found: &[Document], name: &str) -> Option<Document> {
    found
        .iter()
        .find(|document| document.name == name)
        .or_else(|| found.first())
        .cloned()
}

/// The Service's ports, by the container ports that they lead to.
pub fn exposure(service: &Document, ports: &mut Ports, spec: &mut Spec, notes: &mut Notes) {
    let mut fields = Fields::of(&service.body["spec"]);
    let about = format!("Service {}", service.name);
    for offered in fields
        .take("ports")
        .unwrap_or_default()
        .as_array()
        .into_iter()
        .flatten()
    {
        let number = &offered["port"];
        let protocol = offered["protocol"].as_str().unwrap_or("TCP");
        if protocol != "TCP" {
            notes.warn(&format!(
                "{about}: port {number} is left out: {protocol} has no field, only TCP has"
            ));
            continue;
        }
        let target = offered.get("targetPort").unwrap_or(number);
        let Some(port) = ports.find_or_add(target) else {
            notes.warn(&format!(
                "{about}: port {number} is left out: the container has no port {target}"
            ));
            continue;
        };
        if let Some(other) = port.offered {
            notes.warn(&format!(
                "{about}: port {number} is left out: it leads to the same container port as {other}"
            ));
            continue;
        }
        port.offered = number.as_i64();
        let name = offered["name"].as_str();
        match (&port.name, name) {
            (None, Some(name)) if name.len() <= 15 => port.name = Some(name.to_owned()),
            (Some(own), Some(name)) if own != name => {
                notes.warn(&format!(
                    "{about}: port {name} is called {own} from now on, as in the container"
                ));
            }
            _ => {}
        }
        if offered.get("appProtocol").is_some() {
            notes.warn(&format!(
                "{about}: appProtocol of port {number} is left out: it has no field"
            ));
        }
    }
    let mut exposure = Map::new();
    let kind = fields.take("type").unwrap_or_else(|| json!("ClusterIP"));
    if kind == json!("NodePort") || kind == json!("LoadBalancer") {
        exposure.insert("type".to_owned(), kind);
    }
    if fields.take("clusterIP") == Some(json!("None")) {
        notes.warn(&format!(
            "{about} is headless, and that of a ResilientService is not: callers who balance over pods use {}-pods",
            service.name
        ));
    }
    let annotations = super::annotations(service.body.pointer("/metadata/annotations").cloned());
    if annotations
        .as_object()
        .is_some_and(|annotations| !annotations.is_empty())
    {
        exposure.insert("annotations".to_owned(), annotations);
    }
    spec.put("service", Value::Object(exposure));
    fields.forget(&["selector", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    fields.forget_defaults(&[
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("externalTrafficPolicy", json!("Cluster")),
        ("allocateLoadBalancerNodePorts", json!(true)),
    ]);
    notes.leftovers(&format!("{about}: spec"), fields);
}

/// Measures of the container's own CPU and memory have fields, further ones are taken as they are.
pub fn autoscaling(scaler: &Document, spec: &mut Spec, notes: &mut Notes) {
    let mut fields = Fields::of(&scaler.body["spec"]);
    let mut wanted = Spec::default();
    for field in [
        "minReplicas",
        "maxReplicas",
        "behavior",
        "targetCPUUtilizationPercentage",
    ] {
        wanted.put_some(field, fields.take(field));
    }
    let mut further = Vec::new();
    for metric in fields
        .take("metrics")
        .unwrap_or_default()
        .as_array()
        .into_iter()
        .flatten()
    {
        let share = ["resource", "containerResource"].into_iter().find_map(|kind| {
            let name = metric.pointer(&format!("/{kind}/name"))?.as_str()?;
            let percent = metric.pointer(&format!("/{kind}/target/averageUtilization"))?;
            Some((name, percent.clone()))
        });
        match share {
            Some(("cpu", percent)) => wanted.put("targetCPUUtilizationPercentage", percent),
            Some(("memory", percent)) => wanted.put("targetMemoryUtilizationPercentage", percent),
            _ => further.push(metric.clone()),
        }
    }
    wanted.put("metrics", Value::Array(further));
    // It decides from now on; a number beside it would only be warned of.
    spec.0.remove("replicas");
    spec.put("autoscaling", Value::Object(wanted.0));
    fields.forget(&["scaleTargetRef"]);
    notes.leftovers(&format!("HorizontalPodAutoscaler {}: spec", scaler.name), fields);
}

pub fn disruption(budget: &Document, spec: &mut Spec) {
    let mut fields = Fields::of(&budget.body["spec"]);
    let mut wanted = Map::new();
    for field in ["maxUnavailable", "minAvailable"] {
        if let Some(amount) = fields.take(field) {
            wanted.insert(field.to_owned(), amount);
        }
    }
    if wanted.is_empty() {
        wanted.insert("maxUnavailable".to_owned(), json!(1));
    }
    spec.put("disruption", Value::Object(wanted));
}
