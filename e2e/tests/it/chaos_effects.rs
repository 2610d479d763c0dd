//! What faults of the library do on a cluster, as a client sees it while they are on and afterwards: who is cut off gets
//! nothing, everybody else everything, memory is taken as asked for and given back, and the kubelet sees nothing of it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use valerix_crds::ChaosExperiment;
use valerix_e2e::{
    shop,
    world::{SHOP, World, eventually, is_ready},
};

use crate::chaos::{READ, hit, hit_with, injected, ready_pods, recovered, start};

/// Looks at what a fault of every pod of a service does, stops it, and waits until it is gone.
pub(crate) async fn under(
    world: &World,
    prefix: &str,
    mut spec: Value,
    look: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    spec["count"] = json!("100%");
    spec["duration"] = json!("2m");
    spec["safety"] = json!({"minPodAge": "5s", "minAvailable": 0});
    let name = start(world, prefix, spec).await?;
    world
        .object(SHOP, &name, "injected", Duration::from_secs(60), injected)
        .await?;
    look().await.with_context(|| format!("under {name}"))?;
    let stop = Patch::Merge(json!({"spec": {"desired": "Stop"}}));
    world
        .api::<ChaosExperiment>(SHOP)
        .patch(&name, &PatchParams::default(), &stop)
        .await?;
    recovered(world, &name, Duration::from_secs(20)).await.map(drop)
}

/// Since when each pod of a service is ready, and how often its containers ended.
pub(crate) async fn steadiness(world: &World, service: &str) -> Result<BTreeSet<(String, String, i32)>> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={service}"));
    let mut pods = world.api::<Pod>(SHOP).list(&selector).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let steady = pods.into_iter().map(|pod| {
        let name = pod.name_any();
        let status = pod.status.unwrap_or_default();
        let mut conditions = status.conditions.into_iter().flatten();
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        let ready = ready.map(|ready| format!("{} since {:?}", ready.status, ready.last_transition_time));
        let containers = status.container_statuses.into_iter().flatten();
        let ended = containers.map(|container| container.restart_count).sum();
        (name, ready.unwrap_or_default(), ended)
    });
    Ok(steady.collect())
}

/// How often the containers of each of these pods ended.
pub(crate) fn ended(pods: BTreeSet<(String, String, i32)>) -> Vec<(String, i32)> {
    pods.into_iter().map(|(pod, _, ended)| (pod, ended)).collect()
}

