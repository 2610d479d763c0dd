//! A bound on calls at a time as a layer: refuses what is beyond it, at once or after a wait, or holds callers back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tower::{BoxError, Layer, Service};

use super::hold::{Hold, UntilBody, UntilResponse};
use super::{LayerError, Name};
use crate::bulkhead::{Bulkhead, BulkheadFull, BulkheadPermit};
use crate::outbound::Sent;

/// A wait for a place. Only who finds none pays for it.
type Wait = Pin<Box<dyn Future<Output = Result<BulkheadPermit, BulkheadFull>> + Send + Sync>>;

/// So many calls at a time, over all services made by it and their clones.
///
/// A call that finds no place is refused, after [`max_wait`](Self::max_wait) at the latest. With
/// [`back_pressure`](Self::back_pressure) the service is not ready while there is none, as tower's own limit has it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use valerix_resilience::layers::{BulkheadLayer, LayerError};
///
/// let mut printer = ServiceBuilder::new()
///     .layer(BulkheadLayer::new("printer", 1))
///     .service(service_fn(|page: u32| async move { Ok::<_, std::io::Error>(page) }));
/// let first = printer.ready().await?.call(1);
/// let second = printer.ready().await?.call(2);
/// assert!(matches!(second.await, Err(LayerError::BulkheadFull { limit: 1, .. })));
/// assert_eq!(first.await?, 1);
/// assert_eq!(printer.ready().await?.call(3).await?, 3);
/// # Ok::<(), LayerError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct BulkheadLayer<H = UntilResponse> {
    name: Name,
    bulkhead: Bulkhead,
    max_wait: Duration,
    back_pressure: bool,
    hold: std::marker::PhantomData<H>,
}

impl BulkheadLayer {
    /// At most `limit` calls at a time.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, limit: usize) -> Self {
        Self::of(name, Bulkhead::new(limit))
    }

    /// Around places that others use too.
    #[must_use]
    pub fn of(name: impl Into<Arc<str>>, bulkhead: Bulkhead) -> Self {
        Self {
            name: name.into(),
            bulkhead,
            max_wait: Duration::ZERO,
            back_pressure: false,
            hold: std::marker::PhantomData,
        }
    }

    /// For services that answer HTTP: holds the place until the answer's body has been read or dropped.
    #[must_use]
    pub fn hold_body(self) -> BulkheadLayer<UntilBody> {
        BulkheadLayer {
            name: self.name,
            bulkhead: self.bulkhead,
            max_wait: self.max_wait,
            back_pressure: self.back_pressure,
            hold: std::marker::PhantomData,
        }
    }
}

impl<H> BulkheadLayer<H> {
    /// How long a call may wait for a place. Default: not at all.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Takes the place in `poll_ready`: callers wait there as long as it takes, and no call is refused. A service that
    /// was polled ready and is then neither called nor dropped keeps its place.
    #[must_use]
    pub const fn back_pressure(mut self) -> Self {
        self.back_pressure = true;
        self
    }

    /// The places, to look at or to resize.
    #[must_use]
    pub const fn bulkhead(&self) -> &Bulkhead {
        &self.bulkhead
    }

    fn error(&self, full: BulkheadFull) -> LayerError {
        LayerError::BulkheadFull {
            name: self.name.clone(),
            limit: full.limit,
            sent: Sent::Nothing,
        }
    }

    fn wait(&self, wait: Duration) -> Wait {
        let bulkhead = self.bulkhead.clone();
        Box::pin(async move { bulkhead.acquire(wait).await })
    }
}

impl<S, H> Layer<S> for BulkheadLayer<H>
where
    H: Clone,
{
    type Service = BulkheadService<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        BulkheadService {
            inner,
            layer: self.clone(),
            reserved: Reserved::None,
        }
    }
}

/// What [`BulkheadLayer`] makes of a service.
pub struct BulkheadService<S, H = UntilResponse> {
    inner: S,
    layer: BulkheadLayer<H>,
    reserved: Reserved,
}

/// With back pressure: the place for the next call.
enum Reserved {
    None,
    Waiting(Wait),
    Place(BulkheadPermit),
}

