//! `valerix-operator check`: proves that an installation is whole. `helm test` runs it under the operator's own
//! ServiceAccount, so that what it may do is what the operator may do.
//!
//! Reads which kinds the API server serves, the Lease, and what the API server says of our rights. Writes nothing: a
//! SelfSubjectAccessReview is a question that leaves nothing behind.

mod rights;

use crate::{
    rights::ROLES,
    runtime::{Clients, Scope, api_metrics::ApiMetrics, failure::sentence, leader::LEASE_NAME},
    settings::CheckSettings,
};
use anyhow::Context as _;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::{authorization::v1::SelfSubjectAccessReview, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, api::PostParams};
use std::{collections::BTreeSet, io::Write, time::Duration};
use tokio::time::Instant;

const API_VERSION: &str = "resilience.valerix.io/v1alpha1";
/// Between two looks at something that is not yet as it should be.
const PACE: Duration = Duration::from_secs(1);
/// Questions about rights at a time.
const QUESTIONS: usize = 16;
/// Missing rights that are told one by one; the rest is counted.
const TOLD: usize = 20;

/// Looks at everything, and says of each thing whether it is as it should be.
///
/// # Errors
/// When something is not, after all of it was told.
pub async fn check(settings: &CheckSettings, config: kube::Config, output: &mut impl Write) -> anyhow::Result<()> {
    let requests = ApiMetrics::new().context("failed to describe the metrics")?;
    let clients = Clients::new(config, &requests).context("failed to make a client for the cluster")?;
    look(&clients, settings, output).await
}

async fn look(clients: &Clients, settings: &CheckSettings, output: &mut impl Write) -> anyhow::Result<()> {
    let kinds = within(settings.timeout, async || kinds(clients).await).await;
    let rights = within(settings.timeout, async || rights(clients, settings).await).await;
    let leader = leader(clients, settings).await;
    let mut failed = 0;
    for (what, found) in [("kinds", kinds), ("rights", rights), ("leader", leader)] {
        let (word, text) = match found {
            Ok(text) => ("ok    ", text),
            Err(text) => {
                failed += 1;
                ("FAILED", text)
            }
        };
        writeln!(output, "{word}  {what}: {text}").context("failed to write the result")?;
    }
    anyhow::ensure!(
        failed == 0,
        "failed to prove this installation: see what is FAILED above"
    );
    Ok(())
}

/// What is found as soon as it is as it should be, or at the end why it is not.
async fn within(timeout: Duration, mut look: impl AsyncFnMut() -> Result<String, String>) -> Result<String, String> {
    let end = Instant::now() + timeout;
    loop {
        match look().await {
            Err(_) if Instant::now() + PACE < end => tokio::time::sleep(PACE).await,
            found => return found,
        }
    }
}

/// Every kind that the operator has a right on is served.
async fn kinds(clients: &Clients) -> Result<String, String> {
    let list = clients.write.list_api_group_resources(API_VERSION).await;
    let list = list.map_err(|error| {
        format!(
            "failed to read {API_VERSION}: {}; the chart's CustomResourceDefinitions are missing, so install it again",
            sentence(&error)
        )
    })?;
    let served: BTreeSet<&str> = list.resources.iter().map(|resource| resource.name.as_str()).collect();
    let wanted = rights::of_our_kinds();
    let missing: Vec<&str> = wanted.difference(&served).copied().collect();
    if missing.is_empty() {
        return Ok(format!("{API_VERSION} serves {} resources", wanted.len()));
    }
    Err(format!(
        "{API_VERSION} does not serve {}; its CustomResourceDefinitions are of another version than this image, so upgrade the chart",
        missing.join(", ")
    ))
}

/// The operator may do all that it does.
async fn rights(clients: &Clients, settings: &CheckSettings) -> Result<String, String> {
    let questions = rights::questions(ROLES, settings);
    let count = questions.len();
    let reviews: Api<SelfSubjectAccessReview> = Api::all(clients.write.clone());
    let missing: Result<Vec<_>, kube::Error> = futures::stream::iter(questions)
        .map(|question| {
            let reviews = &reviews;
            async move {
                let answer = reviews.create(&PostParams::default(), &question.review()).await?;
                let is_allowed = answer.status.is_some_and(|status| status.allowed);
                Ok((!is_allowed).then(|| question.to_string()))
            }
        })
        .buffered(QUESTIONS)
        .try_filter_map(|missing| std::future::ready(Ok(missing)))
        .try_collect()
        .await;
    let missing = missing.map_err(|error| format!("failed to ask what the operator may do: {}", sentence(&error)))?;
    if missing.is_empty() {
        let places = places(settings);
        return Ok(format!("all {count} that the operator needs, {places}"));
    }
    let more = missing.len().saturating_sub(TOLD);
    let told: Vec<&str> = missing.iter().take(TOLD).map(String::as_str).collect();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Err(format!(
        "{} of {count} are missing: {}{more}; upgrade the chart, or grant them",
        missing.len(),
        told.join("; ")
    ))
}

fn places(settings: &CheckSettings) -> String {
    let scopes = settings.operator.scopes();
    let names: Vec<String> = scopes
        .into_iter()
        .map(|scope| match scope {
            Scope::Cluster => "in every namespace".to_owned(),
            Scope::Namespace(namespace) => format!("in {namespace}"),
        })
        .collect();
    names.join(", ")
}

/// Somebody renews the Lease while we look. Its times are compared with each other and never with our clock.
async fn leader(clients: &Clients, settings: &CheckSettings) -> Result<String, String> {
    let namespace = &settings.operator.pod_namespace;
    let leases: Api<Lease> = clients.api(namespace);
    let mut before: Option<(String, Option<MicroTime>)> = None;
    within(settings.timeout, async || {
        let lease = leases.get_opt(LEASE_NAME).await;
        let lease = lease.map_err(|error| format!("failed to read Lease {LEASE_NAME}: {}", sentence(&error)))?;
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() {
            return Err(format!(
                "nobody holds Lease {LEASE_NAME} in {namespace}: no operator runs; look at its pods there"
            ));
        }
        let seen = (holder, spec.renew_time);
        let is_renewed = before.as_ref().is_some_and(|before| *before != seen);
        let (holder, _) = before.insert(seen);
        if is_renewed {
            return Ok(format!("{holder} renews Lease {LEASE_NAME} in {namespace}"));
        }
        Err(format!(
            "{holder} holds Lease {LEASE_NAME} in {namespace} and does not renew it; look at the operator's log"
        ))
    })
    .await
}

#[cfg(test)]
mod tests;
