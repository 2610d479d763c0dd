//! What the engine of calls makes of answers and of time, around a service in memory whose clock is paused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tower::{Layer, Service};
use valerix_resilience::policy::{CircuitState, Policy};
use valerix_resilience::{CallError, Deadline, Endpoint, Resilience, Sent, TargetLayer};

use crate::support::{policy, with_policy};

const HANG: u16 = 0;

type Headers = &'static [(&'static str, &'static str)];

/// A service that answers with these statuses in turn, the last one for good, all with these headers.
fn answering(
    statuses: &'static [u16],
    headers: Headers,
) -> (
    impl Service<Request<String>, Response = Response<String>, Error = std::io::Error, Future: Send> + Clone + Send + Sync,
    Arc<AtomicUsize>,
) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&seen);
    let service = tower::service_fn(move |_: Request<String>| {
        let number = counts.fetch_add(1, Ordering::SeqCst);
        let status = *statuses.get(number).or(statuses.last()).unwrap();
        async move {
            if status == HANG {
                std::future::pending::<()>().await;
            }
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(*name, *value);
            }
            Ok(answer.body(String::new()).unwrap())
        }
    });
    (service, seen)
}

async fn layer(policy: &Policy) -> (Resilience, TargetLayer) {
    let resilience = with_policy(policy).await;
    let layer = resilience.client_layer("upstream");
    (resilience, layer)
}

/// A layer whose budget good calls have filled.
async fn plenty() -> (Resilience, TargetLayer) {
    let settings = policy(|_, target| {
        target.retry.budget.percent = 100;
        target.circuit_breaker.minimum_requests = 1_000;
    });
    let (resilience, layer) = layer(&settings).await;
    let mut service = layer.layer(answering(&[200], &[]).0);
    for _ in 0..100 {
        service.call(get()).await.unwrap();
    }
    (resilience, layer)
}

