//! Step 4: the only place where something is changed: the finalizer, the status, the fault document, and evictions.
//!
//! In: one action and what it was decided on. Out: the experiment as it stands now. Every write carries the version that
//! the decision saw; a 409 changes nothing and means: look again. Nothing is ever sent twice from here.

use super::error::Error;
use super::faults::pod_kill::{self, EvictionResult};
use super::limits::FIELD_MANAGER;
use super::observed::Document;
use super::step::Action;
use crate::runtime::publish::Precondition;
use crate::runtime::{Clients, Publisher, failure};
use chrono::Utc;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::sync::Arc;
use valerix_crds::ChaosExperiment;
use valerix_crds::names::{CHAOS_FINALIZER, FAULTS_KEY, policy_config_map};

/// What became of an action.
#[derive(Debug)]
pub enum Applied {
    /// The experiment was written; this is how it stands.
    Experiment(Arc<ChaosExperiment>),
    /// Something else was written; the experiment stands as it was.
    Elsewhere,
    /// An eviction was sent; this was the answer.
    Evicted(String, EvictionResult),
    /// Somebody else was faster, or the object is gone: nothing was changed.
    Stale,
}

/// Does one action.
///
/// # Errors
/// When the API server refused or did not answer; whether it was done is then seen by looking.
pub async fn apply(
    clients: &Clients,
    publisher: &Publisher<ChaosExperiment>,
    experiment: &Arc<ChaosExperiment>,
    document: Option<&Document>,
    action: &Action,
) -> Result<Applied, Error> {
    let result = match action {
        Action::Write(status) => publisher
            .write(experiment, status, Precondition::SameVersion)
            .await
            .map(Applied::Experiment),
        Action::AddFinalizer => finalizers(clients, experiment, true).await,
        Action::RemoveFinalizer => finalizers(clients, experiment, false).await,
        Action::Lock(text) | Action::Release(text) => match document {
            Some(document) => put_faults(clients, experiment, document, text).await,
            None => Ok(Applied::Stale),
        },
        Action::Evict {
            pod,
            uid,
            delete,
            grace_period_seconds,
        } => {
            let victim = Victim {
                pod,
                uid,
                delete: *delete,
                grace_period_seconds: *grace_period_seconds,
            };
            return kill(clients, experiment, victim).await;
        }
        Action::Rest { .. } | Action::Look(_) | Action::StartProbes => Ok(Applied::Elsewhere),
    };
    match result {
        Err(error) if failure::is_status(&error, 409) || failure::is_status(&error, 404) => Ok(Applied::Stale),
        other => {
            other.map_err(|source| Error::write(format!("{} of {}", step_name(action), experiment.name_any()), source))
        }
    }
}

/// What was written, for messages.
fn step_name(action: &Action) -> &'static str {
    match action {
        Action::AddFinalizer | Action::RemoveFinalizer => "the finalizer",
        Action::Lock(_) => "the fault",
        Action::Release(_) => "the end of the fault",
        Action::Evict { .. } => "the eviction",
        Action::Write(_) => "the status",
        Action::Rest { .. } | Action::Look(_) | Action::StartProbes => "nothing",
    }
}

async fn finalizers(clients: &Clients, experiment: &ChaosExperiment, wanted: bool) -> Result<Applied, kube::Error> {
    let mut finalizers = experiment.finalizers().to_vec();
    finalizers.retain(|name| name != CHAOS_FINALIZER);
    if wanted {
        finalizers.push(CHAOS_FINALIZER.to_owned());
    }
    let body = json!({"metadata": {
        "uid": experiment.uid(),
        "resourceVersion": experiment.resource_version(),
        "finalizers": finalizers,
    }});
    let api: Api<ChaosExperiment> = clients.api(&experiment.namespace().unwrap_or_default());
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let stored = api
        .patch(&experiment.name_any(), &parameters, &Patch::Merge(&body))
        .await?;
    Ok(Applied::Experiment(Arc::new(stored)))
}

async fn put_faults(
    clients: &Clients,
    experiment: &ChaosExperiment,
    document: &Document,
    text: &str,
) -> Result<Applied, kube::Error> {
    let namespace = experiment.namespace().unwrap_or_default();
    let name = policy_config_map(&experiment.spec.target.service);
    write_faults(clients, &namespace, &name, document, text).await?;
    Ok(Applied::Elsewhere)
}

/// Writes the fault document if the ConfigMap is still the version that was read.
///
/// # Errors
/// What the API server answered: 409 when it is not.
pub async fn write_faults(
    clients: &Clients,
    namespace: &str,
    name: &str,
    document: &Document,
    text: &str,
) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "uid": document.uid, "resourceVersion": document.resource_version},
        "data": {FAULTS_KEY: text},
    });
    let api: Api<ConfigMap> = clients.api(namespace);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &parameters, &Patch::Apply(&body)).await.map(|_| ())
}

/// A pod that is to go, and how.
#[derive(Clone, Copy)]
struct Victim<'a> {
    pod: &'a str,
    uid: &'a str,
    delete: bool,
    grace_period_seconds: Option<i64>,
}

async fn kill(clients: &Clients, experiment: &ChaosExperiment, victim: Victim<'_>) -> Result<Applied, Error> {
    let Victim {
        pod,
        uid,
        delete,
        grace_period_seconds,
    } = victim;
    let namespace = experiment.namespace().unwrap_or_default();
    // The decision rests on the recorded intent; what was recorded may have been overtaken by a newer leader.
    let experiments: Api<ChaosExperiment> = clients.api(&namespace);
    let current = experiments
        .get_opt(&experiment.name_any())
        .await
        .map_err(|source| Error::read(format!("ChaosExperiment {}", experiment.name_any()), source))?;
    if current.is_none_or(|current| current.resource_version() != experiment.resource_version()) {
        return Ok(Applied::Stale);
    }
    let pods: Api<Pod> = clients.api(&namespace);
    let sent = if delete {
        let parameters = pod_kill::deletion(uid, grace_period_seconds);
        pods.delete(pod, &parameters).await.map(|_| ())
    } else {
        let body = pod_kill::eviction(&namespace, pod, uid, grace_period_seconds);
        pods.create_subresource::<Value, Value>("eviction", pod, &PostParams::default(), &body)
            .await
            .map(|_| ())
    };
    let answered_at = Utc::now();
    let answer = match sent {
        Ok(()) => EvictionResult::Accepted(answered_at),
        Err(kube::Error::Api(status)) => pod_kill::classify(&status),
        Err(error) => EvictionResult::Unclear(failure::chain(&error)),
    };
    tracing::info!(pod, uid, delete, ?answer, "eviction sent");
    Ok(Applied::Evicted(uid.to_owned(), answer))
}
