//! `/healthz`, `/readyz` and `/metrics`. Answers from memory; asks nobody but the API server who scrapes, where that is
//! wanted.

use super::{
    Runtime,
    scrapers::{self, Refusal, Scrapers},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

#[derive(Clone)]
struct Served {
    runtime: Runtime,
    scrapers: Option<Arc<Scrapers>>,
}

/// Serves for ever: probes must be answered while the process is ending, too. Without `scrapers` everybody reads the
/// metrics.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(runtime: Runtime, scrapers: Option<Scrapers>, address: SocketAddr) -> std::io::Result<()> {
    axum::serve(bind(address).await?, router(runtime, scrapers)).await
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
pub fn router(runtime: Runtime, scrapers: Option<Scrapers>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route(scrapers::PATH, get(metrics))
        .with_state(Served {
            runtime,
            scrapers: scrapers.map(Arc::new),
        })
}

async fn ready(State(served): State<Served>) -> impl IntoResponse {
    let waiting = served.runtime.readiness.waiting();
    if waiting.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}", waiting.join(", ")),
        )
    }
}

async fn metrics(State(served): State<Served>, headers: HeaderMap) -> Result<impl IntoResponse, Refusal> {
    if let Some(scrapers) = &served.scrapers {
        scrapers.admit(&headers).await?;
    }
    Ok((
        [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)],
        served.runtime.metrics.render(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::answering,
        runtime::{Clients, Identity, Scope},
        settings::DEFAULT_LISTEN_ADDRESS,
    };
    use http::Request;
    use serde_json::json;
    use tower::ServiceExt;

    #[tokio::test]
    async fn health_answers_everybody_and_metrics_those_who_may_where_that_is_asked() {
        let clients = Clients::single(answering(|request| {
            let mut answer = request.body.clone();
            answer["status"] = json!({"authenticated": true, "allowed": request.body["spec"]["token"] != "guest"});
            (201, answer)
        }));
        let identity = Identity {
            pod: "one".into(),
            uid: "one".into(),
        };
        let runtime = Runtime::new(identity, clients.clone(), vec![Scope::Cluster]);
        let ask = async |scrapers: Option<Scrapers>, path: &str, token: Option<&str>| {
            let mut request = Request::builder().uri(path);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(axum::body::Body::empty()).unwrap();
            let answer = router(runtime.clone(), scrapers).oneshot(request).await.unwrap();
            answer.status().as_u16()
        };
        let asking = || Some(Scrapers::new(&clients));
        assert_eq!(ask(None, "/metrics", None).await, 200);
        assert_eq!(ask(asking(), "/metrics", None).await, 401);
        assert_eq!(ask(asking(), "/metrics", Some("a")).await, 200);
        assert_eq!(ask(asking(), "/healthz", None).await, 200);
        assert_eq!(ask(asking(), "/readyz", None).await, 503, "nothing is announced yet");
    }

    #[tokio::test]
    async fn both_families_are_served_where_both_are_there() {
        let mut address: SocketAddr = DEFAULT_LISTEN_ADDRESS.parse().unwrap();
        assert!(address.is_ipv6() && address.ip().is_unspecified());
        address.set_port(0);
        let port = bind(address).await.unwrap().local_addr().unwrap().port();
        assert_ne!(port, 0);
    }
}
