//! Everything else: passed on to the service of its route.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use tower::Service;
use valerix_kit::identity::Identity;
use valerix_kit::problem::Problem;
use valerix_kit::telemetry::{TraceContext, export, outbound_headers};

use crate::table::Matched;

/// Passes requests on whose route the edge has found.
#[derive(Clone)]
pub struct Forward(pub Identity);

impl Forward {
    async fn forward(&self, mut request: Request) -> Response {
        let Some(Matched(route)) = request.extensions_mut().remove::<Matched>() else {
            return Problem::internal(&"a request came past the edge").into_response();
        };
        *request.uri_mut() = route.rewrite(request.uri());
        if export::is_on() {
            request.headers_mut().extend(outbound_headers());
        }
        self.0.vouch(route.upstream.name(), request.headers_mut());
        match route.upstream.send(request, route.sending).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) => {
                tracing::info!(route = route.name.as_str(), target_name = route.upstream.name(), %error, "a request was not passed on");
                error.problem().into_response()
            }
        }
    }
}

impl Service<Request> for Forward {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            // Perhaps in a task of its own, which does not inherit the trace.
            Ok(match request.extensions_mut().remove::<TraceContext>() {
                Some(context) if export::is_on() => context.scope(this.forward(request)).await,
                Some(context) => {
                    context.stamp(request.headers_mut());
                    this.forward(request).await
                }
                None => this.forward(request).await,
            })
        })
    }
}
