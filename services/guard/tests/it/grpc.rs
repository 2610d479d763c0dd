//! HTTP/2 and gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use valerix_policy::guard::Protocol;

use super::support::{Running, Setup, eventually, nobody, serve};

/// An answer with a body, and the status behind it.
fn with_trailers(status: &'static str) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(Bytes::from_static(b"message")).with_trailers(async { Some(Ok(trailers)) });
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .unwrap()
}

/// An answer whose head is all there is.
fn trailers_only(status: &'static str) -> Response {
    Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", status)
        .body(Body::empty())
        .unwrap()
}

/// A request of gRPC; its body tells no length.
fn request(address: SocketAddr, headers: &[(&'static str, &'static str)]) -> http::Request<Body> {
    let message = futures::stream::once(async { Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"ask"))) });
    let mut request = http::Request::post(format!("http://{address}/shop.Stock/Get"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(message)))
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    request
}

/// What a call came to: status of HTTP, status of gRPC in head or trailers, the problem's name.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    http: u16,
    grpc: Option<String>,
    problem: Option<String>,
    body: Bytes,
}

async fn call(address: SocketAddr, headers: &[(&'static str, &'static str)]) -> Seen {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let answer = client.request(request(address, headers)).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let text = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (head, http) = (answer.headers().clone(), answer.status().as_u16());
    let body = answer.into_body().collect().await.unwrap();
    let behind = body.trailers().and_then(|trailers| text(trailers, "grpc-status"));
    Seen {
        http,
        grpc: behind.or_else(|| text(&head, "grpc-status")),
        problem: text(&head, "valerix-problem"),
        body: body.to_bytes(),
    }
}

fn only<T: Copy>(addresses: &std::collections::BTreeMap<String, T>) -> T {
    *addresses.values().next().unwrap()
}

async fn state(guard: &Running) -> String {
    guard.report().await["circuitBreakers"][0]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn http2_is_spoken_on_both_sides_and_trailers_are_kept() {
    let told = any(|request: Request| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        // By HTTP/2 a host is a part of the address: that of whoever asked, not the one on which connections are.
        let host = request.uri().authority().unwrap().as_str().to_owned();
        assert!(!host.starts_with("localhost"), "{host}");
        with_trailers("0")
    });
    let address = serve(Router::new().fallback(told)).await;
    let guard = Setup::new()
        .inbound("grpc", Protocol::H2c, address)
        .inbound("http", Protocol::Http, address)
        .target("stock", Protocol::H2c, &format!("http://{address}"))
        .start()
        .await;
    let places = [guard.inbound["grpc"], guard.inbound["http"], guard.targets["stock"]];
    for place in places {
        let seen = call(place, &[]).await;
        assert_eq!((seen.http, seen.grpc.as_deref()), (200, Some("0")));
        assert_eq!(seen.body, "message");
    }
}

#[tokio::test]
async fn a_status_of_grpc_is_what_the_breaker_sees_in_the_head_and_behind_the_body() {
    for behind in [false, true] {
        let failing = any(move |request: Request| async move {
            request.into_body().collect().await.unwrap();
            if behind {
                with_trailers("14")
            } else {
                trailers_only("14")
            }
        });
        let address = serve(Router::new().fallback(failing)).await;
        let guard = Setup::new()
            .target("stock", Protocol::H2c, &format!("http://{address}"))
            .of_target(|target| {
                target.circuit_breaker.consecutive_failures = Some(2);
                target.circuit_breaker.open_duration = "1m".parse().unwrap();
            })
            .start()
            .await;
        for _ in 0..2 {
            let seen = call(only(&guard.targets), &[]).await;
            assert_eq!((seen.http, seen.grpc.as_deref(), seen.problem), (200, Some("14"), None));
        }
        eventually("the circuit is open", || async {
            (state(&guard).await == "Open").then_some(())
        })
        .await;
        // A client of gRPC reads no status of HTTP.
        let refused = call(only(&guard.targets), &[]).await;
        assert_eq!((refused.http, refused.grpc.as_deref()), (200, Some("14")));
        assert_eq!(refused.problem.as_deref(), Some("circuit-open"));
        assert_eq!(refused.body, "");
    }
}

#[tokio::test]
async fn what_is_the_callers_business_opens_no_circuit() {
    let missing = any(|| async { trailers_only("5") });
    let address = serve(Router::new().fallback(missing)).await;
    let guard = Setup::new()
        .target("stock", Protocol::H2c, &format!("http://{address}"))
        .of_target(|target| target.circuit_breaker.consecutive_failures = Some(1))
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(call(only(&guard.targets), &[]).await.grpc.as_deref(), Some("5"));
    }
    assert_eq!(state(&guard).await, "Closed");
}

#[tokio::test]
async fn a_call_with_a_key_on_a_declared_route_is_tried_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let second = any(move |request: Request| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "ask");
            if first { trailers_only("14") } else { with_trailers("0") }
        }
    });
    let address = serve(Router::new().fallback(second)).await;
    let guard = Setup::new()
        .target("stock", Protocol::H2c, &format!("http://{address}"))
        .of_target(|target| {
            target.idempotent_routes = vec!["POST /shop.Stock/Get".to_owned()];
            target.retry.budget.percent = 100;
        })
        .start()
        .await;
    let seen = call(only(&guard.targets), &[("idempotency-key", "\"one\"")]).await;
    assert_eq!((seen.grpc.as_deref(), calls.swap(0, Ordering::Relaxed)), (Some("0"), 2));
    let seen = call(only(&guard.targets), &[]).await;
    assert_eq!((seen.grpc.as_deref(), calls.load(Ordering::Relaxed)), (Some("14"), 1));
}

#[tokio::test]
async fn the_time_of_a_client_of_grpc_is_a_deadline_and_is_shortened_on_the_way() {
    let told = any(|request: Request| async move {
        let time = request.headers()["grpc-timeout"].to_str().unwrap().to_owned();
        let millis: u64 = time.strip_suffix('m').unwrap().parse().unwrap();
        assert!((1..=2_000).contains(&millis), "{time}");
        if request.headers().contains_key("x-wait") {
            std::future::pending::<()>().await;
        }
        with_trailers("0")
    });
    let address = serve(Router::new().fallback(told)).await;
    let guard = Setup::new()
        .inbound("grpc", Protocol::H2c, address)
        .target("stock", Protocol::H2c, &format!("http://{address}"))
        .start()
        .await;
    for place in [only(&guard.inbound), only(&guard.targets)] {
        assert_eq!(call(place, &[("grpc-timeout", "2S")]).await.grpc.as_deref(), Some("0"));
        let late = call(place, &[("grpc-timeout", "200m"), ("x-wait", "1")]).await;
        assert_eq!(late.grpc.as_deref(), Some("4"));
        assert_eq!(late.problem.as_deref(), Some("deadline-exceeded"));
    }
}

#[tokio::test]
async fn an_application_that_is_not_up_is_unavailable_to_grpc() {
    let guard = Setup::new().inbound("grpc", Protocol::H2c, nobody()).start().await;
    let seen = call(only(&guard.inbound), &[]).await;
    assert_eq!((seen.http, seen.grpc.as_deref()), (200, Some("14")));
    assert_eq!(seen.problem.as_deref(), Some("starting"));
}
