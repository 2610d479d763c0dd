//! Tells of runs: events on the experiment and its victims, the metric, and what a service's last experiment was.
//!
//! Writes events and one field of the target's status, beside the reconciles: a run does not wait for it and does not
//! depend on it. A failure is logged and nothing else.

use super::news::news;
use super::status::was_injected;
use crate::chaos_experiment::limits::FIELD_MANAGER;
use crate::runtime::{Clients, Events, failure};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use prometheus::IntCounterVec;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase, ResilientService};

/// What one write changed: the object before and after it.
type Change = (Arc<ChaosExperiment>, Arc<ChaosExperiment>);

/// Takes what is to be told; cheap to clone.
#[derive(Clone)]
pub struct Telling(UnboundedSender<Change>);

impl Telling {
    /// Tells what one write changed, in time.
    pub fn tell(&self, before: Arc<ChaosExperiment>, after: Arc<ChaosExperiment>) {
        // The receiver only ends with the process.
        let _ = self.0.send((before, after));
    }
}

/// A place to leave what is to be told, and what was left there.
pub fn telling() -> (Telling, UnboundedReceiver<Change>) {
    let (sender, receiver) = unbounded_channel();
    (Telling(sender), receiver)
}

/// Tells of runs.
pub struct Teller {
    /// The way to write.
    pub clients: Clients,
    /// The recorder of events.
    pub events: Events,
    /// Runs by kind of fault and verdict.
    pub runs: IntCounterVec,
}

impl Teller {
    /// Tells everything that comes, in order.
    pub async fn run(self, mut changes: UnboundedReceiver<Change>) {
        while let Some((before, after)) = changes.recv().await {
            self.tell(&before, &after).await;
        }
    }

    async fn tell(&self, before: &ChaosExperiment, after: &ChaosExperiment) {
        let empty = ChaosExperimentStatus::default();
        let (old, new) = (
            before.status.as_ref().unwrap_or(&empty),
            after.status.as_ref().unwrap_or(&empty),
        );
        let namespace = after.namespace().unwrap_or_default();
        let news = news(&namespace, &after.name_any(), old, new);
        self.events.tell(after, news).await;
        let ended = old.phase != new.phase && new.phase.is_some_and(ChaosPhase::is_terminal);
        if ended {
            let kind = new.summary.as_ref().map(|summary| summary.kind.as_str());
            let verdict = format!("{:?}", new.verdict.unwrap_or_default());
            self.runs
                .with_label_values(&[kind.unwrap_or_default(), verdict.as_str()])
                .inc();
            tracing::info!(
                namespace,
                experiment = after.name_any(),
                run = new.run,
                verdict,
                reason = new.reason,
                "run ended"
            );
            if was_injected(new) {
                self.tell_service(after, &namespace, &verdict).await;
            }
        }
    }

    async fn tell_service(&self, experiment: &ChaosExperiment, namespace: &str, verdict: &str) {
        let service = &experiment.spec.target.service;
        let time = experiment
            .status
            .as_ref()
            .and_then(|status| status.completed_at)
            .unwrap_or_else(chrono::Utc::now);
        let api: Api<ResilientService> = self.clients.api(namespace);
        let body = json!({
            "apiVersion": ResilientService::api_version(&()),
            "kind": ResilientService::kind(&()),
            "metadata": {"name": service},
            "status": {"lastExperiment": {"name": experiment.name_any(), "verdict": verdict, "time": time}},
        });
        // Without a merge, a service that is gone would be made anew by an apply.
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        if let Err(error) = api.patch_status(service, &parameters, &Patch::Merge(&body)).await
            && !failure::is_status(&error, 404)
        {
            tracing::warn!(
                service,
                error = failure::chain(&error),
                "failed to record the last experiment of a service"
            );
        }
    }
}
