//! Repeated attempts as a layer: full jitter, `Retry-After`, a budget, and nothing that may not be sent twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use tokio::time::Sleep;
use tower::{BoxError, Layer, Service};
use valerix_policy::{Retry, Route};

use super::{LayerError, Name};
use crate::clock::{Clock, CoarseClock};
use crate::deadline::Deadline;
use crate::key::IDEMPOTENCY_KEY;
use crate::outbound::{HttpHead, Sent, mark_final};
use crate::random::Random;
use crate::retry::{self, Next, RetryBudget, Series};

/// What may be repeated, and what is worth it.
///
/// ```
/// use valerix_resilience::layers::{LayerError, RetryDecision, RetryLayer, RetryPolicy};
/// use valerix_resilience::policy::Retry;
///
/// /// Looks up names: harmless to repeat, whatever happened.
/// #[derive(Clone)]
/// struct Lookups;
///
/// impl RetryPolicy<String, u32> for Lookups {
///     fn copy(&self, name: &String) -> Option<String> {
///         Some(name.clone())
///     }
///
///     fn decide(&self, result: Result<&u32, &LayerError>) -> RetryDecision {
///         if result.is_ok() { RetryDecision::Final } else { RetryDecision::Repeat { after: None } }
///     }
/// }
/// let layer = RetryLayer::new("names", Retry::default(), Lookups);
/// ```
pub trait RetryPolicy<R, A>: Clone + Send + Sync + 'static {
    /// A copy of the request to send again, or none if it must be sent only once.
    fn copy(&self, request: &R) -> Option<R>;

    /// What to do after an attempt.
    fn decide(&self, result: Result<&A, &LayerError>) -> RetryDecision;

    /// Marks an answer that only the budget keeps from being repeated, so that nobody further out does it.
    fn hand_on(&self, _answer: &mut A) {}
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is the result.
    Final,
    /// It is worth another attempt, after the backoff and never before `after`.
    Repeat {
        /// The least wait, by the answer's `Retry-After`.
        after: Option<Duration>,
    },
}

/// Repeats requests of a safe method, and those with an `Idempotency-Key` on a route that is declared idempotent, after
/// errors, 502, 503 and 504. Refusals of layers inside and answers with `Valerix-Retry: no` are final.
///
/// ```
/// use valerix_resilience::layers::{HttpRetry, RetryLayer};
/// use valerix_resilience::policy::{InvalidRoute, Retry};
///
/// let policy = HttpRetry::new().idempotent_route("POST /payments".parse()?);
/// let layer = RetryLayer::new("payment", Retry::default(), policy);
/// # Ok::<(), InvalidRoute>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HttpRetry {
    routes: Arc<[Route]>,
}

impl HttpRetry {
    /// Repeats safe methods only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares that the service executes requests to `route` once for each `Idempotency-Key`.
    #[must_use]
    pub fn idempotent_route(mut self, route: Route) -> Self {
        self.routes = self.routes.iter().cloned().chain([route]).collect();
        self
    }
}

impl<B: Clone, A: HttpHead> RetryPolicy<Request<B>, A> for HttpRetry {
    fn copy(&self, request: &Request<B>) -> Option<Request<B>> {
        let (method, path) = (request.method(), request.uri().path());
        let declared = self.routes.iter().any(|route| route.matches(method.as_str(), path));
        let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
        retry::is_repeatable(method, has_key, declared).then(|| request.clone())
    }

    fn decide(&self, result: Result<&A, &LayerError>) -> RetryDecision {
        match result {
            Ok(answer) => {
                let head = answer.head();
                match retry::repeat_reason(head.status, head.headers) {
                    Some(_) => RetryDecision::Repeat {
                        after: retry::retry_after(head.headers),
                    },
                    None => RetryDecision::Final,
                }
            }
            // Refusals are final: who refuses protects itself, and one layer retries.
            Err(LayerError::Timeout { inherited: false, .. } | LayerError::Inner(_)) => {
                RetryDecision::Repeat { after: None }
            }
            Err(_) => RetryDecision::Final,
        }
    }

