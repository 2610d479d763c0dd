//! A service with a route for each thing that can happen to a request.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use valerix_kit::args::ServiceArgs;
use valerix_kit::extract::{Json, Path, Query};
use valerix_kit::service::Service;
use valerix_kit::telemetry::outbound_headers;
use valerix_kit::testing::service_args;
use valerix_resilience::AbortConnection;

#[derive(Deserialize)]
struct Thing {
    #[allow(dead_code)]
    count: u8,
}

pub struct App {
    pub base: String,
    pub report: String,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
    /// Told when a request for `/slow` has come, which waits to be released.
    pub entered: Arc<Notify>,
    pub release: Arc<Notify>,
    pub client: reqwest::Client,
}

pub async fn spawn(args: ServiceArgs, service: Service) -> App {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let routes = Router::new()
        .route("/things", post(|Json(_): Json<Thing>| async { "ok" }))
        .route(
            "/things/{number}",
            get(|Path(number): Path<u8>| async move { number.to_string() }),
        )
        .route(
            "/search",
            get(|Query(thing): Query<Thing>| async move { thing.count.to_string() }),
        )
        .route(
            "/panic",
            get(|| async {
                if std::env::args().count() > 0 {
                    panic!("on purpose")
                }
            }),
        )
        .route(
            "/abort",
            get(|| async {
                let mut response = "never seen".into_response();
                response.extensions_mut().insert(AbortConnection);
                response
            }),
        )
        .route(
            "/trace",
            get(|| async {
                let headers = outbound_headers();
                headers
                    .get("traceparent")
                    .map(|value| value.to_str().unwrap().to_owned())
                    .unwrap_or_default()
            }),
        )
        .route(
            "/slow",
            get(
                |State((entered, release)): State<(Arc<Notify>, Arc<Notify>)>| async move {
                    entered.notify_one();
                    release.notified().await;
                    "done"
                },
            ),
        )
        .with_state((entered.clone(), release.clone()));
    assert_eq!(args.report_port, 0);
    let server = service.bind(routes).await.unwrap();
    let (address, report) = (server.address(), server.report_address());
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.run(stop.clone()));
    let client = reqwest::Client::new();
    App {
        base: format!("http://{address}"),
        report: format!("http://{report}"),
        address,
        stop,
        task,
        entered,
        release,
        client,
    }
}

pub async fn app() -> App {
    let args = service_args("test");
    let service = Service::new(&args).await.unwrap();
    spawn(args, service).await
}

pub async fn problem(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json",
        "status {status}"
    );
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    (status, body)
}

/// Writes a document as a ConfigMap's volume shows it.
pub fn write_document(folder: &std::path::Path, name: &str, document: &Value) {
    std::fs::create_dir_all(folder).unwrap();
    let draft = folder.join(format!(".{name}"));
    std::fs::write(&draft, document.to_string()).unwrap();
    std::fs::rename(draft, folder.join(name)).unwrap();
}
