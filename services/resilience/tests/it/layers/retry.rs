use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use tower::{BoxError, Layer, ServiceExt};
use valerix_resilience::layers::{BulkheadLayer, CircuitBreakerLayer, HttpRetry, LayerError, RetryLayer, TimeoutLayer};
use valerix_resilience::policy::{self, Backoff, Retry};
use valerix_resilience::{Deadline, ManualClock, RetryBudget, Sent};

use super::Strict;

/// A layer whose budget is never spent.
fn plenty<P>(settings: Retry, policy: P) -> RetryLayer<P, ManualClock> {
    let budget = RetryBudget::with_clock(ManualClock::default());
    budget.configure(1_000, 0, 1);
    RetryLayer::of("upstream", settings, policy, Arc::new(budget))
}

fn request(method: Method) -> Request<String> {
    Request::builder()
        .method(method)
        .uri("http://upstream/pay")
        .body("body".to_owned())
        .unwrap()
}

type Answering = BoxFuture<'static, Result<Response<()>, BoxError>>;

/// Answers with these statuses in turn, then with 200; each answer says what `headers` says.
fn answers(
    statuses: &'static [u16],
    headers: &'static [(&'static str, &'static str)],
) -> Strict<impl Fn(Request<String>) -> Answering + Clone> {
    let next = Arc::new(AtomicUsize::new(0));
    Strict::new(move |request: Request<String>| -> Answering {
        assert_eq!(request.body(), "body", "a repetition is a whole request");
        let status = statuses
            .get(next.fetch_add(1, Ordering::SeqCst))
            .copied()
            .unwrap_or(200);
        let mut answer = Response::builder().status(status);
        for (name, value) in headers.iter().filter(|_| status != 200) {
            answer = answer.header(*name, *value);
        }
        Box::pin(std::future::ready(answer.body(()).map_err(BoxError::from)))
    })
}