    fn hand_on(&self, answer: &mut A) {
        mark_final(answer);
    }
}

/// Repeats failed attempts within a budget that all services made by it and their clones share.
///
/// The wait before repetition n is drawn from 0 to `base * 2^(n-1)`, at most `max`, and never less than the answer's
/// `Retry-After`. No attempt is made that would begin after [`Deadline::current`] or, where there is none, after a
/// `Retry-After` of more than 30 s, and none when the budget is spent: the answer at hand is returned instead.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use http::{Request, Response, StatusCode};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use valerix_resilience::layers::{LayerError, RetryLayer};
/// use valerix_resilience::policy::{Backoff, Duration, Retry, RetryBudget};
///
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let backoff = Backoff { base: Duration::from_millis(1), max: Duration::from_millis(5) };
/// let budget = RetryBudget { percent: 100, min_per_second: 1 };
/// let settings = Retry { max_attempts: 3, backoff, budget };
/// let mut stock = ServiceBuilder::new()
///     .layer(RetryLayer::http("stock", settings))
///     .service(service_fn(|_: Request<()>| async {
///         let mut answer = Response::new(());
///         if CALLS.fetch_add(1, Ordering::SeqCst) == 0 {
///             *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
///         }
///         Ok::<_, std::io::Error>(answer)
///     }));
/// assert_eq!(stock.ready().await?.call(Request::new(())).await?.status(), 200);
/// assert_eq!(CALLS.load(Ordering::SeqCst), 2);
/// # Ok::<(), LayerError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct RetryLayer<P = HttpRetry, C: Clock = CoarseClock> {
    shared: Arc<Shared<C>>,
    policy: P,
}

#[derive(Debug)]
struct Shared<C: Clock> {
    name: Name,
    settings: Retry,
    budget: Arc<RetryBudget<C>>,
    random: Random,
}

impl<P: Clone, C: Clock> Clone for RetryLayer<P, C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            policy: self.policy.clone(),
        }
    }
}

impl RetryLayer {
    /// Repeats by the rules of [`HttpRetry`] with safe methods only.
    #[must_use]
    pub fn http(name: impl Into<Arc<str>>, settings: Retry) -> Self {
        Self::new(name, settings, HttpRetry::new())
    }
}

impl<P> RetryLayer<P> {
    /// Repeats what `policy` says.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: Retry, policy: P) -> Self {
        let budget = RetryBudget::new();
        budget.configure(settings.budget.percent, settings.budget.min_per_second, 1);
        Self::of(name, settings, policy, Arc::new(budget))
    }
}

impl<P, C: Clock> RetryLayer<P, C> {
    /// With a budget that others use too, or with a clock of its own. The budget of `settings` is not looked at.
    #[must_use]
    pub fn of(name: impl Into<Arc<str>>, settings: Retry, policy: P, budget: Arc<RetryBudget<C>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                settings,
                budget,
                random: Random::from_entropy(),
            }),
            policy,
        }
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> &Arc<RetryBudget<C>> {
        &self.shared.budget
    }
}

impl<S, P: Clone, C: Clock> Layer<S> for RetryLayer<P, C> {
    type Service = RetryService<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService {
            inner,
            layer: self.clone(),
        }
    }
}

/// What [`RetryLayer`] makes of a service.
#[derive(Debug)]
pub struct RetryService<S, P = HttpRetry, C: Clock = CoarseClock> {
    inner: S,
    layer: RetryLayer<P, C>,
}

impl<S: Clone, P: Clone, C: Clock> Clone for RetryService<S, P, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, R, P, C> Service<R> for RetryService<S, P, C>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError>,
    P: RetryPolicy<R, S::Response>,
    C: Clock,
{
    type Response = S::Response;
    type Error = LayerError;
    type Future = RetryFuture<S, R, P, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        self.inner.poll_ready(context).map_err(LayerError::from_inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let may_repeat = self.layer.shared.settings.max_attempts > 1;
        let again = may_repeat
            .then(|| self.layer.policy.copy(&request))
            .flatten()
            .map(|copy| (copy, self.inner.clone()));
        RetryFuture {
            again,
            attempts: 1,
            sent: Sent::Nothing,
            layer: self.layer.clone(),
            state: State::Calling {
                future: self.inner.call(request),
            },
        }
    }
}

