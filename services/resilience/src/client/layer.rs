//! The outbound order as a tower layer, for whoever has an HTTP client of his own. In: requests whose bodies can be
//! cloned. Out: the inner service's answers, or the reason why there is none.
//!
//! The inner service decides where a request goes, unless the layer is told to balance: then each request names the
//! address it is meant for.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use valerix_policy::Priority;

use super::partition::unless_cut;
use crate::CLIENT_HEADER;
use crate::breaker::Ticket;
use crate::deadline::{Deadline, TIMEOUT_HEADER};
use crate::faults::{BoxError, Faults, SeveredBody};
use crate::key::IDEMPOTENCY_KEY;
use crate::outbound::{
    AttemptError, Balancer, Call, CallError, Classify, Completed, DefaultClassify, Endpoint, Head, Held, HttpJudge,
    Resolve, RetryOn, Sent, Target, execute, grpc_kin, mark_final,
};
use crate::priority::{self, CurrentPriority};
use crate::retry;
use crate::runtime::Resilience;

/// Puts deadline, retry, bulkhead, breaker and attempt timeout around an HTTP client that is a tower service.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use http::{Request, Response};
/// use tower::{Layer, Service, service_fn};
/// use valerix_resilience::{Resilience, TargetLayer};
///
/// // Any client: hyper-util's, a test's, another layer's.
/// let inner = service_fn(|_request: Request<String>| async {
///     Ok::<_, std::io::Error>(Response::new("in stock".to_owned()))
/// });
/// let resilience = Resilience::builder().start().await.unwrap();
/// let layer: TargetLayer = resilience.client_layer("inventory");
/// let mut inventory = layer.layer(inner);
/// let answer = inventory.call(Request::get("http://inventory/items").body(String::new()).unwrap()).await.unwrap();
/// assert_eq!(answer.status(), 200);
/// # });
/// ```
#[derive(Clone)]
pub struct TargetLayer {
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    target: Arc<Target>,
    classify: Arc<dyn Classify>,
    retry_on: Option<Arc<RetryOn>>,
    faults: Arc<Faults>,
    identity: Option<HeaderValue>,
    balancer: Option<Arc<Balancer>>,
}

/// Extension of a request that a balancing [`TargetLayer`] lets through: where it is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenAddress(pub SocketAddr);

/// Extension of a request that a [`TargetLayer`] lets through and may send again. It is worth waiting a little for what shows
/// that an answer is none, as only what nobody was told of yet can be repeated.
///
/// ```
/// use valerix_resilience::MayRepeat;
///
/// /// Whether to look at the beginning of an answer's body before its head is handed on.
/// fn is_worth_a_look<B>(request: &http::Request<B>) -> bool {
///     request.extensions().get::<MayRepeat>().is_some()
/// }
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(MayRepeat);
/// assert!(is_worth_a_look(&request));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayRepeat;

/// Extension of a request to a [`TargetLayer`] whose body is a stream, which nobody can send twice: it is sent once, and
/// its attempt may take `patience`, whatever the document's own times, for who sends a stream also decides how long that
/// takes. Whoever makes the inner service watches over the time from the body's end to the answer.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::SentOnce;
///
/// let mut upload = http::Request::new("a stream");
/// upload.extensions_mut().insert(SentOnce { patience: Duration::from_secs(600) });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentOnce {
    /// The longest that the attempt may take, the body included.
    pub patience: Duration,
}

/// The source of an inner service's error when the request's own body broke off. Whoever sent the body has failed, not the
/// target: the breaker counts nothing.
///
/// ```
/// use valerix_resilience::RequestBodyError;
///
/// let gone = std::io::Error::other(RequestBodyError { cause: "the client is gone".to_owned() });
/// assert_eq!(gone.to_string(), "failed to read the body of the request: the client is gone");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("failed to read the body of the request: {cause}")]
pub struct RequestBodyError {
    /// In words.
    pub cause: String,
}

/// The source of an inner service's error when no connection came about: nothing was sent, so any request may go on at
/// another address. Of itself the layer knows only refused connections for that: most other errors are also those of
/// connections that had the request.
///
/// ```
/// use valerix_resilience::ConnectError;
///
/// let unreachable = ConnectError { cause: "no route to host".to_owned() };
/// assert_eq!(unreachable.to_string(), "no route to host");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct ConnectError {
    /// In words.
    pub cause: String,
}

