//! The server layer in front of real handlers.

mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use valerix_resilience::Deadline;
use valerix_resilience::policy::{Admission, Concurrency, ConcurrencyType, Fault, LatencyFault};

use crate::support::{Mount, eventually, faults, policy, serve, with_policy};

#[tokio::test]
async fn a_deadline_ends_the_waiting_and_never_the_work() {
    let resilience = with_policy(&policy(|_, _| {})).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let (waiting, finished) = (gate.clone(), done.clone());
    let handler = post(move |Extension(deadline): Extension<Deadline>| async move {
        assert!(Deadline::current().is_some() && deadline.remaining() <= Duration::from_millis(50));
        drop(waiting.acquire().await);
        finished.store(true, Ordering::SeqCst);
    });
    let app = Router::new().route("/work", handler).layer(resilience.server_layer());
    let url = format!("http://{}/work", serve(app).await);
    let answer = reqwest::Client::new()
        .post(url)
        .header("valerix-timeout-ms", "50")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["valerix-problem"], "deadline-exceeded");
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(
        (&problem["status"], &problem["phase"]),
        (&504.into(), &"handler".into())
    );
    assert!(!done.load(Ordering::SeqCst));
    gate.add_permits(1);
    eventually("the work ends", || done.load(Ordering::SeqCst)).await;
    resilience.tasks().close();
    resilience.tasks().wait().await;
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_the_work() {
    let resilience = with_policy(&policy(|_, _| {})).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (began, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (waiting, started, finished) = (gate.clone(), began.clone(), done.clone());
    let handler = post(move || async move {
        started.store(true, Ordering::SeqCst);
        drop(waiting.acquire().await);
        finished.store(true, Ordering::SeqCst);
    });
    let app = Router::new().route("/work", handler).layer(resilience.server_layer());
    let url = format!("http://{}/work", serve(app).await);
    let caller = tokio::spawn(reqwest::Client::new().post(url).send());
    eventually("the work begins", || began.load(Ordering::SeqCst)).await;
    caller.abort();
    gate.add_permits(1);
    eventually("the work ends", || done.load(Ordering::SeqCst)).await;
}

/// Work that is under way until it is dropped.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(under_way: &Arc<AtomicUsize>) -> Self {
        under_way.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(under_way))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_is_handled_in_place_ends_with_the_waiting_unless_its_place_is_counted() {
    for (counted, keyed) in [(false, false), (false, true), (true, false)] {
        let concurrency = counted.then(|| Concurrency {
            concurrency_type: ConcurrencyType::Fixed,
            max: 10,
            ..Concurrency::default()
        });
        let resilience = with_policy(&policy(|policy, _| policy.inbound.concurrency = concurrency)).await;
        let (gate, under_way) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
        let (waiting, begun) = (gate.clone(), Arc::clone(&under_way));
        let handler = post(move || async move {
            let _under_way = UnderWay::begin(&begun);
            assert!(Deadline::current().is_some());
            drop(waiting.acquire().await);
        });
        let layer = resilience.server_layer();
        let layer = layer.in_place(|request| !request.headers().contains_key("idempotency-key"));
        let app = Router::new().route("/work", handler).layer(layer);
        let request = reqwest::Client::new().post(format!("http://{}/work", serve(app).await));
        let request = if keyed {
            request.header("idempotency-key", "one")
        } else {
            request
        };
        let late = request.try_clone().unwrap().header("valerix-timeout-ms", "50").send();
        assert_eq!(late.await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
        let left = usize::from(counted || keyed);
        assert_eq!(under_way.load(Ordering::SeqCst), left, "{counted} {keyed}");
        let caller = tokio::spawn(request.send());
        eventually("the work begins", || under_way.load(Ordering::SeqCst) == left + 1).await;
        caller.abort();
        if left == 0 {
            eventually("the work has ended", || under_way.load(Ordering::SeqCst) == 0).await;
        }
        gate.add_permits(2);
        eventually("all work has ended", || under_way.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn what_is_handled_until_its_caller_leaves_goes_on_from_then_on() {
    let resilience = with_policy(&policy(|_, _| {})).await;
    let (gate, under_way) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
    let (waiting, begun) = (gate.clone(), Arc::clone(&under_way));
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let handler = post(move || async move {
        let _under_way = UnderWay::begin(&begun);
        assert!(Deadline::current().is_some());
        drop(waiting.acquire().await);
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let waiting = Arc::default();
    let waits = Arc::clone(&waiting);
    let around = from_fn(move |request: Request, next: Next| {
        let waits = Arc::clone(&waits);
        async move {
            let _waits = UnderWay::begin(&waits);
            next.run(request).await
        }
    });
    let layer = resilience.server_layer().in_place_until_left(|_| true);
    let app = Router::new().route("/work", handler).layer(layer).layer(around);
    let request = reqwest::Client::new().post(format!("http://{}/work", serve(app).await));
    let (late, left) = (request.try_clone().unwrap(), request.try_clone().unwrap());
    let caller = tokio::spawn(left.send());
    eventually("the work begins", || under_way.load(Ordering::SeqCst) == 1).await;
    assert_eq!(resilience.tasks().len(), 1, "an end would wait for it");
    caller.abort();
    eventually("nobody waits", || waiting.load(Ordering::SeqCst) == 0).await;
    assert_eq!((resilience.tasks().len(), under_way.load(Ordering::SeqCst)), (1, 1));
    let late = late.header("valerix-timeout-ms", "50").send().await.unwrap();
    assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((resilience.tasks().len(), under_way.load(Ordering::SeqCst)), (2, 2));
    gate.add_permits(1_000);
    eventually("the work ends", || ended.load(Ordering::SeqCst) == 2).await;
    eventually("so do the tasks", || resilience.tasks().is_empty()).await;
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!((resilience.tasks().len(), ended.load(Ordering::SeqCst)), (0, 3));
}

#[tokio::test]
async fn a_panic_in_place_is_an_answer() {
    let resilience = with_policy(&policy(|_, _| {})).await;
    for layer in [
        resilience.server_layer().in_place(|_| true),
        resilience.server_layer().in_place_until_left(|_| true),
    ] {
        let handler = get(|| async {
            if std::env::args().count() > 0 {
                panic!("on purpose")
            }
        });
        let url = format!(
            "http://{}/",
            serve(Router::new().route("/", handler).layer(layer)).await
        );
        let answer = reqwest::get(url).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_bad_deadline_is_named_and_a_past_one_starts_nothing() {
    let resilience = with_policy(&policy(|_, _| {})).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let handler = get(move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() });
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let url = format!("http://{}/", serve(app).await);
    for (value, status) in [
        ("soon", 400),
        ("-1", 400),
        ("1.5", 400),
        ("", 400),
        ("0", 504),
        ("900", 200),
    ] {
        let request = reqwest::Client::new().get(&url).header("valerix-timeout-ms", value);
        assert_eq!(request.send().await.unwrap().status(), status, "{value:?}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let resilience = with_policy(&policy(|_, _| {})).await;
    async fn broken() {
        panic!("on purpose");
    }
    let app = Router::new()
        .route("/broken", get(broken))
        .route("/", get(|| async { "well" }))
        .layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    let answer = reqwest::get(format!("{url}/broken")).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["valerix-problem"]),
        (500, &"internal".parse().unwrap())
    );
    assert_eq!(reqwest::get(url).await.unwrap().text().await.unwrap(), "well");
}

#[tokio::test]
async fn a_required_key_is_asked_for_before_any_work() {
    let required = policy(|policy, _| policy.inbound.idempotency.required_routes = vec!["POST /orders".to_owned()]);
    let resilience = with_policy(&required).await;
    let app = Router::new()
        .route("/orders", post(|| async { "made" }).get(|| async { "listed" }))
        .layer(resilience.server_layer());
    let url = format!("http://{}/orders", serve(app).await);
    let http = reqwest::Client::new();
    let answer = http.post(&url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["valerix-problem"]),
        (400, &"idempotency-key-missing".parse().unwrap())
    );
    let answer = http
        .post(&url)
        .header("idempotency-key", "\"open")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["valerix-problem"]),
        (400, &"idempotency-key-invalid".parse().unwrap())
    );
    assert_eq!(
        http.post(&url)
            .header("idempotency-key", "\"k\"")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(http.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn probes_pass_while_a_fault_holds_all_else() {
    let mut mount = Mount::with_policy(&policy(|policy, _| policy.chaos.admission = Admission::Allowed));
    let latency = LatencyFault {
        delay: "10s".parse().unwrap(),
        jitter: "0s".parse().unwrap(),
        percent: 100,
        routes: vec![],
    };
    mount.faults = Some(
        faults(
            "run",
            Fault {
                latency: Some(latency),
                ..Fault::default()
            },
            "60s",
        )
        .render(),
    );
    mount.publish();
    let resilience = mount.start().await;
    let app = Router::new()
        .route("/health", get(|| async { "alive" }))
        .route("/api", get(|| async { "late" }))
        .layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    assert_eq!(reqwest::get(format!("{url}/health")).await.unwrap().status(), 200);
    let http = reqwest::Client::new();
    let answer = http
        .get(format!("{url}/api"))
        .header("valerix-timeout-ms", "30")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 504, "the delay counts against the deadline");
    assert!(
        tokio::time::timeout(Duration::from_millis(100), http.get(format!("{url}/api")).send())
            .await
            .is_err()
    );
}