pin_project_lite::pin_project! {
    /// A call with its repetitions.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S: Service<R>, R, P, C: Clock> {
        // A copy of the request, and a service to be polled ready for it.
        again: Option<(R, S)>,
        attempts: u32,
        // What the attempts so far left behind.
        sent: Sent,
        layer: RetryLayer<P, C>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Calling {
            #[pin]
            future: F,
        },
        Waiting {
            #[pin]
            sleep: Sleep,
        },
        Readying,
    }
}

impl<S, R, P, C> Future for RetryFuture<S, R, P, C>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    P: RetryPolicy<R, S::Response>,
    C: Clock,
{
    type Output = Result<S::Response, LayerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Calling { future } => {
                    let result = ready!(future.poll(context)).map_err(LayerError::from_inner);
                    let sent = result.as_ref().map_or_else(LayerError::sent, |_| Sent::Perhaps);
                    if *this.attempts == 1 && sent.may_have_acted() {
                        this.layer.shared.budget.deposit();
                    }
                    *this.sent = sent.max(*this.sent);
                    let result = result.map_err(|error| error.after(*this.sent));
                    if this.again.is_none() {
                        return Poll::Ready(result);
                    }
                    let RetryDecision::Repeat { after } = this.layer.policy.decide(result.as_ref()) else {
                        return Poll::Ready(result);
                    };
                    let wait = match this
                        .layer
                        .shared
                        .series()
                        .next(*this.attempts, after, Deadline::current())
                    {
                        Next::Wait(wait) => wait,
                        Next::Stop => return Poll::Ready(result),
                        Next::Spent => return Poll::Ready(this.layer.unrepeated::<R, _>(result, *this.sent)),
                    };
                    // The answer goes before the wait, and with it the connection that it may hold.
                    drop(result);
                    let sleep = tokio::time::sleep(wait);
                    this.state.set(State::Waiting { sleep });
                }
                StateProjection::Waiting { sleep } => {
                    ready!(sleep.poll(context));
                    this.state.set(State::Readying);
                }
                StateProjection::Readying => {
                    let Some((_, service)) = this.again.as_mut() else {
                        return Poll::Pending;
                    };
                    let readied = ready!(service.poll_ready(context)).map_err(LayerError::from_inner);
                    readied.map_err(|error| error.after(*this.sent))?;
                    *this.attempts += 1;
                    let last = *this.attempts >= this.layer.shared.settings.max_attempts;
                    let Some((request, mut service)) = this.again.take() else {
                        return Poll::Pending;
                    };
                    let copy = (!last).then(|| this.layer.policy.copy(&request)).flatten();
                    let future = service.call(request);
                    *this.again = copy.map(|copy| (copy, service));
                    this.state.set(State::Calling { future });
                }
            }
        }
    }
}

impl<C: Clock> Shared<C> {
    fn series(&self) -> Series<'_, C> {
        Series {
            settings: &self.settings,
            budget: &self.budget,
            random: &self.random,
        }
    }
}

impl<P, C: Clock> RetryLayer<P, C> {
    /// What a result is when the budget allows no repetition: an answer is still an answer.
    fn unrepeated<R, A>(&self, result: Result<A, LayerError>, sent: Sent) -> Result<A, LayerError>
    where
        P: RetryPolicy<R, A>,
    {
        match result {
            Ok(mut answer) => {
                self.policy.hand_on(&mut answer);
                Ok(answer)
            }
            Err(error) => Err(LayerError::BudgetExhausted {
                name: self.shared.name.clone(),
                sent,
                cause: error.to_string(),
            }),
        }
    }
}