impl<S: std::fmt::Debug, H: std::fmt::Debug> std::fmt::Debug for BulkheadService<S, H> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BulkheadService")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<S: Clone, H: Clone> Clone for BulkheadService<S, H> {
    /// A clone has no place of its own yet.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
            reserved: Reserved::None,
        }
    }
}

impl<S, R, H> Service<R> for BulkheadService<S, H>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError>,
    H: Hold<S::Response, BulkheadPermit>,
{
    type Response = H::Answer;
    type Error = LayerError;
    type Future = BulkheadFuture<S, R, H>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        if self.layer.back_pressure && !matches!(self.reserved, Reserved::Place(_)) {
            if matches!(self.reserved, Reserved::None)
                && let Ok(place) = self.layer.bulkhead.try_acquire()
            {
                self.reserved = Reserved::Place(place);
            }
            while !matches!(self.reserved, Reserved::Place(_)) {
                if let Reserved::Waiting(wait) = &mut self.reserved {
                    if let Ok(place) = ready!(wait.as_mut().poll(context)) {
                        self.reserved = Reserved::Place(place);
                    } else {
                        self.reserved = Reserved::None;
                    }
                } else {
                    self.reserved = Reserved::Waiting(self.layer.wait(Duration::MAX));
                }
            }
        }
        let polled = ready!(self.inner.poll_ready(context)).map_err(LayerError::from_inner);
        if polled.is_err() {
            self.reserved = Reserved::None;
        }
        Poll::Ready(polled)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let reserved = std::mem::replace(&mut self.reserved, Reserved::None);
        let place = match reserved {
            Reserved::Place(place) => Ok(place),
            _ => self.layer.bulkhead.try_acquire(),
        };
        let state = match place {
            Ok(place) => State::Calling {
                future: self.inner.call(request),
                place: Some(place),
            },
            Err(full) if self.layer.max_wait.is_zero() => State::Refused {
                error: Some(self.layer.error(full)),
            },
            Err(_) => {
                // The one that was polled ready is the one that is called later.
                let fresh = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, fresh);
                State::Waiting {
                    wait: self.layer.wait(self.layer.max_wait),
                    call: Some((inner, request)),
                    name: self.layer.name.clone(),
                }
            }
        };
        BulkheadFuture {
            state,
            hold: std::marker::PhantomData,
        }
    }
}

pin_project_lite::pin_project! {
    /// A call with its place, or the wait for one.
    #[must_use = "futures do nothing unless polled"]
    pub struct BulkheadFuture<S: Service<R>, R, H> {
        #[pin]
        state: State<S, R, S::Future>,
        hold: std::marker::PhantomData<fn() -> H>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<S, R, F> {
        Waiting {
            wait: Wait,
            call: Option<(S, R)>,
            name: Name,
        },
        Calling {
            #[pin]
            future: F,
            place: Option<BulkheadPermit>,
        },
        Refused {
            error: Option<LayerError>,
        },
    }
}

impl<S, R, H> Future for BulkheadFuture<S, R, H>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    H: Hold<S::Response, BulkheadPermit>,
{
    type Output = Result<H::Answer, LayerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Waiting { wait, call, name } => {
                    match (ready!(wait.as_mut().poll(context)), call.take()) {
                        (Ok(place), Some((mut inner, request))) => {
                            let future = inner.call(request);
                            state.set(State::Calling {
                                future,
                                place: Some(place),
                            });
                        }
                        (Err(BulkheadFull { limit }), _) => {
                            let name = name.clone();
                            let sent = Sent::Nothing;
                            return Poll::Ready(Err(LayerError::BulkheadFull { name, limit, sent }));
                        }
                        // Polled after its end.
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
                StateProjection::Calling { future, place } => {
                    let result = ready!(future.poll(context)).map_err(LayerError::from_inner);
                    return match (result, place.take()) {
                        (Ok(answer), Some(place)) => Poll::Ready(Ok(H::hold(answer, place))),
                        (Err(error), _) => Poll::Ready(Err(error)),
                        (Ok(_), None) => Poll::Pending,
                    };
                }
                StateProjection::Refused { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            }
        }
    }
}
