//! The axum layer that protects a service from its callers: rate limits, the deadline, a place,
//! faults, the idempotency key, and a task of its own for each handler.
//!
//! Requests of probes pass untouched.

mod outliving;
mod place;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::time::Instant;
use tower::{Layer, Service};
use valerix_policy::{LimitKeyType, Priority};

use self::outliving::Outliving;
use crate::concurrency::Place;
use crate::deadline::{Deadline, TIMEOUT_HEADER};
use crate::faults::{AbortConnection, Faults, Injection, Severed, SeveredBody};
use crate::limits::{Network, Ruling, address};
use crate::priority::CurrentPriority;
use crate::problem::{FAULT_HEADER, Problem};
use crate::runtime::Resilience;

/// Paths that no layer touches: those by which the platform asks whether this process lives. Reports and metrics are on a
/// port of their own.
const BYPASS: [&str; 2] = ["/health", "/ready"];

/// Puts the inbound half of the policy around a router.
#[derive(Clone, Debug)]
pub struct ServerLayer {
    resilience: Resilience,
    bypass: Arc<[String]>,
    trusted: Arc<[Network]>,
    claims: Option<Claims>,
    priority: Option<place::Decide>,
    in_place: fn(&Request<Body>) -> bool,
    until_left: fn(&Request<Body>) -> bool,
    /// Whether it was said that nobody tells addresses.
    address_missing: Arc<Once>,
}

/// A claim of the caller's verified token, where there is one.
#[derive(Clone)]
struct Claims(Arc<FindClaim>);

type FindClaim = dyn Fn(&Request<Body>, &str) -> Option<String> + Send + Sync;

impl std::fmt::Debug for Claims {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Claims")
    }
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
            trusted: Arc::new([]),
            claims: None,
            priority: None,
            in_place: |_| false,
            until_left: |_| false,
            address_missing: Arc::new(Once::new()),
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

    /// Proxies whose `X-Forwarded-For` is believed. Default none: the peer's address counts.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// use valerix_resilience::{InvalidNetwork, Network};
    ///
    /// let proxies: Network = "10.0.0.0/8".parse()?;
    /// let layer = resilience.server_layer().trusted_proxies([proxies]);
    /// # Ok::<(), InvalidNetwork>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.trusted = networks.into_iter().collect();
        self
    }

    /// How limits with a key of type `Claim` find it. Without a claim the client's address counts.
    #[must_use]
    pub fn claims(mut self, find: impl Fn(&Request<Body>, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.claims = Some(Claims(Arc::new(find)));
        self
    }

    /// Which requests are handled without a task of their own, for a service that passes them on: their work ends with the
    /// waiting for it, at the deadline or when the caller leaves. Where places are counted each still has its task, as what
    /// was passed on goes on elsewhere and occupies its place there. Default: none.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// let layer = resilience
    ///     .server_layer()
    ///     .in_place(|request| !request.headers().contains_key("idempotency-key"));
    /// # });
    /// ```
    #[must_use]
    pub const fn in_place(mut self, of: fn(&Request<Body>) -> bool) -> Self {
        self.in_place = of;
        self
    }

    /// Which requests have no task of their own as long as their caller waits: their work goes on in one when the deadline
    /// has come or the caller has left, as all work does by default. It costs less, and suits handlers that mostly wait: until
    /// then the work is done in the caller's turn. Default: none.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// let layer = resilience.server_layer().in_place_until_left(|_| true);
    /// # });
    /// ```
    #[must_use]
    pub const fn in_place_until_left(mut self, of: fn(&Request<Body>) -> bool) -> Self {
        self.until_left = of;
        self
    }

    /// What a limit counts this request under.
    fn key(&self, request: &Request<Body>, wanted: LimitKeyType, name: Option<&str>) -> String {
        let found = match (wanted, name) {
            (LimitKeyType::Header, Some(name)) => {
                let value = request.headers().get(name).map_or(&b""[..], HeaderValue::as_bytes);
                return format!("header {}", value.escape_ascii());
            }
            (LimitKeyType::Claim, Some(name)) => self
                .claims
                .as_ref()
                .and_then(|claims| (claims.0)(request, name))
                .map(|claim| format!("claim {claim}")),
            _ => None,
        };
        found.unwrap_or_else(|| {
            let client = address::client(request.extensions(), request.headers(), &self.trusted);
            client.map_or_else(|| self.without_address(), address::Client::key)
        })
    }

    /// All callers are one to a limit by address where nobody tells addresses, which is hardly what was meant.
    fn without_address(&self) -> String {
        self.address_missing.call_once(|| {
            tracing::error!(
                "a limit by client address counts all callers as one, because no request has ConnectInfo: serve the \
                 router with into_make_service_with_connect_info::<SocketAddr>()"
            );
        });
        "unknown".to_owned()
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServerService {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// What [`ServerLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
    // Each request has a clone of the service.
    layer: Arc<ServerLayer>,
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
        let ready = Self {
            inner: std::mem::replace(&mut self.inner, fresh),
            layer: Arc::clone(&self.layer),
        };
        Box::pin(async move { Ok(ready.pass(request).await) })
    }
}

impl<S> ServerService<S>
where
    S: Service<Request<Body>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    /// The answer to a request: as a call, for who holds the service itself and has a place for what is under way.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::convert::Infallible;
    /// use axum::body::Body;
    /// use http::{Request, Response};
    /// use tower::{Layer, service_fn};
    ///
    /// let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// let hello = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("hello"))) });
    /// let protected = resilience.server_layer().layer(hello);
    /// let answer = protected.answer(Request::new(Body::empty())).await;
    /// assert_eq!(answer.status(), 200);
    /// # });
    /// ```
    pub async fn answer(mut self, request: Request<Body>) -> Response {
        match poll_fn(|context| self.inner.poll_ready(context)).await {
            Ok(()) => self.pass(request).await,
            Err(never) => match never {},
        }
    }

    /// The same where the inner service is ready.
    async fn pass(self, request: Request<Body>) -> Response {
        let Self { mut inner, layer } = self;
        let path = request.uri().path();
        if layer.bypass.iter().any(|bypass| bypass == path) {
            return match inner.call(request).await {
                Ok(answer) => answer.into_response(),
                Err(never) => match never {},
            };
        }
        let began = Instant::now();
        let response = limit(&layer, inner, request, began).await;
        let metrics = layer.resilience.inner().metrics();
        metrics.request(response.status(), began.elapsed());
        response
    }
}

