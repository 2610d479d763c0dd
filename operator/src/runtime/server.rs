//! `/healthz`, `/readyz` and `/metrics`. Answers from memory; asks nobody.

use super::Runtime;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::net::SocketAddr;

/// Serves for ever: probes must be answered while the process is ending, too.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(runtime: Runtime, address: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router(runtime)).await
}

/// The three routes.
pub fn router(runtime: Runtime) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(runtime)
}

async fn ready(State(runtime): State<Runtime>) -> impl IntoResponse {
    let waiting = runtime.readiness.waiting();
    if waiting.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}", waiting.join(", ")),
        )
    }
}

async fn metrics(State(runtime): State<Runtime>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)],
        runtime.metrics.render(),
    )
}
