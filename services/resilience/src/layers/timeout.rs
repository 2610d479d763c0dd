//! The time for an answer as a layer: its own, or the deadline of the request that is being served where that is less.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::futures::TaskLocalFuture;
use tokio::time::Sleep;
use tower::{BoxError, Layer, Service};

use super::{LayerError, Name};
use crate::deadline::{Deadline, InvalidTimeout, TIMEOUT_HEADER};
use crate::outbound::Sent;

/// How a deadline comes with a request, or goes along with it.
///
/// ```
/// use std::time::Duration;
/// use http::Request;
/// use valerix_resilience::layers::{CarryDeadline, HeaderIn, HeaderOut, NoHeader};
///
/// let mut request = Request::new(());
/// HeaderOut.write(&mut request, Duration::from_millis(250));
/// assert_eq!(HeaderIn.read(&request).unwrap(), Some(Duration::from_millis(250)));
/// assert_eq!(NoHeader.read(&request).unwrap(), None);
/// ```
pub trait CarryDeadline<R>: Clone + Send + Sync + 'static {
    /// The time that the caller gave.
    ///
    /// # Errors
    /// When what it gave is no time.
    fn read(&self, request: &R) -> Result<Option<Duration>, InvalidTimeout>;

    /// Tells the service inside how long its answer is waited for.
    fn write(&self, request: &mut R, time: Duration);
}

/// Requests carry no deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeader;

/// For servers: the caller's `Valerix-Timeout-Ms` is believed where it is shorter.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderIn;

/// For clients: `Valerix-Timeout-Ms` tells the service how long it is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderOut;

impl<R> CarryDeadline<R> for NoHeader {
    fn read(&self, _: &R) -> Result<Option<Duration>, InvalidTimeout> {
        Ok(None)
    }

    fn write(&self, _: &mut R, _: Duration) {}
}

impl<B> CarryDeadline<http::Request<B>> for HeaderIn {
    fn read(&self, request: &http::Request<B>) -> Result<Option<Duration>, InvalidTimeout> {
        Deadline::from_headers(request.headers())
    }

    fn write(&self, _: &mut http::Request<B>, _: Duration) {}
}

impl<B> CarryDeadline<http::Request<B>> for HeaderOut {
    fn read(&self, _: &http::Request<B>) -> Result<Option<Duration>, InvalidTimeout> {
        Ok(None)
    }

    fn write(&self, request: &mut http::Request<B>, time: Duration) {
        request.headers_mut().insert(TIMEOUT_HEADER, Deadline::header(time));
    }
}

/// Gives up waiting after a time, or at [`Deadline::current`] where that comes first; the service inside finds what is
/// left as [`Deadline::current`], so that layers further in and calls that it makes share it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use valerix_resilience::Deadline;
/// use valerix_resilience::layers::{LayerError, TimeoutLayer};
///
/// let mut report = ServiceBuilder::new()
///     .layer(TimeoutLayer::new("report", Duration::from_millis(20)))
///     .service(service_fn(|()| async {
///         assert!(Deadline::current().is_some());
///         std::future::pending::<Result<(), std::io::Error>>().await
///     }));
/// let error = report.ready().await.unwrap().call(()).await.unwrap_err();
/// assert!(matches!(error, LayerError::Timeout { inherited: false, .. }));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct TimeoutLayer<W = NoHeader> {
    name: Name,
    timeout: Duration,
    wire: W,
}

impl TimeoutLayer {
    /// At most `timeout` for an answer.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, timeout: Duration) -> Self {
        Self {
            name: name.into(),
            timeout,
            wire: NoHeader,
        }
    }

    /// For servers: a shorter time that the caller gives in `Valerix-Timeout-Ms` counts.
    #[must_use]
    pub fn honour_header(self) -> TimeoutLayer<HeaderIn> {
        self.carry(HeaderIn)
    }

    /// For clients: tells the service in `Valerix-Timeout-Ms` how long it is waited for.
    #[must_use]
    pub fn send_header(self) -> TimeoutLayer<HeaderOut> {
        self.carry(HeaderOut)
    }
}

impl<W> TimeoutLayer<W> {
    /// Reads and writes deadlines in a way of one's own.
    #[must_use]
    pub fn carry<V>(self, wire: V) -> TimeoutLayer<V> {
        TimeoutLayer {
            name: self.name,
            timeout: self.timeout,
            wire,
        }
    }
}

impl<S, W: Clone> Layer<S> for TimeoutLayer<W> {
    type Service = TimeoutService<S, W>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            layer: self.clone(),
        }
    }
}

/// What [`TimeoutLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct TimeoutService<S, W = NoHeader> {
    inner: S,
    layer: TimeoutLayer<W>,
}

impl<S, R, W> Service<R> for TimeoutService<S, W>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    W: CarryDeadline<R>,
{
    type Response = S::Response;
    type Error = LayerError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        self.inner.poll_ready(context).map_err(LayerError::from_inner)
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let refused = |error| TimeoutFuture {
            state: State::Refused { error: Some(error) },
        };
        let given = match self.layer.wire.read(&request) {
            Ok(given) => given,
            Err(source) => return refused(LayerError::InvalidDeadline { source }),
        };
        let own = self.layer.timeout;
        let current = Deadline::current().map(Deadline::remaining);
        let left = given.into_iter().chain(current).min();
        let (timeout, inherited) = match left {
            Some(left) if left < own => (left, true),
            _ => (own, false),
        };
        let error = LayerError::Timeout {
            name: self.layer.name.clone(),
            timeout,
            inherited,
            sent: if timeout.is_zero() {
                Sent::Nothing
            } else {
                Sent::Perhaps
            },
        };
        if timeout.is_zero() {
            return refused(error);
        }
        self.layer.wire.write(&mut request, timeout);
        let deadline = Deadline::after(timeout);
        TimeoutFuture {
            state: State::Waiting {
                // Within the deadline too: what the service does before its first await may ask for it.
                future: deadline.around_call(|| self.inner.call(request)),
                end: tokio::time::sleep_until(deadline.instant()),
                error: Some(error),
            },
        }
    }
}

pin_project_lite::pin_project! {
    /// A call that is waited for until a deadline.
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Waiting {
            #[pin]
            future: TaskLocalFuture<Deadline, F>,
            #[pin]
            end: Sleep,
            error: Option<LayerError>,
        },
        Refused {
            error: Option<LayerError>,
        },
    }
}

impl<F, A, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<A, E>>,
    E: Into<BoxError>,
{
    type Output = Result<A, LayerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let error = match self.project().state.project() {
            StateProjection::Waiting { future, end, error } => {
                // An answer that is there counts, also when its time ends with it.
                if let Poll::Ready(result) = future.poll(context) {
                    return Poll::Ready(result.map_err(LayerError::from_inner));
                }
                std::task::ready!(end.poll(context));
                error
            }
            StateProjection::Refused { error } => error,
        };
        error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }
}