impl Resilience {
    /// A layer that treats the inner service as the target called `name` in the document.
    #[must_use]
    pub fn client_layer(&self, name: &str) -> TargetLayer {
        TargetLayer {
            shared: Shared {
                target: self.target(name),
                classify: Arc::new(DefaultClassify),
                retry_on: None,
                faults: self.faults(),
                identity: HeaderValue::from_str(&self.identity())
                    .ok()
                    .filter(|name| !name.is_empty()),
                balancer: None,
            },
        }
    }
}

impl TargetLayer {
    /// What counts as a failure; [`DefaultClassify`] unless set.
    #[must_use]
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.shared.classify = Arc::new(classify);
        self
    }

    /// Which answers are worth another attempt, where a request may be repeated at all: 502, 503 and 504 unless set. An
    /// answer with `Valerix-Retry: no` never is.
    #[must_use]
    pub fn retry_on(mut self, wanted: impl Fn(Head<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.shared.retry_on = Some(Arc::new(wanted));
        self
    }

    /// Chooses among the addresses of `endpoint`, as the document says. The inner service finds the choice as
    /// [`ChosenAddress`] among the request's extensions; without one no address is known.
    #[must_use]
    pub fn balance(mut self, endpoint: Endpoint, resolver: impl Resolve) -> Self {
        let hosts = Arc::clone(&self.shared.target.hosts);
        self.shared.balancer = Some(Arc::new(Balancer::new(endpoint, Arc::new(resolver), hosts)));
        self
    }
}

impl std::fmt::Debug for TargetLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TargetLayer")
            .field("target", &self.shared.target.name())
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for TargetLayer {
    type Service = TargetService<S>;

    fn layer(&self, inner: S) -> TargetService<S> {
        TargetService {
            inner,
            shared: Arc::new(self.shared.clone()),
        }
    }
}

