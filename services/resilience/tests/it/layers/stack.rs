//! The layers together, with tower's own, and in an axum router.

use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::routing::get;
use http::Request;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use valerix_resilience::Quota;
use valerix_resilience::layers::{
    BulkheadLayer, CircuitBreakerLayer, ConcurrencyLimitLayer, LayerError, RateLimitLayer, RetryLayer, TimeoutLayer,
};
use valerix_resilience::policy::{self, Concurrency, LimitAlgorithm};

use super::Strict;
use crate::support::serve;

const QUOTA: Quota = Quota {
    requests: 100,
    window: Duration::from_secs(60),
    burst: 100,
    algorithm: LimitAlgorithm::GCRA,
};

fn second() -> TimeoutLayer {
    TimeoutLayer::new("x", Duration::from_secs(1))
}

/// Each layer calls the very service that was polled ready, again and again, by itself and by clones of it.
#[tokio::test]
async fn every_layer_keeps_towers_contract() {
    async fn exercise<S>(mut service: S)
    where
        S: Service<Request<u8>, Response = http::Response<u8>, Error = LayerError> + Clone + Send + Sync + 'static,
    {
        for number in 0..5 {
            let answer = service.ready().await.unwrap().call(Request::new(number)).await.unwrap();
            assert_eq!(answer.into_body(), number);
            let answer = service.clone().oneshot(Request::new(number)).await.unwrap();
            assert_eq!(answer.into_body(), number);
        }
    }
    let strict = || {
        Strict::new(|request: Request<u8>| async move { Ok::<_, BoxError>(http::Response::new(request.into_body())) })
    };
    let breaker = CircuitBreakerLayer::http("x", &policy::CircuitBreaker::default());
    let limit = ConcurrencyLimitLayer::new("x", &Concurrency::default());
    exercise(breaker.layer(strict())).await;
    exercise(second().layer(strict())).await;
    exercise(second().send_header().layer(strict())).await;
    exercise(RetryLayer::http("x", policy::Retry::default()).layer(strict())).await;
    exercise(BulkheadLayer::new("x", 2).layer(strict())).await;
    exercise(
        BulkheadLayer::new("x", 2)
            .max_wait(Duration::from_secs(9))
            .layer(strict()),
    )
    .await;
    exercise(BulkheadLayer::new("x", 2).back_pressure().layer(strict())).await;
    exercise(RateLimitLayer::new("x", QUOTA).layer(strict())).await;
    exercise(limit.layer(strict())).await;
    let all = ServiceBuilder::new()
        .layer(second())
        .layer(RetryLayer::http("x", policy::Retry::default()))
        .layer(limit)
        .layer(RateLimitLayer::new("x", QUOTA))
        .layer(BulkheadLayer::new("x", 2).back_pressure())
        .layer(breaker)
        .layer(second())
        // Its clones are not ready either, and its error is a box.
        .concurrency_limit(3)
        .layer(tower::load_shed::LoadShedLayer::new());
    exercise(all.service(strict())).await;
}

#[tokio::test]
async fn errors_of_layers_inside_are_not_nested_whatever_is_between() {
    let service = ServiceBuilder::new()
        .layer(second())
        .layer(BulkheadLayer::new("outer", 9))
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(5)))
        .layer(BulkheadLayer::new("inner", 0))
        .service(Strict::new(|(): ()| async { Ok::<_, BoxError>(()) }));
    let error = service.oneshot(()).await.unwrap_err();
    assert!(
        matches!(&error, LayerError::BulkheadFull { name, limit: 0, .. } if &**name == "inner"),
        "{error}"
    );
}

#[tokio::test]
async fn an_axum_router_answers_refusals_as_problems() {
    let app = Router::new().route("/", get(|| async { "hello" })).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(|error: LayerError| async move { error }))
            .layer(second().honour_header())
            .layer(RateLimitLayer::new(
                "demo",
                Quota {
                    requests: 2,
                    burst: 2,
                    algorithm: LimitAlgorithm::Window,
                    ..QUOTA
                },
            ))
            .layer(BulkheadLayer::new("demo", 10).hold_body()),
    );
    let url = format!("http://{}/", serve(app).await);
    let client = reqwest::Client::new();
    let answer = client
        .get(&url)
        .header("valerix-timeout-ms", "soon")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["valerix-problem"]),
        (400, &"invalid-header".parse().unwrap())
    );
    for _ in 0..2 {
        assert_eq!(reqwest::get(&url).await.unwrap().text().await.unwrap(), "hello");
    }
    let answer = reqwest::get(&url).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (429, &"application/problem+json".parse().unwrap())
    );
    assert!(answer.headers().contains_key("retry-after"));
}
