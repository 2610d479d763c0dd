//! Slow reads raced by a second one: how many are sent, whose answer counts, what becomes of the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;
use valerix_resilience::policy::{Hedge, Policy, Target};
use valerix_resilience::{Resilience, ResilientClient};

use crate::support::{PATIENCE, Seen, eventually, policy, serve, with_policy};

/// A server that answers the n-th request with the n-th status once that request's gate is open; the last for good.
struct Gated {
    address: SocketAddr,
    seen: Seen,
    gates: Arc<Vec<Semaphore>>,
    /// Requests whose caller has gone.
    abandoned: Arc<AtomicUsize>,
}

struct Abandoned(Arc<AtomicUsize>, bool);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

async fn gated(statuses: &'static [u16]) -> Gated {
    let seen = Seen::default();
    let gates: Arc<Vec<Semaphore>> = Arc::new(statuses.iter().map(|_| Semaphore::new(0)).collect());
    let abandoned = Arc::new(AtomicUsize::new(0));
    let (noted, waits, counts) = (seen.clone(), Arc::clone(&gates), Arc::clone(&abandoned));
    let handler = any(move |headers: HeaderMap| async move {
        let number = noted.note(&headers).min(statuses.len()) - 1;
        let mut watched = Abandoned(counts, false);
        drop(waits[number].acquire().await);
        watched.1 = true;
        StatusCode::from_u16(statuses[number]).unwrap()
    });
    let address = serve(Router::new().fallback(handler)).await;
    Gated {
        address,
        seen,
        gates,
        abandoned,
    }
}

impl Gated {
    fn open(&self, number: usize) {
        self.gates[number].add_permits(1_000);
    }
}

fn hedged(hedge: Hedge, change: impl FnOnce(&mut Target)) -> Policy {
    policy(|_, target| {
        target.hedge = Some(hedge);
        target.retry.budget.min_per_second = 1_000;
        change(target);
    })
}

fn soon() -> Hedge {
    Hedge::after("20ms".parse().unwrap())
}

async fn client(policy: &Policy, addresses: Vec<SocketAddr>) -> (Resilience, ResilientClient) {
    let resilience = with_policy(policy).await;
    let client = resilience
        .client("upstream")
        .url("http://upstream.test")
        .resolver(addresses)
        .build()
        .unwrap();
    // The budget begins empty and grows by the floor.
    tokio::time::sleep(Duration::from_millis(50)).await;
    (resilience, client)
}

#[tokio::test]
async fn a_slow_read_is_raced_at_another_address_and_the_loser_cancelled() {
    for method in [Method::GET, Method::HEAD] {
        let (one, two) = (gated(&[200]).await, gated(&[200]).await);
        let (_resilience, client) = client(&hedged(soon(), |_| {}), vec![one.address, two.address]).await;
        let racing = client.clone();
        let call = tokio::spawn(async move { racing.request(method, "/").send().await });
        eventually("both have it", || one.seen.count() == 1 && two.seen.count() == 1).await;
        one.open(0);
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
        eventually("the loser is cancelled", || two.abandoned.load(Ordering::SeqCst) == 1).await;
        let snapshot = client.target().breaker().snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (1, 0), "the loser is neutral");
        assert_eq!(
            client.target().state(),
            valerix_resilience::policy::CircuitState::Closed
        );
    }
}

#[tokio::test]
async fn only_reads_are_raced_and_only_where_the_policy_says_so() {
    let cases = [
        (Method::POST, Some(soon())),
        (Method::PUT, Some(soon())),
        (Method::DELETE, Some(soon())),
        (Method::GET, None),
    ];
    for (method, hedge) in cases {
        let server = gated(&[200]).await;
        let settings = policy(|_, target| {
            target.hedge = hedge;
            target.idempotent_routes = vec!["POST /".to_owned(), "PUT /".to_owned(), "DELETE /".to_owned()];
            target.retry.budget.min_per_second = 1_000;
        });
        let (_resilience, client) = client(&settings, vec![server.address]).await;
        let call = tokio::spawn(async move { client.request(method, "/").idempotency_key("k").send().await });
        eventually("it arrives", || server.seen.count() == 1).await;
        // Five times the delay: that nothing comes cannot be awaited.
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.open(0);
        call.await.unwrap().unwrap();
        assert_eq!(server.seen.count(), 1);
    }
}

