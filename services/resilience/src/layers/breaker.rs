//! The circuit breaker as a layer. An open circuit refuses at once, also when the service inside is not ready.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower::{BoxError, Layer, Service};

use super::{LayerError, Name};
use crate::breaker::{CircuitBreaker, Outcome, OwnedPermit, Rejected};
use crate::clock::{Clock, CoarseClock};
use crate::outbound::{Classify, DefaultClassify, HttpHead, Sent};

/// What the breaker counts, by what came back.
///
/// ```
/// use http::Response;
/// use valerix_resilience::layers::{AnyAnswer, CircuitBreakerLayer, ClassifyAnswer, HttpAnswer};
/// use valerix_resilience::{Classify, DefaultClassify, Head, Outcome, policy::CircuitBreaker};
///
/// let missing = Response::builder().status(404).body(()).unwrap();
/// assert_eq!(AnyAnswer.outcome(Ok(&missing)), Outcome::Success);
///
/// // 404 says that this dependency is broken; all else as usual.
/// let strict = |head: Head<'_>| match head.status.as_u16() {
///     404 => Outcome::Failure,
///     _ => DefaultClassify.outcome(head),
/// };
/// assert_eq!(HttpAnswer(strict).outcome(Ok(&missing)), Outcome::Failure);
/// let layer = CircuitBreakerLayer::new("registry", &CircuitBreaker::default()).classify(HttpAnswer(strict));
/// ```
pub trait ClassifyAnswer<A>: Send + Sync + 'static {
    /// The outcome of a call.
    fn outcome(&self, result: Result<&A, &LayerError>) -> Outcome;
}

/// Any answer is a success and any error a failure, but for the refusals of layers inside and a caller's deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyAnswer;

impl<A> ClassifyAnswer<A> for AnyAnswer {
    fn outcome(&self, result: Result<&A, &LayerError>) -> Outcome {
        result.map_or_else(LayerError::outcome, |_| Outcome::Success)
    }
}

/// Errors as [`AnyAnswer`] does; answers by their head: with [`DefaultClassify`] a 5xx is a failure, and 429 and the
/// refusals of a service that protects itself are neutral.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpAnswer<K = DefaultClassify>(pub K);

impl<A: HttpHead, K: Classify> ClassifyAnswer<A> for HttpAnswer<K> {
    fn outcome(&self, result: Result<&A, &LayerError>) -> Outcome {
        result.map_or_else(LayerError::outcome, |answer| self.0.outcome(answer.head()))
    }
}

impl<A, F> ClassifyAnswer<A> for F
where
    F: Fn(Result<&A, &LayerError>) -> Outcome + Send + Sync + 'static,
{
    fn outcome(&self, result: Result<&A, &LayerError>) -> Outcome {
        self(result)
    }
}

/// Refuses calls while the service inside fails. All services made by it, and their clones, share its one breaker.
///
/// - An open circuit is ready at once and refuses the call: a dependency that hangs in `poll_ready` cannot hold it up.
/// - An error of the service's `poll_ready` is counted too.
/// - A future that is dropped counts as neutral and returns its probe.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use valerix_resilience::layers::{CircuitBreakerLayer, LayerError};
/// use valerix_resilience::policy::CircuitBreaker;
///
/// let settings = CircuitBreaker { consecutive_failures: Some(3), ..CircuitBreaker::default() };
/// let layer = CircuitBreakerLayer::new("ledger", &settings);
/// let mut ledger = ServiceBuilder::new()
///     .layer(layer.clone())
///     .service(service_fn(|()| async { Err::<(), _>("out of order") }));
/// for _ in 0..3 {
///     assert_eq!(ledger.ready().await.unwrap().call(()).await.unwrap_err().to_string(), "out of order");
/// }
/// let refused = ledger.ready().await.unwrap().call(()).await.unwrap_err();
/// assert!(matches!(refused, LayerError::CircuitOpen { .. }));
/// assert_eq!(layer.breaker().snapshot().failures, 3);
/// # });
/// ```
#[derive(Debug)]
pub struct CircuitBreakerLayer<K = AnyAnswer, C: Clock = CoarseClock> {
    name: Name,
    breaker: Arc<CircuitBreaker<C>>,
    classify: Arc<K>,
}

impl<K, C: Clock> Clone for CircuitBreakerLayer<K, C> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            breaker: self.breaker.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl CircuitBreakerLayer {
    /// A breaker for any service: every error is a failure.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: &valerix_policy::CircuitBreaker) -> Self {
        Self::of(name, Arc::new(CircuitBreaker::new(settings)))
    }
}

