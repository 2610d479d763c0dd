//! What comes to the application by HTTP: past the policy's limits, deadline and faults, and on to its port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::Version;
use tokio::sync::Semaphore;
use tower::{Layer, Service};
use valerix_kit::problem::Problem;
use valerix_kit::server::Answers;
use valerix_proxy::{Local, Sending, Speaks, deadline_of_grpc, drop_named_by_connection, is_grpc, refusal_of_grpc};
use valerix_resilience::{IDEMPOTENCY_KEY, Resilience, ServerService};

use crate::admission::check;
use crate::idempotency::Keys;
use crate::memory::{Placed, Unsent};

const NO_TUNNELS: &str = "this port passes requests on and relays no connections";

/// What is passed on may be of any length: how much of it the application takes is its own business.
const SENDING: Sending = Sending {
    max_body: u64::MAX,
    idle: Duration::from_secs(30),
};

/// What all inbound ports share. Clones are one.
#[derive(Clone)]
pub struct Shared {
    /// What was answered to keys.
    pub keys: Keys,
    /// What clients have not taken of their answers.
    pub unsent: Unsent,
    /// Requests that came by HTTP/2 at a time: others are as many as there are connections.
    pub places: Arc<Semaphore>,
}

/// One inbound port, and what every request passes there. Not by routes and layers of axum, each of which copies all that is
/// inside of it for each request. Clones are one.
#[derive(Clone)]
pub struct Inbound {
    protected: ServerService<Application>,
    places: Arc<Semaphore>,
}

impl Inbound {
    /// Everything goes to the application at the first of `addresses` at which it listens. A client that leaves ends its
    /// call, but for one with a key: what becomes of that is kept for the next time.
    #[must_use]
    pub fn new(resilience: &Resilience, addresses: &[SocketAddr], speaks: Speaks, shared: Shared) -> Self {
        let places = Arc::clone(&shared.places);
        let application = Application(Arc::new((Local::new(resilience, addresses, speaks), shared)));
        let passed_on = |request: &Request| !request.headers().contains_key(IDEMPOTENCY_KEY);
        let protected = resilience.server_layer().in_place(passed_on).layer(application);
        Self { protected, places }
    }

    /// Refuses what means different things to different readers, and answers clients of gRPC in their way.
    async fn admit(self, mut request: Request) -> Response {
        let grpc = is_grpc(request.headers());
        let answer = match check(&request, NO_TUNNELS) {
            Err(problem) => problem.into_response(),
            Ok(()) => {
                // Before anything is written to the headers: a sender could name that too.
                drop_named_by_connection(request.headers_mut());
                deadline_of_grpc(request.headers_mut());
                self.place(request).await
            }
        };
        if grpc { refusal_of_grpc(answer) } else { answer }
    }

    /// Lets a request pass where there is a place for it, which it has until the end of its answer.
    async fn place(self, request: Request) -> Response {
        if request.version() != Version::HTTP_2 {
            return self.protected.answer(request).await;
        }
        match self.places.try_acquire_owned() {
            Ok(place) => self
                .protected
                .answer(request)
                .await
                .map(|body| Body::new(Placed::new(body, place))),
            Err(_) => Problem::overloaded("as many requests are under way as there is memory for").into_response(),
        }
    }
}

impl Answers for Inbound {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        let this = self.clone();
        Box::pin(async move { this.admit(request).await })
    }
}

/// The application beside.
#[derive(Clone)]
struct Application(Arc<(Local, Shared)>);

impl Application {
    async fn forward(&self, request: Request) -> Response {
        let (application, shared) = &*self.0;
        match application.send(request, SENDING).await {
            Ok(answer) => answer.map(|body| Body::new(shared.unsent.bound(body))),
            Err(error) => {
                tracing::info!(%error, "a request was not passed on to the application");
                error.problem().into_response()
            }
        }
    }
}

impl Service<Request> for Application {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (_, shared) = &*this.0;
            Ok(shared.keys.answer(request, |request| this.forward(request)).await)
        })
    }
}
