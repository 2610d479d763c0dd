//! `/healthz`, `/readyz` and `/metrics`, the last by TLS and for those alone who may read it, where that is wanted.
//! Answers from memory; asks nobody but the API server who scrapes.

use super::{
    Runtime,
    listen::bind,
    scrapers::{self, Refusal, Scrapers},
    secure::{self, Tls},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{net::SocketAddr, sync::Arc};

#[derive(Clone)]
struct Served {
    runtime: Runtime,
    scrapers: Option<Arc<Scrapers>>,
}

/// Who may read the metrics, and how. By default everybody, at the address of health and readiness.
#[derive(Default)]
pub struct Protection {
    /// Whom to let read.
    pub scrapers: Option<Scrapers>,
    /// Where the metrics are read instead.
    pub tls: Option<Tls>,
}

/// Serves for ever: probes must be answered while the process is ending, too.
///
/// # Errors
/// If an address cannot be bound, or there is no certificate that can be used.
pub async fn serve(runtime: Runtime, protection: Protection, address: SocketAddr) -> std::io::Result<()> {
    let served = Served {
        runtime,
        scrapers: protection.scrapers.map(Arc::new),
    };
    let open = bind(address).await?;
    let Some(tls) = protection.tls else {
        return axum::serve(open, health(served.clone()).merge(measures(served))).await;
    };
    let secure = secure::Listener::bind(&tls).await?;
    let open = axum::serve(open, health(served.clone())).into_future();
    let secure = axum::serve(secure, measures(served)).into_future();
    futures::future::try_join(open, secure).await.map(drop)
}

/// What the kubelet asks.
fn health(served: Served) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(served)
}

/// What Prometheus asks.
fn measures(served: Served) -> Router {
    Router::new().route(scrapers::PATH, get(metrics)).with_state(served)
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
    };
    use http::Request;
    use serde_json::json;
    use tower::ServiceExt;

    fn runtime(clients: &Clients) -> Runtime {
        let identity = Identity {
            pod: "one".into(),
            uid: "one".into(),
        };
        Runtime::new(identity, clients.clone(), vec![Scope::Cluster])
    }

    /// An API server that knows every token and lets everybody but the guest.
    fn clients() -> Clients {
        Clients::single(answering(|request| {
            let mut answer = request.body.clone();
            let user = request.body["spec"]["token"].clone();
            answer["status"] = json!({"authenticated": true, "user": {"username": user}, "allowed": request.body["spec"]["user"] != "guest"});
            (201, answer)
        }))
    }

    #[tokio::test]
    async fn health_answers_everybody_and_metrics_those_who_may_where_that_is_asked() {
        let clients = clients();
        let ask = async |scrapers: Option<Scrapers>, path: &str, token: Option<&str>| {
            let served = Served {
                runtime: runtime(&clients),
                scrapers: scrapers.map(Arc::new),
            };
            let mut request = Request::builder().uri(path);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(axum::body::Body::empty()).unwrap();
            let router = health(served.clone()).merge(measures(served));
            router.oneshot(request).await.unwrap().status().as_u16()
        };
        let asking = || Some(Scrapers::new(&clients));
        assert_eq!(ask(None, "/metrics", None).await, 200);
        assert_eq!(ask(asking(), "/metrics", None).await, 401);
        assert_eq!(ask(asking(), "/metrics", Some("guest")).await, 403);
        assert_eq!(ask(asking(), "/metrics", Some("prometheus")).await, 200);
        assert_eq!(ask(asking(), "/healthz", None).await, 200);
        assert_eq!(ask(asking(), "/readyz", None).await, 503, "nothing is announced yet");
    }
}