/// One request from outside in: limits, then its time, then a place, then the rest.
async fn limit<S>(layer: &ServerLayer, inner: S, mut request: Request<Body>, arrived: Instant) -> Response
where
    S: Service<Request<Body>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let library = layer.resilience.inner();
    let key = |wanted, name: Option<&str>| layer.key(&request, wanted, name);
    let meeting = library
        .rules
        .load_full()
        .meet(request.method().as_str(), request.uri().path(), key);
    let ruling = match meeting {
        Some(meeting) => meeting.ruling(library.metrics()).await,
        None => Ruling::Unlimited,
    };
    let fields = match ruling {
        Ruling::Unlimited => HeaderMap::new(),
        Ruling::Pass(fields) => fields,
        Ruling::Refused(refused) => {
            let (problem, fields) = refused.into_problem();
            return with_fields(problem.into_response(), fields);
        }
    };
    let deadline = match deadline(&layer.resilience, request.headers(), arrived) {
        Ok(deadline) => deadline,
        Err(problem) => return with_fields(problem.into_response(), fields),
    };
    let entered = tokio::time::timeout_at(deadline.instant(), place::enter(layer, &mut request)).await;
    let place = match entered.unwrap_or_else(|_| Err(exceeded(&layer.resilience, "queue"))) {
        Ok(place) => place,
        Err(problem) => return with_fields(problem.into_response(), fields),
    };
    let answer = guard(layer, inner, request, deadline, place.clone()).await;
    let answer = with_fields(answer, fields);
    match place {
        Some(place) => place::hold(place, answer),
        None => answer,
    }
}

/// When the answer is of use no longer: what the request waits for on the way to its handler is a part of its time.
fn deadline(resilience: &Resilience, headers: &HeaderMap, arrived: Instant) -> Result<Deadline, Problem> {
    let limit = resilience.inner().in_force.load().policy.inbound.timeout.get();
    let given = Deadline::from_headers(headers)
        .map_err(|error| Problem::invalid_header(TIMEOUT_HEADER.as_str(), error.to_string()))?;
    let deadline = Deadline::at(arrived + given.map_or(limit, |given| given.min(limit)));
    if deadline.is_past() {
        return Err(exceeded(resilience, "arrival"));
    }
    Ok(deadline)
}

fn exceeded(resilience: &Resilience, phase: &str) -> Problem {
    resilience.inner().metrics().timeout("inbound");
    Problem::deadline_exceeded(phase)
}

fn with_fields(mut response: Response, fields: HeaderMap) -> Response {
    response.headers_mut().extend(fields);
    response
}

