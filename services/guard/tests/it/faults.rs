//! Faults that an experiment asks a guarded pod to show, as its callers and its application see them.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use valerix_policy::guard::Protocol;
use valerix_policy::{AbortFault, ErrorsFault, Fault, LatencyFault, PartitionDirection, PartitionFault, RefuseFault};

use super::support::{PATIENCE, Setup, closed, echo, eventually, say, serve};

fn latency(delay: &str) -> Fault {
    let latency = LatencyFault {
        delay: delay.parse().unwrap(),
        jitter: "0s".parse().unwrap(),
        percent: 100,
        routes: Vec::new(),
    };
    Fault {
        latency: Some(latency),
        ..Fault::default()
    }
}

fn partition(peer: &str) -> Fault {
    let partition = PartitionFault {
        direction: PartitionDirection::Egress,
        peer: peer.to_owned(),
    };
    Fault {
        partition: Some(partition),
        ..Fault::default()
    }
}

fn errors(status: u16) -> Fault {
    let errors = ErrorsFault {
        percent: 100,
        status,
        routes: Vec::new(),
    };
    Fault {
        errors: Some(errors),
        ..Fault::default()
    }
}

fn abort() -> Fault {
    let abort = AbortFault {
        percent: 100,
        routes: Vec::new(),
    };
    Fault {
        abort: Some(abort),
        ..Fault::default()
    }
}

fn refuse() -> Fault {
    Fault {
        refuse: Some(RefuseFault {}),
        ..Fault::default()
    }
}

#[tokio::test]
async fn an_application_that_knows_no_faults_shows_them() {
    let router = Router::new().route("/", get(|| async { "well" }));
    let guard = Setup::new()
        .inbound("http", Protocol::Http, serve(router).await)
        .start()
        .await;
    guard.fault(errors(500)).await;
    let answer = reqwest::get(guard.base()).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.headers()["valerix-problem"], "injected-fault");
    assert_eq!(guard.report().await["faults"][0]["hits"], 1);
    guard.no_fault().await;
    assert_eq!(reqwest::get(guard.base()).await.unwrap().text().await.unwrap(), "well");
}

#[tokio::test]
async fn a_request_that_is_aborted_or_refused_has_no_answer() {
    for fault in [abort(), refuse()] {
        let router = Router::new().route("/", get(|| async { "well" }));
        let guard = Setup::new()
            .inbound("http", Protocol::Http, serve(router).await)
            .start()
            .await;
        guard.fault(fault.clone()).await;
        let answer = reqwest::get(guard.base()).await;
        assert!(answer.is_err(), "{fault:?}: the connection ends without one");
        guard.no_fault().await;
        assert_eq!(reqwest::get(guard.base()).await.unwrap().status(), 200, "{fault:?}");
    }
}

#[tokio::test]
async fn a_partition_cuts_calls_to_a_target() {
    let router = Router::new().route("/", get(|| async { "well" }));
    let address = serve(router).await;
    let guard = Setup::new()
        .target("stock", Protocol::Http, &format!("http://{address}"))
        .start()
        .await;
    assert_eq!(reqwest::get(guard.target()).await.unwrap().status(), 200);
    guard.fault(partition("stock")).await;
    let answer = reqwest::Client::new().post(guard.target()).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["valerix-problem"], "unreachable");
    guard.no_fault().await;
    assert_eq!(reqwest::get(guard.target()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_redis_that_is_cut_off_is_gone_for_open_connections_too_and_comes_back() {
    let address = echo().await;
    let guard = Setup::new()
        .target("redis", Protocol::Tcp, &format!("tcp://{address}"))
        .start()
        .await;
    let mut open = guard.connect_target().await;
    assert_eq!(say(&mut open, "PING").await.unwrap(), "PING");
    guard.fault(partition("redis")).await;
    closed(&mut open).await;
    assert_eq!(closed(&mut guard.connect_target().await).await, "");
    let counted = reqwest::get(format!("http://{}/metrics", guard.report))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for outcome in ["cut", "refused"] {
        let line = format!("guard_connections_total{{listener=\"target redis\",outcome=\"{outcome}\"}} 1");
        assert!(counted.contains(&line), "{line}");
    }
    let report = guard.report().await;
    assert!(report["faults"][0]["hits"].as_u64().unwrap() >= 2, "{report}");
    assert!(
        report["circuitBreakers"][0]["failures"].as_u64().unwrap() >= 1,
        "{report}"
    );
    guard.no_fault().await;
    eventually("the target is back", || async {
        say(&mut guard.connect_target().await, "PING").await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_port_that_refuses_resets_what_is_open_and_what_comes() {
    let address = echo().await;
    let guard = Setup::new().inbound("redis", Protocol::Tcp, address).start().await;
    let mut open = guard.connect().await;
    assert_eq!(say(&mut open, "PING").await.unwrap(), "PING");
    guard.fault(refuse()).await;
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut open, &mut rest);
    let ended = tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("what is open is reset");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(say(&mut guard.connect().await, "PING").await.is_err());
    guard.no_fault().await;
    assert_eq!(say(&mut guard.connect().await, "PING").await.unwrap(), "PING");
}

/// Where nobody speaks HTTP, what a request would be answered with is a connection that ends.
#[tokio::test]
async fn a_connection_that_meets_a_fault_of_requests_is_reset() {
    for fault in [abort(), errors(503)] {
        let guard = Setup::new().inbound("redis", Protocol::Tcp, echo().await).start().await;
        guard.fault(fault.clone()).await;
        let heard = say(&mut guard.connect().await, "PING").await;
        assert!(heard.is_err(), "{fault:?}: {heard:?}");
        guard.no_fault().await;
        assert_eq!(
            say(&mut guard.connect().await, "PING").await.unwrap(),
            "PING",
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_is_delayed_once_and_not_its_bytes() {
    let address = echo().await;
    let guard = Setup::new().inbound("redis", Protocol::Tcp, address).start().await;
    guard.fault(latency("3s")).await;
    let mut client = guard.connect().await;
    let began = Instant::now();
    assert_eq!(say(&mut client, "PING").await.unwrap(), "PING");
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(say(&mut client, "PING").await.unwrap(), "PING");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
