//! `GET /resilience`: the report, as an answer at once or, with `since` and `wait`, when it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

#[derive(Clone)]
struct Shared {
    resilience: Resilience,
    waiters: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
struct Poll {
    since: Option<String>,
    wait: Option<String>,
}

impl Resilience {
    /// The route `GET /resilience`, to be merged into the router of the report port.
    pub fn report_router(&self) -> Router {
        let shared = Shared {
            resilience: self.clone(),
            waiters: Arc::new(AtomicUsize::new(0)),
        };
        Router::new().route("/resilience", get(answer)).with_state(shared)
    }
}

async fn answer(State(shared): State<Shared>, Query(poll): Query<Poll>, headers: HeaderMap) -> Response {
    let wait = match poll.wait.as_deref().map(str::parse::<Duration>).transpose() {
        Ok(wait) => wait.unwrap_or(Duration::ZERO).min(MAX_WAIT),
        Err(error) => {
            let detail = format!("query parameter wait: {error}");
            return Problem::new("invalid-query", StatusCode::BAD_REQUEST, "Invalid query", detail).into_response();
        }
    };
    let since = poll
        .since
        .or_else(|| Some(headers.get(header::IF_NONE_MATCH)?.to_str().ok()?.to_owned()));
    let mut revisions = shared.resilience.revisions();
    revisions.borrow_and_update();
    let report = shared.resilience.report();
    let etag = report.etag();
    let Some(since) = since.filter(|since| since.trim_matches('"') == etag.trim_matches('"')) else {
        return full(report, &etag);
    };
    if wait.is_zero() {
        return unchanged(&etag);
    }
    let Some(_waiter) = Waiter::enter(&shared.waiters) else {
        return full(report, &etag);
    };
    let changed = async {
        while revisions.changed().await.is_ok() {
            let report = shared.resilience.report();
            let etag = report.etag();
            if etag.trim_matches('"') != since.trim_matches('"') {
                return full(report, &etag);
            }
        }
        std::future::pending().await
    };
    tokio::time::timeout(wait.get(), changed)
        .await
        .unwrap_or_else(|_| unchanged(&etag))
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