fn get() -> Request<String> {
    Request::get("http://upstream/").body(String::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn retry_after_that_leaves_no_time_is_final_and_what_says_nothing_changes_nothing() {
    const RETRY_AFTER: &str = "retry-after";
    const NOW: (&str, &str) = ("date", "Fri, 21 Nov 2025 10:00:00 GMT");
    let rows: &[(Headers, usize)] = &[
        (&[(RETRY_AFTER, "4294967295")], 1),
        (&[(RETRY_AFTER, "4294967296")], 1),
        (&[(RETRY_AFTER, "99999999999")], 1),
        (&[(RETRY_AFTER, "99999999999999999999999")], 1),
        (&[(RETRY_AFTER, " 7 ")], 1),
        (&[(RETRY_AFTER, "Fri, 31 Dec 2100 23:59:59 GMT")], 1),
        (&[(RETRY_AFTER, "Fri, 31 Dec 2100 23:59:59 GMT"), NOW], 1),
        (&[(RETRY_AFTER, "Fri Dec 31 23:59:59 2100"), NOW], 1),
        (&[(RETRY_AFTER, "Friday, 21-Nov-25 10:00:30 GMT"), NOW], 1),
        (&[(RETRY_AFTER, "1"), (RETRY_AFTER, "100")], 1),
        (&[(RETRY_AFTER, "Fri, 21 Nov 2014 10:00:00 GMT")], 3),
        (&[(RETRY_AFTER, "Fri, 21 Nov 2014 10:00:00 GMT"), NOW], 3),
        (&[(RETRY_AFTER, "0")], 3),
        (&[(RETRY_AFTER, "120.5")], 3),
        (&[(RETRY_AFTER, "-1")], 3),
        (&[], 3),
    ];
    for (headers, attempts) in rows {
        let (_resilience, layer) = plenty().await;
        for balanced in [false, true] {
            let (service, seen) = answering(&[503], headers);
            let addresses: Vec<SocketAddr> = vec!["10.0.0.7:80".parse().unwrap(), "10.0.0.8:80".parse().unwrap()];
            let endpoint = Endpoint::new("http", "upstream.test", 80);
            let layer = match balanced {
                true => layer.clone().balance(endpoint, addresses),
                false => layer.clone(),
            };
            let began = Instant::now();
            let call = layer.layer(service).call(get());
            let answer = Deadline::after(Duration::from_secs(5)).scope(call).await.unwrap();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(
                seen.load(Ordering::SeqCst),
                *attempts,
                "{headers:?}, balanced {balanced}"
            );
            assert!(
                began.elapsed() < Duration::from_millis(100),
                "{headers:?}: ordinary waits"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_retried_is_what_the_code_says_but_for_what_is_final() {
    let wanted = |layer: TargetLayer| layer.retry_on(|head| matches!(head.status.as_u16(), 429 | 500));
    let busy: Headers = &[("retry-after", "2")];
    let last: Headers = &[("valerix-retry", "no")];
    for (statuses, headers, attempts, seconds) in [
        (&[429, 200][..], busy, 2, 2),
        (&[500, 200], &[], 2, 0),
        (&[503, 200], &[], 1, 0),
        (&[500, 200], last, 1, 0),
    ] {
        let (_resilience, layer) = plenty().await;
        let (service, seen) = answering(statuses, headers);
        let began = Instant::now();
        wanted(layer).layer(service).call(get()).await.unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), attempts, "{statuses:?} {headers:?}");
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

/// The first attempt hangs and opens the circuit, and the repetition is refused: whether anything was sent is a matter of
/// the whole call.
#[tokio::test(start_paused = true)]
async fn whether_anything_was_sent_is_told_of_the_whole_call() {
    let settings = policy(|_, target| {
        target.timeout.attempt = "1s".parse().unwrap();
        target.retry.budget.percent = 100;
        target.circuit_breaker.consecutive_failures = Some(1);
    });
    let (_resilience, layer) = layer(&settings).await;
    let (service, seen) = answering(&[HANG], &[]);
    let mut service = layer.layer(service);
    let error = service.call(get()).await.unwrap_err();
    assert!(matches!(error, CallError::CircuitOpen { .. }), "{error}");
    assert_eq!((error.sent(), error.may_have_acted()), (Sent::Perhaps, true));
    let error = service.call(get()).await.unwrap_err();
    assert!(matches!(error, CallError::CircuitOpen { .. }), "{error}");
    assert_eq!((error.sent(), error.may_have_acted()), (Sent::Nothing, false));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_reach_nobody_send_nothing_however_many_there_are() {
    let (_resilience, layer) = plenty().await;
    let refused = tower::service_fn(|_: Request<String>| async {
        Err::<Response<String>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    });
    let error = layer.layer(refused).call(get()).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { attempts: 3, .. }), "{error}");
    assert_eq!((error.sent(), error.may_have_acted()), (Sent::Nothing, false));
}

/// An attempt that began with a sliver of the request's time is cut short by the attempts before it.
#[tokio::test(start_paused = true)]
async fn an_attempt_with_little_time_left_says_nothing_about_the_target() {
    let settings = policy(|_, target| {
        target.timeout.request = "1100ms".parse().unwrap();
        target.timeout.attempt = "1s".parse().unwrap();
        target.retry.budget.percent = 100;
        target.circuit_breaker.consecutive_failures = Some(2);
    });
    let (resilience, layer) = layer(&settings).await;
    let (service, seen) = answering(&[HANG], &[]);
    let mut service = layer.layer(service);
    let error = service.call(get()).await.unwrap_err();
    assert!(
        matches!(error, CallError::DeadlineExceeded { attempts: 2, .. }),
        "{error}"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    let target = resilience.target("upstream");
    assert_eq!(target.state(), CircuitState::Closed, "one failure, not two");
    service.call(get()).await.unwrap_err();
    assert_eq!(target.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_pays_nothing_into_the_budget() {
    let registry = prometheus::Registry::new();
    let resilience = Resilience::builder().registry(registry.clone()).start().await.unwrap();
    let settings = policy(|_, target| {
        target.retry.budget.percent = 100;
        target.retry.budget.min_per_second = 0;
        target.retry.max_attempts = 1;
        target.circuit_breaker.consecutive_failures = Some(1);
    });
    resilience.apply_policy(settings.render().as_bytes()).unwrap();
    let remaining = || {
        let family = registry.gather().into_iter();
        let family = family.filter(|family| family.name() == "resilience_retry_budget_remaining");
        family
            .map(|family| family.get_metric()[0].get_gauge().get_value())
            .sum::<f64>()
    };
    let (service, seen) = answering(&[500], &[]);
    let mut service = resilience.client_layer("upstream").layer(service);
    service.call(get()).await.unwrap();
    for _ in 0..50 {
        service.call(get()).await.unwrap_err();
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert!((remaining() - 1.0).abs() < f64::EPSILON, "{}", remaining());
}
