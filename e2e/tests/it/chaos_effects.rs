//! What faults of the library do on a cluster, as a client sees it while they are on and afterwards: who is cut off gets
//! nothing, everybody else everything, and the kubelet sees nothing of it.

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
    world::{SHOP, World, is_ready},
};

use crate::chaos::{READ, hit, hit_with, injected, recovered, start};

/// Looks at what a fault of every pod of a service does, stops it, and waits until it is gone.
async fn under(world: &World, prefix: &str, mut spec: Value, look: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
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

/// Since when each pod of inventory is ready, and how often its containers ended.
async fn steadiness(world: &World) -> Result<BTreeSet<(String, String, i32)>> {
    let selector = ListParams::default().labels("app.kubernetes.io/name=inventory");
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

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_gets_nothing_and_the_kubelet_sees_nothing_of_it() -> Result<()> {
    let world = World::with_shop().await?;
    world
        .object(SHOP, "inventory", "Ready", Duration::from_secs(60), is_ready)
        .await?;
    let before = steadiness(&world).await?;
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
    let after = steadiness(&world).await?;
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
    let ended = |pods: BTreeSet<(String, String, i32)>| {
        let pods = pods.into_iter();
        pods.map(|(pod, _, ended)| (pod, ended)).collect::<Vec<_>>()
    };
    let (before, after) = (ended(before), ended(steadiness(&world).await?));
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
