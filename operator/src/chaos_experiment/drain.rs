//! `valerix-operator drain`: ends every run before the operator is removed, so that no finalizer is left behind.
//!
//! Reads experiments; writes the ConfigMap `valerix-safety` and the scale of the operator's own Deployment. The running
//! operator does the rest: it recovers what runs and starts nothing. It is sent home before the stop is lifted, so that
//! no schedule comes due in between, and so that it ends while it still has the rights to give up its Lease.
//! Experiments themselves are not changed: after a reinstall they run again.

use super::safety::stop_order;
use super::step::is_active;
use crate::runtime::{Clients, Scope, failure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use valerix_crds::ChaosExperiment;
use valerix_crds::names::SAFETY_CONFIG_MAP;

/// How often to look whether a run is over.
const PACE: Duration = Duration::from_millis(500);
/// What our stop order says.
const REASON: &str = "the operator is being removed";
const FIELD_MANAGER: &str = "valerix-drain";
/// Annotation of our order: what the ConfigMap held before, as JSON.
const HELD_BEFORE: &str = "resilience.valerix.io/held-before";

/// Why draining did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stop order could not be written.
    #[error("failed to write ConfigMap {SAFETY_CONFIG_MAP}: {source}")]
    Order {
        /// What the API server or the way to it answered.
        source: Box<kube::Error>,
    },
    /// The operator could not be scaled down.
    #[error("failed to scale Deployment {deployment} to zero: {source}")]
    Scale {
        /// The operator's Deployment.
        deployment: String,
        /// What the API server or the way to it answered.
        source: Box<kube::Error>,
    },
    /// The operator did not end.
    #[error(
        "failed to end the operator within {seconds}s: Deployment {deployment} is scaled to zero, but pods of it are left; ConfigMap {SAFETY_CONFIG_MAP} still stops every experiment, so try again"
    )]
    StillThere {
        /// How long was waited.
        seconds: u64,
        /// The operator's Deployment.
        deployment: String,
    },
    /// Something still runs.
    #[error(
        "failed to end every experiment within {seconds}s: {names}; ConfigMap {SAFETY_CONFIG_MAP} still stops them, so try again, or give one up with annotation {annotation}=true",
        annotation = valerix_crds::names::FORCE_FINALIZE_ANNOTATION
    )]
    StillRunning {
        /// How long was waited.
        seconds: u64,
        /// Namespace, name and phase of each.
        names: String,
    },
    /// Nobody could say what runs.
    #[error("failed to list the experiments within {seconds}s: {source}")]
    Unknown {
        /// How long was waited.
        seconds: u64,
        /// What the API server or the way to it answered.
        source: Box<kube::Error>,
    },
}

/// Where the operator is, and how long its removal may take.
#[derive(Clone, Copy, Debug)]
pub struct Removal<'a> {
    /// Namespace of the operator.
    pub namespace: &'a str,
    /// Its Deployment; without one (it runs by hand) it is left alone.
    pub deployment: Option<&'a str>,
    /// For the runs to recover, and once more for the operator to end.
    pub timeout: Duration,
}

/// Stops every run, waits until none is left, ends the operator, and lifts the stop.
///
/// # Errors
/// When something still runs after the timeout, by name, or the operator does not end.
pub async fn drain(clients: &Clients, scopes: &[Scope], removal: Removal<'_>) -> Result<(), Error> {
    let Removal {
        namespace,
        deployment,
        timeout,
    } = removal;
    let safety: Api<ConfigMap> = clients.api(namespace);
    let order = |source| Error::Order {
        source: Box::new(source),
    };
    let standing = safety.get_opt(SAFETY_CONFIG_MAP).await.map_err(order)?;
    let ours = standing
        .as_ref()
        .and_then(stop_order)
        .is_none_or(|reason| reason == REASON);
    let before = standing.as_ref().and_then(held_before);
    if ours {
        let annotations = before.as_ref().map(|held| json!({HELD_BEFORE: held}));
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": SAFETY_CONFIG_MAP, "annotations": annotations.unwrap_or_else(|| json!({}))},
            "data": {"stop": "true", "reason": REASON},
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        safety
            .patch(SAFETY_CONFIG_MAP, &parameters, &Patch::Apply(&body))
            .await
            .map_err(order)?;
        tracing::info!("every experiment is told to stop");
    }
    wait(clients, scopes, timeout).await?;
    tracing::info!("no experiment runs");
    if let Some(deployment) = deployment {
        end_operator(clients, namespace, deployment, timeout).await?;
    }
    if ours {
        lift(&safety, before.as_deref()).await.map_err(order)?;
    }
    Ok(())
}

