//! `/healthz`, `/readyz` and `/metrics`. Answers from memory; asks nobody.

use super::Runtime;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::net::{Ipv4Addr, SocketAddr};

/// Serves for ever: probes must be answered while the process is ending, too.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(runtime: Runtime, address: SocketAddr) -> std::io::Result<()> {
    axum::serve(bind(address).await?, router(runtime)).await
}

/// Every address of both families, or of IPv4 alone on a node that has no IPv6.
async fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    match tokio::net::TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DEFAULT_LISTEN_ADDRESS;

    #[tokio::test]
    async fn both_families_are_served_where_both_are_there() {
        let mut address: SocketAddr = DEFAULT_LISTEN_ADDRESS.parse().unwrap();
        assert!(address.is_ipv6() && address.ip().is_unspecified());
        address.set_port(0);
        let port = bind(address).await.unwrap().local_addr().unwrap().port();
        assert_ne!(port, 0);
    }
}
