use std::task::Poll;
use std::time::Duration;

use http::{Response, StatusCode};
use tower::{BoxError, Layer, Service, ServiceExt};
use valerix_resilience::layers::{CircuitBreakerLayer, LayerError, TimeoutLayer};
use valerix_resilience::policy::{self, CircuitState};
use valerix_resilience::{CircuitBreaker, Deadline, ManualClock, Outcome};

use super::{NeverReady, Strict, settle};

fn settings() -> policy::CircuitBreaker {
    policy::CircuitBreaker {
        consecutive_failures: Some(3),
        half_open_permits: 2,
        ..policy::CircuitBreaker::default()
    }
}

fn on_manual_clock() -> (
    CircuitBreakerLayer<valerix_resilience::layers::AnyAnswer, ManualClock>,
    ManualClock,
) {
    let clock = ManualClock::default();
    let breaker = CircuitBreaker::with_clock(&settings(), clock.clone());
    (CircuitBreakerLayer::of("upstream", breaker.into()), clock)
}

#[tokio::test]
async fn three_failures_open_it_for_all_clones_and_probes_close_it() {
    let (layer, clock) = on_manual_clock();
    let inner = Strict::new(|fail: bool| async move { if fail { Err("out of order".into()) } else { Ok(()) } });
    let seen = inner.seen.clone();
    let service = layer.layer(inner);
    for _ in 0..3 {
        let error = service.clone().oneshot(true).await.unwrap_err();
        assert_eq!(
            (error.category(), error.to_string().as_str()),
            ("Inner", "out of order")
        );
    }
    let error = service.clone().oneshot(false).await.unwrap_err();
    assert!(matches!(&error, LayerError::CircuitOpen { name, .. } if &**name == "upstream"));
    assert_eq!(error.problem().headers()["valerix-retry"], "no");
    assert_eq!(seen.calls(), 3, "silent while open");
    clock.advance(Duration::from_secs(16));
    for _ in 0..2 {
        service.clone().oneshot(false).await.unwrap();
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_although_the_service_is_never_ready() {
    let (layer, _clock) = on_manual_clock();
    let mut service = layer.layer(NeverReady);
    assert!(futures::poll!(ServiceExt::<()>::ready(&mut service)).is_pending());
    while let Ok(permit) = layer.breaker().try_acquire() {
        permit.record(Outcome::Failure);
    }
    let refusal = tokio::time::timeout(crate::support::PATIENCE, service.oneshot(()));
    assert_eq!(refusal.await.unwrap().unwrap_err().category(), "CircuitOpen");
}

#[tokio::test]
async fn failures_to_become_ready_open_it() {
    struct Broken;
    impl Service<()> for Broken {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("connection refused".into()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("called although not ready")
        }
    }
    let (layer, _clock) = on_manual_clock();
    for _ in 0..3 {
        let mut service = layer.layer(Broken);
        assert_eq!(service.ready().await.err().unwrap().to_string(), "connection refused");
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Open);
}

/// The wedge of other libraries: probes that are cancelled, or that an outer deadline cuts short, take their permits
/// with them.
#[tokio::test(start_paused = true)]
async fn cancelled_and_hanging_probes_never_wedge_it() {
    let (layer, clock) = on_manual_clock();
    let inner = Strict::new(|hang: bool| async move {
        if hang {
            std::future::pending::<()>().await;
        }
        Ok::<_, BoxError>(())
    });
    let service = layer.layer(inner);
    while let Ok(permit) = layer.breaker().try_acquire() {
        permit.record(Outcome::Failure);
    }
    clock.advance(Duration::from_secs(16));
    for round in 0..20 {
        let probes: Vec<_> = (0..2).map(|_| tokio::spawn(service.clone().oneshot(true))).collect();
        settle().await;
        assert_eq!(
            service.clone().oneshot(false).await.unwrap_err().category(),
            "CircuitOpen",
            "round {round}"
        );
        for probe in probes {
            probe.abort();
            drop(probe.await);
        }
    }
    let patience = TimeoutLayer::new("caller", Duration::from_millis(10));
    for _ in 0..20 {
        assert_eq!(
            patience
                .layer(service.clone())
                .oneshot(true)
                .await
                .unwrap_err()
                .category(),
            "Timeout"
        );
    }
    for _ in 0..2 {
        service.clone().oneshot(false).await.unwrap();
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn its_own_timeout_is_a_failure_and_the_callers_deadline_is_not() {
    let layer = CircuitBreakerLayer::new("upstream", &settings());
    let attempt = TimeoutLayer::new("upstream", Duration::from_millis(100));
    let hang = Strict::new(|(): ()| std::future::pending::<Result<(), BoxError>>());
    let service = layer.layer(attempt.layer(hang));
    for _ in 0..10 {
        let deadline = Deadline::after(Duration::from_millis(50));
        let error = deadline.scope(service.clone().oneshot(())).await.unwrap_err();
        assert!(matches!(error, LayerError::Timeout { inherited: true, .. }));
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Closed);
    for _ in 0..3 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert!(matches!(error, LayerError::Timeout { inherited: false, .. }));
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Open);
}

#[tokio::test]
async fn http_answers_count_by_their_head_or_as_one_says() {
    let answer = Strict::new(|status: u16| async move {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status)?;
        if status == 503 {
            answer
                .headers_mut()
                .insert("valerix-problem", http::HeaderValue::from_static("overloaded"));
        }
        Ok::<_, BoxError>(answer)
    });
    let layer = CircuitBreakerLayer::http("upstream", &settings());
    let service = layer.layer(answer.clone());
    for status in [404, 429, 503, 503, 503, 429] {
        assert_eq!(service.clone().oneshot(status).await.unwrap().status(), status);
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Closed);
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(500).await.unwrap().status(), 500);
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Open);

    let layer =
        CircuitBreakerLayer::new("upstream", &settings()).classify(|result: Result<&Response<()>, &LayerError>| {
            match result {
                Ok(answer) if answer.status() == 404 => Outcome::Failure,
                _ => Outcome::Neutral,
            }
        });
    for _ in 0..3 {
        layer.layer(answer.clone()).oneshot(404).await.unwrap();
    }
    assert_eq!(layer.breaker().snapshot().state, CircuitState::Open);
}
