//! How important a request is, and the place that it gets for it. In: the request and the policy. Out: a place, or 503.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use valerix_policy::Priority;

use super::ServerLayer;
use crate::concurrency::{Ended, Entry, Place};
use crate::held::HeldBody;
use crate::problem::{PRIORITY_HEADER, PROBLEM_HEADER, Problem};

/// The service's own view of how important a request is.
#[derive(Clone)]
pub(super) struct Decide(Arc<DecidePriority>);

type DecidePriority = dyn Fn(&Request<Body>) -> Option<Priority> + Send + Sync;

impl std::fmt::Debug for Decide {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Decide")
    }
}

impl ServerLayer {
    /// Decides the priority of a request in code, by a claim of a verified token, say; `None` leaves it to the policy.
    /// Handlers find what was decided among the request's extensions, as a [`Priority`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    /// use valerix_resilience::policy::Priority;
    ///
    /// let layer = resilience
    ///     .server_layer()
    ///     .priority(|request| request.uri().path().starts_with("/internal/").then_some(Priority::BestEffort));
    /// # });
    /// ```
    #[must_use]
    pub fn priority(mut self, decide: impl Fn(&Request<Body>) -> Option<Priority> + Send + Sync + 'static) -> Self {
        self.priority = Some(Decide(Arc::new(decide)));
        self
    }
}

/// A place for the request, where there is a limit. It is free again when the handler has ended and the body was sent:
/// a deadline or a disconnect ends the waiting, neither the work nor its place.
pub(super) async fn enter(layer: &ServerLayer, request: &mut Request<Body>) -> Result<Option<Arc<Place>>, Problem> {
    let library = layer.resilience.inner();
    let decided = layer.priority.as_ref().and_then(|decide| (decide.0)(request));
    let priority = decided.unwrap_or_else(|| {
        let claimed = request.headers().get(PRIORITY_HEADER);
        let claimed = claimed.and_then(|value| value.to_str().ok());
        library
            .gate
            .priority(request.method().as_str(), request.uri().path(), claimed)
    });
    request.extensions_mut().insert(priority);
    let count = |decision| library.metrics().concurrency(priority, decision);
    match library.gate.enter(priority).await {
        Entry::Unlimited => Ok(None),
        Entry::Admitted(place) => {
            count("allowed");
            Ok(Some(Arc::new(place)))
        }
        Entry::Shadow => {
            count("shadow_refused");
            Ok(None)
        }
        Entry::Refused(reason) => {
            count("refused");
            Err(Problem::overloaded(reason).with("priority", priority.as_str()))
        }
    }
}

/// Lets the limit learn from what the handler answered, or from its silence. What is answered before it comes to a handler
/// teaches nothing: how soon that is says nothing about the service.
pub(super) fn learn(place: Option<&Arc<Place>>, answer: Response) -> Response {
    if let Some(place) = place {
        let problem = answer.headers().get(PROBLEM_HEADER);
        let missed = problem.is_some_and(|kind| kind == "deadline-exceeded");
        place.learn(if missed { Ended::Missed } else { Ended::Answered });
    }
    answer
}

/// Holds the place until the body has been sent or given up.
pub(super) fn hold(place: Arc<Place>, response: Response) -> Response {
    response.map(|body| Body::new(HeldBody::new(body, place)))
}