async fn wait(clients: &Clients, scopes: &[Scope], timeout: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    loop {
        let found = running(clients, scopes).await;
        if found.as_ref().is_ok_and(Vec::is_empty) {
            return Ok(());
        }
        if Instant::now() + PACE > deadline {
            let seconds = timeout.as_secs();
            return Err(match found {
                Ok(names) => Error::StillRunning {
                    seconds,
                    names: names.join(", "),
                },
                Err(source) => Error::Unknown {
                    seconds,
                    source: Box::new(source),
                },
            });
        }
        match found {
            Ok(names) => tracing::info!(waiting_for = names.join(", "), "experiments are being recovered"),
            Err(error) => tracing::warn!(
                error = failure::chain(&error),
                "failed to list the experiments; trying again"
            ),
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn running(clients: &Clients, scopes: &[Scope]) -> Result<Vec<String>, kube::Error> {
    let mut names = Vec::new();
    for scope in scopes {
        let api: Api<ChaosExperiment> = scope.api(clients.write.clone());
        for experiment in api.list(&ListParams::default()).await?.items {
            if is_active(&experiment) {
                let phase = experiment
                    .status
                    .as_ref()
                    .and_then(|status| status.phase)
                    .unwrap_or_default();
                names.push(format!(
                    "{}/{} ({phase:?})",
                    experiment.namespace().unwrap_or_default(),
                    experiment.name_any()
                ));
            }
        }
    }
    Ok(names)
}

/// Scales the operator to zero and waits until its last pod has gone. A Deployment that is gone already is fine.
async fn end_operator(clients: &Clients, namespace: &str, name: &str, timeout: Duration) -> Result<(), Error> {
    let scale = |source| Error::Scale {
        deployment: name.to_owned(),
        source: Box::new(source),
    };
    let deployments: Api<Deployment> = clients.api(namespace);
    let Some(deployment) = deployments.get_opt(name).await.map_err(scale)? else {
        return Ok(());
    };
    let zero = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match deployments.patch_scale(name, &parameters, &zero).await {
        Err(error) if !failure::is_status(&error, 404) => return Err(scale(error)),
        _ => tracing::info!(deployment = name, "the operator is told to end"),
    }
    let labels = deployment.spec.and_then(|spec| spec.selector.match_labels);
    let selector: Vec<_> = labels
        .unwrap_or_default()
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let parameters = ListParams::default().labels(&selector.join(","));
    let pods: Api<Pod> = clients.api(namespace);
    let deadline = Instant::now() + timeout;
    while !pods.list(&parameters).await.map_err(scale)?.items.is_empty() {
        if Instant::now() + PACE > deadline {
            return Err(Error::StillThere {
                seconds: timeout.as_secs(),
                deployment: name.to_owned(),
            });
        }
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// What the ConfigMap holds that our order takes the place of. An order of ours that still stands, because a removal before
/// this one failed, remembers it.
fn held_before(map: &ConfigMap) -> Option<String> {
    match stop_order(map) {
        None => serde_json::to_string(&map.data.clone().unwrap_or_default()).ok(),
        Some(reason) if reason == REASON => map.annotations().get(HELD_BEFORE).cloned(),
        Some(_) => None,
    }
}

/// Removes our order, and only ours: whoever wrote over it meanwhile wants experiments stopped. A ConfigMap that was there
/// before holds what it held before.
async fn lift(safety: &Api<ConfigMap>, before: Option<&str>) -> Result<(), kube::Error> {
    let Some(map) = safety.get_opt(SAFETY_CONFIG_MAP).await? else {
        return Ok(());
    };
    if stop_order(&map).as_deref() != Some(REASON) {
        return Ok(());
    }
    let before = before.and_then(|held| serde_json::from_str::<BTreeMap<String, String>>(held).ok());
    if let Some(before) = before {
        let body = json!({
            "metadata": {"uid": map.uid(), "resourceVersion": map.resource_version(), "annotations": {HELD_BEFORE: null}},
            "data": {"stop": before.get("stop"), "reason": before.get("reason")},
        });
        let restored = safety
            .patch(SAFETY_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&body))
            .await;
        return unless_changed(restored.map(|_| ()));
    }
    let preconditions = Preconditions {
        uid: map.uid(),
        resource_version: map.resource_version(),
    };
    let parameters = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    unless_changed(safety.delete(SAFETY_CONFIG_MAP, &parameters).await.map(|_| ()))
}

/// What somebody else changed meanwhile is theirs.
fn unless_changed(written: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match written {
        Err(error) if !failure::is_status(&error, 404) && !failure::is_status(&error, 409) => Err(error),
        _ => Ok(()),
    }
}