#[tokio::test]
async fn never_more_than_configured() {
    let server = gated(&[200]).await;
    let hedge = Hedge {
        max_hedged_attempts: 2,
        ..soon()
    };
    let (_resilience, client) = client(&hedged(hedge, |_| {}), vec![server.address]).await;
    let call = tokio::spawn(async move { client.get("/").send().await });
    eventually("one and two more", || server.seen.count() == 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.open(0);
    call.await.unwrap().unwrap();
    assert_eq!(server.seen.count(), 3);
}

#[tokio::test]
async fn it_is_paid_from_the_retry_budget_and_needs_a_place() {
    let poor: fn(&mut Target) = |target| {
        target.retry.budget.percent = 0;
        target.retry.budget.min_per_second = 0;
    };
    let narrow: fn(&mut Target) = |target| target.bulkhead.max_concurrent = 1;
    for change in [poor, narrow] {
        let server = gated(&[200]).await;
        let (_resilience, client) = client(&hedged(soon(), change), vec![server.address]).await;
        let call = tokio::spawn(async move { client.get("/").send().await });
        eventually("it arrives", || server.seen.count() == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.open(0);
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(server.seen.count(), 1);
    }
}

#[tokio::test]
async fn a_failure_does_not_win() {
    let server = gated(&[500, 200]).await;
    let (_resilience, client) = client(&hedged(soon(), |_| {}), vec![server.address]).await;
    let racing = client.clone();
    let call = tokio::spawn(async move { racing.get("/").send().await });
    eventually("both arrive", || server.seen.count() == 2).await;
    server.open(0);
    eventually("the failure is counted", || {
        client.target().breaker().snapshot().failures == 1
    })
    .await;
    assert!(!call.is_finished());
    server.open(1);
    assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn when_all_fail_the_call_goes_on_as_without() {
    let server = gated(&[503, 503, 200]).await;
    (0..3).for_each(|number| server.open(number));
    let (_resilience, client) = client(&hedged(soon(), |_| {}), vec![server.address]).await;
    assert_eq!(client.get("/").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.seen.count(), 3);
}

/// The first reaches nobody while the second, which was sent, still waits for its answer: that one has the last word of it.
#[tokio::test(start_paused = true)]
async fn what_the_second_has_sent_is_told_although_the_first_reached_nobody() {
    use tower::{Layer, Service};
    let resilience = with_policy(&hedged(soon(), |target| target.retry.budget.percent = 100)).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&sent);
    let inner = tower::service_fn(move |_: http::Request<()>| {
        let first = counts.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let left = Duration::from_millis(if first { 50 } else { 60_000 });
            tokio::time::sleep(left).await;
            Err::<http::Response<()>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        }
    });
    let mut service = resilience.client_layer("upstream").layer(inner);
    let mut request = http::Request::get("http://upstream/").body(()).unwrap();
    let deadline = valerix_resilience::Deadline::after(Duration::from_millis(200));
    request.extensions_mut().insert(deadline);
    let error = service.call(request).await.unwrap_err();
    assert_eq!(sent.load(Ordering::SeqCst), 2);
    assert!(error.may_have_acted(), "{error:?}");
}

#[tokio::test]
async fn the_delay_can_be_learned() {
    let server = gated(&[200]).await;
    server.open(0);
    // Until enough was measured the delay is longer than this test.
    let hedge = Hedge::at_percentile(95, "1h".parse().unwrap());
    let settings = hedged(hedge, |target| {
        target.timeout.request = "2h".parse().unwrap();
        target.timeout.attempt = "2h".parse().unwrap();
    });
    let (_resilience, client) = client(&settings, vec![server.address]).await;
    for _ in 0..100 {
        client.get("/").send().await.unwrap();
    }
    assert_eq!(server.seen.count(), 100);
    server.gates[0].forget_permits(usize::MAX >> 4);
    let racing = client.clone();
    let call = tokio::spawn(async move { racing.get("/").send().await });
    eventually("a second is sent", || server.seen.count() == 102).await;
    server.open(0);
    tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
}
