//! What holds the pod of a trial restore back, read and tried.

use super::in_reader;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{core::v1::Secret, networking::v1::NetworkPolicy};
use serde_json::json;
use std::time::Duration;
use valerix_e2e::world::{World, eventually};

/// A pod that is labelled as those of trial restores reaches no database from then on.
pub(super) async fn held_back(world: &World, namespace: &str) -> Result<()> {
    let policy = world.api::<NetworkPolicy>(namespace).get("nightly-verify").await?;
    let spec = policy.spec.context("no specification")?;
    ensure!(spec.ingress.is_none(), "{:?}", spec.ingress);
    let types = spec.policy_types.unwrap_or_default();
    ensure!(types == ["Ingress", "Egress"], "{types:?}");
    let egress = spec.egress.unwrap_or_default();
    ensure!(!egress.is_empty(), "a trial reports to the API server");
    for rule in &egress {
        let Some(ports) = &rule.ports else {
            // At any port it reaches the cluster's DNS alone.
            let peers = serde_json::to_value(&rule.to)?;
            let dns = json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
            ensure!(peers == dns, "{peers}");
            continue;
        };
        ensure!(!serde_json::to_value(ports)?.to_string().contains("5432"), "{ports:?}");
    }

    let secret = world.api::<Secret>(namespace).get("orders-database").await?;
    let data = secret.data.unwrap_or_default();
    let value = |key: &str| {
        data.get(key)
            .map(|value| String::from_utf8_lossy(&value.0).into_owned())
    };
    let host = value("host").context("no host")?;
    let port = value("port").unwrap_or_else(|| "5432".to_owned());
    // It ends with 2 where nobody answers, which is no fault of ours.
    let ask = format!("pg_isready --host {host} --port {port} --timeout 3 || true");
    let hears = async || {
        let heard = in_reader(world, namespace, &["sh", "-c", &ask], None).await?;
        anyhow::Ok(String::from_utf8(heard)?)
    };
    let heard = hears().await?;
    ensure!(
        heard.contains("accepting connections"),
        "any other pod gets through: {heard}"
    );
    let labels = spec
        .pod_selector
        .and_then(|selector| selector.match_labels)
        .unwrap_or_default();
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let label = format!("label pod reader -n {namespace} {}", labels.join(" "));
    world.kubectl(&label).await?.text()?;
    let shut = eventually(Duration::from_secs(30), async || {
        hears().await.ok().filter(|heard| heard.contains("no response"))
    });
    shut.await.context("who restores on trial reaches a database")?;
    Ok(())
}