/// A client behind a [`TargetLayer`]. It is always ready: the inner service's readiness is awaited within each attempt.
///
/// The deadline of a call is [`Deadline::current`], or a [`Deadline`] among the request's extensions, whichever is earlier.
/// Its priority is that among the extensions (a request that is passed on has the one that the server layer decided),
/// else [`CurrentPriority::get`].
#[derive(Clone)]
pub struct TargetService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> std::fmt::Debug for TargetService<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TargetService")
            .field("target", &self.shared.target.name())
            .finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for TargetService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Clone + Send + Sync + 'static,
    R: Send + 'static,
{
    type Response = Response<TargetBody<R>>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

impl<S> TargetService<S> {
    /// The answer to a request: as a call, for who has a place for what is under way.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use http::{Request, Response};
    /// use tower::{Layer, service_fn};
    ///
    /// let inner = service_fn(|_request: Request<String>| async {
    ///     Ok::<_, std::io::Error>(Response::new("in stock".to_owned()))
    /// });
    /// let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// let inventory = resilience.client_layer("inventory").layer(inner);
    /// let answer = inventory.send(Request::get("http://inventory/items").body(String::new()).unwrap()).await.unwrap();
    /// assert_eq!(answer.status(), 200);
    /// # });
    /// ```
    ///
    /// # Errors
    /// When there is no answer; an answer of any status is none.
    pub async fn send<B, R>(&self, request: Request<B>) -> Result<Response<TargetBody<R>>, CallError>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Sync,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Clone,
    {
        call(&self.inner, &self.shared, request).await
    }
}

async fn call<S, B, R>(
    inner: &S,
    shared: &Arc<Shared>,
    mut request: Request<B>,
) -> Result<Response<TargetBody<R>>, CallError>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Sync,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Clone,
{
    let target = shared.target.as_ref();
    let policy = target.policy();
    // These are for this layer alone: each attempt would have a copy of its own.
    let extensions = request.extensions_mut();
    let once = extensions.remove::<SentOnce>();
    let given = extensions.remove::<Deadline>();
    let importance = extensions.remove::<Priority>().or_else(CurrentPriority::get);
    stamp(request.headers_mut(), shared, importance);
    let patient = once.map(|once| policy.patient(once.patience));
    let policy = patient.as_ref().unwrap_or(&policy);
    let method = request.method();
    let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
    let declared = has_key && policy.declares_idempotent(method.as_str(), request.uri().path());
    let call = Call {
        target,
        policy,
        balancer: shared.balancer.as_ref().filter(|_| policy.balances),
        deadline: Deadline::earliest(given, Deadline::current()),
        repeatable: once.is_none() && retry::is_repeatable(method, has_key, declared),
        once: once.is_some(),
        read: matches!(*method, Method::GET | Method::HEAD),
        judged: true,
    };
    let repeatable = call.repeatable && policy.retry.max_attempts > 1;
    let judge = HttpJudge {
        classify: shared.classify.as_ref(),
        retry_on: shared.retry_on.as_deref(),
    };
    let completed = execute(call, judge, |attempt| {
        let mut request = request.clone();
        let left = attempt.end.saturating_duration_since(Instant::now());
        request.headers_mut().insert(TIMEOUT_HEADER, Deadline::header(left));
        if let Some(address) = attempt.address {
            request.extensions_mut().insert(ChosenAddress(address));
        }
        if repeatable {
            request.extensions_mut().insert(MayRepeat);
        }
        let inner = inner.clone();
        async move {
            let sent = async {
                let answer = inner.oneshot(request).await;
                answer.map_err(|error| attempt_error(error.into().as_ref()))
            };
            let (answer, severed) = unless_cut(&shared.faults, &shared.target, sent).await?;
            Ok(answer.map(|body| SeveredBody::new(body, severed)))
        }
    })
    .await?;
    let Completed {
        mut answer,
        held,
        ticket,
        unrepeated,
        ..
    } = completed;
    if unrepeated {
        mark_final(&mut answer);
    }
    let target = Arc::clone(&shared.target);
    Ok(answer.map(|body| TargetBody {
        body,
        target,
        ticket,
        held: Some(held),
    }))
}

/// What all attempts say alike.
fn stamp(headers: &mut HeaderMap, shared: &Shared, importance: Option<Priority>) {
    priority::stamp(headers, importance);
    if let Some(identity) = &shared.identity {
        headers.insert(CLIENT_HEADER, identity.clone());
    }
}

/// Whoever refused the connection was sent nothing, and so was nobody where the inner service says that there was none;
/// of every other error that is not known: a host that is unreachable may have become so with the request in its hands.
/// A body that broke off before it was sent whole says nothing about the target.
fn attempt_error(error: &(dyn Error + 'static)) -> AttemptError {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused};
    let mut cause = Some(error);
    while let Some(error) = cause {
        if is_or_wraps::<RequestBodyError>(error) {
            // Its head was sent, perhaps, and what the body had until then.
            return AttemptError::Request {
                cause: error.to_string(),
                sent: Sent::Perhaps,
            };
        }
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if is_or_wraps::<ConnectError>(error) || matches!(kind, Some(ConnectionRefused | AddrNotAvailable)) {
            return AttemptError::Connect(error.to_string());
        }
        cause = error.source();
    }
    AttemptError::Reset(error.to_string())
}

/// What an error of IO wraps is not its source.
fn is_or_wraps<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    let wrapped = io.and_then(std::io::Error::get_ref);
    error.is::<E>() || wrapped.is_some_and(<dyn Error + Send + Sync + 'static>::is::<E>)
}

/// An answer's body. Until it is read or dropped it occupies its place in the bulkhead; a partition from the target that
/// begins meanwhile breaks it off; and if it breaks off, or if the status of gRPC behind it is the kin of one of HTTP from 500 on, the breaker counts a failure.
#[derive(Debug)]
pub struct TargetBody<R> {
    body: SeveredBody<R>,
    target: Arc<Target>,
    ticket: Option<Ticket>,
    held: Option<Held>,
}

impl<R> TargetBody<R> {
    /// The inner service's body. From here on it occupies no place, no failure of it is counted, and no fault cuts it.
    pub fn into_inner(self) -> R {
        self.body.into_inner()
    }
}

impl<R: Body + Unpin> Body for TargetBody<R>
where
    R::Error: Into<BoxError>,
{
    type Data = R::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let failed = match &frame {
            Some(Ok(frame)) if frame.is_data() => None,
            // What is behind the body ends it.
            Some(Ok(frame)) => {
                let kin = frame.trailers_ref().and_then(grpc_kin);
                Some(kin.is_some_and(|status| status.is_server_error()))
            }
            Some(Err(_)) => Some(true),
            None => Some(false),
        };
        if let Some(failed) = failed {
            let (held, ticket) = (self.held.take(), self.ticket.take());
            if let (true, Some(held), Some(ticket)) = (failed, held, ticket) {
                held.body_failed(&self.target, ticket);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
