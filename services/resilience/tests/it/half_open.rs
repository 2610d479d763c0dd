//! Who may probe a target whose circuit is half-open, and what becomes of probes that hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::IntoResponse;
use http::StatusCode;
use tokio::sync::Semaphore;
use valerix_resilience::policy::{CircuitState, Hedge, Policy, Target};
use valerix_resilience::{CallError, Outcome, Resilience, ResilientClient};

use crate::outbound::{client, server, state};
use crate::support::{Seen, eventually, policy};

/// A target whose circuit is half-open, and whose server holds every request until the gate opens.
struct Probing {
    client: ResilientClient,
    resilience: Resilience,
    settings: Policy,
    seen: Seen,
    most: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

async fn probing(change: impl FnOnce(&mut Target)) -> Probing {
    let (gate, most) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waits, marks, under_way) = (Arc::clone(&gate), Arc::clone(&most), Arc::new(AtomicUsize::new(0)));
    let (address, seen) = server(move |_| {
        let (waits, marks, under_way) = (Arc::clone(&waits), Arc::clone(&marks), Arc::clone(&under_way));
        async move {
            marks.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            drop(waits.acquire().await);
            under_way.fetch_sub(1, Ordering::SeqCst);
            StatusCode::OK.into_response()
        }
    })
    .await;
    let settings = policy(|_, target| {
        target.circuit_breaker.consecutive_failures = Some(1);
        target.circuit_breaker.half_open_permits = 5;
        target.circuit_breaker.open_duration = "10ms".parse().unwrap();
        target.circuit_breaker.max_open_duration = "10ms".parse().unwrap();
        target.bulkhead.max_concurrent = 5_000;
        target.retry.budget.min_per_second = 1_000;
        change(target);
    });
    let (resilience, client) = client(&settings, vec![address]).await;
    client
        .target()
        .breaker()
        .try_acquire()
        .unwrap()
        .record(Outcome::Failure);
    let probing = Probing {
        client,
        resilience,
        settings,
        seen,
        most,
        gate,
    };
    probing.open_time_passes().await;
    probing
}

impl Probing {
    async fn open_time_passes(&self) {
        let snapshot = || self.client.target().breaker().snapshot();
        eventually("the open time passes", || {
            snapshot().next_probe_in.is_none_or(|left| left.is_zero())
        })
        .await;
    }

    /// From now on a probe has so much time.
    fn probes_may_take(&self, time: &str) {
        let mut settings = self.settings.clone();
        settings.targets[0].circuit_breaker.half_open_timeout = time.parse().unwrap();
        self.resilience.apply_policy(settings.render().as_bytes()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_never_exceed_the_permits() {
    for hedge in [None, Some(Hedge::after("1ms".parse().unwrap()))] {
        let probing = probing(|target| target.hedge = hedge).await;
        let refused = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..1_000)
            .map(|_| {
                let (client, refused) = (probing.client.clone(), Arc::clone(&refused));
                tokio::spawn(async move {
                    match client.get("/").send().await {
                        Ok(answer) => assert_eq!(answer.status(), StatusCode::OK),
                        Err(CallError::CircuitOpen { .. }) => drop(refused.fetch_add(1, Ordering::SeqCst)),
                        Err(other) => panic!("{other}"),
                    }
                })
            })
            .collect();
        eventually("all but the probes are refused", || {
            refused.load(Ordering::SeqCst) >= 995
        })
        .await;
        eventually("the probes arrive", || probing.most.load(Ordering::SeqCst) >= 5).await;
        assert_eq!(state(&probing.client), CircuitState::HalfOpen);
        assert_eq!(probing.most.load(Ordering::SeqCst), 5, "at a time, at the server");
        probing.gate.add_permits(10_000);
        for caller in callers {
            caller.await.unwrap();
        }
        // With hedges fewer callers than permits had their answer, the rest were cancelled twins: the next ones close it.
        while state(&probing.client) != CircuitState::Closed {
            assert!(hedge.is_some(), "five successes close it");
            probing.client.get("/").send().await.unwrap();
        }
    }
}

#[tokio::test]
async fn probes_that_hang_do_not_wedge_it() {
    let probing = probing(|target| {
        target.circuit_breaker.half_open_permits = 2;
        // Only the probe's own time can end the waiting.
        target.timeout.attempt = "10m".parse().unwrap();
        target.timeout.request = "10m".parse().unwrap();
    })
    .await;
    let probe = || {
        let client = probing.client.clone();
        tokio::spawn(async move { client.get("/").send().await.map(|answer| answer.status()) })
    };
    for round in 0..3 {
        let hung = [probe(), probe()];
        eventually("both hang", || probing.seen.count() == 2 * (round + 1)).await;
        // Not before: on a busy machine the first one's time could be over before the second is under way.
        probing.probes_may_take("50ms");
        // Whoever asks after their time finds them failed: it opens again, and then there are probes again.
        let asked = async {
            // A refusal says when to come back once the circuit is open; while probes are under way there is no such time.
            loop {
                match probing.client.get("/").send().await {
                    Err(CallError::CircuitOpen { retry_after, .. }) if !retry_after.is_zero() => break,
                    Err(CallError::CircuitOpen { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => panic!("no third probe may pass: {other:?}"),
                }
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, asked).await.unwrap();
        probing.open_time_passes().await;
        probing.probes_may_take("1m");
        hung.iter().for_each(tokio::task::JoinHandle::abort);
    }
    probing.gate.add_permits(1_000);
    for _ in 0..2 {
        probing.client.get("/").send().await.unwrap();
    }
    assert_eq!(state(&probing.client), CircuitState::Closed);
}
