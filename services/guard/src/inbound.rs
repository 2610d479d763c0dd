//! What comes to the application by HTTP: past the policy's limits, deadline and faults, and on to its port.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use valerix_proxy::{Local, Sending, Speaks, deadline_of_grpc, is_grpc, refusal_of_grpc};
use valerix_resilience::Resilience;

use crate::admission::check;
use crate::idempotency::Keys;

const NO_TUNNELS: &str = "this port passes requests on and relays no connections";

/// What is passed on may be of any length: how much of it the application takes is its own business.
const SENDING: Sending = Sending {
    max_body: u64::MAX,
    idle: Duration::from_secs(30),
};

/// The router of one inbound port: everything goes to the application at the first of `addresses` at which it listens.
/// What was answered to a key is looked for among `keys`.
pub fn router(resilience: &Resilience, addresses: &[SocketAddr], speaks: Speaks, keys: Keys) -> Router {
    let application = Local::new(resilience, addresses, speaks);
    Router::new()
        .fallback(answer)
        .with_state((application, keys))
        .layer(resilience.server_layer())
        .layer(from_fn(admit))
}

/// Refuses what means different things to different readers, and answers clients of gRPC in their way.
async fn admit(mut request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let answer = match check(&request, NO_TUNNELS) {
        Err(problem) => problem.into_response(),
        Ok(()) => {
            deadline_of_grpc(request.headers_mut());
            next.run(request).await
        }
    };
    if grpc { refusal_of_grpc(answer) } else { answer }
}

async fn answer(State((application, keys)): State<(Local, Keys)>, request: Request) -> Response {
    keys.answer(request, |request| forward(application, request)).await
}

async fn forward(application: Local, request: Request) -> Response {
    match application.send(request, SENDING).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            tracing::info!(%error, "a request was not passed on to the application");
            error.problem().into_response()
        }
    }
}
