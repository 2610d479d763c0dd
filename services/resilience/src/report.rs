//! `GET /resilience`: the report, as an answer at once or, with `since` and `wait`, when it changes. Its OpenAPI document
//! is `GET /resilience/openapi.json`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use valerix_policy::{Duration, Report};

use crate::problem::Problem;
use crate::runtime::Resilience;

/// Long polls at a time; one more is answered at once.
const MAX_WAITERS: usize = 4;
const MAX_WAIT: Duration = Duration::from_secs(120);
/// Generated from the report's types.
const OPENAPI: &str = include_str!("../openapi.json");

#[derive(Clone)]
struct ReportState {
    resilience: Resilience,
    waiters: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
struct Poll {
    since: Option<String>,
    wait: Option<String>,
}

impl Resilience {
    /// The routes `GET /resilience` and `GET /resilience/openapi.json`, to be merged into the router of the report port.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// use axum::{Router, routing::get};
    ///
    /// let report_port: Router = Router::new().route("/health", get(|| async { "" })).merge(resilience.report_router());
    /// # });
    /// ```
    pub fn report_router(&self) -> Router {
        let state = ReportState {
            resilience: self.clone(),
            waiters: Arc::new(AtomicUsize::new(0)),
        };
        let json = [(header::CONTENT_TYPE, "application/json")];
        Router::new()
            .route("/resilience", get(answer))
            .route("/resilience/openapi.json", get(move || async move { (json, OPENAPI) }))
            .with_state(state)
    }
}

/// 400 that names the parameter, what it is and what to send instead.
fn invalid(parameter: &str, detail: impl std::fmt::Display) -> Response {
    let detail = format!("query parameter {parameter}: {detail}");
    Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail)
        .with("parameter", parameter)
        .into_response()
}

/// Whether one of the tags that a caller has is this one. Quotes may be left out, and a weak tag will do.
fn is_known(tags: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    tags.trim() == "*" || tags.split(',').any(|tag| bare(tag) == bare(etag))
}

async fn answer(
    State(state): State<ReportState>,
    query: Result<Query<Poll>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let poll = match query {
        Ok(Query(poll)) => poll,
        Err(rejection) => return invalid("since or wait", rejection.body_text()),
    };
    let wait = match poll.wait.as_deref().map(str::parse::<Duration>).transpose() {
        Ok(Some(wait)) if wait > MAX_WAIT => {
            return invalid("wait", format!("{wait} is too long: use at most {MAX_WAIT}"));
        }
        Ok(wait) => wait.unwrap_or(Duration::ZERO),
        Err(error) => return invalid("wait", error),
    };
    let since = poll
        .since
        .or_else(|| Some(headers.get(header::IF_NONE_MATCH)?.to_str().ok()?.to_owned()));
    let mut revisions = state.resilience.revisions();
    revisions.borrow_and_update();
    let report = state.resilience.report();
    let etag = report.etag();
    let Some(since) = since.filter(|since| is_known(since, &etag)) else {
        return full(report, &etag);
    };
    if wait.is_zero() {
        return unchanged(&etag);
    }
    let Some(_waiter) = Waiter::enter(&state.waiters) else {
        return full(report, &etag);
    };
    let changed = async {
        let mut report = report;
        loop {
            // A circuit shows half-open, and an override ends, by time alone.
            tokio::select! {
                changed = revisions.changed() => if changed.is_err() { std::future::pending().await },
                () = tokio::time::sleep(until_next_probe(&report)) => {}
            }
            report = state.resilience.report();
            let etag = report.etag();
            if !is_known(&since, &etag) {
                return full(report, &etag);
            }
        }
    };
    tokio::time::timeout(wait.get(), changed)
        .await
        .unwrap_or_else(|_| unchanged(&etag))
}

/// The time until the next circuit lets a probe pass; the breakers' clock may be a step behind.
fn until_next_probe(report: &Report) -> std::time::Duration {
    let probes = report
        .circuit_breakers
        .iter()
        .filter_map(|breaker| breaker.next_probe_at);
    let left = probes
        .min()
        .map_or(MAX_WAIT.get(), |at| (at - report.now).to_std().unwrap_or_default());
    left.max(crate::clock::COARSE_STEP)
}

fn full(report: Report, etag: &str) -> Response {
    (tag(etag), Json(report)).into_response()
}

fn unchanged(etag: &str) -> Response {
    (StatusCode::NOT_MODIFIED, tag(etag)).into_response()
}

fn tag(etag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Hexadecimal digits in quotes.
    if let Ok(value) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}

/// One of the places for long polls.
struct Waiter(Arc<AtomicUsize>);

impl Waiter {
    fn enter(waiters: &Arc<AtomicUsize>) -> Option<Self> {
        let free = |count: usize| (count < MAX_WAITERS).then_some(count + 1);
        waiters.fetch_update(Ordering::AcqRel, Ordering::Relaxed, free).ok()?;
        Some(Self(Arc::clone(waiters)))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
