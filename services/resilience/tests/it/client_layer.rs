//! The outbound order around somebody else's HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use tower::{Layer, Service};
use valerix_resilience::policy::CircuitState;
use valerix_resilience::{
    CallError, ChosenAddress, ConnectError, Deadline, Endpoint, RequestBodyError, Sent, SentOnce,
};

use crate::support::{Seen, policy, with_policy};

#[tokio::test]
async fn the_layer_does_the_same_around_any_client() {
    let resilience = with_policy(&policy(|_, target| {
        target.retry.budget.min_per_second = 1_000;
        target.circuit_breaker.consecutive_failures = Some(3);
        target.bulkhead.max_concurrent = 1;
    }))
    .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let seen = Seen::default();
    let noted = seen.clone();
    let inner = tower::service_fn(move |request: http::Request<String>| {
        let number = noted.note(request.headers());
        async move {
            match number {
                1 => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                2 => Ok(http::Response::builder().status(503).body(String::new()).unwrap()),
                3 => Ok(http::Response::new(request.into_body())),
                _ => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
            }
        }
    });
    let mut service = resilience.client_layer("upstream").layer(inner);
    let request = || http::Request::get("http://x/").body("hello".to_owned()).unwrap();
    let answer = service.call(request()).await.unwrap();
    assert_eq!((answer.status(), seen.count()), (StatusCode::OK, 3));
    assert_eq!(seen.header(2, "valerix-client").unwrap(), "shop/test");
    assert!(seen.header(2, "valerix-timeout-ms").unwrap().parse::<u64>().unwrap() <= 10_000);
    let error = service.call(request()).await.unwrap_err();
    assert!(
        matches!(error, CallError::Overloaded { limit: 1, .. }),
        "the body is not read yet: {error}"
    );
    assert_eq!(answer.into_body().into_inner(), "hello");
    let mut unsafe_request = request();
    *unsafe_request.method_mut() = Method::POST;
    let error = service.call(unsafe_request).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { attempts: 1, .. }), "{error}");
    let mut late = request();
    late.extensions_mut().insert(Deadline::after(Duration::ZERO));
    let error = service.call(late).await.unwrap_err();
    assert!(
        matches!(error, CallError::DeadlineExceeded { attempts: 0, .. }),
        "{error}"
    );
    let mut asked = request();
    asked
        .headers_mut()
        .insert("idempotency-key", HeaderValue::from_static("\"k\""));
    while resilience.target("upstream").state() == CircuitState::Closed {
        let _ = service.call(asked.clone()).await;
    }
    assert!(matches!(service.call(asked).await, Err(CallError::CircuitOpen { .. })));
}

#[tokio::test]
async fn a_layer_that_balances_names_the_address() {
    let resilience = with_policy(&policy(|_, target| target.retry.budget.min_per_second = 1_000)).await;
    let addresses: Vec<SocketAddr> = vec!["10.0.0.7:80".parse().unwrap(), "10.0.0.8:80".parse().unwrap()];
    let good = addresses[1];
    let inner = tower::service_fn(move |request: http::Request<String>| async move {
        let chosen = request.extensions().get::<ChosenAddress>().unwrap().0;
        if chosen == good {
            Ok(http::Response::new(String::new()))
        } else {
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        }
    });
    let endpoint = Endpoint::new("http", "upstream.test", 80);
    let mut service = resilience
        .client_layer("upstream")
        .balance(endpoint, addresses)
        .layer(inner);
    for _ in 0..20 {
        let request = http::Request::post("http://x/").body(String::new()).unwrap();
        service.call(request).await.unwrap();
    }
}

/// The kernel says of a connection that has the request, too, that its host cannot be reached any more.
#[tokio::test]
async fn only_what_tells_that_nothing_was_sent_goes_on_at_another_address() {
    use std::io::{Error, ErrorKind};
    let unreachable = || Error::from(ErrorKind::HostUnreachable);
    let connecting = || {
        let cause = "no route to host".to_owned();
        Error::other(ConnectError { cause })
    };
    let refused = || Error::from(ErrorKind::ConnectionRefused);
    let errors: [(fn() -> Error, usize); 3] = [(unreachable, 1), (connecting, 2), (refused, 2)];
    for (error, requests) in errors {
        let resilience = with_policy(&policy(|_, _| {})).await;
        let seen = Seen::default();
        let noted = seen.clone();
        let inner = tower::service_fn(move |request: http::Request<String>| {
            noted.note(request.headers());
            async move { Err::<http::Response<String>, _>(error()) }
        });
        let addresses: Vec<SocketAddr> = vec!["10.0.0.7:80".parse().unwrap(), "10.0.0.8:80".parse().unwrap()];
        let endpoint = Endpoint::new("http", "upstream.test", 80);
        let layer = resilience.client_layer("upstream").balance(endpoint, addresses);
        let request = http::Request::post("http://x/").body(String::new()).unwrap();
        let failed = layer.layer(inner).call(request).await.unwrap_err();
        assert_eq!(seen.count(), requests, "{:?}", error());
        let sent = if requests == 1 { Sent::Perhaps } else { Sent::Nothing };
        assert_eq!(failed.sent(), sent, "{failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_sent_once_and_takes_its_time() {
    let resilience = with_policy(&policy(|_, target| {
        target.timeout.attempt = valerix_resilience::policy::Duration::from_millis(50);
    }))
    .await;
    let seen = Seen::default();
    let noted = seen.clone();
    let inner = tower::service_fn(move |request: http::Request<String>| {
        noted.note(request.headers());
        async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let answer = http::Response::builder().status(503);
            Ok::<_, std::io::Error>(answer.body(String::new()).unwrap())
        }
    });
    let mut service = resilience.client_layer("upstream").layer(inner);
    let mut stream = http::Request::get("http://x/").body(String::new()).unwrap();
    let ordinary = stream.clone();
    stream.extensions_mut().insert(SentOnce {
        patience: Duration::from_secs(90),
    });
    let answer = service.call(stream).await.unwrap();
    assert_eq!((answer.status(), seen.count()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    let error = service.call(ordinary).await.unwrap_err();
    let timed_out = matches!(
        error,
        CallError::AttemptTimeout { .. } | CallError::BudgetExhausted { .. }
    );
    assert!(timed_out, "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_the_targets_failure() {
    let resilience = with_policy(&policy(|_, target| {
        target.circuit_breaker.consecutive_failures = Some(1);
    }))
    .await;
    let inner = tower::service_fn(|_: http::Request<String>| async {
        let cause = "the client is gone".to_owned();
        Err::<http::Response<String>, _>(std::io::Error::other(RequestBodyError { cause }))
    });
    let mut service = resilience.client_layer("upstream").layer(inner);
    for _ in 0..3 {
        let request = http::Request::get("http://x/").body(String::new()).unwrap();
        let error = service.call(request).await.unwrap_err();
        assert!(matches!(error, CallError::Request { .. }), "{error}");
        assert_eq!(error.sent(), Sent::Perhaps, "its beginning may have arrived");
    }
    assert_eq!(resilience.target("upstream").state(), CircuitState::Closed);
}
