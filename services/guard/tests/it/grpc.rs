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
use valerix_proxy::testing::{calls_of_every_kind_pass, grpc_echo};

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

/// An answer whose head says nothing yet, with these pieces behind it and then a status.
fn after_pieces(pieces: &'static [&'static str], status: &'static str) -> Response {
    let pieces = pieces
        .iter()
        .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
    let frames = pieces.chain([Frame::trailers(trailers)]).map(Ok::<_, std::io::Error>);
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(futures::stream::iter(
            frames.collect::<Vec<_>>(),
        ))))
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

/// A target whose first answer is that of `first` and whose others are good, behind a guard that may ask it twice; how often
/// it was asked.
async fn failing_first(first: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Running, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let answers = any(move |request: Request| {
        let (asked, first) = (counted.fetch_add(1, Ordering::Relaxed), first.clone());
        async move {
            request.into_body().collect().await.unwrap();
            if asked == 0 { first() } else { with_trailers("0") }
        }
    });
    let address = serve(Router::new().fallback(answers)).await;
    let guard = Setup::new()
        .target("stock", Protocol::H2c, &format!("http://{address}"))
        .of_target(|target| {
            target.idempotent_routes = vec!["POST /shop.Stock/Get".to_owned()];
            target.retry.budget.percent = 100;
            target.timeout.attempt = "2s".parse().unwrap();
        })
        .start()
        .await;
    (guard, calls)
}

async fn call_with_key(guard: &Running) -> Seen {
    call(only(&guard.targets), &[("idempotency-key", "\"one\"")]).await
}

#[tokio::test]
async fn unavailable_before_the_first_message_is_tried_again() {
    let (guard, calls) = failing_first(|| after_pieces(&[], "14")).await;
    let seen = call_with_key(&guard).await;
    assert_eq!((seen.grpc.as_deref(), seen.body), (Some("0"), Bytes::from("message")));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_broke_off_before_the_first_message_is_tried_again() {
    let (guard, calls) = failing_first(|| {
        let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        let answer = Response::builder().header("content-type", "application/grpc");
        answer.body(Body::from_stream(broken)).unwrap()
    })
    .await;
    assert_eq!(call_with_key(&guard).await.grpc.as_deref(), Some("0"));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// What nobody can take back is not done again, and what is the caller's business neither.
#[tokio::test]
async fn after_a_message_and_for_another_status_nothing_is_tried_again() {
    for (pieces, status) in [(&["first"][..], "14"), (&[], "5"), (&[], "8"), (&[], "13")] {
        let (guard, calls) = failing_first(move || after_pieces(pieces, status)).await;
        let seen = call_with_key(&guard).await;
        assert_eq!(
            (seen.grpc.as_deref(), &*seen.body),
            (Some(status), pieces.concat().as_bytes())
        );
        assert_eq!(calls.load(Ordering::Relaxed), 1, "{status}");
    }
}

/// A stream whose first message takes its time is no failure, and its head is not kept from the caller for ever.
#[tokio::test]
async fn a_head_is_not_held_back_for_as_long_as_an_attempt_may_take() {
    let (guard, _) = failing_first(|| {
        let late = futures::stream::pending::<std::io::Result<Bytes>>();
        let answer = Response::builder().header("content-type", "application/grpc");
        answer.body(Body::from_stream(late)).unwrap()
    })
    .await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = request(only(&guard.targets), &[("idempotency-key", "\"one\"")]);
    let answer = client.request(request).await.unwrap();
    assert!(!answer.headers().contains_key("valerix-problem"), "{answer:?}");
}

#[tokio::test]
async fn calls_of_every_kind_pass_to_the_application_and_to_a_target() {
    let address = grpc_echo().await;
    let guard = Setup::new()
        .inbound("grpc", Protocol::H2c, address)
        .inbound("http", Protocol::Http, address)
        .target("echo", Protocol::H2c, &format!("http://{address}"))
        .start()
        .await;
    for place in guard.inbound.values().chain(guard.targets.values()) {
        calls_of_every_kind_pass(*place).await;
    }
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
