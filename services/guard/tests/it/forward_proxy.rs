//! The forward proxy.

use axum::Router;
use axum::routing::any;
use http::Uri;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use valerix_policy::guard::{Protocol, UnknownHosts};

use super::support::{Running, Setup, closed, echo, nobody, read_head, say, serve};

/// A client that is told of the proxy as `http_proxy` tells it.
fn client(guard: &Running) -> reqwest::Client {
    let proxy = reqwest::Proxy::http(format!("http://{}", guard.proxy.unwrap())).unwrap();
    reqwest::Client::builder().proxy(proxy).build().unwrap()
}

async fn tunnel(guard: &Running, authority: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(guard.proxy.unwrap()).await.unwrap();
    let asked = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    (stream, head)
}

#[tokio::test]
async fn a_request_is_matched_to_the_target_at_its_host_and_port() {
    let told = any(|uri: Uri| async move { uri.to_string() });
    let address = serve(Router::new().fallback(told)).await;
    let elsewhere = nobody();
    let guard = Setup::new()
        .forward_proxy(UnknownHosts::Forward)
        // A target that only the policy knows.
        .policy(|policy| {
            let mut target = valerix_policy::Target::named("stock");
            target.url = Some(format!("http://{address}"));
            policy.targets.push(target);
        })
        .target("gone", Protocol::Http, &format!("http://{elsewhere}"))
        .of_target(|target| target.circuit_breaker.consecutive_failures = Some(1))
        .start()
        .await;
    let client = client(&guard);
    let answer = client
        .get(format!("http://{address}/items?all=1"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "/items?all=1");
    let known = guard.report().await["circuitBreakers"].to_string();
    assert!(known.contains("stock"), "{known}");
    let seen = [
        client.post(format!("http://{elsewhere}/")).send().await.unwrap(),
        client.post(format!("http://{elsewhere}/")).send().await.unwrap(),
    ];
    let problems = seen.map(|answer| answer.headers()["valerix-problem"].to_str().unwrap().to_owned());
    assert_eq!(problems, ["unreachable", "circuit-open"]);
}

#[tokio::test]
async fn a_host_is_one_however_it_is_written() {
    let address = serve(Router::new().fallback(any(|| async { "well" }))).await;
    let guard = Setup::new()
        .forward_proxy(UnknownHosts::Refuse)
        .target("stock", Protocol::Http, &format!("http://localhost:{}", address.port()))
        .start()
        .await;
    // By hand: a client would write it small.
    for host in ["localhost", "LocalHost", "localhost.", "LOCALHOST."] {
        let mut stream = TcpStream::connect(guard.proxy.unwrap()).await.unwrap();
        let authority = format!("{host}:{}", address.port());
        let asked = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let answer = closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn hosts_that_are_no_target_are_passed_on_or_refused_as_the_wiring_says() {
    let told = any(|uri: Uri| async move { uri.to_string() });
    let address = serve(Router::new().fallback(told)).await;
    let url = format!("http://{address}/items");
    let guard = Setup::new().forward_proxy(UnknownHosts::Forward).start().await;
    let answer = client(&guard).get(&url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "/items");
    let gone = client(&guard)
        .get(format!("http://{}/", nobody()))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 502);
    assert_eq!(gone.headers()["valerix-problem"], "unreachable");

    let guard = Setup::new().forward_proxy(UnknownHosts::Refuse).start().await;
    let answer = client(&guard).get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["valerix-problem"], "unknown-host");
    assert!(answer.text().await.unwrap().contains(&address.to_string()));
    let (_, head) = tunnel(&guard, &address.to_string()).await;
    assert!(
        head.starts_with("HTTP/1.1 502") && head.contains("unknown-host"),
        "{head}"
    );
}

#[tokio::test]
async fn a_tunnel_has_the_breaker_and_the_bulkhead_of_its_target() {
    let (address, elsewhere) = (echo().await, nobody());
    let guard = Setup::new()
        .forward_proxy(UnknownHosts::Refuse)
        .target("gone", Protocol::Http, &format!("https://{elsewhere}"))
        .of_target(|target| target.circuit_breaker.consecutive_failures = Some(1))
        .target("bank", Protocol::Http, &format!("https://{address}"))
        .of_target(|target| {
            target.bulkhead.max_concurrent = 1;
            target.bulkhead.max_wait = "0s".parse().unwrap();
        })
        .start()
        .await;
    let (mut first, head) = tunnel(&guard, &address.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(say(&mut first, "hello").await.unwrap(), "hello");
    let (_, head) = tunnel(&guard, &address.to_string()).await;
    assert!(
        head.starts_with("HTTP/1.1 503") && head.contains("overloaded"),
        "{head}"
    );
    first.shutdown().await.unwrap();
    assert_eq!(closed(&mut first).await, "");
    for problem in ["unreachable", "circuit-open"] {
        let (_, head) = tunnel(&guard, &elsewhere.to_string()).await;
        assert!(head.contains(problem), "{problem}: {head}");
    }
}

#[tokio::test]
async fn who_takes_the_proxy_for_a_server_is_told() {
    let guard = Setup::new().forward_proxy(UnknownHosts::Forward).start().await;
    let answer = reqwest::get(format!("http://{}/", guard.proxy.unwrap())).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("forward proxy"));
}