/// What a pod of the shop measures of its own process.
pub(crate) async fn measured(world: &World, pod: &str, metric: &str) -> Result<f64> {
    let request = http::Request::get(format!("/api/v1/namespaces/{SHOP}/pods/{pod}:9090/proxy/metrics"))
        .body(Vec::new())
        .context("failed to build a request")?;
    let text = world
        .client
        .request_text(request)
        .await
        .context("failed to ask for metrics")?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find_map(|(name, value)| (name == metric).then_some(value));
    let value = value.with_context(|| format!("{pod} has no {metric}"))?;
    value
        .trim()
        .parse()
        .with_context(|| format!("{pod}: {metric} is {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_gets_nothing_and_the_kubelet_sees_nothing_of_it() -> Result<()> {
    let world = World::with_shop().await?;
    world
        .object(SHOP, "inventory", "Ready", Duration::from_secs(60), is_ready)
        .await?;
    let before = steadiness(&world, "inventory").await?;
    let peer = [("valerix-client", "shop/order")];
    ensure!(
        hit_with(&world, 50, READ, &peer).await? == 0,
        "cut off before any fault"
    );

    under(&world, "refuse", json!({"refuse": {}}), async || {
        let refused = hit(&world, 100, READ).await?;
        ensure!(refused == 100, "{refused} of 100 requests were refused");
        Ok(())
    })
    .await?;
    let inward = json!({"partition": {"direction": "Ingress", "peer": "order"}});
    under(&world, "inward", inward, async || {
        let (cut, others) = (hit_with(&world, 50, READ, &peer).await?, hit(&world, 50, READ).await?);
        ensure!(
            (cut, others) == (50, 0),
            "{cut} of 50 of the peer were cut off, and {others} of 50 others"
        );
        Ok(())
    })
    .await?;
    let still = hit(&world, 50, READ).await? + hit_with(&world, 50, READ, &peer).await?;
    ensure!(still == 0, "still hit after Recovered");
    let after = steadiness(&world, "inventory").await?;
    ensure!(
        before == after,
        "the kubelet's probes saw the faults: {before:?} to {after:?}"
    );

    let busy = json!({"cpuStress": {"loadPercent": 50, "workers": 2}});
    under(&world, "busy", busy, async || {
        let until = tokio::time::Instant::now() + Duration::from_secs(3);
        while tokio::time::Instant::now() < until {
            ensure!(
                hit(&world, 20, READ).await? == 0,
                "requests fail while the processor is busy"
            );
        }
        Ok(())
    })
    .await?;
    let (before, after) = (ended(before), ended(steadiness(&world, "inventory").await?));
    ensure!(
        before == after,
        "a busy processor ended containers: {before:?} to {after:?}"
    );

    let outward = json!({"target": {"service": "order"}, "partition": {"direction": "Egress", "peer": "inventory"}});
    let mut placed = Vec::new();
    under(&world, "outward", outward, async || {
        for _ in 0..3 {
            let (order, _) = shop::place(&world, "xbox", 1).await?;
            ensure!(order.status != "CONFIRMED", "inventory was reached: {order:?}");
            placed.push(order.order_id);
        }
        Ok(())
    })
    .await?;
    let settled = shop::settled(&world, &placed, Duration::from_secs(60)).await?;
    let lost = settled.iter().find(|order| order.status != "CONFIRMED");
    ensure!(lost.is_none(), "not confirmed after Recovered: {lost:?}");
    Ok(())
}

const MEBI: f64 = 1_048_576.0;
/// With what a service of the shop needs itself, far below its container's limit of 256 Mi.
const HELD: f64 = 128.0 * MEBI;

/// Awaits that what is asked for again and again is within a tenth of `size` of `expected`.
async fn comes_to<F>(expected: f64, size: f64, mut ask: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<f64>>,
{
    let last = std::sync::Mutex::new(String::from("no answer"));
    let came = eventually(Duration::from_secs(20), || {
        let asked = ask();
        async {
            let found = asked.await;
            if let Ok(mut last) = last.lock() {
                *last = format!("{found:?}");
            }
            ((found.ok()? - expected).abs() <= size / 10.0).then_some(())
        }
    });
    let came = came.await;
    came.with_context(|| format!("{:?} at the end, expected was {expected}", last.into_inner()))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_held_as_long_as_asked_and_given_back() -> Result<()> {
    let world = World::with_shop().await?;
    // The gateway has an allocator of its own.
    for service in ["inventory", "gateway"] {
        world
            .object(SHOP, service, "Ready", Duration::from_secs(60), is_ready)
            .await?;
        let before = steadiness(&world, service).await?;
        let mut idle = Vec::new();
        for (pod, _) in ready_pods(&world, service).await? {
            let resident = measured(&world, &pod, "process_resident_memory_bytes").await?;
            idle.push((pod, resident));
        }
        ensure!(!idle.is_empty(), "{service} has no pod");
        let is_held = async |held: f64| {
            for (pod, idle) in &idle {
                let resident = || measured(&world, pod, "process_resident_memory_bytes");
                let came = comes_to(idle + held, HELD, resident).await;
                came.with_context(|| format!("the memory of {pod}, which had {idle} before"))?;
            }
            anyhow::Ok(())
        };
        let full = json!({"target": {"service": service}, "memoryStress": {"size": "128Mi"}});
        under(&world, "full", full, async || is_held(HELD).await).await?;
        is_held(0.0).await.context("after Recovered")?;
        let (before, after) = (ended(before), ended(steadiness(&world, service).await?));
        ensure!(before == after, "containers ended: {before:?} to {after:?}");
    }
    Ok(())
}
