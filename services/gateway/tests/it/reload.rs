//! Routes that change while requests are under way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::any;
use serde_json::{Value, json};
use valerix_kit::testing::{TestServer, eventually};

use super::support::{Setup, serve};

fn document(prefix: &str, address: std::net::SocketAddr) -> Value {
    json!({
        "version": 1,
        "targets": [{"name": "order", "url": format!("http://{address}")}],
        "routes": [
            {"name": "fixed", "match": {"pathPrefix": "/fixed"}, "target": "order"},
            {"name": "moving", "match": {"pathPrefix": prefix}, "target": "order"},
        ],
    })
}

/// As a ConfigMap changes: whole or not at all.
fn publish(file: &Path, text: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

async fn routes_of(gateway: &TestServer) -> Value {
    gateway.get("/api/instance").await.body()["routes"].clone()
}

async fn deep(gateway: &TestServer) -> Value {
    let answer = reqwest::get(format!("{}/health/deep", gateway.report)).await.unwrap();
    let deep: Value = answer.json().await.unwrap();
    let checks = deep["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == "routes").unwrap().clone()
}

#[tokio::test]
async fn routes_change_under_load_and_no_request_fails() {
    let address = serve(Router::new().fallback(any(|| std::future::ready("fine")))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.v1.json");
    publish(&file, &document("/a", address).to_string());
    let gateway = Arc::new(Setup::new().following(&file).start().await.server);
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (gateway, done, asked) = (Arc::clone(&gateway), Arc::clone(&done), Arc::clone(&asked));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let answer = gateway.get("/fixed").await;
                    assert_eq!((answer.status, answer.text.as_str()), (200, "fine"), "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..20 {
        let (prefix, before) = (format!("/moving-{round}"), routes_of(&gateway).await);
        publish(&file, &document(&prefix, address).to_string());
        eventually("the new routes are in force", || async {
            (routes_of(&gateway).await != before).then_some(())
        })
        .await;
        assert_eq!(gateway.get(&prefix).await.text, "fine");
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 20, "there was load: {asked:?}");
}

/// On the one thread that there is: whoever is served in between does not wait for thousands of routes to be read.
#[tokio::test]
async fn requests_go_on_while_thousands_of_routes_are_read() {
    let address = serve(Router::new().fallback(any(|| std::future::ready("fine")))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.v1.json");
    publish(&file, &document("/a", address).to_string());
    let gateway = Setup::new().following(&file).start().await.server;
    let route = |number: u32| {
        let name = format!("n{number}");
        json!({"name": name, "match": {"pathPrefix": format!("/{name}")}, "target": "order"})
    };
    // A busy machine may keep one request waiting; were they read on that thread, one would wait each time.
    let mut waits = Vec::new();
    for attempt in 0..5 {
        let before = routes_of(&gateway).await;
        let mut large = document(&format!("/b{attempt}"), address);
        large["routes"].as_array_mut().unwrap().extend((0..9_000).map(route));
        let large = large.to_string();
        let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        publish(&file, &large);
        while routes_of(&gateway).await == before {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest = longest.max(last.elapsed());
        let took = began.elapsed();
        if longest < took / 2 {
            return;
        }
        waits.push((longest, took));
    }
    panic!("each time one request waited for most of it: {waits:?}");
}

#[tokio::test]
async fn bad_routes_are_told_and_change_nothing() {
    let address = serve(Router::new().fallback(any(|| std::future::ready("fine")))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.v1.json");
    publish(&file, &document("/a", address).to_string());
    let gateway = Setup::new().following(&file).start().await.server;
    let good = routes_of(&gateway).await;
    let mut twin = document("/a", address);
    twin["routes"][0]["match"]["pathPrefix"] = json!("/a");
    for (text, reason) in [
        // Each tells something else, as what is told is what the next one waits for.
        ("{", "EOF while parsing an object"),
        ("", "EOF while parsing a value"),
        ("[]", "write a JSON object"),
        (r#"{"version": 2}"#, "this service reads version 1"),
        (r#"{"version": 1, "targets": []}"#, "missing field `routes`"),
        (
            twin.to_string().as_str(),
            "routes[1].match is /a: a request can fit this and fixed alike",
        ),
    ] {
        publish(&file, text);
        let told = eventually("the error is told", || async {
            let deep = deep(&gateway).await;
            deep["reason"]
                .as_str()
                .filter(|told| told.contains(reason))
                .map(str::to_owned)
        })
        .await;
        assert!(told.starts_with("failed to take the routes: "), "{told}");
        assert_eq!(routes_of(&gateway).await, good);
        assert_eq!(gateway.get("/a").await.text, "fine");
    }
    std::fs::remove_file(&file).unwrap();
    eventually("the loss is told", || async {
        let deep = deep(&gateway).await;
        deep["reason"]
            .as_str()
            .is_some_and(|told| told.contains("there is no file"))
            .then_some(())
    })
    .await;
    assert_eq!(gateway.get("/a").await.text, "fine");
    publish(&file, &document("/a", address).to_string());
    eventually("all is well again", || async {
        (deep(&gateway).await["status"] == "up").then_some(())
    })
    .await;
    let metrics = reqwest::get(format!("{}/metrics", gateway.report))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("gateway_config_reloads_total{result=\"rejected\"} 7"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_good_routes_it_is_not_ready_and_then_it_is() {
    let address = serve(Router::new().fallback(any(|| std::future::ready("fine")))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.v1.json");
    let server = Setup::new().following(&file).bind().await;
    let base = format!("http://{}", server.address());
    let starting = tokio::spawn(TestServer::start(server));
    let refused = eventually("it listens", || async {
        reqwest::get(format!("{base}/ready")).await.ok()
    })
    .await;
    assert_eq!(refused.status(), 503);
    publish(&file, &document("/a", address).to_string());
    let gateway = starting.await.unwrap();
    assert_eq!(gateway.get("/a").await.text, "fine");
}
