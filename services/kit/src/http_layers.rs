//! What every request passes on its way to a handler, outermost first: metrics and trace, panic guard, start gate, the
//! resilience layers (deadline, faults, own task), trace again inside that task.
//!
//! In: the service's routes. Out: the whole main router, with `/health`, `/ready`, `/openapi.json` and `/docs`, which
//! pass metrics and trace alone.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::FutureExt;
use http::{HeaderValue, StatusCode, Version, header};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::body_room::BodyRoom;
use crate::extract::Json;
use crate::health::{Health, NotReady};
use crate::leftover_body::MAX_BODY;
use crate::metrics::Metrics;
use crate::openapi::Document;
use crate::problem::{FieldError, Problem};
use crate::route_name::RouteName;
use crate::telemetry::{REQUEST_ID, TRACEPARENT, TraceContext, conventions};

/// The main router around the service's `routes`. `protect` adds the resilience layers.
pub(crate) fn assemble(
    routes: Router,
    document: Document,
    health: Health,
    metrics: Metrics,
    protect: impl FnOnce(Router) -> Router,
) -> Router {
    let routes = routes
        .layer(from_fn(continue_trace))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(Extension(BodyRoom::default()));
    let routes = protect(routes)
        .layer(from_fn_with_state(health.clone(), require_start))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
            Problem::internal(&panic_text(&*panic)).into_response()
        }));
    let probes = Router::new()
        .route(
            "/health",
            get(|| std::future::ready(Json(serde_json::json!({"status": "alive"})))),
        )
        .route("/ready", get(ready))
        .with_state(health);
    routes
        .merge(probes)
        .merge(document.router())
        .fallback(|request: Request| {
            let path = request.uri().path().chars().take(200).collect::<String>();
            std::future::ready(Problem::not_found("not-found", format!("there is nothing at {path}")))
        })
        .method_not_allowed_fallback(|| {
            let detail = "the header Allow lists the methods of this path";
            std::future::ready(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                detail,
            ))
        })
        .layer(from_fn(require_host))
        .layer(from_fn_with_state(metrics, observe))
}

/// `routes`, whose requests are spans and are counted under `name`, and go on with the trace: for who passes requests on.
pub fn observed(routes: Router, metrics: Metrics, name: &str) -> Router {
    routes
        .layer(from_fn_with_state(RouteName::new(name), hand_trace_on))
        .layer(from_fn_with_state(metrics, observe))
}

async fn hand_trace_on(State(name): State<RouteName>, mut request: Request, next: Next) -> Response {
    let context = request.extensions_mut().remove::<TraceContext>();
    let traceparent = context.and_then(|context| HeaderValue::try_from(context.traceparent()).ok());
    if let Some(traceparent) = traceparent {
        request.headers_mut().insert(TRACEPARENT, traceparent);
    }
    let mut response = next.run(request).await;
    response.extensions_mut().insert(name);
    response
}

/// What requests pass in front of a service that answers most of them past its router: as there they are spans, measured
/// and logged, name their host, and wait for the start; and a panic is an answer.
#[derive(Clone)]
pub struct Front {
    health: Health,
    metrics: Metrics,
}

impl Front {
    pub(crate) const fn new(health: Health, metrics: Metrics) -> Self {
        Self { health, metrics }
    }

    /// The answer of `answer` to a request, known by `route` unless that names another. `answer` finds what the request
    /// works for, a [`TraceContext`], among its extensions.
    pub async fn pass<F>(&self, route: &str, request: Request, answer: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = (Response, Option<RouteName>)>,
    {
        let answer = |request: Request| async move {
            let may_pass =
                check_host(&request).and_then(|()| self.health.started().map_err(|reason| not_ready(&reason)));
            if let Err(problem) = may_pass {
                return (problem.into_response(), None);
            }
            let answer = AssertUnwindSafe(answer(request)).catch_unwind().await;
            answer.unwrap_or_else(|panic| (Problem::internal(&panic_text(&*panic)).into_response(), None))
        };
        observed_answer(&self.metrics, route, request, answer).await
    }
}

async fn require_host(request: Request, next: Next) -> Response {
    match check_host(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// RFC 9112, 3.2: a request of HTTP/1.1 names its host, once.
fn check_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() || (first.is_none() && request.version() == Version::HTTP_11) {
        let errors = vec![FieldError::new("Host", "must be given once")];
        return Err(Problem::invalid(StatusCode::BAD_REQUEST, errors));
    }
    Ok(())
}

async fn ready(State(health): State<Health>) -> Response {
    match health.ready() {
        Ok(()) => Json(serde_json::json!({"status": "ready"})).into_response(),
        Err(reason) => not_ready(&reason).into_response(),
    }
}

fn not_ready(reason: &NotReady) -> Problem {
    let name = if *reason == NotReady::Draining {
        "draining"
    } else {
        "not-ready"
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, name, reason.to_string()).retry_after(Duration::from_secs(1))
}

/// Requests that come before the first connect and migration are refused instead of failing half-way.
async fn require_start(State(health): State<Health>, request: Request, next: Next) -> Response {
    match health.started() {
        Ok(()) => next.run(request).await,
        Err(reason) => not_ready(&reason).into_response(),
    }
}

/// Starts or continues the trace, logs and measures the answer.
async fn observe(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let answer = |request: Request| async move {
        let mut response = next.run(request).await;
        let named = response.extensions_mut().remove::<RouteName>();
        (response, named)
    };
    observed_answer(&metrics, route, request, answer).await
}

async fn observed_answer<F>(
    metrics: &Metrics,
    route: &str,
    mut request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = (Response, Option<RouteName>)>,
{
    let begun = Instant::now();
    let method = known_method(request.method());
    let (span, context) = TraceContext::of_request(request.headers(), |trace_id, request_id| {
        conventions::request(method, route, trace_id, request_id)
    });
    request.extensions_mut().insert(context.clone());
    let (mut response, named) = answer(request).instrument(span.clone()).await;
    let elapsed = begun.elapsed();
    let status = response.status();
    let route = named.as_ref().map_or(route, RouteName::as_str);
    match &named {
        Some(named) => named.answered(metrics, method, status, elapsed),
        None => metrics.answered(method, route, status).answered(elapsed),
    }
    response.headers_mut().insert(REQUEST_ID, context.request_id_value());
    conventions::answered(&span, method, route, status);
    span.in_scope(|| log(method, status, elapsed));
    response
}

/// The handler runs in a task of its own, which does not inherit the trace.
async fn continue_trace(mut request: Request, next: Next) -> Response {
    match request.extensions_mut().remove::<TraceContext>() {
        Some(context) => context.scope(next.run(request)).await,
        None => next.run(request).await,
    }
}

/// What was refused, and what may have changed something, leaves a line by which its trace is found.
fn log(method: &str, status: StatusCode, elapsed: Duration) {
    let (status, elapsed_ms) = (status.as_u16(), elapsed.as_millis());
    match (status, method) {
        (500.., _) => tracing::warn!(status, elapsed_ms, "answered"),
        (..400, "GET" | "HEAD" | "OPTIONS") => tracing::debug!(status, elapsed_ms, "answered"),
        _ => tracing::info!(status, elapsed_ms, "answered"),
    }
}

/// A label must not be a caller's invention.
fn known_method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
