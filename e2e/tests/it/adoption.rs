//! What runs already is handed over to a ResilientService while it serves.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use valerix_crds::{ResilientService, names::condition as types};
use valerix_e2e::world::{World, has_condition};

/// How long pods may take to come up, twice.
const START: Duration = Duration::from_secs(120);

async fn create(world: &World, namespace: &str, object: &Value) -> Result<()> {
    world.create(namespace, &object.to_string()).await?.text()?;
    Ok(())
}

/// A web server as somebody's chart deploys it, with names of its own.
async fn of_before(world: &World, namespace: &str) -> Result<()> {
    let labels = json!({"app": "web", "app.kubernetes.io/name": "site"});
    let pod = json!({"containers": [{
        "name": "server", "image": world.environment.images.of("python")?,
        "command": ["python3", "-m", "http.server", "8080"],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 1000}
    }]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"team": "web"}}, "spec": {
        "replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}
    }});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]
    }});
    create(world, namespace, &deployment).await?;
    create(world, namespace, &service).await
}

/// How often the Service led to no ready pod, looked at until it is told to end; and how often it was looked at.
async fn gaps(slices: Api<EndpointSlice>, end: CancellationToken) -> (usize, usize) {
    let of_service = ListParams::default().labels("kubernetes.io/service-name=web");
    let (mut gaps, mut looks) = (0, 0);
    while !end.is_cancelled() {
        if let Ok(found) = slices.list(&of_service).await {
            let mut endpoints = found.items.iter().flat_map(|slice| slice.endpoints.iter());
            let is_served = endpoints.any(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                conditions.is_some_and(|conditions| conditions.ready == Some(true))
            });
            gaps += usize::from(!is_served);
            looks += 1;
        }
    }
    (gaps, looks)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_taken_over_under_its_own_uid_while_its_service_leads_to_ready_pods() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("adoption", async |namespace| {
        of_before(&world, namespace).await?;
        let available = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(2)
        };
        let before = world.object(namespace, "web", "two pods", START, available).await?;
        let service = world.api::<Service>(namespace).get("web").await?;

        let wanted = json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": "web"}, "spec": {
            "image": world.environment.images.of("python")?, "replicas": 2,
            "command": ["python3", "-m", "http.server", "8080"],
            "ports": [{"name": "web", "containerPort": 8080, "servicePort": 80}],
            "probes": {"readiness": {"type": "TCP"}},
            "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": false},
            "podLabels": {"app": "web"},
            "resilience": {"protocol": "None"}
        }});
        create(&world, namespace, &wanted).await?;
        let refused = |service: &ResilientService| service.status.as_ref().is_some_and(|status| {
            status.conditions.iter().any(|condition| condition.reason == "NotOwned" && condition.message.contains("resilience.valerix.io/adopt"))
        });
        world.object::<ResilientService>(namespace, "web", "NotOwned", Duration::from_secs(30), refused).await?;
        let untouched = world.api::<Deployment>(namespace).get("web").await?;
        ensure!(untouched.metadata.generation == before.metadata.generation, "nobody handed it over");

        let end = CancellationToken::new();
        let looking = tokio::spawn(gaps(world.api(namespace), end.clone()));
        let annotate = format!("annotate -n {namespace} deployment/web service/web resilience.valerix.io/adopt=true");
        world.kubectl(&annotate).await?.text()?;
        let ready = |service: &ResilientService| {
            service.status.as_ref().is_some_and(|status| {
                has_condition(&status.conditions, types::READY, "True")
                    && has_condition(&status.conditions, types::RESOURCES_READY, "True")
            })
        };
        world.object::<ResilientService>(namespace, "web", "Ready", START, ready).await?;
        end.cancel();
        let (gaps, looks) = looking.await.context("failed to look at the Service's pods")?;
        ensure!(looks > 20 && gaps == 0, "{gaps} of {looks} looks saw no ready pod");

        let after = world.api::<Deployment>(namespace).get("web").await?;
        let spec = after.spec.clone().context("no spec")?;
        ensure!(after.uid() == before.uid(), "it is the same Deployment");
        ensure!(after.labels().get("team").map(String::as_str) == Some("web"), "labels of others stay");
        ensure!(Some(&spec.selector) == before.spec.as_ref().map(|spec| &spec.selector), "it can never change");
        let names: Vec<String> = spec.template.spec.context("no pod")?.containers.into_iter().map(|container| container.name).collect();
        ensure!(names == ["web"], "the container of before is gone: {names:?}");
        let taken = world.api::<Service>(namespace).get("web").await?;
        ensure!(taken.uid() == service.uid(), "it is the same Service");
        let address = |service: &Service| service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
        ensure!(address(&taken) == address(&service), "and has the same address");
        let selector = taken.spec.and_then(|spec| spec.selector).unwrap_or_default();
        ensure!(selector.keys().eq(["resilience.valerix.io/service"]), "{selector:?}");
        let pods = world.api::<Pod>(namespace).list(&ListParams::default().labels("app=web")).await?;
        let standing = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        ensure!(standing.count() == 2, "two pods, as before");
        Ok(())
    });
    Box::pin(test).await
}
