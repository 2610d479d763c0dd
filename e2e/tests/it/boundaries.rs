//! What Kubernetes does with the objects that a ResilientService has made: a NetworkPolicy that admits and refuses, an
//! autoscaler that scales by what its pods use.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::ResilientService;
use valerix_e2e::world::{World, eventually, is_ready};

const SERVER: &str =
    "import http.server as h; h.ThreadingHTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()";
/// Prints the status, or what went wrong: a packet that is dropped is a timeout.
const CLIENT: &str = "import sys, urllib.request as u\ntry: print(u.urlopen(sys.argv[1], timeout=3).status)\nexcept Exception as e: print(e)";

async fn service(world: &World, namespace: &str, name: &str, more: Value) -> Result<()> {
    let mut spec = json!({
        "image": world.environment.images.of("python")?,
        "command": ["python3", "-c", SERVER],
        "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
        "probes": {"readiness": {"path": "/", "periodSeconds": 1}},
        "resilience": {"protocol": "None"},
        "terminationGracePeriodSeconds": 15,
        "lifecycle": {"preStopSleep": "0s"},
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    let object = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService",
        "metadata": {"name": name}, "spec": spec
    });
    world.create(namespace, &object.to_string()).await?.text()?;
    Ok(())
}

/// What a pod of `from` hears when it asks.
async fn asks(world: &World, namespace: &str, from: &str, url: &str) -> Result<String> {
    let deployment = format!("deployment/{from}");
    let arguments = [
        "exec",
        "--namespace",
        namespace,
        &deployment,
        "--container",
        from,
        "--",
        "python3",
        "-c",
        CLIENT,
        url,
    ];
    Ok(valerix_e2e::kubectl::kubectl_with(&world.environment, &arguments, None)
        .await?
        .text()?
        .trim()
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_policy_lets_in_whom_the_service_names_and_nobody_else() -> Result<()> {
    let world = World::shared().await?;
    let work = async |namespace: &str| {
        let friend = json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "friend"}}});
        service(&world, namespace, "friend", json!({})).await?;
        service(&world, namespace, "stranger", json!({})).await?;
        // The guard's report is read by the operator, which is not among those that are let in to the service itself.
        service(
            &world,
            namespace,
            "vault",
            json!({"networkPolicy": {"ingressFrom": [friend]}, "guard": {"mode": "Sidecar"}, "resilience": {}}),
        )
        .await?;
        for name in ["friend", "stranger", "vault"] {
            world
                .object(namespace, name, "Ready", Duration::from_secs(90), is_ready)
                .await?;
        }
        let vault: ResilientService = world.api(namespace).get("vault").await?;
        let config = vault
            .status
            .and_then(|status| status.summary)
            .map(|summary| summary.config);
        ensure!(
            config.as_deref() == Some("1/1"),
            "the operator reads the report past the policy: {config:?}"
        );

        // Ready pods are there a moment before every node has heard of them.
        let heard = async || asks(&world, namespace, "friend", "http://vault/").await.ok();
        let through = eventually(Duration::from_secs(10), async || {
            heard().await.filter(|heard| heard == "200")
        });
        ensure!(
            through.await.is_some(),
            "who is named gets through, and hears {:?}",
            heard().await
        );
        let heard = asks(&world, namespace, "stranger", "http://vault/").await?;
        ensure!(
            heard.contains("timed out"),
            "who is not named hears nothing, and not {heard}"
        );
        let heard = asks(&world, namespace, "stranger", "http://friend/").await?;
        ensure!(heard == "200", "a service without a policy is open: {heard}");

        let services = world.api::<ResilientService>(namespace);
        let closed = json!({"spec": {"networkPolicy": {"egressTo": []}}});
        services
            .patch("friend", &PatchParams::default(), &Patch::Merge(&closed))
            .await?;
        let shut = eventually(Duration::from_secs(20), async || {
            let heard = asks(&world, namespace, "friend", "http://stranger/").await.ok()?;
            heard.contains("timed out").then_some(())
        });
        shut.await.context("a service that may call nobody still gets through")
    };
    world.with_namespace("policy", work).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_adds_pods_by_what_they_use_and_the_operator_lets_it() -> Result<()> {
    let world = World::shared().await?;
    let work = async |namespace: &str| {
        service(
            &world,
            namespace,
            "busy",
            json!({
                "command": ["python3", "-c", "while True: pass"],
                "probes": {},
                // Twice its request is what it uses, and a tenth of a processor is all that it gets.
                "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "100m"}},
                "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 60},
            }),
        )
        .await?;
        let deployments = world.api::<Deployment>(namespace);
        let replicas = async || deployments.get("busy").await.ok()?.spec?.replicas;
        let figures = world.kubectl("get --raw /apis/metrics.k8s.io/v1beta1").await?.text();
        if figures.is_err() {
            // A cluster that measures nothing cannot scale by it: the least is what there is.
            world
                .object(namespace, "busy", "Ready", Duration::from_secs(60), is_ready)
                .await?;
            ensure!(replicas().await == Some(1), "without figures there is one pod");
            return Ok(());
        }
        let grown = eventually(Duration::from_secs(150), async || {
            replicas().await.filter(|count| *count > 1)
        });
        grown.await.context("the autoscaler added no pod")?;

        let services = world.api::<ResilientService>(namespace);
        let changed = json!({"spec": {"progressDeadlineSeconds": 333}});
        services
            .patch("busy", &PatchParams::default(), &Patch::Merge(&changed))
            .await?;
        let applied = eventually(Duration::from_secs(20), async || {
            let spec = deployments.get("busy").await.ok()?.spec?;
            (spec.progress_deadline_seconds == Some(333)).then_some(spec.replicas)
        });
        let kept = applied.await.context("the change did not reach the Deployment")?;
        ensure!(
            kept > Some(1),
            "the operator has put the autoscaler's number back: {kept:?}"
        );
        Ok(())
    };
    world.with_namespace("scaling", work).await
}
