//! Tells of a run: events on the experiment and its victims, the metric, and what a service's last experiment was.
//!
//! Writes events and one field of the target's status. A failure is logged and nothing else: a run does not depend on it.

use super::Controller;
use super::apply::FIELD_MANAGER;
use super::news::news;
use crate::runtime::failure;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase, ResilientService};

impl Controller {
    /// Tells what one write changed.
    pub(super) async fn tell(&self, before: &ChaosExperiment, after: &ChaosExperiment) {
        let empty = ChaosExperimentStatus::default();
        let (old, new) = (
            before.status.as_ref().unwrap_or(&empty),
            after.status.as_ref().unwrap_or(&empty),
        );
        let namespace = after.namespace().unwrap_or_default();
        for note in news(&after.name_any(), old, new) {
            let reference = match &note.victim {
                Some((pod, uid)) => ObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(pod.clone()),
                    namespace: Some(namespace.clone()),
                    uid: Some(uid.clone()),
                    ..ObjectReference::default()
                },
                None => after.object_ref(&()),
            };
            let kind = if note.warning {
                EventType::Warning
            } else {
                EventType::Normal
            };
            self.events
                .publish(&reference, kind, note.reason, "RunExperiment", &note.message)
                .await;
        }
        let ended = old.phase != new.phase && new.phase.is_some_and(ChaosPhase::is_terminal);
        if ended {
            let kind = new
                .summary
                .as_ref()
                .map(|summary| summary.kind.clone())
                .unwrap_or_default();
            let verdict = format!("{:?}", new.verdict.unwrap_or_default());
            self.runs.with_label_values(&[kind.as_str(), verdict.as_str()]).inc();
            tracing::info!(
                namespace,
                experiment = after.name_any(),
                run = new.run,
                verdict,
                reason = new.reason,
                "run ended"
            );
            if new.intent_at.is_some() {
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
        let api: Api<ResilientService> = self.runtime.clients.api(namespace);
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
