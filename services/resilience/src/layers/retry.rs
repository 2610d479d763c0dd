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

use super::{HttpHead, LayerError, Name};
use crate::clock::{Clock, CoarseClock};
use crate::deadline::Deadline;
use crate::key::IDEMPOTENCY_KEY;
use crate::random::Random;
use crate::retry::{self, RetryBudget};

/// The longest `Retry-After` that is waited for where no deadline says less.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What may be repeated, and what is worth it.
///
/// ```
/// use valerix_resilience::layers::{LayerError, RetryLayer, RetryPolicy, Verdict};
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
///     fn verdict(&self, result: Result<&u32, &LayerError>) -> Verdict {
///         if result.is_ok() { Verdict::Final } else { Verdict::Repeat { after: None } }
///     }
/// }
/// let layer = RetryLayer::new("names", Retry::default(), Lookups);
/// ```
pub trait RetryPolicy<R, A>: Clone + Send + Sync + 'static {
    /// A copy of the request to send again, or none if it must be sent only once.
    fn copy(&self, request: &R) -> Option<R>;

    /// What to do after an attempt.
    fn verdict(&self, result: Result<&A, &LayerError>) -> Verdict;
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
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

    fn verdict(&self, result: Result<&A, &LayerError>) -> Verdict {
        match result {
            Ok(answer) => {
                let head = answer.head();
                retry::repeat_reason(head.status, head.headers).map_or(Verdict::Final, |_| Verdict::Repeat {
                    after: retry::retry_after(head.headers),
                })
            }
            Err(error) => error.verdict(),
        }
    }
}

impl LayerError {
    /// Refusals are final: who refuses protects itself, and one layer retries.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Timeout { inherited: false, .. } | Self::Inner(_) => Verdict::Repeat { after: None },
            _ => Verdict::Final,
        }
    }
}

/// Repeats failed attempts within a budget that all services made by it and their clones share.
///
/// The wait before repetition n is drawn from 0 to `base * 2^(n-1)`, at most `max`, and never less than the answer's
/// `Retry-After`. No attempt is made that would begin after [`Deadline::current`], or after a `Retry-After` of more than
/// 30 s: the result at hand is returned instead.
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
        let shared = &self.layer.shared;
        shared.budget.deposit();
        let may_repeat = shared.settings.max_attempts > 1;
        let again = may_repeat
            .then(|| self.layer.policy.copy(&request))
            .flatten()
            .map(|copy| (copy, self.inner.clone()));
        RetryFuture {
            again,
            attempts: 1,
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
                    if this.again.is_none() {
                        return Poll::Ready(result);
                    }
                    let verdict = this.layer.policy.verdict(result.as_ref());
                    let Some(wait) = this.layer.shared.wait(verdict, *this.attempts) else {
                        return Poll::Ready(result);
                    };
                    if !this.layer.shared.budget.withdraw() {
                        return Poll::Ready(Err(LayerError::BudgetExhausted {
                            name: this.layer.shared.name.clone(),
                            cause: result
                                .err()
                                .map_or_else(|| "the answer asks for it".to_owned(), |error| error.to_string()),
                        }));
                    }
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
                    ready!(service.poll_ready(context)).map_err(LayerError::from_inner)?;
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
    /// The wait before the next attempt; none when there shall be none.
    fn wait(&self, verdict: Verdict, attempts: u32) -> Option<Duration> {
        let Verdict::Repeat { after } = verdict else {
            return None;
        };
        let after = after.unwrap_or_default();
        let wait = retry::backoff(self.settings.backoff, attempts, &self.random).max(after);
        let in_time = Deadline::current().is_none_or(|deadline| wait < deadline.remaining());
        (after <= LONGEST_WAIT && in_time).then_some(wait)
    }
}
