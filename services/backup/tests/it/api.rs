//! The two calls of the API server that the runner makes: get of a Backup or Restore, JSON patch of its status. A trap can hold
//! a patch before or after it takes, or drop its answer, so that a test can kill the runner exactly there.

use crate::steps::{self, Steps};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

/// Where a trap bites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The patch has arrived and not taken.
    Before,
    /// The patch has taken and is not answered.
    After,
    /// The patch has taken and its answer is lost; bites once.
    AnswerLost,
    /// The patch is refused with 503 before it takes; bites once.
    Unavailable,
}

/// Holds the first patch after which the record is in `phase`.
#[derive(Clone)]
pub struct Trap {
    pub phase: &'static str,
    pub moment: Moment,
    pub bitten: Arc<Notify>,
    pub release: Arc<Notify>,
}

impl Trap {
    pub fn new(phase: &'static str, moment: Moment) -> Self {
        Self {
            phase,
            moment,
            bitten: Arc::default(),
            release: Arc::default(),
        }
    }
}

#[derive(Default)]
struct Inner {
    records: BTreeMap<String, Value>,
    trap: Option<Trap>,
    version: u64,
    phases: Vec<String>,
    steps: Steps,
}

/// The loopback server.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<Inner>>);

impl Api {
    /// Serves on a free port; returns its URL.
    pub async fn serve(&self) -> String {
        let base = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/{plural}/{name}";
        let router = Router::new()
            .route(base, get(read))
            .route(&format!("{base}/status"), patch(write))
            .layer(axum::middleware::from_fn_with_state(self.steps(), steps::passing))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// Where its requests can be held.
    pub fn steps(&self) -> Steps {
        self.0.lock().unwrap().steps.clone()
    }

    pub fn put(&self, record: Value) {
        let mut inner = self.0.lock().unwrap();
        inner.version += 1;
        let mut record = record;
        record["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        inner
            .records
            .insert(record["metadata"]["name"].as_str().unwrap().to_owned(), record);
    }

    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap().records.remove(name);
    }

    pub fn record(&self, name: &str) -> Value {
        self.0.lock().unwrap().records[name].clone()
    }

    pub fn set_trap(&self, trap: Option<Trap>) {
        self.0.lock().unwrap().trap = trap;
    }

    /// Every phase that a patch led to, in order, without repetitions.
    pub fn phases(&self) -> Vec<String> {
        let mut phases = self.0.lock().unwrap().phases.clone();
        phases.dedup();
        phases
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16()});
    (code, Json(body)).into_response()
}

async fn read(State(api): State<Api>, Path((_, name)): Path<(String, String)>) -> Response {
    match api.0.lock().unwrap().records.get(&name) {
        Some(record) => Json(record.clone()).into_response(),
        None => status(StatusCode::NOT_FOUND, "not found"),
    }
}

async fn write(
    State(api): State<Api>,
    Path((_, name)): Path<(String, String)>,
    Json(operations): Json<Value>,
) -> Response {
    let operations: json_patch::Patch = serde_json::from_value(operations).unwrap();
    let applied = |inner: &Inner| {
        let mut next = inner.records.get(&name).cloned()?;
        json_patch::patch(&mut next, &operations).ok().map(|()| next)
    };
    let trap = {
        let mut inner = api.0.lock().unwrap();
        let phase = applied(&inner).map(|next| next["status"]["phase"].clone());
        let bites = inner.trap.clone().filter(|trap| phase == Some(json!(trap.phase)));
        if bites.is_some() {
            inner.trap = None;
        }
        bites
    };
    if let Some(trap) = &trap {
        match trap.moment {
            Moment::Unavailable => return status(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Moment::Before => {
                trap.bitten.notify_one();
                trap.release.notified().await;
            }
            Moment::After | Moment::AnswerLost => {}
        }
    }
    let next = {
        let mut inner = api.0.lock().unwrap();
        if !inner.records.contains_key(&name) {
            return status(StatusCode::NOT_FOUND, "not found");
        }
        let Some(mut next) = applied(&inner) else {
            return status(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the server rejected our request due to an error in our request",
            );
        };
        inner.version += 1;
        next["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        inner.phases.push(next["status"]["phase"].as_str().unwrap().to_owned());
        inner.records.insert(name, next.clone());
        next
    };
    if let Some(trap) = &trap {
        match trap.moment {
            Moment::After => {
                trap.bitten.notify_one();
                trap.release.notified().await;
            }
            Moment::AnswerLost => return status(StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Moment::Before | Moment::Unavailable => {}
        }
    }
    Json(next).into_response()
}
