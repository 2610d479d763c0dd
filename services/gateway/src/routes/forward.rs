//! Everything else: passed on to the service of its route.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use valerix_kit::api::Api;
use valerix_kit::problem::Problem;
use valerix_kit::telemetry::outbound_headers;

use super::AppState;
use crate::edge::Matched;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    // Not described: the services behind do that.
    api.undescribed("/", any(forward)).undescribed("/{*rest}", any(forward))
}

async fn forward(State(app): State<AppState>, mut request: Request) -> Response {
    let Some(Matched(route)) = request.extensions_mut().remove::<Matched>() else {
        return Problem::internal(&"a request came past the edge").into_response();
    };
    *request.uri_mut() = route.rewrite(request.uri());
    request.headers_mut().extend(outbound_headers());
    app.identity.vouch(route.upstream.name(), request.headers_mut());
    match route.upstream.send(request, route.sending).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            tracing::info!(route = &*route.name, target_name = route.upstream.name(), %error, "a request was not passed on");
            error.problem().into_response()
        }
    }
}
