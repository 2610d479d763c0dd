//! A limit that replicas share is exact as long as Redis answers within a few milliseconds; else each replica gives its own
//! share. So it is counted while nothing else uses the machine.

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use valerix_crds::{ResilientService, names::condition as types};
use valerix_e2e::{
    shop,
    world::{SHOP, World, eventually, has_condition},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_of_the_specification_is_one_limit_at_all_pods() -> Result<()> {
    const PATH: &str = "/api/inventory/limited";
    const FIRST: &str = "/api/inventory/first";
    const REQUESTS: usize = 5;
    let world = World::alone().await?;
    let services = world.api::<ResilientService>(SHOP);
    // Its own path, so that nobody else's requests count.
    let rule = json!({
        "name": "limited", "scope": "Distributed", "routes": [format!("GET {PATH}")], "requests": REQUESTS, "window": "10m",
    });
    let first = json!({
        "name": "first", "scope": "Distributed", "routes": [format!("GET {FIRST}")], "requests": 100, "window": "1s",
    });
    let patch = json!({"spec": {"resilience": {"inbound": {"rateLimit": {"rules": [rule, first]}}}}});
    let patched = services
        .patch("inventory", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let applied = |generation| {
        move |service: &ResilientService| {
            service.status.as_ref().is_some_and(|status| {
                status.observed_generation == generation
                    && has_condition(&status.conditions, types::CONFIG_APPLIED, "True")
            })
        }
    };
    let generation = patched.metadata.generation.unwrap_or_default();
    world
        .object(
            SHOP,
            "inventory",
            "ConfigApplied",
            Duration::from_secs(30),
            applied(generation),
        )
        .await?;

    // A pod connects to Redis for its first limit, and gives its own share until it is answered in time.
    for _ in 0..4 {
        let asked = (0..10).map(|_| shop::ask(&world, SHOP, "GET", "inventory", FIRST, &[], Vec::new()));
        for answer in futures::future::join_all(asked).await {
            ensure!(matches!(answer?.status, 404 | 429), "neither passed nor refused");
        }
    }
    let asked = (0..6 * REQUESTS).map(|_| shop::ask(&world, SHOP, "GET", "inventory", PATH, &[], Vec::new()));
    let (mut passed, mut refused) = (0, Vec::new());
    for answer in futures::future::join_all(asked).await {
        let answer = answer?;
        match answer.status {
            404 => passed += 1,
            429 => refused.push(answer.body),
            // Another test's fault.
            _ => {}
        }
    }
    ensure!(passed <= REQUESTS, "{passed} passed of {REQUESTS}");
    // A pod that another test takes away may swallow some.
    ensure!(
        (4 * REQUESTS..=5 * REQUESTS).contains(&refused.len()),
        "{passed} passed, {} were refused",
        refused.len()
    );
    ensure!(
        refused
            .iter()
            .all(|body| body.contains("quota-exceeded") && body.contains("limited")),
        "{refused:?}"
    );

    let patched = services
        .patch(
            "inventory",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"resilience": {"inbound": {"rateLimit": null}}}})),
        )
        .await?;
    let generation = patched.metadata.generation.unwrap_or_default();
    world
        .object(
            SHOP,
            "inventory",
            "ConfigApplied without the limit",
            Duration::from_secs(30),
            applied(generation),
        )
        .await?;
    let free = eventually(Duration::from_secs(5), || async {
        let answer = shop::ask(&world, SHOP, "GET", "inventory", PATH, &[], Vec::new())
            .await
            .ok()?;
        (answer.status == 404).then_some(())
    })
    .await;
    free.context("the limit outlived its rule")
}
