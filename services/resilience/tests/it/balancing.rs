//! Which address a call goes to, on real sockets: dead and bad ones, pods named by DNS, breakers of single addresses.

mod dns;
mod hosts;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::any;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use valerix_resilience::policy::{
    Admission, BreakerScope, CircuitState, Fault, PartitionDirection, PartitionFault, Policy, Target,
};
use valerix_resilience::{CallError, ClusterResolver, Endpoint, Resilience, ResilientClient, Resolve, Resolving};

use crate::support::{Mount, Seen, dead_address, eventually, faults, policy, serve, with_policy};

/// A server that always answers with this status.
async fn answering(status: u16) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = any(move |headers: HeaderMap| async move {
        noted.note(&headers);
        StatusCode::from_u16(status).unwrap()
    });
    (serve(Router::new().fallback(handler)).await, seen)
}

/// Retries are there, and a single failure of the target would show.
fn strict(change: impl FnOnce(&mut Target)) -> Policy {
    policy(|_, target| {
        target.retry.budget.min_per_second = 1_000;
        target.circuit_breaker.consecutive_failures = Some(1);
        change(target);
    })
}

async fn client(policy: &Policy, resolver: impl Resolve) -> (Resilience, ResilientClient) {
    let resilience = with_policy(policy).await;
    let client = resilience
        .client("upstream")
        .url("http://upstream.test")
        .resolver(resolver)
        .build()
        .unwrap();
    // The retry budget begins empty and grows by the floor.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    (resilience, client)
}

fn state(client: &ResilientClient) -> CircuitState {
    client.target().state()
}

#[tokio::test]
async fn a_dead_address_costs_no_call() {
    let (one, seen_one) = answering(200).await;
    let (two, seen_two) = answering(200).await;
    let (_resilience, client) = client(&strict(|_| {}), vec![dead_address(), one, two]).await;
    for number in 0..60 {
        // Nothing was sent to the dead one, so every request may go elsewhere.
        let request = if number % 2 == 0 {
            client.get("/")
        } else {
            client.post("/").json(&number)
        };
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(seen_one.count() + seen_two.count(), 60);
    assert!(
        seen_one.count() > 10 && seen_two.count() > 10,
        "both live ones are used"
    );
    assert_eq!(client.target().breaker().snapshot().failures, 0);
}

#[tokio::test]
async fn a_bad_address_is_left_alone_and_the_breaker_counts_what_is_left() {
    let (good, _) = answering(200).await;
    let (bad, seen_bad) = answering(503).await;
    let (_resilience, client) = client(&strict(|_| {}), vec![good, bad]).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").send().await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(seen_bad.count(), 3, "it is ejected after three failures in a row");
    let snapshot = client.target().breaker().snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (50, 0));
}

#[tokio::test]
async fn what_must_be_sent_once_goes_to_one_address() {
    let (one, seen_one) = answering(503).await;
    let (two, seen_two) = answering(503).await;
    let settings = policy(|_, target| target.retry.budget.min_per_second = 1_000);
    let (_resilience, client) = client(&settings, vec![one, two]).await;
    for calls in 1..=10 {
        let request = if calls % 2 == 0 {
            client.post("/").json(&calls)
        } else {
            client.get("/").stream(reqwest::Body::from("once"))
        };
        assert_eq!(request.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(seen_one.count() + seen_two.count(), calls);
    }
}

#[tokio::test]
async fn a_repetition_at_another_address_is_paid_for() {
    let (one, seen_one) = answering(503).await;
    let (two, seen_two) = answering(503).await;
    let settings = policy(|_, target| {
        target.retry.budget.percent = 0;
        target.retry.budget.min_per_second = 0;
    });
    let (_resilience, client) = client(&settings, vec![one, two]).await;
    let answer = client.get("/").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["valerix-retry"], "no");
    assert_eq!(seen_one.count() + seen_two.count(), 1);
}

#[tokio::test]
async fn the_host_header_is_the_urls() {
    let (one, seen) = answering(200).await;
    let resilience = with_policy(&policy(|_, _| {})).await;
    for (url, host) in [
        ("http://upstream.test/base", "upstream.test"),
        ("http://upstream.test:81", "upstream.test:81"),
    ] {
        let client = resilience
            .client("upstream")
            .url(url)
            .resolver(vec![one])
            .build()
            .unwrap();
        client.get("/").send().await.unwrap();
        assert_eq!(seen.header(seen.count() - 1, "host").unwrap(), host);
    }
}

