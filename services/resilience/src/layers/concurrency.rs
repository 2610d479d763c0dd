//! The inbound concurrency limit as a layer: fixed with a short queue (CoDel), or found by measuring (AIMD), with the
//! less important requests refused first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{BoxError, Layer, Service};
use valerix_policy::{Concurrency, Mode, Priority};

use super::hold::{Hold, UntilBody, UntilResponse};
use super::{LayerError, Name};
use crate::bulkhead::BulkheadPermit;
use crate::concurrency::{Ended, Entry, Gate};
use crate::outbound::Sent;

/// How important a request is.
///
/// ```
/// use valerix_resilience::layers::{AllAlike, PriorityOf};
/// use valerix_resilience::policy::Priority;
///
/// assert_eq!(AllAlike.priority(&"request"), Priority::Default);
/// let by_path = |path: &&str| if path.starts_with("/pay") { Priority::Critical } else { Priority::Sheddable };
/// assert_eq!(by_path.priority(&"/pay"), Priority::Critical);
/// ```
pub trait PriorityOf<R>: Clone + Send + Sync + 'static {
    /// Its priority.
    fn priority(&self, request: &R) -> Priority;
}

/// Every request has [`Priority::Default`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AllAlike;

impl<R> PriorityOf<R> for AllAlike {
    fn priority(&self, _: &R) -> Priority {
        Priority::default()
    }
}

impl<R, F: Fn(&R) -> Priority + Clone + Send + Sync + 'static> PriorityOf<R> for F {
    fn priority(&self, request: &R) -> Priority {
        self(request)
    }
}

/// So many requests at a time: a number, or one that it finds. All services made by it and their clones share it.
///
/// A request's priority is what [`priority`](Self::priority) says; the routes and the header of the settings are for the
/// server layer of feature `axum`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use valerix_resilience::layers::{ConcurrencyLimitLayer, LayerError};
/// use valerix_resilience::policy::{Concurrency, Priorities, Priority};
///
/// let settings = Concurrency { max: 2, priorities: Some(Priorities::default()), ..Concurrency::default() };
/// let mut search = ServiceBuilder::new()
///     .layer(ConcurrencyLimitLayer::new("search", &settings).priority(|text: &String| {
///         if text.is_empty() { Priority::BestEffort } else { Priority::Critical }
///     }))
///     .service(service_fn(|text: String| async move { Ok::<_, std::io::Error>(text.len()) }));
/// assert_eq!(search.ready().await?.call("shoes".to_owned()).await?, 5);
/// assert_eq!(search.ready().await?.call(String::new()).await?, 0, "half of the places are for everyone");
/// # Ok::<(), LayerError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitLayer<P = AllAlike, H = UntilResponse> {
    name: Name,
    gate: Arc<Gate>,
    priority: P,
    hold: std::marker::PhantomData<fn() -> H>,
}

impl ConcurrencyLimitLayer {
    /// A limit by these settings.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: &Concurrency) -> Self {
        let gate = Gate::default();
        gate.configure(Some(settings), Mode::Enforce);
        Self {
            name: name.into(),
            gate: Arc::new(gate),
            priority: AllAlike,
            hold: std::marker::PhantomData,
        }
    }
}

impl<P, H> ConcurrencyLimitLayer<P, H> {
    /// How important a request is, by a closure of `&Request`.
    #[must_use]
    pub fn priority<Q>(self, priority: Q) -> ConcurrencyLimitLayer<Q, H> {
        ConcurrencyLimitLayer {
            name: self.name,
            gate: self.gate,
            priority,
            hold: std::marker::PhantomData,
        }
    }

    /// For services that answer HTTP: holds the place until the answer's body has been read or dropped.
    #[must_use]
    pub fn hold_body(self) -> ConcurrencyLimitLayer<P, UntilBody> {
        ConcurrencyLimitLayer {
            name: self.name,
            gate: self.gate,
            priority: self.priority,
            hold: std::marker::PhantomData,
        }
    }

    /// Takes new settings while requests run; a limit found by measuring is kept within the new bounds.
    pub fn reconfigure(&self, settings: &Concurrency) {
        self.gate.configure(Some(settings), Mode::Enforce);
    }

    /// The places that there are at the moment.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.gate.levels().map_or(0, |[limit, _, _]| limit)
    }

    /// The places that are taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.gate.levels().map_or(0, |[_, in_flight, _]| in_flight)
    }
}

impl<S, P: Clone, H> Layer<S> for ConcurrencyLimitLayer<P, H> {
    type Service = ConcurrencyLimitService<S, P, H>;

    fn layer(&self, inner: S) -> Self::Service {
        ConcurrencyLimitService {
            inner,
            layer: ConcurrencyLimitLayer {
                name: self.name.clone(),
                gate: self.gate.clone(),
                priority: self.priority.clone(),
                hold: std::marker::PhantomData,
            },
        }
    }
}

/// What [`ConcurrencyLimitLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitService<S, P = AllAlike, H = UntilResponse> {
    inner: S,
    layer: ConcurrencyLimitLayer<P, H>,
}

impl<S, R, P, H> Service<R> for ConcurrencyLimitService<S, P, H>
where
    S: Service<R> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: Send + 'static,
    P: PriorityOf<R>,
    H: Hold<S::Response, BulkheadPermit>,
{
    type Response = H::Answer;
    type Error = LayerError;
    type Future = Pin<Box<dyn Future<Output = Result<H::Answer, LayerError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        self.inner.poll_ready(context).map_err(LayerError::from_inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // The one that was polled ready is the one that is called.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let priority = self.layer.priority.priority(&request);
        let (gate, name) = (self.layer.gate.clone(), self.layer.name.clone());
        Box::pin(async move {
            let place = match gate.enter(priority).await {
                Entry::Admitted(place) => Some(place),
                Entry::Refused(reason) => {
                    return Err(LayerError::Overloaded {
                        name,
                        priority,
                        reason,
                        sent: Sent::Nothing,
                    });
                }
                Entry::Unlimited | Entry::Shadow => None,
            };
            let result = inner.call(request).await.map_err(LayerError::from_inner);
            match (result, place) {
                (Ok(answer), Some(place)) => Ok(H::hold(answer, place.ended(Ended::Answered))),
                (Err(error @ LayerError::Timeout { .. }), Some(place)) => {
                    drop(place.ended(Ended::Missed));
                    Err(error)
                }
                // How soon a service fails says nothing about how much it can take.
                (Err(error), _) => Err(error),
                (Ok(_), None) => Err(LayerError::Overloaded {
                    name,
                    priority,
                    reason: "the limit is not set",
                    sent: Sent::Nothing,
                }),
            }
        })
    }
}