/// The rest: faults, key, handler.
async fn guard<S>(
    layer: &ServerLayer,
    inner: S,
    mut request: Request<Body>,
    deadline: Deadline,
    place: Option<Arc<Place>>,
) -> Response
where
    S: Service<Request<Body>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let resilience = &layer.resilience;
    let in_force = resilience.inner().in_force.load_full();
    let faults = &resilience.inner().faults;
    let client = request.headers().get(crate::CLIENT_HEADER).cloned();
    // What is open when a fault cuts it is cut too. Watched for before anybody looks: none begins unnoticed in between.
    let mut severed = faults.severed(|| {
        let (path, client) = (request.uri().path().to_owned(), client.clone());
        move |faults: &Faults| faults.severs(&path) || is_cut(faults, client.as_ref())
    });
    if is_cut(faults, client.as_ref()) {
        return abort();
    }
    match faults.inbound(request.method().as_str(), request.uri().path()) {
        None => {}
        Some(Injection::Delay(delay)) => {
            // Nothing has begun yet: a caller that gives up meanwhile is spared the work too.
            let within = tokio::time::timeout_at(deadline.instant(), faults.hold(delay)).await;
            if within.is_err() {
                return place::learn(place.as_ref(), exceeded(resilience, "latency fault").into_response());
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
    let answer = tokio::select! {
        answer = handle(layer, inner, request, deadline, place.clone()) => answer,
        () = &mut severed => return abort(),
    };
    let answer = answer.unwrap_or_else(|| exceeded(resilience, "handler").into_response());
    let answer = place::learn(place.as_ref(), answer);
    match severed {
        Severed::Never => answer,
        severed => answer.map(|body| Body::new(SeveredBody::new(body, severed))),
    }
}

/// Whether a partition cuts off who asks.
fn is_cut(faults: &Faults, client: Option<&HeaderValue>) -> bool {
    let client = client.and_then(|client| client.to_str().ok());
    client.is_some_and(|client| faults.cuts_requests_of(client))
}

/// Runs the handler, where nothing else is wanted in a task of its own: a deadline or a disconnect ends the waiting, never the
/// work.
async fn handle<S>(
    layer: &ServerLayer,
    mut inner: S,
    request: Request<Body>,
    deadline: Deadline,
    place: Option<Arc<Place>>,
) -> Option<Response>
where
    S: Service<Request<Body>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    let in_place = place.is_none() && (layer.in_place)(&request);
    let until_left = (layer.until_left)(&request);
    let priority = request.extensions().get::<Priority>().copied().unwrap_or_default();
    let work = async move {
        let _place = place;
        inner.call(request).await.map(IntoResponse::into_response)
    };
    let work = deadline.scope(CurrentPriority::scope(priority, work));
    let panicked =
        |panic: &dyn std::fmt::Display| Problem::internal(&format_args!("a handler panicked: {panic}")).into_response();
    if in_place {
        let work = AssertUnwindSafe(work).catch_unwind();
        return match tokio::time::timeout_at(deadline.instant(), work).await {
            Err(_) => None,
            Ok(Ok(Ok(response))) => Some(response),
            Ok(Err(_)) => Some(panicked(&"in place")),
        };
    }
    let work = tracing::Instrument::instrument(work, tracing::Span::current());
    let tasks = layer.resilience.inner().tasks();
    if until_left {
        let work = Outliving::new(AssertUnwindSafe(work).catch_unwind(), tasks);
        return match tokio::time::timeout_at(deadline.instant(), work).await {
            Err(_) => None,
            Ok(Ok(Ok(response))) => Some(response),
            Ok(Err(_)) => Some(panicked(&"while its caller waited")),
        };
    }
    let task = tasks.spawn(work);
    match tokio::time::timeout_at(deadline.instant(), task).await {
        Err(_) => None,
        Ok(Ok(Ok(response))) => Some(response),
        Ok(Err(error)) => Some(panicked(&error)),
    }
}

fn injected(status: StatusCode) -> Response {
    Problem::new(status, "injected-fault", "answered by a running experiment")
        .with_header(FAULT_HEADER, HeaderValue::from_static("Errors"))
        .into_response()
}

/// An answer that whoever owns the connection replaces by closing it. Where nobody does, its body breaks off at once.
fn abort() -> Response {
    let broken =
        futures_util::stream::once(async { Err::<bytes::Bytes, _>(std::io::Error::other("aborted by a fault")) });
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Body::from_stream(broken)).into_response();
    response.extensions_mut().insert(AbortConnection);
    response
}
