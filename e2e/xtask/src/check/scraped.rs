//! Whether whoever reads metrics reaches every pod of a chart, once and at the right port. Pure.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_yaml::Value;

/// That among the rendered objects the pods of each Deployment are read by annotation and by exactly one monitor, that a
/// NetworkPolicy lets readers in, and that each of `addresses`, `service.namespace.svc:port`, names pods at a port of theirs.
///
/// # Errors
/// With the first that is not so.
pub fn check(rendered: &str, addresses: &[String]) -> Result<()> {
    let objects = serde_yaml::Deserializer::from_str(rendered)
        .map(Value::deserialize)
        .collect::<Result<Vec<_>, _>>()
        .context("failed to read a rendered object")?;
    let of = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let services: Vec<&Value> = of("Service").collect();
    let monitors: Vec<&Value> = of("ServiceMonitor").collect();
    let policies: Vec<&Value> = of("NetworkPolicy").collect();
    for deployment in of("Deployment") {
        let pod = &deployment["spec"]["template"];
        let read = read(pod, &services, &monitors).and_then(|port| admitted(pod, &policies, &port));
        read.with_context(|| format!("Deployment {}", text(&deployment["metadata"]["name"])))?;
    }
    for address in addresses {
        let (name, port) = address.rsplit_once(':').context("an address has a port")?;
        let is_named = |service: &&&Value| name.starts_with(&format!("{}.", text(&service["metadata"]["name"])));
        let service = services.iter().find(is_named);
        let service = service.with_context(|| format!("{address}: no such Service"))?;
        ensure!(
            service["spec"]["clusterIP"] == "None",
            "{address}: its Service has one address for all pods, behind which a reader may meet the same one again and again"
        );
        let ports = service["spec"]["ports"].as_sequence().into_iter().flatten();
        let has_port = ports.into_iter().any(|known| known["port"] == number(port));
        ensure!(has_port, "{address}: its Service has no such port");
    }
    Ok(())
}

/// The name of the port at which annotations and monitor say that these pods are read.
fn read(pod: &Value, services: &[&Value], monitors: &[&Value]) -> Result<String> {
    let annotation = |name: &str| text(&pod["metadata"]["annotations"][format!("prometheus.io/{name}").as_str()]);
    ensure!(annotation("scrape") == "true", "its pods are not annotated to be read");
    let ports = pod["spec"]["containers"][0]["ports"].as_sequence();
    let mut ports = ports.into_iter().flatten();
    let port = ports.find(|port| port["containerPort"] == number(annotation("port")));
    let port = text(&port.context("its annotation names a port that its container does not have")?["name"]);
    let mut ways = monitors.iter().flat_map(|monitor| {
        let chosen = services.iter().filter(|service| {
            holds(
                &service["metadata"]["labels"],
                &monitor["spec"]["selector"]["matchLabels"],
            ) && holds(&pod["metadata"]["labels"], &service["spec"]["selector"])
        });
        chosen.map(|service| (text(&monitor["spec"]["endpoints"][0]["port"]), *service))
    });
    let (endpoint, service) = ways.next().context("no monitor leads to its pods")?;
    ensure!(
        ways.next().is_none(),
        "more than one Service of a monitor leads to its pods: they are read twice"
    );
    let known = service["spec"]["ports"].as_sequence().into_iter().flatten();
    let at = known.into_iter().find(|known| text(&known["name"]) == endpoint);
    let at =
        at.with_context(|| format!("its monitor asks for the port {endpoint}, which the Service does not have"))?;
    ensure!(
        text(&at["targetPort"]) == port,
        "its monitor and its annotation lead to different ports"
    );
    Ok(port.to_owned())
}

/// That a NetworkPolicy over these pods, if there is one, has a rule for the port.
fn admitted(pod: &Value, policies: &[&Value], port: &str) -> Result<()> {
    for policy in policies {
        let spec = &policy["spec"];
        if holds(&pod["metadata"]["labels"], &spec["podSelector"]["matchLabels"]) {
            let rules = spec["ingress"].as_sequence().into_iter().flatten();
            let mut ports = rules.flat_map(|rule| rule["ports"].as_sequence().into_iter().flatten());
            ensure!(
                ports.any(|admitted| text(&admitted["port"]) == port),
                "a NetworkPolicy lets nobody in to its port {port}"
            );
        }
    }
    Ok(())
}

/// Whether all of `wanted` is among `labels`.
fn holds(labels: &Value, wanted: &Value) -> bool {
    let wanted = wanted.as_mapping();
    wanted.is_some_and(|wanted| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(text: &str) -> Value {
    text.parse::<u64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = r#"
kind: Deployment
metadata: {name: console}
spec:
  template:
    metadata: {labels: {name: console, version: a}, annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9090"}}
    spec: {containers: [{ports: [{name: http, containerPort: 8080}, {name: report, containerPort: 9090}]}]}
---
kind: Service
metadata: {name: console, labels: {name: console}}
spec: {selector: {name: console}, ports: [{name: http, port: 80, targetPort: http}]}
---
kind: Service
metadata: {name: console-pods, labels: {name: console, headless: "true"}}
spec: {clusterIP: None, selector: {name: console}, ports: [{name: report, port: 9090, targetPort: report}]}
---
kind: ServiceMonitor
spec: {selector: {matchLabels: {name: console, headless: "true"}}, endpoints: [{port: report}]}
---
kind: NetworkPolicy
spec: {podSelector: {matchLabels: {name: console}}, ingress: [{ports: [{port: http}]}, {ports: [{port: report}]}]}
"#;

    #[test]
    fn every_pod_is_read_once_and_at_the_right_port() {
        let address = ["console-pods.system.svc:9090".to_owned()];
        check(RENDERED, &address).unwrap();
        for (right, wrong, words) in [
            (r#"prometheus.io/scrape: "true", "#, "", "not annotated"),
            (
                r#"prometheus.io/port: "9090""#,
                r#"prometheus.io/port: "9091""#,
                "does not have",
            ),
            (
                r#"prometheus.io/port: "9090""#,
                r#"prometheus.io/port: "8080""#,
                "different ports",
            ),
            ("kind: ServiceMonitor", "kind: Nothing", "no monitor"),
            (
                r#"{matchLabels: {name: console, headless: "true"}}"#,
                "{matchLabels: {name: console}}",
                "read twice",
            ),
            (
                "endpoints: [{port: report}]",
                "endpoints: [{port: metrics}]",
                "does not have",
            ),
            (", {ports: [{port: report}]}]", "]", "lets nobody in to its port report"),
            ("clusterIP: None, ", "", "one address for all pods"),
            ("port: 9090, targetPort", "port: 9091, targetPort", "has no such port"),
            ("console-pods", "pods-of-console", "no such Service"),
        ] {
            assert!(RENDERED.contains(right), "{right}");
            let error = format!("{:#}", check(&RENDERED.replace(right, wrong), &address).unwrap_err());
            assert!(error.contains(words), "{wrong}: {error}");
        }
    }
}
