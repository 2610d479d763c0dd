//! How long a change of a policy takes until every pod has proven that it runs it: alone, since it is a time.

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};
use valerix_crds::{ResilientService, names::condition as types};
use valerix_e2e::world::{SHOP, World, has_condition};

/// Changes that are timed.
const CHANGES: u32 = 20;
/// Nine of ten of them. Most of it is the kubelet's, which looks at a pod's volumes when the pod changes.
const NINE_OF_TEN: Duration = Duration::from_secs(2);
/// The slowest. A kubelet that is told of a change before it can see it is told again three seconds later, and a status is
/// written once a second.
const SLOWEST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn nine_of_ten_changes_of_a_policy_are_proven_by_every_pod_within_two_seconds() -> Result<()> {
    let world = World::alone().await?;
    let consecutive = world
        .api::<ResilientService>(SHOP)
        .get("order")
        .await?
        .spec
        .resilience
        .and_then(|resilience| resilience.targets.into_iter().next()?.circuit_breaker)
        .context("order's first target has a breaker")?
        .consecutive_failures
        .unwrap_or_default();
    let timed = async {
        let mut took = Vec::new();
        for change in 1..=CHANGES {
            took.push(changed(&world, consecutive + change).await?);
        }
        anyhow::Ok(took)
    }
    .await;
    // Also after a failure: others wait for this breaker.
    let put_back = changed(&world, consecutive).await;
    let mut took = timed?;
    put_back.context("failed to put the breaker back")?;
    took.sort_unstable();
    let of = |share: usize| took.get((took.len() - 1) * share / 100).copied().unwrap_or_default();
    let told = format!("p50 {:?}, p90 {:?}, slowest {:?}", of(50), of(90), of(100));
    eprintln!("a policy proven by every pod: {told}");
    ensure!(of(90) < NINE_OF_TEN && of(100) < SLOWEST, "{CHANGES} changes: {told}");
    Ok(())
}

/// From the patch until the status says that both pods run it.
async fn changed(world: &World, consecutive: u32) -> Result<Duration> {
    let path = "/spec/resilience/targets/0/circuitBreaker/consecutiveFailures";
    let patch = json!([{"op": "replace", "path": path, "value": consecutive}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    let begun = Instant::now();
    let patched = world
        .api::<ResilientService>(SHOP)
        .patch("order", &PatchParams::default(), &patch)
        .await?;
    let generation = patched.metadata.generation.unwrap_or_default();
    let proven = |service: &ResilientService| {
        service.status.as_ref().is_some_and(|status| {
            let pods = status.config.as_ref().map_or(0, |config| config.applied_replicas);
            status.observed_generation == generation
                && pods == 2
                && has_condition(&status.conditions, types::CONFIG_APPLIED, "True")
        })
    };
    world
        .object(SHOP, "order", "ConfigApplied 2/2", Duration::from_secs(10), proven)
        .await?;
    Ok(begun.elapsed())
}
