//! The kubelet asks the very port on which a fault is, more impatiently than anybody sensible would have it: no container ends
//! by it, and no pod is taken for one that is not ready.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, interval};
use valerix_crds::ResilientService;
use valerix_e2e::{
    kubectl::Output,
    shop,
    world::{SHOP, World, is_ready},
};

use crate::chaos_effects::{ended, steadiness, under};

/// A second gateway: the one service that links the library and needs no database.
const PROBED: &str = "probed";
/// So long the kubelet has asked often enough to end a container, or to take its pod out of the service.
const LASTS: Duration = Duration::from_secs(8);
const DELAY: Duration = Duration::from_secs(3);

/// The gateway with one pod, one processor, and probes that give up after two seconds in which nobody answers, twice.
async fn impatient(world: &World) -> Result<Value> {
    let gateway = world.api::<ResilientService>(SHOP).get("gateway").await?;
    let mut spec = serde_json::to_value(&gateway.spec)?;
    let probe = json!({"path": "/health", "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 2});
    spec["probes"] = json!({"startup": {"path": "/health"}, "readiness": probe, "liveness": probe});
    spec["resources"] = json!({"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}});
    spec["replicas"] = json!(1);
    Ok(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService",
        "metadata": {"name": PROBED}, "spec": spec,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_probes_on_the_port_of_a_fault_see_nothing_of_it() -> Result<()> {
    let world = World::alone().await?;
    let service = impatient(&world).await?;
    world.create(SHOP, &service.to_string()).await?.text()?;
    let outcome = Box::pin(see_nothing(&world)).await;
    // Also after a failure: the namespace stays.
    let leftover = format!("delete -n {SHOP} --ignore-not-found rsvc/{PROBED}");
    let gone = world.kubectl(&leftover).await.and_then(Output::text);
    outcome.and(gone.map(|_| ()))
}

async fn see_nothing(world: &World) -> Result<()> {
    world
        .object(SHOP, PROBED, "Ready", Duration::from_secs(90), is_ready)
        .await?;
    ensure!(!is_hit(world).await?, "hit before any fault");
    let before = steadiness(world, PROBED).await?;
    for (name, fault) in [
        ("late", json!({"latency": {"delay": "3s"}})),
        ("broken", json!({"errors": {"percent": 100, "status": 503}})),
        ("refused", json!({"refuse": {}})),
    ] {
        under(world, name, on_probed(fault), async || {
            lasting(async || {
                ensure!(is_hit(world).await?, "a client sees nothing of it");
                Ok(())
            })
            .await
        })
        .await?;
        let after = steadiness(world, PROBED).await?;
        ensure!(before == after, "{name}: {before:?} to {after:?}");
    }
    ensure!(!is_hit(world).await?, "still hit after Recovered");

    // Eight threads want all of the one processor that the container has.
    let busy = json!({"cpuStress": {"loadPercent": 100, "workers": 8}});
    under(world, "busy", on_probed(busy), async || lasting(async || Ok(())).await).await?;
    let (before, after) = (ended(before), ended(steadiness(world, PROBED).await?));
    ensure!(before == after, "busy: {before:?} to {after:?}");
    Ok(())
}

fn on_probed(mut fault: Value) -> Value {
    fault["target"] = json!({"service": PROBED});
    fault
}

/// Whether a client's request is late, or gets an error or nobody.
async fn is_hit(world: &World) -> Result<bool> {
    let reply = shop::ask(world, SHOP, "GET", PROBED, "/services", &[], Vec::new()).await?;
    Ok(reply.status >= 500 || reply.took >= DELAY)
}

/// Looks again and again, for as long as the kubelet needs to lose its patience.
async fn lasting(look: impl AsyncFn() -> Result<()>) -> Result<()> {
    let mut ticks = interval(Duration::from_millis(200));
    let until = Instant::now() + LASTS;
    while Instant::now() < until {
        ticks.tick().await;
        look().await?;
    }
    Ok(())
}
