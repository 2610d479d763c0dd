//! ResilientService: configuration that provably arrives, drift that is put back, and nothing left behind.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use valerix_crds::{ResilientService, names, names::condition as types};
use valerix_e2e::world::{SHOP, World, condition, eventually, has_condition};

/// UID and restarts of each pod of a service.
async fn pods(world: &World, namespace: &str, service: &str) -> Result<BTreeMap<String, i32>> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={service}"));
    let pods = world.api::<Pod>(namespace).list(&selector).await?;
    Ok(pods
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| {
            let restarts = pod
                .status
                .as_ref()
                .and_then(|status| status.container_statuses.as_ref());
            (
                pod.uid().unwrap_or_default(),
                restarts
                    .into_iter()
                    .flatten()
                    .map(|container| container.restart_count)
                    .sum(),
            )
        })
        .collect())
}

fn ready(service: &ResilientService) -> bool {
    service
        .status
        .as_ref()
        .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patched_threshold_reaches_every_pod_without_a_restart() -> Result<()> {
    let world = World::with_shop().await?;
    let services = world.api::<ResilientService>(SHOP);
    let before = world
        .object(SHOP, "order", "Ready", Duration::from_secs(60), ready)
        .await?;
    let pods_before = pods(&world, SHOP, "order").await?;
    let hash_before = before
        .status
        .as_ref()
        .and_then(|status| status.config.clone())
        .context("no config status")?
        .hash;
    let target = before
        .spec
        .resilience
        .as_ref()
        .and_then(|resilience| resilience.targets.first())
        .context("no target")?;
    ensure!(target.name == "inventory", "order's first target is inventory");
    let threshold = target
        .circuit_breaker
        .as_ref()
        .and_then(|breaker| breaker.consecutive_failures)
        .unwrap_or_default();

    for value in [threshold + 4, threshold] {
        let patch = json!([{"op": "replace", "path": "/spec/resilience/targets/0/circuitBreaker/consecutiveFailures", "value": value}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        let patched = services.patch("order", &PatchParams::default(), &patch).await?;
        let generation = patched.metadata.generation.unwrap_or_default();
        let started = Instant::now();
        let applied = |service: &ResilientService| {
            service.status.as_ref().is_some_and(|status| {
                status.observed_generation == generation
                    && has_condition(&status.conditions, types::CONFIG_APPLIED, "True")
                    && status
                        .config
                        .as_ref()
                        .is_some_and(|config| config.applied_replicas == 2)
                    && status.summary.as_ref().is_some_and(|summary| summary.config == "2/2")
            })
        };
        let after = world
            .object(SHOP, "order", "ConfigApplied 2/2", Duration::from_secs(10), applied)
            .await?;
        eprintln!("patch to ConfigApplied: {:.2} s", started.elapsed().as_secs_f64());
        let hash = after
            .status
            .and_then(|status| status.config)
            .context("no config status")?
            .hash;
        ensure!(
            (hash == hash_before) == (value == threshold),
            "the hash follows the document: {hash_before} -> {hash}"
        );
        let map = world
            .api::<ConfigMap>(SHOP)
            .get(&names::policy_config_map("order"))
            .await?;
        let document = map
            .data
            .unwrap_or_default()
            .remove(names::POLICY_KEY)
            .context("no policy document")?;
        ensure!(sha256(&document) == hash, "the hash is that of the document's bytes");
        let document: serde_json::Value = serde_json::from_str(&document)?;
        let breaker = &document["targets"][0]["circuitBreaker"];
        ensure!(breaker["consecutiveFailures"] == value, "{breaker}");
    }
    ensure!(
        pods(&world, SHOP, "order").await? == pods_before,
        "the same pods, without a restart"
    );
    Ok(())
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_edited_by_hand_is_put_back_and_pods_keep_the_last_good_one() -> Result<()> {
    let world = World::with_shop().await?;
    let name = names::policy_config_map("payment");
    let maps = world.api::<ConfigMap>(SHOP);
    let good = maps.get(&name).await?.data.unwrap_or_default()[names::POLICY_KEY].clone();
    let patch = Patch::Merge(json!({"data": {names::POLICY_KEY: "{not json"}}));
    maps.patch(&name, &PatchParams::default(), &patch).await?;
    let restored = eventually(Duration::from_secs(30), || async {
        let map = maps.get(&name).await.ok()?;
        (map.data?.get(names::POLICY_KEY)? == &good).then_some(())
    })
    .await;
    ensure!(
        restored.is_some(),
        "the map was not put back\n{}",
        world.dump(SHOP).await
    );
    world
        .object(SHOP, "payment", "Ready again", Duration::from_secs(30), ready)
        .await?;
    Ok(())
}

/// A service of an image that does not report.
fn plain(name: &str, replicas: i32) -> String {
    json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": name},
        "spec": {
            "image": "docker.io/library/redis:7.0-bookworm",
            "command": ["redis-server", "--save", "", "--dir", "/tmp"],
            "replicas": replicas,
            "ports": [{"name": "redis", "containerPort": 6379}],
            "resilience": {"protocol": "None"},
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_takes_over_the_pods_that_run_and_every_new_child_stands() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("scaled", async |namespace| {
            world.create(namespace, &plain("cache", 2)).await?.text()?;
            let services = world.api::<ResilientService>(namespace);
            let patch = |spec: serde_json::Value| Patch::Merge(json!({"spec": spec}));
            let of_the_pod = patch(json!({
                "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1024Mi"}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "securityContext": {"runAsUser": 999},
                "probes": {
                    "readiness": {"type": "TCP"},
                    "liveness": {"type": "Exec", "command": ["redis-cli", "ping"], "initialDelaySeconds": 1}
                },
                "podOverrides": {"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}},
                "resources": {"requests": {"cpu": "10m"}},
                "disruption": {},
                "networkPolicy": {},
            }));
            services.patch("cache", &PatchParams::default(), &of_the_pod).await?;
            let current = |service: &ResilientService| {
                let seen = service.status.as_ref().map(|status| status.observed_generation);
                ready(service) && seen == service.metadata.generation
            };
            world
                .object(namespace, "cache", "Ready", Duration::from_secs(90), current)
                .await?;
            let pods_before = pods(&world, namespace, "cache").await?;

            let scaled = patch(json!({"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}));
            services.patch("cache", &PatchParams::default(), &scaled).await?;
            let scalers = world.api::<HorizontalPodAutoscaler>(namespace);
            let scaler = eventually(Duration::from_secs(10), || async { scalers.get("cache").await.ok() }).await;
            ensure!(scaler.is_some(), "no autoscaler\n{}", world.dump(namespace).await);
            world
                .object(namespace, "cache", "Ready again", Duration::from_secs(30), current)
                .await?;
            let deployment = world.api::<Deployment>(namespace).get("cache").await?;
            let replicas = deployment.spec.and_then(|spec| spec.replicas);
            ensure!(replicas == Some(2), "the pods that run are kept, not {replicas:?}");
            ensure!(
                pods(&world, namespace, "cache").await? == pods_before,
                "no pod was replaced"
            );

            let budget = world.api::<PodDisruptionBudget>(namespace).get_opt("cache").await?;
            ensure!(budget.is_none(), "one pod is no budget: minReplicas is 1");
            let wider = patch(json!({"autoscaling": {"minReplicas": 2}, "strategy": {"type": "Recreate"}}));
            services.patch("cache", &PatchParams::default(), &wider).await?;
            let budgets = world.api::<PodDisruptionBudget>(namespace);
            let budget = eventually(Duration::from_secs(10), || async { budgets.get("cache").await.ok() }).await;
            ensure!(budget.is_some(), "no budget\n{}", world.dump(namespace).await);
            world.api::<NetworkPolicy>(namespace).get("cache").await?;
            world
                .object(
                    namespace,
                    "cache",
                    "Ready with Recreate",
                    Duration::from_secs(90),
                    current,
                )
                .await?;
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_put_back_and_deletion_leaves_nothing() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("drift", async |namespace| {
            world.create(namespace, &plain("cache", 1)).await?.text()?;
            world
                .object(namespace, "cache", "Ready", Duration::from_secs(90), ready)
                .await?;

            let deployments = world.api::<Deployment>(namespace);
            let services = world.api::<Service>(namespace);
            deployments
                .patch(
                    "cache",
                    &PatchParams::default(),
                    &Patch::Merge(json!({"spec": {"replicas": 3}})),
                )
                .await?;
            services.delete("cache-pods", &DeleteParams::default()).await?;
            world
                .api::<ConfigMap>(namespace)
                .delete(&names::policy_config_map("cache"), &DeleteParams::default())
                .await?;
            world
                .api::<ServiceAccount>(namespace)
                .delete("cache", &DeleteParams::default())
                .await?;
            let back = eventually(Duration::from_secs(5), || async {
                let replicas = deployments.get("cache").await.ok()?.spec?.replicas?;
                let all = services.get_opt("cache-pods").await.ok()?.is_some()
                    && world
                        .api::<ConfigMap>(namespace)
                        .get_opt(&names::policy_config_map("cache"))
                        .await
                        .ok()?
                        .is_some()
                    && world
                        .api::<ServiceAccount>(namespace)
                        .get_opt("cache")
                        .await
                        .ok()?
                        .is_some();
                (replicas == 1 && all).then_some(())
            })
            .await;
            ensure!(
                back.is_some(),
                "drift was not put back\n{}",
                world.dump(namespace).await
            );

            let all: Api<ResilientService> = world.api(namespace);
            all.delete("cache", &DeleteParams::foreground()).await?;
            let gone = eventually(Duration::from_secs(60), || async {
                let left = world
                    .kubectl(&format!(
                        "get rsvc,deployments,services,pods,replicasets,configmaps,serviceaccounts -n {namespace} -o name"
                    ))
                    .await
                    .ok()?
                    .text()
                    .ok()?;
                let left: Vec<_> = left.lines().filter(|name| name.contains("cache")).collect();
                left.is_empty().then_some(())
            })
            .await;
            ensure!(gone.is_some(), "something is left\n{}", world.dump(namespace).await);
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_of_the_same_name_is_not_adopted() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("stranger", async |namespace| {
            let stranger: Service = serde_json::from_value(json!({
                "metadata": {"name": "cache", "labels": {"owner": "somebody"}},
                "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 1234}]},
            }))?;
            let services = world.api::<Service>(namespace);
            let before = services.create(&PostParams::default(), &stranger).await?;
            world.create(namespace, &plain("cache", 0)).await?.text()?;
            let refused = |service: &ResilientService| {
                service
                    .status
                    .as_ref()
                    .and_then(|status| condition(&status.conditions, types::RESOURCES_READY))
                    .is_some_and(|ready| {
                        ready.status == "False" && ready.reason == "NotOwned" && ready.message.contains("cache")
                    })
            };
            world
                .object::<ResilientService>(namespace, "cache", "NotOwned", Duration::from_secs(20), refused)
                .await?;
            let after = services.get("cache").await?;
            ensure!(
                after.spec == before.spec && after.metadata.labels == before.metadata.labels,
                "the stranger is untouched"
            );
            ensure!(after.metadata.owner_references.is_none(), "the stranger has no owner");
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_replicas_are_ready_and_scaling_works() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("scale", async |namespace| {
            world.create(namespace, &plain("cache", 0)).await?.text()?;
            let zero = |service: &ResilientService| {
                service
                    .status
                    .as_ref()
                    .and_then(|status| condition(&status.conditions, types::READY))
                    .is_some_and(|ready| ready.status == "True" && ready.reason == "ScaledToZero")
            };
            world
                .object::<ResilientService>(namespace, "cache", "Ready/ScaledToZero", Duration::from_secs(30), zero)
                .await?;
            world
                .kubectl(&format!("scale -n {namespace} rsvc/cache --replicas=1"))
                .await?
                .text()?;
            let one = |service: &ResilientService| {
                ready(service) && service.status.as_ref().is_some_and(|status| status.ready_replicas == 1)
            };
            world
                .object::<ResilientService>(namespace, "cache", "one ready replica", Duration::from_secs(60), one)
                .await?;
            Ok(())
        })
        .await
}
