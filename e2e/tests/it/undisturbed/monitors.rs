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
use valerix_e2e::world::{World, eventually, has_condition};

pub const DEFINITION: &str = "servicemonitors.monitoring.coreos.com";
const WAIT: Duration = Duration::from_secs(60);

/// As much of the definition as the API server needs.
pub fn definition() -> Result<CustomResourceDefinition> {
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
    let test = world.with_namespace("monitors", async |namespace| watched(&world, namespace).await);
    Box::pin(test).await
}

async fn watched(world: &World, namespace: &str) -> Result<()> {
    let services = world.api::<ResilientService>(namespace);
    let web = json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": "web"}, "spec": {
        "image": world.environment.images.of("python")?, "command": ["python3", "-m", "http.server", "8080"],
        "ports": [{"name": "http", "containerPort": 8080}], "monitoring": {"port": "http"}, "resilience": {"protocol": "None"}
    }});
    services
        .create(&PostParams::default(), &serde_json::from_value(web)?)
        .await?;
    let client = services.into_client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor");
    let monitors: Api<DynamicObject> = Api::namespaced_with(client, namespace, &ApiResource::from_gvk(&kind));
    let get = || async { monitors.get_opt("web").await.ok().flatten() };
    if definitions.get_opt(DEFINITION).await?.is_some() {
        // Somebody else's cluster: its kinds are not ours to remove.
        eventually(WAIT, get).await.context("web got no monitor")?;
        return Ok(());
    }
    definitions.create(&PostParams::default(), &definition()?).await?;
    let outcome = eventually(WAIT, get)
        .await
        .context("web got no monitor")
        .and_then(|monitor| {
            let endpoint = &monitor.data["spec"]["endpoints"][0];
            ensure!(
                endpoint["port"] == "http" && endpoint["path"] == "/metrics",
                "{endpoint}"
            );
            Ok(())
        });
    definitions.delete(DEFINITION, &DeleteParams::default()).await?;
    outcome?;
    let gone = eventually(WAIT, || async {
        definitions.get_opt(DEFINITION).await.ok()?.is_none().then_some(())
    })
    .await;
    gone.context("the definition stays")?;
    let ready = |service: &ResilientService| {
        service
            .status
            .as_ref()
            .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
    };
    world
        .object::<ResilientService>(namespace, "web", "Ready", WAIT, ready)
        .await?;
    Ok(())
}
