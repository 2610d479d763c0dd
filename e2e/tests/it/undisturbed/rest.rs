//! At rest the operator asks for nothing: counted by the API server itself, from its audit log.

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::time::Duration;
use valerix_e2e::{
    audit::{counted, is_of_rest, requests},
    world::{World, eventually},
};

/// What was quiet for so long is at rest: longer than a resync of anything, but for a wait after many failures.
const QUIET: TimeDelta = TimeDelta::seconds(30);

#[tokio::test(flavor = "multi_thread")]
async fn two_minutes_of_rest_are_watches_and_the_lease() -> Result<()> {
    let world = World::alone().await?;
    let audit_log = world.environment.audit_log.clone().context(
        "VALERIX_CLUSTER_AUDIT_LOG is not set: rest is counted from the API server's audit log, which the project's own cluster keeps",
    )?;
    // What earlier tests left behind settles first, a wait after failures too; then nothing may move.
    let settled = eventually(Duration::from_secs(300), || async {
        let now = Utc::now();
        let lately = requests(&audit_log, now - QUIET, now).ok()?;
        lately.iter().all(is_of_rest).then_some(())
    });
    settled.await.context("the operator does not come to rest")?;
    let from = Utc::now();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let to = Utc::now();
    // The log is written behind the requests.
    tokio::time::sleep(Duration::from_secs(2)).await;

    let (leases, counts) = counted(&requests(&audit_log, from, to)?);
    eprintln!("at rest for two minutes: {leases} requests for the Lease, beside {counts:?}");
    ensure!(
        (1..=60).contains(&leases),
        "{leases} Lease requests in two minutes; one leads, and renews at most 30 times a minute"
    );
    let others: Vec<_> = counts.keys().filter(|request| !request.starts_with("watch ")).collect();
    ensure!(others.is_empty(), "requests at rest: {counts:?}");
    Ok(())
}

/// Refusals that no right would have prevented: the operator cannot know before it asks, and asks again.
fn is_passing(event: &Value) -> bool {
    let answer = event["responseStatus"].to_string();
    // A namespace that is going takes nothing new, nor does a kind that another test uninstalls.
    answer.contains("being terminated")
        || answer.contains("create not allowed while custom resource definition is terminating")
        // The API server's own cache has not yet heard of a kind that was installed a moment ago.
        || answer.contains("cannot find RESTMapping")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_never_refused_a_right() -> Result<()> {
    let world = World::alone().await?;
    let audit_log = world
        .environment
        .audit_log
        .clone()
        .context("VALERIX_CLUSTER_AUDIT_LOG is not set")?;
    let refused: Vec<String> = requests(&audit_log, DateTime::UNIX_EPOCH, Utc::now())?
        .into_iter()
        .filter(|event| event["responseStatus"]["code"] == 403)
        .filter(|event| !is_passing(event))
        .map(|event| {
            format!(
                "{} {} {}",
                event["verb"], event["requestURI"], event["responseStatus"]["message"]
            )
        })
        .collect();
    ensure!(refused.is_empty(), "the chart's rights are too small: {refused:#?}");
    Ok(())
}
