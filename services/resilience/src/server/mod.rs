//! The axum layer that protects a service from its callers: deadline, faults, and a task of its own for each handler.
//!
//! Requests to probes and to the report port pass untouched.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode};
use tower::{Layer, Service};

use crate::deadline::{Deadline, TIMEOUT_HEADER};
use crate::faults::{AbortConnection, Injection};
use crate::problem::{FAULT_HEADER, Problem};
use crate::runtime::Resilience;

/// Paths that no layer touches.
const BYPASS: [&str; 6] = [
    "/health",
    "/ready",
    "/openapi.json",
    "/resilience",
    "/metrics",
    "/health/deep",
];

/// Puts the inbound half of the policy around a router.
#[derive(Clone, Debug)]
pub struct ServerLayer {
    resilience: Resilience,
    bypass: Arc<[String]>,
}

impl Resilience {
    /// The layer for an axum router.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// use axum::{Router, routing::get};
    ///
    /// let app: Router = Router::new().route("/api", get(|| async { "hello" })).layer(resilience.server_layer());
    /// # });
    /// ```
    #[must_use]
    pub fn server_layer(&self) -> ServerLayer {
        ServerLayer {
            resilience: self.clone(),
            bypass: BYPASS.map(str::to_owned).into(),
        }
    }
}

impl ServerLayer {
    /// Adds a path that no layer touches, for probes of other names.
    #[must_use]
    pub fn bypass(mut self, path: impl Into<String>) -> Self {
        self.bypass = self.bypass.iter().cloned().chain([path.into()]).collect();
        self
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServerService {
            inner,
            layer: self.clone(),
        }
    }
}

/// What [`ServerLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
    layer: ServerLayer,
}

impl<S> Service<Request<Body>> for ServerService<S>
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that was polled ready must be the one that is called.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let path = request.uri().path();
        if self.layer.bypass.iter().any(|bypass| bypass == path) {
            return Box::pin(async move { inner.call(request).await.map(IntoResponse::into_response) });
        }
        let resilience = self.layer.resilience.clone();
        Box::pin(async move { Ok(guard(&resilience, inner, request).await) })
    }
}

/// One request from outside in.
async fn guard<S>(resilience: &Resilience, inner: S, mut request: Request<Body>) -> Response
where
    S: Service<Request<Body>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let in_force = resilience.inner().in_force.load_full();
    let limit = in_force.policy.inbound.timeout.get();
    let time = match Deadline::from_headers(request.headers()) {
        Ok(given) => given.map_or(limit, |given| given.min(limit)),
        Err(error) => return Problem::invalid_header(TIMEOUT_HEADER.as_str(), error.to_string()).into_response(),
    };
    let deadline = Deadline::after(time);
    let exceeded = |phase| {
        resilience.inner().metrics().timeout("inbound");
        Problem::deadline_exceeded(phase).into_response()
    };
    if time.is_zero() {
        return exceeded("arrival");
    }
    let faults = &resilience.inner().faults;
    let client = request
        .headers()
        .get(super::CLIENT_HEADER)
        .and_then(|value| value.to_str().ok());
    if client.is_some_and(|client| faults.cuts_requests_of(client)) {
        return abort();
    }
    match faults.inbound(request.method().as_str(), request.uri().path()) {
        None => {}
        Some(Injection::Delay(delay)) => {
            // Nothing has begun yet: a caller that gives up meanwhile is spared the work too.
            let within = tokio::time::timeout_at(deadline.instant(), tokio::time::sleep(delay)).await;
            if within.is_err() {
                return exceeded("latency fault");
            }
        }
        Some(Injection::Status(status)) => return injected(status),
        Some(Injection::Abort) => return abort(),
    }
    if in_force.requires_key(request.method().as_str(), request.uri().path())
        && let Err(problem) = crate::key::required(request.headers())
    {
        return problem.into_response();
    }
    request.extensions_mut().insert(deadline);
    handle(resilience, inner, request, deadline)
        .await
        .unwrap_or_else(|| exceeded("handler"))
}

/// Runs the handler in a task of its own: a deadline or a disconnect ends the waiting, never the work.
async fn handle<S>(
    resilience: &Resilience,
    mut inner: S,
    request: Request<Body>,
    deadline: Deadline,
) -> Option<Response>
where
    S: Service<Request<Body>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let span = tracing::Span::current();
    let work = async move { inner.call(request).await.map(IntoResponse::into_response) };
    let task = resilience
        .inner()
        .tasks()
        .spawn(tracing::Instrument::instrument(deadline.scope(work), span));
    match tokio::time::timeout_at(deadline.instant(), task).await {
        Err(_) => None,
        Ok(Ok(Ok(response))) => Some(response),
        Ok(Err(error)) => {
            tracing::error!(%error, "a handler panicked");
            let detail = "the request could not be handled; the service's log says why";
            Some(Problem::new("internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error", detail).into_response())
        }
    }
}

fn injected(status: StatusCode) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let mut response =
        Problem::new("injected-fault", status, title, "answered by a running experiment").into_response();
    response
        .headers_mut()
        .insert(FAULT_HEADER, HeaderValue::from_static("Errors"));
    response
}

/// An answer that whoever owns the connection replaces by closing it. Where nobody does, its body breaks off at once.
fn abort() -> Response {
    let broken = futures::stream::once(async { Err::<bytes::Bytes, _>(std::io::Error::other("aborted by a fault")) });
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Body::from_stream(broken)).into_response();
    response.extensions_mut().insert(AbortConnection);
    response
}