#[tokio::test(start_paused = true)]
async fn safe_methods_and_declared_routes_with_a_key_repeat_and_nothing_else() {
    let declared = HttpRetry::new().idempotent_route("POST /pay".parse().unwrap());
    for (method, key, policy, calls, status) in [
        (Method::GET, false, HttpRetry::new(), 3, 200),
        (Method::HEAD, false, HttpRetry::new(), 3, 200),
        (Method::POST, false, declared.clone(), 1, 503),
        (Method::POST, true, HttpRetry::new(), 1, 503),
        (Method::POST, true, declared.clone(), 3, 200),
        (Method::PUT, false, declared.clone(), 1, 503),
        (Method::DELETE, true, declared, 1, 503),
    ] {
        let inner = answers(&[503, 502], &[]);
        let seen = inner.seen.clone();
        let service = plenty(Retry::default(), policy).layer(inner);
        let mut request = request(method.clone());
        if key {
            request
                .headers_mut()
                .insert("idempotency-key", http::HeaderValue::from_static("\"k\""));
        }
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(
            (seen.calls(), answer.status().as_u16()),
            (calls, status),
            "{method} {key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn final_answers_and_refusals_are_never_repeated() {
    for (statuses, headers) in [
        (&[503][..], &[("valerix-retry", "no")][..]),
        (&[500], &[]),
        (&[404], &[]),
        (&[429], &[("retry-after", "1")]),
    ] {
        let inner = answers(statuses, headers);
        let seen = inner.seen.clone();
        let answer = plenty(Retry::default(), HttpRetry::new())
            .layer(inner)
            .oneshot(request(Method::GET))
            .await
            .unwrap();
        assert_eq!((seen.calls(), answer.status().as_u16()), (1, statuses[0]));
    }
    // A bulkhead without places and an open circuit, inside.
    let inner = answers(&[], &[]);
    let full = BulkheadLayer::new("upstream", 0).layer(inner.clone());
    let layer = plenty(Retry::default(), HttpRetry::new());
    assert_eq!(
        layer
            .layer(full)
            .oneshot(request(Method::GET))
            .await
            .unwrap_err()
            .category(),
        "BulkheadFull"
    );
    let breaker = CircuitBreakerLayer::http("upstream", &policy::CircuitBreaker::default());
    while let Ok(permit) = breaker.breaker().try_acquire() {
        permit.record(valerix_resilience::Outcome::Failure);
    }
    let began = tokio::time::Instant::now();
    let open = layer
        .layer(breaker.layer(inner.clone()))
        .oneshot(request(Method::GET))
        .await;
    assert_eq!(open.unwrap_err().category(), "CircuitOpen");
    assert_eq!((inner.seen.calls(), began.elapsed()), (0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_the_least_wait_and_one_that_is_too_long_is_not_waited_for() {
    let elapsed = async |inner: Strict<_>, deadline: Option<u64>| {
        let began = tokio::time::Instant::now();
        let call = plenty(Retry::default(), HttpRetry::new())
            .layer(inner)
            .oneshot(request(Method::GET));
        let answer: Result<Response<()>, _> = match deadline {
            Some(seconds) => Deadline::after(Duration::from_secs(seconds)).scope(call).await,
            None => call.await,
        };
        (answer.unwrap().status().as_u16(), began.elapsed().as_secs())
    };
    assert_eq!(elapsed(answers(&[503], &[("retry-after", "7")]), None).await, (200, 7));
    assert_eq!(elapsed(answers(&[503], &[("retry-after", "31")]), None).await, (503, 0));
    assert_eq!(
        elapsed(answers(&[503], &[("retry-after", "7")]), Some(5)).await,
        (503, 0)
    );
    assert_eq!(
        elapsed(answers(&[503], &[("retry-after", "7")]), Some(9)).await,
        (200, 7)
    );
}

#[tokio::test(start_paused = true)]
async fn waits_are_drawn_below_a_ceiling_that_doubles() {
    let backoff = Backoff {
        base: policy::Duration::from_millis(100),
        max: policy::Duration::from_millis(150),
    };
    let layer = plenty(
        Retry {
            backoff,
            ..Retry::default()
        },
        HttpRetry::new(),
    );
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let began = tokio::time::Instant::now();
        layer
            .layer(answers(&[503, 503], &[]))
            .oneshot(request(Method::GET))
            .await
            .unwrap();
        // Each of the two timers may end a millisecond late.
        assert!(began.elapsed() <= Duration::from_millis(252));
        longest = longest.max(began.elapsed());
    }
    assert!(
        longest > Duration::from_millis(202),
        "{longest:?}: the second wait may be longer than the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_is_an_error_that_says_so_and_bounds_the_repetitions() {
    let budget = Arc::new(RetryBudget::with_clock(ManualClock::default()));
    budget.configure(20, 1, 1);
    let inner = Strict::new(|_: Request<String>| async { Err::<Response<()>, BoxError>("connection refused".into()) });
    let seen = inner.seen.clone();
    let layer = RetryLayer::of("upstream", Retry::default(), HttpRetry::new(), budget);
    let mut exhausted = 0;
    for _ in 0..100 {
        match layer
            .layer(inner.clone())
            .oneshot(request(Method::GET))
            .await
            .unwrap_err()
        {
            LayerError::BudgetExhausted { cause, .. } => {
                assert_eq!(cause, "connection refused");
                exhausted += 1;
            }
            error => assert_eq!(error.category(), "Inner"),
        }
    }
    assert!(seen.calls() <= 120, "{} calls", seen.calls());
    assert!(exhausted >= 80, "{exhausted}");
    let error = LayerError::BudgetExhausted {
        name: "upstream".into(),
        sent: Sent::Perhaps,
        cause: String::new(),
    };
    assert_eq!(
        (error.problem().status(), error.problem().name()),
        (StatusCode::SERVICE_UNAVAILABLE, "retry-budget-exhausted")
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_handed_on_when_the_budget_is_spent_and_nobody_is_to_repeat_it() {
    let budget = RetryBudget::with_clock(ManualClock::default());
    budget.configure(0, 0, 1);
    let inner = answers(&[503, 503], &[]);
    let seen = inner.seen.clone();
    let layer = RetryLayer::of("upstream", Retry::default(), HttpRetry::new(), Arc::new(budget));
    let outer = plenty(Retry::default(), HttpRetry::new());
    let answer = outer
        .layer(layer.layer(inner))
        .oneshot(request(Method::GET))
        .await
        .unwrap();
    assert_eq!((seen.calls(), answer.status()), (1, StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(answer.headers()["valerix-retry"], "no");
}

/// The target acts, its answer is lost, and the circuit that opens for it refuses the repetition: something was sent.
#[tokio::test(start_paused = true)]
async fn a_repetition_that_is_refused_tells_of_the_attempt_that_was_sent() {
    let hang = Strict::new(|_: Request<String>| std::future::pending::<Result<Response<()>, BoxError>>());
    let settings = policy::CircuitBreaker {
        consecutive_failures: Some(1),
        ..policy::CircuitBreaker::default()
    };
    let breaker = CircuitBreakerLayer::http("upstream", &settings);
    let attempt = TimeoutLayer::new("upstream", Duration::from_millis(500));
    let layer = plenty(Retry::default(), HttpRetry::new());
    let service = layer.layer(breaker.layer(attempt.layer(hang.clone())));
    let error = service.clone().oneshot(request(Method::GET)).await.unwrap_err();
    assert_eq!((error.category(), hang.seen.calls()), ("CircuitOpen", 1));
    assert_eq!((error.sent(), error.is_refusal()), (Sent::Perhaps, false));
    let error = service.oneshot(request(Method::GET)).await.unwrap_err();
    assert_eq!((error.category(), hang.seen.calls()), ("CircuitOpen", 1));
    assert_eq!((error.sent(), error.is_refusal()), (Sent::Nothing, true));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_pays_nothing_into_the_budget() {
    let budget = Arc::new(RetryBudget::with_clock(ManualClock::default()));
    budget.configure(100, 0, 1);
    let layer = RetryLayer::of("upstream", Retry::default(), HttpRetry::new(), budget);
    let places = BulkheadLayer::new("upstream", 0);
    for _ in 0..10 {
        let refused = layer.layer(places.layer(answers(&[], &[])));
        refused.oneshot(request(Method::GET)).await.unwrap_err();
    }
    assert_eq!(layer.budget().remaining(), 0);
    places.bulkhead().resize(1);
    let answered = layer.layer(places.layer(answers(&[], &[])));
    answered.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(layer.budget().remaining(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_result_is_returned_as_it_is() {
    let inner = answers(&[503, 502, 504, 503], &[]);
    let seen = inner.seen.clone();
    let answer = plenty(Retry::default(), HttpRetry::new())
        .layer(inner)
        .oneshot(request(Method::GET))
        .await
        .unwrap();
    assert_eq!((seen.calls(), answer.status()), (3, StatusCode::GATEWAY_TIMEOUT));
}

#[tokio::test(start_paused = true)]
async fn each_request_pays_its_share_into_the_budget() {
    let budget = Arc::new(RetryBudget::with_clock(ManualClock::default()));
    budget.configure(20, 0, 1);
    let layer = RetryLayer::of("upstream", Retry::default(), HttpRetry::new(), budget);
    for _ in 0..10 {
        let good = layer.layer(answers(&[], &[]));
        good.oneshot(request(Method::GET)).await.unwrap();
    }
    assert_eq!(layer.budget().remaining(), 2);
    let inner = answers(&[503, 503], &[]);
    let seen = inner.seen.clone();
    let answer = layer.layer(inner).oneshot(request(Method::GET)).await.unwrap();
    assert_eq!((seen.calls(), answer.status()), (3, StatusCode::OK));
    assert_eq!(layer.budget().remaining(), 0);
}

/// What an answer holds is free while the next attempt is waited for, and for it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_the_last_goes_before_the_wait() {
    let places = BulkheadLayer::new("upstream", 1).hold_body();
    let inner = places.layer(answers(&[503], &[("retry-after", "7")]));
    let layer = plenty(Retry::default(), HttpRetry::new());
    let mut call = std::pin::pin!(layer.layer(inner).oneshot(request(Method::GET)));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(places.bulkhead().in_flight(), 0);
    assert_eq!(call.await.unwrap().status(), StatusCode::OK);
}
