//! Requests per time as a layer, of all callers together or of each by a key.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{BoxError, Layer, Service};

use super::{LayerError, Name};
use crate::clock::{Clock, CoarseClock};
use crate::limits::{Quota, RateLimiter};
use crate::outbound::Sent;

/// What a request is counted under.
///
/// ```
/// use std::time::Duration;
/// use valerix_resilience::layers::{KeyOf, OneKey};
/// use valerix_resilience::policy::LimitAlgorithm;
/// use valerix_resilience::{Decision, MAX_KEYS, Quota, RateLimiter};
///
/// let quota = Quota { requests: 5, window: Duration::from_secs(1), burst: 5, algorithm: LimitAlgorithm::Window };
/// let limiter = RateLimiter::new(quota);
/// assert_eq!(OneKey.number(&"any request", &limiter), 0);
/// let number = (|name: &&str| name.to_string()).number(&"ada", &limiter);
/// let Decision { allowed, remaining, .. } = limiter.take_number(number);
/// assert!(allowed && remaining == 4 && limiter.live_keys() <= MAX_KEYS);
/// ```
pub trait KeyOf<R>: Clone + Send + Sync + 'static {
    /// The key: its text, or its hash by [`RateLimiter::number`].
    fn number<C: Clock>(&self, request: &R, limiter: &RateLimiter<C>) -> u64;
}

/// All requests are counted together.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneKey;

impl<R> KeyOf<R> for OneKey {
    fn number<C: Clock>(&self, _: &R, _: &RateLimiter<C>) -> u64 {
        0
    }
}

impl<R, F: Fn(&R) -> String + Clone + Send + Sync + 'static> KeyOf<R> for F {
    fn number<C: Clock>(&self, request: &R, limiter: &RateLimiter<C>) -> u64 {
        limiter.number(&self(request))
    }
}

/// Refuses requests beyond a quota. All services made by it and their clones share it; keys are bounded in memory
/// ([`MAX_KEYS`](crate::MAX_KEYS)). Nothing waits: who may come back when is in the error.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use valerix_resilience::Quota;
/// use valerix_resilience::layers::{LayerError, RateLimitLayer};
/// use valerix_resilience::policy::LimitAlgorithm;
///
/// let quota = Quota { requests: 1, window: Duration::from_secs(60), burst: 1, algorithm: LimitAlgorithm::Window };
/// let mut mail = ServiceBuilder::new()
///     .layer(RateLimitLayer::new("mail", quota).key(|receiver: &&str| receiver.to_string()))
///     .service(service_fn(|_| async { Ok::<_, std::io::Error>("sent") }));
/// assert_eq!(mail.ready().await?.call("ada").await?, "sent");
/// assert_eq!(mail.ready().await?.call("bob").await?, "sent");
/// let Err(LayerError::RateLimited { retry_after, .. }) = mail.ready().await?.call("ada").await else { panic!() };
/// assert!(retry_after > Duration::from_secs(50));
/// # Ok::<(), LayerError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct RateLimitLayer<K = OneKey, C: Clock = CoarseClock> {
    name: Name,
    limiter: Arc<RateLimiter<C>>,
    key: K,
}

impl<K: Clone, C: Clock> Clone for RateLimitLayer<K, C> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            limiter: self.limiter.clone(),
            key: self.key.clone(),
        }
    }
}

impl RateLimitLayer {
    /// One quota for all requests.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, quota: Quota) -> Self {
        Self::of(name, Arc::new(RateLimiter::new(quota)))
    }
}

impl<C: Clock> RateLimitLayer<OneKey, C> {
    /// Around a limiter that others use too, or with a clock of its own.
    #[must_use]
    pub fn of(name: impl Into<Arc<str>>, limiter: Arc<RateLimiter<C>>) -> Self {
        Self {
            name: name.into(),
            limiter,
            key: OneKey,
        }
    }
}

impl<K, C: Clock> RateLimitLayer<K, C> {
    /// Counts requests apart by a key, by a closure of `&Request` that gives a `String`.
    #[must_use]
    pub fn key<L>(self, key: L) -> RateLimitLayer<L, C> {
        RateLimitLayer {
            name: self.name,
            limiter: self.limiter,
            key,
        }
    }

    /// The limiter, to look at or to give other numbers.
    #[must_use]
    pub const fn limiter(&self) -> &Arc<RateLimiter<C>> {
        &self.limiter
    }
}

impl<S, K: Clone, C: Clock> Layer<S> for RateLimitLayer<K, C> {
    type Service = RateLimitService<S, K, C>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService {
            inner,
            layer: self.clone(),
        }
    }
}

/// What [`RateLimitLayer`] makes of a service.
#[derive(Debug)]
pub struct RateLimitService<S, K = OneKey, C: Clock = CoarseClock> {
    inner: S,
    layer: RateLimitLayer<K, C>,
}

impl<S: Clone, K: Clone, C: Clock> Clone for RateLimitService<S, K, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, R, K, C> Service<R> for RateLimitService<S, K, C>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    K: KeyOf<R>,
    C: Clock,
{
    type Response = S::Response;
    type Error = LayerError;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        self.inner.poll_ready(context).map_err(LayerError::from_inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let number = self.layer.key.number(&request, &self.layer.limiter);
        let decision = self.layer.limiter.take_number(number);
        let state = if decision.allowed {
            State::Calling {
                future: self.inner.call(request),
            }
        } else {
            State::Refused {
                error: Some(LayerError::RateLimited {
                    name: self.layer.name.clone(),
                    retry_after: decision.reset,
                    sent: Sent::Nothing,
                }),
            }
        };
        RateLimitFuture { state }
    }
}

pin_project_lite::pin_project! {
    /// A call within its quota.
    #[must_use = "futures do nothing unless polled"]
    pub struct RateLimitFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Calling {
            #[pin]
            future: F,
        },
        Refused {
            error: Option<LayerError>,
        },
    }
}

impl<F, A, E> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<A, E>>,
    E: Into<BoxError>,
{
    type Output = Result<A, LayerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Calling { future } => future.poll(context).map_err(LayerError::from_inner),
            StateProjection::Refused { error } => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}
