//! tower-resilience: its breaker alone, and the layers that together do what our outbound stack does.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::circuitbreaker::{CircuitBreaker, CircuitBreakerLayer, DefaultClassifier};
use tower_resilience::retry::RetryLayer;
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::HOUR;
use crate::measure::{Contender, Row, per_operation};

type Request = http::Request<String>;
type Response = http::Response<String>;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// By calls and not by time: its time window keeps every call and adds all of them up at each call.
fn layer() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .minimum_number_of_calls(20)
        .sliding_window_size(20)
        .slow_call_duration_threshold(Duration::from_secs(5))
        .wait_duration_in_open(HOUR)
        .build()
        .expect("good settings")
}

#[derive(Clone)]
struct Inner {
    fails: bool,
}

impl Service<()> for Inner {
    type Response = ();
    type Error = ();
    type Future = Ready<Result<(), ()>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), ()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(if self.fails { Err(()) } else { Ok(()) })
    }
}

async fn calls(breaker: &mut CircuitBreaker<Inner, DefaultClassifier>, count: u64) {
    for _ in 0..count {
        let ready = breaker.ready().await.expect("it is ready or refuses");
        drop(black_box(ready.call(()).await));
    }
}

/// What our stack does: a deadline, retries, a bulkhead, the breaker, a timeout of each attempt.
fn stack() -> impl Service<Request, Response = Response, Error = BoxError> {
    let request = TimeLimiterLayer::builder().timeout_duration(Duration::from_secs(30));
    let retry = RetryLayer::<Request, Response, BoxError>::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(100));
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(100).reject_when_full();
    let attempt = TimeLimiterLayer::builder().timeout_duration(Duration::from_secs(10));
    ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(request.build())
        .layer(retry.build())
        .map_err(BoxError::from)
        .layer(bulkhead.build().expect("good settings"))
        .map_err(BoxError::from)
        .layer(layer())
        .map_err(BoxError::from)
        .layer(attempt.build())
        .service(service_fn(|_: Request| {
            ready(Ok::<_, Infallible>(Response::new(String::new())))
        }))
}

fn request() -> Request {
    http::Request::get("http://upstream/items/1")
        .body(String::new())
        .expect("a good request")
}

pub fn tower_resilience() -> Contender {
    let runtime = Rc::new(runtime());
    let (closed_runtime, open_runtime) = (Rc::clone(&runtime), Rc::clone(&runtime));
    let mut closed = layer().layer_fn(Inner { fails: false });
    let mut open = layer().layer_fn(Inner { fails: true });
    runtime.block_on(calls(&mut open, 20));
    assert!(open.is_open());
    let mut stack = stack();
    Contender {
        name: "tower-resilience",
        version: "0.13.0".to_owned(),
        rows: vec![
            Row::operations("breaker/layer, closed", move |count| {
                closed_runtime.block_on(calls(&mut closed, count));
            }),
            Row::operations("breaker/layer, open", move |count| {
                open_runtime.block_on(calls(&mut open, count));
            }),
            // What the layers add: with them, less without.
            Row::figure("outbound/stack", move |time| {
                let mut bare = service_fn(|_: Request| ready(Ok::<_, Infallible>(Response::new(String::new()))));
                let without = per_operation(time / 2, |count| {
                    runtime.block_on(async {
                        for _ in 0..count {
                            let ready = bare.ready().await.expect("it is ready");
                            drop(black_box(ready.call(request()).await));
                        }
                    });
                });
                let with = per_operation(time / 2, |count| {
                    runtime.block_on(async {
                        for _ in 0..count {
                            let ready = stack.ready().await.expect("it is ready");
                            drop(black_box(ready.call(request()).await));
                        }
                    });
                });
                with - without
            }),
        ],
    }
}
