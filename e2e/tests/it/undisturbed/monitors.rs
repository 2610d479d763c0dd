//! ServiceMonitors on a cluster that gets to know the kind, and forgets it. Alone, since every service gets one.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::json;
use std::time::Duration;
use valerix_crds::{ResilientService, names::condition as types};
use valerix_e2e::world::{SHOP, World, eventually, has_condition};

const DEFINITION: &str = "servicemonitors.monitoring.coreos.com";
const WAIT: Duration = Duration::from_secs(60);

/// As much of the definition as the API server needs.
fn definition() -> Result<CustomResourceDefinition> {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names = json!({"kind": "ServiceMonitor", "listKind": "ServiceMonitorList", "plural": "servicemonitors", "singular": "servicemonitor"});
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": DEFINITION},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }))
    .context("failed to make a definition")
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_come_with_their_kind_and_their_absence_is_no_trouble() -> Result<()> {
    let world = World::alone().await?;
    let client = world.api::<ResilientService>(SHOP).into_client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor");
    let monitors: Api<DynamicObject> = Api::namespaced_with(client, SHOP, &ApiResource::from_gvk(&kind));
    if definitions.get_opt(DEFINITION).await?.is_some() {
        // Somebody else's cluster: its kinds are not ours to remove.
        ensure!(monitors.get_opt("order").await?.is_some(), "the kind is known, and order has no monitor");
        return Ok(());
    }
    definitions.create(&PostParams::default(), &definition()?).await?;
    let found = eventually(WAIT, || async { monitors.get_opt("order").await.ok().flatten() }).await;
    let outcome = found.context("order got no monitor").and_then(|monitor| {
        let endpoint = &monitor.data["spec"]["endpoints"][0];
        ensure!(endpoint["port"] == "report" && endpoint["path"] == "/metrics", "{endpoint}");
        Ok(())
    });
    definitions.delete(DEFINITION, &DeleteParams::default()).await?;
    outcome?;
    let gone = eventually(WAIT, || async { definitions.get_opt(DEFINITION).await.ok()?.is_none().then_some(()) }).await;
    gone.context("the definition stays")?;
    let ready = |service: &ResilientService| {
        service.status.as_ref().is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
    };
    world.object::<ResilientService>(SHOP, "order", "Ready", WAIT, ready).await?;
    Ok(())
}