#[tokio::test]
async fn the_name_that_tls_asks_for_is_the_urls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hello = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4_096];
        let length = socket.read(&mut bytes).await.unwrap();
        bytes.truncate(length);
        bytes
    });
    let resilience = with_policy(&policy(|_, target| target.retry.max_attempts = 1)).await;
    let client = resilience
        .client("upstream")
        .url("https://bank.test")
        .resolver(vec![address])
        .build()
        .unwrap();
    let error = client.get("/").send().await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
    let hello = hello.await.unwrap();
    assert!(
        hello.windows(9).any(|window| window == b"bank.test"),
        "no such name in {} bytes",
        hello.len()
    );
}

#[tokio::test]
async fn without_balancing_the_host_is_connected_to_as_ever() {
    let (one, seen) = answering(200).await;
    let settings = policy(|_, target| {
        target.balancing = Some(valerix_resilience::policy::Balancing {
            balancing_type: valerix_resilience::policy::BalancingType::None,
        });
    });
    let resilience = with_policy(&settings).await;
    let url = format!("http://localhost:{}", one.port());
    let client = resilience
        .client("upstream")
        .url(url)
        .resolver(vec![dead_address()])
        .build()
        .unwrap();
    client.get("/").send().await.unwrap();
    assert_eq!(seen.header(0, "host").unwrap(), format!("localhost:{}", one.port()));
}

/// Addresses of pods that are gone, of a Service that knows better.
struct Gone(Vec<SocketAddr>);

impl Resolve for Gone {
    fn resolve<'resolver>(&'resolver self, _: &'resolver Endpoint) -> Resolving<'resolver> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn host_is_another_way(&self, _: &Endpoint) -> bool {
        true
    }
}

#[tokio::test]
async fn a_call_that_reaches_no_pod_goes_to_the_service_itself() {
    for scope in [BreakerScope::Target, BreakerScope::Host] {
        let (service, seen) = answering(200).await;
        let gone = Gone(vec![dead_address(), dead_address()]);
        let resilience = with_policy(&strict(|target| target.circuit_breaker.scope = scope)).await;
        let url = format!("http://localhost:{}", service.port());
        let client = resilience.client("upstream").url(url).resolver(gone).build().unwrap();
        assert_eq!(client.post("/").json(&1).send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(seen.count(), 1);
        assert_eq!(client.target().breaker().snapshot().failures, 0);
    }
}

#[tokio::test]
async fn a_partition_is_no_matter_of_an_address() {
    let asked = Arc::new(Mutex::new(0));
    struct Counting(Arc<Mutex<u32>>, Vec<SocketAddr>);
    impl Resolve for Counting {
        fn resolve<'resolver>(&'resolver self, _: &'resolver Endpoint) -> Resolving<'resolver> {
            *self.0.lock().unwrap() += 1;
            Box::pin(async { Ok(self.1.clone()) })
        }
    }
    let (one, seen_one) = answering(200).await;
    let (two, seen_two) = answering(200).await;
    let settings = policy(|policy, target| {
        policy.chaos.admission = Admission::Allowed;
        target.retry.max_attempts = 1;
        target.circuit_breaker.minimum_requests = 1_000;
    });
    let mut mount = Mount::with_policy(&settings);
    let cut = Fault {
        partition: Some(PartitionFault {
            direction: PartitionDirection::Egress,
            peer: "upstream".to_owned(),
        }),
        ..Fault::default()
    };
    mount.faults = Some(faults("cut", cut, "60s").render());
    mount.publish();
    let resilience = mount.start().await;
    let resolver = Counting(Arc::clone(&asked), vec![one, two]);
    let client = resilience
        .client("upstream")
        .url("http://upstream.test")
        .resolver(resolver)
        .build()
        .unwrap();
    for _ in 0..20 {
        let error = client.get("/").send().await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error}");
    }
    assert_eq!(*asked.lock().unwrap(), 1);
    mount.faults = Some(valerix_resilience::policy::Faults::default().render());
    mount.publish();
    eventually("the partition ends", || !resilience.faults().cuts_calls_to("upstream")).await;
    for _ in 0..20 {
        client.get("/").send().await.unwrap();
    }
    assert!(seen_one.count() > 0 && seen_two.count() > 0, "none of them was ejected");
}
