//! A limit that replicas share is exact as long as Redis answers within 20 ms; else each replica gives its own share, and
//! counts what it gave. So it is counted while nothing else uses the machine, and the pods say whether Redis was in time.

use crate::chaos::ready_pods;
use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{ResilientService, names::condition as types};
use valerix_e2e::{
    shop,
    world::{SHOP, World, eventually, has_condition},
};

// Their own paths, so that nobody else's requests count.
const PATH: &str = "/api/inventory/limited";
const FIRST: &str = "/api/inventory/first";
const REQUESTS: usize = 5;
/// How often Redis may be late, on a machine that has much to do.
const TRIES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_of_the_specification_is_one_limit_at_all_pods() -> Result<()> {
    let world = World::alone().await?;
    let mut late = Vec::new();
    for attempt in 0..TRIES {
        // A rule of a new name has let nothing pass yet.
        let rule = format!("limited-{attempt}");
        limit(&world, &rule).await?;
        let (passed, refused) = ask(&world, &rule).await?;
        let local = decided_locally(&world, &rule).await?;
        if local == 0 {
            ensure!(
                (passed, refused) == (REQUESTS, 5 * REQUESTS),
                "{passed} passed and {refused} were refused of {} where {REQUESTS} may pass, all decided by Redis",
                6 * REQUESTS
            );
            late.clear();
            break;
        }
        ensure!(
            passed <= 2 * REQUESTS,
            "{passed} passed of {REQUESTS} at Redis and as many at the shares"
        );
        late.push(local);
    }
    ensure!(
        late.is_empty(),
        "Redis was late in each of {TRIES} tries: so many requests were decided by the pods' shares: {late:?}"
    );
    without_limits(&world).await
}

/// Sets the rule and has every pod connected to Redis: a pod connects for its first limit, and gives its own share until
/// it is answered in time.
async fn limit(world: &World, rule: &str) -> Result<()> {
    let rule = json!({
        "name": rule, "scope": "Distributed", "routes": [format!("GET {PATH}")], "requests": REQUESTS, "window": "10m",
    });
    let first = json!({
        "name": "first", "scope": "Distributed", "routes": [format!("GET {FIRST}")], "requests": 100, "window": "1s",
    });
    applied(world, json!({"rules": [rule, first]})).await?;
    for _ in 0..4 {
        let asked = (0..10).map(|_| shop::ask(world, SHOP, "GET", "inventory", FIRST, &[], Vec::new()));
        for answer in futures::future::join_all(asked).await {
            let status = answer?.status;
            ensure!(
                matches!(status, 404 | 429),
                "neither passed nor refused, but answered {status}"
            );
        }
    }
    Ok(())
}

/// Asks six times as often as may be; how many passed, and how many were refused because of the rule.
async fn ask(world: &World, rule: &str) -> Result<(usize, usize)> {
    let asked = (0..6 * REQUESTS).map(|_| shop::ask(world, SHOP, "GET", "inventory", PATH, &[], Vec::new()));
    let (mut passed, mut refused) = (0, 0);
    for answer in futures::future::join_all(asked).await {
        let answer = answer?;
        match answer.status {
            404 => passed += 1,
            429 => {
                ensure!(
                    answer.body.contains("quota-exceeded") && answer.body.contains(rule),
                    "{}",
                    answer.body
                );
                refused += 1;
            }
            status => anyhow::bail!("neither passed nor refused, but answered {status}: {}", answer.body),
        }
    }
    Ok((passed, refused))
}

/// Requests under the rule that a pod decided by its own share, because Redis was late.
async fn decided_locally(world: &World, rule: &str) -> Result<u64> {
    let series = format!("resilience_ratelimit_local_decisions_total{{rule=\"{rule}\"}} ");
    let mut decided = 0;
    for (pod, _) in ready_pods(world, "inventory").await? {
        let request = http::Request::get(format!("/api/v1/namespaces/{SHOP}/pods/{pod}:9090/proxy/metrics"))
            .body(Vec::new())
            .context("failed to build a request")?;
        let metrics = world
            .client
            .request_text(request)
            .await
            .context("failed to ask for metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        decided += value.map_or(Ok(0), str::parse::<u64>).context("not a count")?;
    }
    Ok(decided)
}

/// Changes inventory's rate limits, and waits until every pod says that they are in force.
async fn applied(world: &World, limits: Value) -> Result<()> {
    let patch = json!({"spec": {"resilience": {"inbound": {"rateLimit": limits}}}});
    let patched = world
        .api::<ResilientService>(SHOP)
        .patch("inventory", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let generation = patched.metadata.generation.unwrap_or_default();
    let applied = move |service: &ResilientService| {
        service.status.as_ref().is_some_and(|status| {
            status.observed_generation == generation && has_condition(&status.conditions, types::CONFIG_APPLIED, "True")
        })
    };
    world
        .object(SHOP, "inventory", "ConfigApplied", Duration::from_secs(30), applied)
        .await?;
    Ok(())
}

async fn without_limits(world: &World) -> Result<()> {
    applied(world, Value::Null).await?;
    let free = eventually(Duration::from_secs(5), || async {
        let answer = shop::ask(world, SHOP, "GET", "inventory", PATH, &[], Vec::new())
            .await
            .ok()?;
        (answer.status == 404).then_some(())
    })
    .await;
    free.context("the limit outlived its rule")
}
