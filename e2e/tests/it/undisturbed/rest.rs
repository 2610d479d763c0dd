//! At rest the operator asks for nothing: counted by the API server itself, from its audit log.

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    time::Duration,
};
use valerix_e2e::world::{OPERATOR_USER, World, eventually};

/// What was quiet for so long is at rest: longer than a resync of anything, but for a wait after many failures.
const QUIET: TimeDelta = TimeDelta::seconds(30);

/// Whether at rest there are such requests: watches, and those for the Lease.
fn is_of_rest(event: &Value) -> bool {
    event["verb"] == "watch" || event["objectRef"]["resource"] == "leases"
}

/// The operator's requests that began within a span of time.
fn requests(path: &PathBuf, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Value>> {
    let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut requests = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        if !line.contains(OPERATOR_USER) {
            continue;
        }
        let event: Value = serde_json::from_str(&line)?;
        let at = event["requestReceivedTimestamp"]
            .as_str()
            .and_then(|text| text.parse::<DateTime<Utc>>().ok());
        // A watch is one request with two lines: when it begins to answer and when it ends.
        if event["user"]["username"] == OPERATOR_USER && at.is_some_and(|at| at >= from && at <= to) {
            requests.push(event);
        }
    }
    Ok(requests)
}

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

    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut leases = 0;
    for event in requests(&audit_log, from, to)? {
        let (verb, resource) = (
            event["verb"].as_str().unwrap_or_default(),
            event["objectRef"]["resource"].as_str().unwrap_or_default(),
        );
        if resource == "leases" && verb != "watch" {
            leases += 1;
        } else {
            *counts.entry(format!("{verb} {resource}")).or_default() += 1;
        }
    }
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
