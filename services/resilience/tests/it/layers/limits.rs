use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use http::Response;
use http_body_util::BodyExt;
use tower::{BoxError, Layer, Service, ServiceExt};
use valerix_resilience::layers::{BulkheadLayer, ConcurrencyLimitLayer, LayerError, RateLimitLayer, TimeoutLayer};
use valerix_resilience::policy::{Concurrency, ConcurrencyType, LimitAlgorithm, Priorities, Priority};
use valerix_resilience::{ManualClock, Quota, RateLimiter};

use super::{Strict, settle};

type Body = http_body_util::Full<bytes::Bytes>;

type Slow = futures::future::BoxFuture<'static, Result<u64, BoxError>>;

fn slow() -> Strict<impl Fn(u64) -> Slow + Clone> {
    Strict::new(|millis: u64| -> Slow {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(millis)
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_bounds_all_clones_and_services_of_one_layer() {
    let inner = slow();
    let seen = inner.seen.clone();
    let layer = BulkheadLayer::new("upstream", 5).max_wait(Duration::from_secs(60));
    let calls = (0..200).map(|index| {
        let service = layer.layer(inner.clone());
        service.oneshot(index % 7)
    });
    assert!(join_all(calls).await.into_iter().all(|result| result.is_ok()));
    assert_eq!((seen.calls(), seen.most.load(Ordering::SeqCst)), (200, 5));
    assert_eq!(layer.bulkhead().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_after_the_wait_and_dropped_futures_leave_no_trace() {
    let layer = BulkheadLayer::new("upstream", 1).max_wait(Duration::from_millis(30));
    let service = layer.layer(slow());
    let held = tokio::spawn(service.clone().oneshot(1_000_000));
    settle().await;
    let began = tokio::time::Instant::now();
    let error = service.clone().oneshot(0).await.unwrap_err();
    assert!(matches!(error, LayerError::BulkheadFull { limit: 1, .. }));
    // The timer of tokio has millisecond steps.
    assert!((30..35).contains(&began.elapsed().as_millis()));
    let waiting: Vec<_> = (0..50).map(|_| tokio::spawn(service.clone().oneshot(0))).collect();
    settle().await;
    for task in &waiting {
        task.abort();
    }
    held.abort();
    drop(held.await);
    settle().await;
    assert_eq!(layer.bulkhead().in_flight(), 0);
    service.oneshot(0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn back_pressure_holds_callers_back_and_wakes_them() {
    let inner = slow();
    let seen = inner.seen.clone();
    let layer = BulkheadLayer::new("upstream", 2).back_pressure();
    let service = layer.layer(inner);
    let mut ready = service.clone();
    ready.ready().await.unwrap();
    assert_eq!(layer.bulkhead().in_flight(), 1, "the place is taken when it is ready");
    let clone = ready.clone();
    assert_eq!(layer.bulkhead().in_flight(), 1, "a clone has none");
    drop((ready, clone));
    assert_eq!(
        layer.bulkhead().in_flight(),
        0,
        "a service that is dropped gives its place back"
    );

    let calls = (0..40).map(|index| service.clone().oneshot(index % 5 + 1));
    assert!(join_all(calls).await.into_iter().all(|result| result.is_ok()));
    assert_eq!((seen.calls(), seen.most.load(Ordering::SeqCst)), (40, 2));
    assert_eq!(layer.bulkhead().in_flight(), 0);
}

#[tokio::test]
async fn a_service_that_fails_to_become_ready_keeps_no_place() {
    #[derive(Clone)]
    struct Broken;
    impl Service<()> for Broken {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("connection refused".into()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("called although not ready")
        }
    }
    let layer = BulkheadLayer::new("upstream", 1).back_pressure();
    let mut service = layer.layer(Broken);
    assert_eq!(service.ready().await.err().unwrap().category(), "Inner");
    assert_eq!(layer.bulkhead().in_flight(), 0);
}

fn body() -> Strict<impl Fn(()) -> std::future::Ready<Result<Response<Body>, BoxError>> + Clone> {
    Strict::new(|(): ()| std::future::ready(Ok(Response::new(Body::from("hello")))))
}

#[tokio::test]
async fn a_place_is_held_as_long_as_the_body_where_asked() {
    let short = BulkheadLayer::new("upstream", 1);
    let _answer = short.layer(body()).oneshot(()).await.unwrap();
    assert_eq!(short.bulkhead().in_flight(), 0);

    let layer = BulkheadLayer::new("upstream", 1).hold_body();
    let answer = layer.layer(body()).oneshot(()).await.unwrap();
    assert_eq!(layer.bulkhead().in_flight(), 1);
    assert!(layer.layer(body()).oneshot(()).await.is_err());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(layer.bulkhead().in_flight(), 0);
    drop(layer.layer(body()).oneshot(()).await.unwrap());
    assert_eq!(
        layer.bulkhead().in_flight(),
        0,
        "a body that is dropped gives it back too"
    );
    let mut read = layer.layer(body()).oneshot(()).await.unwrap().into_body();
    assert!(read.frame().await.unwrap().is_ok());
    assert_eq!(layer.bulkhead().in_flight(), 1, "more may come");
    assert!(read.frame().await.is_none());
    assert_eq!(
        layer.bulkhead().in_flight(),
        0,
        "its end gives it back, though it is kept"
    );

    let layer = ConcurrencyLimitLayer::new(
        "upstream",
        &Concurrency {
            max: 1,
            ..Concurrency::default()
        },
    )
    .hold_body();
    let answer = layer.layer(body()).oneshot(()).await.unwrap();
    assert!(layer.layer(body()).oneshot(()).await.is_err());
    drop(answer);
    assert_eq!((layer.in_flight(), layer.limit()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_sheds_the_less_important_first() {
    let settings = Concurrency {
        max: 10,
        priorities: Some(Priorities::default()),
        ..Concurrency::default()
    };
    let layer = ConcurrencyLimitLayer::new("search", &settings).priority(|millis: &u64| {
        if *millis == 1 {
            Priority::BestEffort
        } else {
            Priority::Critical
        }
    });
    let service = layer.layer(slow());
    let calls = (0..30).map(|index| service.clone().oneshot(if index < 15 { 1 } else { 2 }));
    let results = join_all(calls).await;
    let passed = |range: std::ops::Range<usize>| results[range].iter().filter(|result| result.is_ok()).count();
    assert_eq!(
        (passed(0..15), passed(15..30)),
        (5, 5),
        "half of ten places, then the other half"
    );
    let error = results.into_iter().find_map(Result::err).unwrap();
    assert_eq!(error.category(), "Overloaded");
    let problem = error.problem();
    assert_eq!((problem.status().as_u16(), problem.name()), (503, "overloaded"));
    assert_eq!(problem.headers()["valerix-retry"], "no");
    assert_eq!(problem.headers()["retry-after"], "1");
    let cancelled = tokio::spawn(service.clone().oneshot(100_000));
    settle().await;
    assert_eq!(layer.in_flight(), 1);
    cancelled.abort();
    drop(cancelled.await);
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test]
async fn an_adaptive_limit_falls_on_timeouts_and_keeps_to_its_bounds() {
    let settings = Concurrency {
        concurrency_type: ConcurrencyType::Adaptive,
        max: 100,
        min: 3,
        initial: 20,
        ..Concurrency::default()
    };
    let layer = ConcurrencyLimitLayer::new("search", &settings);
    let hang = Strict::new(|(): ()| std::future::pending::<Result<(), BoxError>>());
    let service = layer.layer(TimeoutLayer::new("search", Duration::from_millis(1)).layer(hang));
    let began = std::time::Instant::now();
    while layer.limit() > 18 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "timeouts never lowered the limit"
        );
        assert_eq!(service.clone().oneshot(()).await.unwrap_err().category(), "Timeout");
    }
    let settings = Concurrency { max: 90, ..settings };
    layer.reconfigure(&settings);
    assert!(layer.limit() <= 18, "what was measured is kept");
    layer.reconfigure(&Concurrency { max: 10, ..settings });
    assert_eq!(layer.limit(), 10);
}

#[tokio::test]
async fn how_soon_a_service_fails_raises_no_limit() {
    let settings = Concurrency {
        concurrency_type: ConcurrencyType::Adaptive,
        max: 100,
        min: 1,
        initial: 1,
        ..Concurrency::default()
    };
    let layer = ConcurrencyLimitLayer::new("search", &settings);
    let broken = Strict::new(|(): ()| std::future::ready(Err::<(), BoxError>("out of order".into())));
    let service = layer.layer(broken);
    // Two windows of measuring.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(250) {
        assert_eq!(service.clone().oneshot(()).await.unwrap_err().category(), "Inner");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((layer.limit(), layer.in_flight()), (1, 0));
}

#[tokio::test]
async fn a_rate_limit_counts_by_key_and_says_when() {
    let clock = ManualClock::default();
    let quota = Quota {
        requests: 2,
        window: Duration::from_secs(10),
        burst: 2,
        algorithm: LimitAlgorithm::Window,
    };
    let limiter = Arc::new(RateLimiter::with_clock(quota, clock.clone()));
    let layer = RateLimitLayer::of("orders", limiter).key(|name: &&str| (*name).to_owned());
    let inner = Strict::new(|name: &'static str| async move { Ok::<_, BoxError>(name) });
    let seen = inner.seen.clone();
    let mut service = layer.layer(inner);
    for name in ["ada", "ada", "bob"] {
        service.ready().await.unwrap().call(name).await.unwrap();
    }
    let error = service.ready().await.unwrap().call("ada").await.unwrap_err();
    let LayerError::RateLimited { retry_after, .. } = &error else {
        panic!("{error}")
    };
    assert!((10..=12).contains(&retry_after.as_secs()), "{retry_after:?}");
    let problem = error.problem();
    assert_eq!(problem.status().as_u16(), 429);
    assert_eq!(
        serde_json::to_value(&problem).unwrap()["violated-policies"],
        serde_json::json!(["orders"])
    );
    assert_eq!(seen.calls(), 3);
    clock.advance(Duration::from_secs(12));
    service.ready().await.unwrap().call("ada").await.unwrap();
}
