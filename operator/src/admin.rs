//! What somebody who may enter the pod can ask and set: what the operator holds of each object, and how much it logs.
//! It listens on the loopback alone, which `kubectl port-forward` reaches and the network does not. Answers from memory.

use crate::{Context, runtime::telemetry};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// What is known of one ResilientService.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    namespace: String,
    name: String,
    generation: i64,
    observed_generation: i64,
    resource_version: String,
    /// Status and reason by type.
    conditions: BTreeMap<String, String>,
    /// When the pod that answered longest ago did so.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_answer: Option<DateTime<Utc>>,
}

/// Serves for ever, or not at all where the address is taken: the operator works without.
pub async fn serve(ctx: Arc<Context>) {
    let address = ctx.settings.admin_address;
    let served = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => axum::serve(listener, router(ctx)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(%address, %error, "nobody can look into the operator; give ADMIN_ADDRESS another address");
    }
    std::future::pending::<()>().await;
}

/// The routes.
pub fn router(ctx: Arc<Context>) -> Router {
    Router::new()
        .route("/debug/objects", get(objects))
        .route("/debug/log", get(log).put(set_log))
        .with_state(ctx)
}

async fn objects(State(ctx): State<Arc<Context>>) -> Json<Vec<Known>> {
    let answers = ctx.reports.oldest_answers();
    let mut known: Vec<Known> = ctx
        .stores
        .services
        .all()
        .into_iter()
        .map(|service| {
            let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
            let status = service.status.as_ref();
            Known {
                generation: service.meta().generation.unwrap_or(0),
                observed_generation: status.map_or(-1, |status| status.observed_generation),
                resource_version: service.resource_version().unwrap_or_default(),
                conditions: conditions(status.map_or(&[], |status| &status.conditions)),
                oldest_answer: answers.get(&(namespace.clone(), name.clone())).copied(),
                namespace,
                name,
            }
        })
        .collect();
    known.sort_by(|left, right| (&left.namespace, &left.name).cmp(&(&right.namespace, &right.name)));
    Json(known)
}

fn conditions(conditions: &[Condition]) -> BTreeMap<String, String> {
    let said = conditions.iter().map(|condition| {
        (
            condition.type_.clone(),
            format!("{}/{}", condition.status, condition.reason),
        )
    });
    said.collect()
}

async fn log() -> (StatusCode, String) {
    match telemetry::directives() {
        Some(directives) => (StatusCode::OK, directives),
        None => (StatusCode::NOT_FOUND, "nothing is logged here".to_owned()),
    }
}

/// Holds until the process ends or another one is set.
async fn set_log(directives: String) -> (StatusCode, String) {
    match telemetry::set_directives(directives.trim()) {
        Ok(()) => {
            tracing::info!(directives = directives.trim(), "the log filter was changed");
            (StatusCode::OK, directives)
        }
        Err(error) => (StatusCode::BAD_REQUEST, error),
    }
}
