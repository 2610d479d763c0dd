//! What comes to the application by HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{any, get};
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use valerix_policy::guard::Protocol;
use valerix_policy::{LimitKey, LimitKeyType, LimitScope, RateLimitRule};

use super::support::{Setup, closed, nobody, raw, read_head, serve, serve_on};

#[tokio::test]
async fn a_request_reaches_the_application_as_it_came() {
    let told = any(|request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let headers = &parts.headers;
        let has = |name: &str| headers.contains_key(name);
        format!(
            "{} {} host={} via={} keep-alive={} secret={} body={}",
            parts.method,
            parts.uri,
            headers["host"].to_str().unwrap(),
            has("via"),
            has("keep-alive"),
            has("x-secret"),
            String::from_utf8_lossy(&body)
        )
    });
    let guard = Setup::new()
        .inbound("http", Protocol::Http, serve(Router::new().fallback(told)).await)
        .start()
        .await;
    let mut client = guard.connect().await;
    let request =
        b"PUT /a%2Fb?c=d HTTP/1.1\r\nHost: shop.example:81\r\nConnection: close, x-secret\r\nKeep-Alive: 5\r\n\
        X-Secret: 1\r\nContent-Length: 2\r\n\r\nhi";
    client.write_all(request).await.unwrap();
    let answer = closed(&mut client).await;
    let seen = "PUT /a%2Fb?c=d host=shop.example:81 via=false keep-alive=false secret=false body=hi";
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(seen), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nvia:"), "{answer}");
}

#[tokio::test]
async fn no_sender_can_take_off_what_the_guard_says() {
    let told = any(|headers: HeaderMap| async move {
        let time = headers
            .get("valerix-timeout-ms")
            .map(|time| time.to_str().unwrap().to_owned());
        time.unwrap_or_default()
    });
    let guard = Setup::new()
        .inbound("http", Protocol::Http, serve(Router::new().fallback(told)).await)
        .start()
        .await;
    let mut client = guard.connect().await;
    let request = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close, Valerix-Timeout-Ms\r\n\r\n";
    client.write_all(request).await.unwrap();
    let answer = closed(&mut client).await;
    let time = answer.rsplit("\r\n").next().and_then(|time| time.parse::<u64>().ok());
    assert!(time.is_some_and(|time| time > 0), "{answer}");
}

#[tokio::test]
async fn an_application_that_does_not_listen_yet_is_starting_and_nothing_else() {
    let address = nobody();
    let guard = Setup::new().inbound("http", Protocol::Http, address).start().await;
    let answer = reqwest::get(guard.base()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["valerix-problem"], "starting");
    let router = Router::new().route("/", get(|| async { "up" }));
    serve_on(TcpListener::bind(address).await.unwrap(), router);
    assert_eq!(reqwest::get(guard.base()).await.unwrap().text().await.unwrap(), "up");
    let report = guard.report().await;
    assert_eq!(
        report["circuitBreakers"],
        serde_json::json!([]),
        "the application is no target"
    );
}

#[tokio::test]
async fn an_application_that_listens_on_the_address_of_its_pod_alone_is_found_there() {
    let pod: IpAddr = "127.0.0.2".parse().unwrap();
    let listener = TcpListener::bind((pod, 0)).await.unwrap();
    let address = serve_on(listener, Router::new().route("/", get(|| async { "here" })));
    let setup = Setup::new().inbound("http", Protocol::Http, address);
    let guard = setup.change(|config| config.pod_ip = Some(pod)).start().await;
    assert_eq!(reqwest::get(guard.base()).await.unwrap().text().await.unwrap(), "here");
}

#[tokio::test]
async fn the_limits_and_the_time_of_the_policy_hold_for_an_application_that_knows_of_none() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let router = Router::new()
        .route(
            "/limited",
            get(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                async { "" }
            }),
        )
        .route("/slow", get(std::future::pending::<&'static str>))
        .route(
            "/time",
            get(|headers: HeaderMap| async move { headers["valerix-timeout-ms"].to_str().unwrap().to_owned() }),
        );
    let guard = Setup::new()
        .inbound("http", Protocol::Http, serve(router).await)
        .policy(|policy| {
            policy.inbound.timeout = "1s".parse().unwrap();
            let rule = RateLimitRule {
                name: "few".to_owned(),
                scope: LimitScope::Replica,
                routes: vec!["GET /limited".to_owned()],
                requests: 2,
                window: "1m".parse().unwrap(),
                burst: None,
                algorithm: None,
                key: Some(LimitKey {
                    key_type: LimitKeyType::ClientIp,
                    name: None,
                }),
            };
            policy.inbound.rate_limit.rules = vec![rule];
        })
        .start()
        .await;
    let ask = |path: &str| reqwest::get(format!("{}{path}", guard.base()));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(ask("/limited").await.unwrap().status().as_u16());
    }
    assert_eq!(seen, [200, 200, 429, 429]);
    assert_eq!(
        calls.load(Ordering::Relaxed),
        2,
        "who is refused does not reach the application"
    );
    let late = ask("/slow").await.unwrap();
    assert_eq!(late.headers()["valerix-problem"], "deadline-exceeded");
    assert_eq!(late.status(), 504);
    let left: u64 = ask("/time").await.unwrap().text().await.unwrap().parse().unwrap();
    assert!((1..=1_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    let address = raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        stream.write_all(answer).await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    })
    .await;
    let guard = Setup::new()
        .inbound("http", Protocol::Http, address)
        .target("live", Protocol::Http, &format!("http://{address}"))
        .start()
        .await;
    for mut client in [guard.connect().await, guard.connect_target().await] {
        let asked = b"GET /live HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.write_all(asked).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let mut first = [0; 5];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"first");
        client.write_all(b"and back").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(closed(&mut client).await, "and back");
    }
}

#[tokio::test]
async fn events_come_when_they_happen() {
    let (tell, told) = tokio::sync::mpsc::channel::<Result<&'static str, std::io::Error>>(1);
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let stream = get(move || {
        let events = told.lock().unwrap().take().unwrap();
        let events = futures::stream::unfold(events, |mut events| async {
            let event = events.recv().await?;
            Some((event, events))
        });
        async { ([("content-type", "text/event-stream")], Body::from_stream(events)) }
    });
    let router = Router::new().route("/events", stream);
    let guard = Setup::new()
        .inbound("http", Protocol::Http, serve(router).await)
        .policy(|policy| policy.inbound.timeout = "1s".parse().unwrap())
        .start()
        .await;
    let mut answer = reqwest::get(format!("{}/events", guard.base())).await.unwrap();
    for event in ["one", "two"] {
        // Longer than a request may take: what streams is exempt from that.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        tell.send(Ok(event)).await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), event);
    }
}