impl CircuitBreakerLayer<HttpAnswer> {
    /// A breaker for a service that answers HTTP: errors and 5xx are failures; see [`DefaultClassify`].
    #[must_use]
    pub fn http(name: impl Into<Arc<str>>, settings: &valerix_policy::CircuitBreaker) -> Self {
        CircuitBreakerLayer::new(name, settings).classify(HttpAnswer::default())
    }
}

impl<C: Clock> CircuitBreakerLayer<AnyAnswer, C> {
    /// Around a breaker that others use too, or with a clock of its own.
    #[must_use]
    pub fn of(name: impl Into<Arc<str>>, breaker: Arc<CircuitBreaker<C>>) -> Self {
        Self {
            name: name.into(),
            breaker,
            classify: Arc::new(AnyAnswer),
        }
    }
}

impl<K, C: Clock> CircuitBreakerLayer<K, C> {
    /// Counts what came back in a way of one's own: a closure of `Result<&Answer, &LayerError>`, or [`HttpAnswer`] with
    /// a [`Classify`].
    #[must_use]
    pub fn classify<L>(self, classify: L) -> CircuitBreakerLayer<L, C> {
        CircuitBreakerLayer {
            name: self.name,
            breaker: self.breaker,
            classify: Arc::new(classify),
        }
    }

    /// The breaker, for listeners, overrides and reports.
    #[must_use]
    pub const fn breaker(&self) -> &Arc<CircuitBreaker<C>> {
        &self.breaker
    }
}

impl<S, K, C: Clock> Layer<S> for CircuitBreakerLayer<K, C> {
    type Service = CircuitBreakerService<S, K, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService {
            inner,
            layer: self.clone(),
            refused: None,
        }
    }
}

/// What [`CircuitBreakerLayer`] makes of a service.
#[derive(Debug)]
pub struct CircuitBreakerService<S, K = AnyAnswer, C: Clock = CoarseClock> {
    inner: S,
    layer: CircuitBreakerLayer<K, C>,
    /// What readiness was granted for: the service inside was not polled.
    refused: Option<Rejected>,
}

impl<S: Clone, K, C: Clock> Clone for CircuitBreakerService<S, K, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
            refused: None,
        }
    }
}

impl<S, R, K, C: Clock> Service<R> for CircuitBreakerService<S, K, C>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    K: ClassifyAnswer<S::Response>,
{
    type Response = S::Response;
    type Error = LayerError;
    type Future = CircuitBreakerFuture<S::Future, K, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        self.refused = self.layer.breaker.check().err();
        if self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        let polled = ready!(self.inner.poll_ready(context)).map_err(LayerError::from_inner);
        if let Err(error) = &polled
            && let Ok(permit) = self.layer.breaker.try_acquire()
        {
            permit.record(self.layer.classify.outcome(Err(error)));
        }
        Poll::Ready(polled)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let permit = match self.refused.take() {
            Some(rejected) => Err(rejected),
            None => self.layer.breaker.try_acquire_owned(),
        };
        let state = match permit {
            Ok(permit) => State::Calling {
                future: self.inner.call(request),
                permit: Some(permit),
                classify: self.layer.classify.clone(),
            },
            Err(Rejected { retry_after }) => State::Refused {
                error: Some(LayerError::CircuitOpen {
                    name: self.layer.name.clone(),
                    retry_after,
                    sent: Sent::Nothing,
                }),
            },
        };
        CircuitBreakerFuture { state }
    }
}

pin_project_lite::pin_project! {
    /// A call behind a breaker.
    #[must_use = "futures do nothing unless polled"]
    pub struct CircuitBreakerFuture<F, K, C: Clock> {
        #[pin]
        state: State<F, K, C>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<F, K, C: Clock> {
        Calling {
            #[pin]
            future: F,
            permit: Option<OwnedPermit<C>>,
            classify: Arc<K>,
        },
        Refused {
            error: Option<LayerError>,
        },
    }
}

impl<F, A, E, K, C: Clock> Future for CircuitBreakerFuture<F, K, C>
where
    F: Future<Output = Result<A, E>>,
    E: Into<BoxError>,
    K: ClassifyAnswer<A>,
{
    type Output = Result<A, LayerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Calling {
                future,
                permit,
                classify,
            } => {
                let result = ready!(future.poll(context)).map_err(LayerError::from_inner);
                if let Some(permit) = permit.take() {
                    permit.record(classify.outcome(result.as_ref()));
                }
                Poll::Ready(result)
            }
            StateProjection::Refused { error } => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}
