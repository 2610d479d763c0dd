//! What a fault of the processor takes, measured where nothing else takes any.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use std::time::Duration;
use valerix_e2e::world::{SHOP, World, eventually, is_ready};

use crate::chaos::ready_pods;
use crate::chaos_effects::{measured, under};

/// Of one processor, in each pod.
const BURNT: f64 = 0.5;

/// The share of a processor that a pod's process takes. Its metrics count whole seconds, so they are timed from the moment in
/// which one is full to the moment in which the fourth after it is.
async fn share(world: &World, pod: &str) -> Result<f64> {
    let used = || measured(world, pod, "process_cpu_seconds_total");
    let from = async |least: f64| {
        let full = eventually(Duration::from_secs(40), || async {
            used().await.ok().filter(|used| *used >= least)
        });
        let full = full.await.with_context(|| format!("{pod} does not use {least} s"))?;
        anyhow::Ok((full, tokio::time::Instant::now()))
    };
    let (first, began) = from(used().await? + 1.0).await?;
    let (last, now) = from(first + 4.0).await?;
    Ok((last - first) / (now - began).as_secs_f64())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_is_used_as_much_as_asked() -> Result<()> {
    let world = World::alone().await?;
    world
        .object(SHOP, "inventory", "Ready", Duration::from_secs(60), is_ready)
        .await?;
    let pods = ready_pods(&world, "inventory").await?;
    let busy = json!({"cpuStress": {"loadPercent": 50, "workers": 1}});
    under(&world, "share", busy, async || {
        // What others keep it waiting for only makes it less, so the most of all pods shows best what it wants, and none takes
        // more. What the service itself uses comes on top.
        let mut most: f64 = 0.0;
        for _ in 0..5 {
            for (pod, _) in &pods {
                most = most.max(share(&world, pod).await?);
            }
            if most >= BURNT * 0.9 {
                break;
            }
        }
        ensure!(
            (BURNT * 0.9..=BURNT * 1.1).contains(&most),
            "{most:.3} of a processor were used, asked were {BURNT}"
        );
        Ok(())
    })
    .await?;
    try_join_all(pods.iter().map(|(pod, _)| is_idle(&world, pod))).await?;
    Ok(())
}

/// Half of a processor would fill five seconds within ten.
async fn is_idle(world: &World, pod: &str) -> Result<()> {
    let used = || measured(world, pod, "process_cpu_seconds_total");
    let before = used().await?;
    let more = eventually(Duration::from_secs(10), || async {
        used().await.ok().filter(|now| now - before >= 3.0)
    });
    ensure!(more.await.is_none(), "{pod} still uses the processor after Recovered");
    Ok(())
}
