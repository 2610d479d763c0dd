//! The server layer in front of real handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use valerix_resilience::Deadline;
use valerix_resilience::policy::{
    Admission, Concurrency, ConcurrencyType, Fault, LatencyFault, Priorities, Priority, PriorityHeader, RoutePriority,
};

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
    let layer = resilience.server_layer().in_place_until_left(|_| true);
    let app = Router::new().route("/work", handler).layer(layer);
    let request = reqwest::Client::new().post(format!("http://{}/work", serve(app).await));
    let (late, left) = (request.try_clone().unwrap(), request.try_clone().unwrap());
    let caller = tokio::spawn(left.send());
    eventually("the work begins", || under_way.load(Ordering::SeqCst) == 1).await;
    assert_eq!(resilience.tasks().len(), 0, "somebody waits");
    caller.abort();
    eventually("it has a task", || resilience.tasks().len() == 1).await;
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

#[tokio::test]
async fn the_less_important_are_refused_first_and_a_header_is_believed_only_where_the_policy_says() {
    let registry = prometheus::Registry::new();
    let resilience = valerix_resilience::Resilience::builder()
        .registry(registry.clone())
        .start()
        .await
        .unwrap();
    let put_in_force = |header| {
        let routes = vec![RoutePriority {
            route: "GET /suggestions".to_owned(),
            priority: Priority::BestEffort,
        }];
        let priorities = Some(Priorities {
            header,
            routes,
            ..Priorities::default()
        });
        let concurrency = Some(Concurrency {
            max: 4,
            priorities,
            ..Concurrency::default()
        });
        let document = policy(|policy, _| policy.inbound.concurrency = concurrency);
        resilience.apply_policy(document.render().as_bytes()).unwrap();
    };
    put_in_force(PriorityHeader::Ignore);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let began = Arc::new(AtomicUsize::new(0));
    let (waiting, started) = (gate.clone(), began.clone());
    let handler = get(move |Extension(priority): Extension<Priority>| async move {
        started.fetch_add(1, Ordering::SeqCst);
        drop(waiting.acquire().await);
        priority.as_str()
    });
    let app = Router::new()
        .route("/suggestions", handler.clone())
        .route("/orders", handler)
        .layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    let http = reqwest::Client::new();
    let send = |path: &str, claimed: &str| {
        tokio::spawn(
            http.get(format!("{url}{path}"))
                .header("valerix-priority", claimed)
                .send(),
        )
    };
    // Half of four places are for best effort, whatever it says of itself.
    let mut held = vec![send("/suggestions", "Critical"), send("/suggestions", "")];
    eventually("two are handled", || began.load(Ordering::SeqCst) == 2).await;
    let refused = send("/suggestions", "Critical").await.unwrap().unwrap();
    assert_eq!(refused.status(), 503);
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (
            header("valerix-problem"),
            header("valerix-retry"),
            header("retry-after")
        ),
        ("overloaded".into(), "no".into(), "1".into())
    );
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["priority"], "BestEffort");
    held.push(send("/orders", ""));
    eventually("an order is handled", || began.load(Ordering::SeqCst) == 3).await;

    put_in_force(PriorityHeader::Lower);
    assert_eq!(send("/orders", "BestEffort").await.unwrap().unwrap().status(), 503);
    assert_eq!(send("/suggestions", "Critical").await.unwrap().unwrap().status(), 503);
    put_in_force(PriorityHeader::Trust);
    held.push(send("/suggestions", "Critical"));
    eventually("the last place is for what is critical", || {
        began.load(Ordering::SeqCst) == 4
    })
    .await;
    let text = || {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    };
    for line in [
        "resilience_concurrency_decisions_total{decision=\"allowed\",priority=\"BestEffort\"} 2",
        "resilience_concurrency_decisions_total{decision=\"refused\",priority=\"BestEffort\"} 3",
        "resilience_concurrency_decisions_total{decision=\"allowed\",priority=\"Critical\"} 1",
        "resilience_concurrency_limit 4",
        "resilience_concurrency_inflight 4",
    ] {
        assert!(text().contains(line), "{line} in {}", text());
    }
    gate.add_permits(4);
    let mut seen = Vec::new();
    for answer in held {
        seen.push(answer.await.unwrap().unwrap().text().await.unwrap());
    }
    assert_eq!(seen, ["BestEffort", "BestEffort", "Default", "Critical"]);
    eventually("every place is back", || {
        text().contains("resilience_concurrency_inflight 0")
    })
    .await;
}

/// The library with its metrics as text, and this limit on requests at a time.
async fn counted(concurrency: Concurrency) -> (valerix_resilience::Resilience, impl Fn() -> String) {
    let registry = prometheus::Registry::new();
    let builder = valerix_resilience::Resilience::builder().registry(registry.clone());
    let resilience = builder.start().await.unwrap();
    let document = policy(|policy, _| policy.inbound.concurrency = Some(concurrency));
    resilience.apply_policy(document.render().as_bytes()).unwrap();
    let text = move || {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&registry.gather()).unwrap()
    };
    (resilience, text)
}

#[tokio::test]
async fn a_place_is_taken_until_the_body_has_been_sent() {
    let (resilience, text) = counted(Concurrency::default()).await;
    let (more, chunks) = tokio::sync::mpsc::channel::<&'static str>(1);
    let chunks = Arc::new(tokio::sync::Mutex::new(chunks));
    let handler = get(move || async move {
        let stream = futures::stream::unfold(chunks.lock_owned().await, |mut chunks| async move {
            let chunk = chunks.recv().await?;
            Some((Ok::<_, std::io::Error>(chunk), chunks))
        });
        axum::body::Body::from_stream(stream)
    });
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let mut answer = reqwest::get(format!("http://{}/", serve(app).await)).await.unwrap();
    more.send("first").await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    assert!(text().contains("resilience_concurrency_inflight 1"), "{}", text());
    drop(more);
    assert_eq!(answer.chunk().await.unwrap(), None);
    eventually("the place is back", || {
        text().contains("resilience_concurrency_inflight 0")
    })
    .await;
}

/// However short the deadline that callers name, and however soon they leave: as many handlers run as there are places.
#[tokio::test]
async fn a_place_is_taken_until_the_handler_has_ended_whoever_still_waits() {
    let (resilience, text) = counted(Concurrency {
        max: 2,
        ..Concurrency::default()
    })
    .await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waiting, now, peak) = (gate.clone(), running.clone(), most.clone());
    let handler = get(move || async move {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        drop(waiting.acquire().await);
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let url = format!("http://{}/", serve(app).await);
    let http = reqwest::Client::new();
    let impatient = || http.get(&url).header("valerix-timeout-ms", "30").send();
    assert_eq!(impatient().await.unwrap().status(), 504);
    // The second caller closes its connection while its handler runs.
    let leaver = reqwest::Client::new().get(&url).send();
    let leaver = tokio::spawn(leaver);
    eventually("both handlers run", || running.load(Ordering::SeqCst) == 2).await;
    leaver.abort();
    for _ in 0..5 {
        let answer = impatient().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["valerix-problem"]),
            (503, &"overloaded".parse().unwrap())
        );
    }
    assert!(text().contains("resilience_concurrency_inflight 2"), "{}", text());
    assert_eq!(most.load(Ordering::SeqCst), 2);
    gate.add_permits(100);
    eventually("the places are back", || {
        text().contains("resilience_concurrency_inflight 0")
    })
    .await;
    assert_eq!(http.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_that_miss_their_deadline_lower_an_adaptive_limit() {
    let (resilience, text) = counted(Concurrency {
        concurrency_type: ConcurrencyType::Adaptive,
        max: 100,
        min: 1,
        initial: 20,
        ..Concurrency::default()
    })
    .await;
    // Late, but it ends: a handler that runs for ever keeps its place for ever.
    let handler = get(|Extension(deadline): Extension<Deadline>| async move {
        tokio::time::sleep_until(deadline.instant() + Duration::from_millis(20)).await;
    });
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let url = format!("http://{}/", serve(app).await);
    let http = reqwest::Client::new();
    let began = std::time::Instant::now();
    assert!(text().contains("resilience_concurrency_limit 20"), "{}", text());
    while text().contains("resilience_concurrency_limit 20") {
        assert!(
            began.elapsed() < crate::support::PATIENCE,
            "misses never lowered the limit"
        );
        let answer = http.get(&url).header("valerix-timeout-ms", "20").send().await.unwrap();
        assert_eq!(answer.status(), 504);
    }
    assert!(text().contains("resilience_concurrency_limit 18"), "{}", text());
}

/// Refusals come soon, whatever the service's own pace: as samples they would make all else look slow.
#[tokio::test]
async fn what_comes_to_no_handler_teaches_an_adaptive_limit_nothing() {
    let registry = prometheus::Registry::new();
    let builder = valerix_resilience::Resilience::builder().registry(registry.clone());
    let resilience = builder.start().await.unwrap();
    let document = policy(|policy, _| {
        policy.inbound.idempotency.required_routes = vec!["POST /".to_owned()];
        policy.inbound.concurrency = Some(Concurrency {
            concurrency_type: ConcurrencyType::Adaptive,
            max: 100,
            min: 1,
            initial: 20,
            ..Concurrency::default()
        });
    });
    resilience.apply_policy(document.render().as_bytes()).unwrap();
    let handler = get(|| tokio::time::sleep(Duration::from_millis(10)));
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let url = format!("http://{}/", serve(app).await);
    let http = reqwest::Client::new();
    for (method, timeout, status) in [
        ("GET", "0", 504),
        ("GET", "soon", 400),
        ("POST", "10000", 400),
        ("GET", "10000", 200),
    ] {
        let began = std::time::Instant::now();
        // Some windows of the limit, each with enough to decide on.
        while began.elapsed() < Duration::from_millis(500) {
            let request = http.request(method.parse().unwrap(), &url);
            let answer = request.header("valerix-timeout-ms", timeout).send().await.unwrap();
            assert_eq!(answer.status(), status);
        }
        let encoder = prometheus::TextEncoder::new();
        let text = encoder.encode_to_string(&registry.gather()).unwrap();
        assert!(
            text.contains("resilience_concurrency_limit 20"),
            "{method} {timeout}: {text}"
        );
    }
}

/// The caller counts from when it asked: what is waited for on the way to the handler is a part of its time.
#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_is_a_part_of_the_time() {
    use tower::ServiceExt;
    let (resilience, _) = counted(Concurrency {
        max: 1,
        max_queue: 1,
        queue_timeout: "60s".parse().unwrap(),
        ..Concurrency::default()
    })
    .await;
    let handler = get(|Extension(deadline): Extension<Deadline>| async move {
        let left = deadline.remaining();
        tokio::time::sleep(Duration::from_millis(300)).await;
        left.as_millis().to_string()
    });
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let ask = |timeout: &'static str| {
        let request = http::Request::get("/").header("valerix-timeout-ms", timeout);
        let answer = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap());
        async move {
            let answer = answer.await.unwrap();
            let status = answer.status().as_u16();
            let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
            (status, String::from_utf8_lossy(&body).into_owned())
        }
    };
    let (first, second) = tokio::join!(ask("1000"), ask("1000"));
    assert_eq!(first, (200, "1000".to_owned()));
    assert_eq!(second, (200, "700".to_owned()));
    let began = tokio::time::Instant::now();
    let hasty = async {
        let answer = ask("100").await;
        (answer, began.elapsed())
    };
    let (_, ((status, body), waited)) = tokio::join!(ask("1000"), hasty);
    assert!(status == 504 && body.contains("deadline-exceeded"), "{body}");
    assert!(waited < Duration::from_millis(150), "{waited:?}");
}

#[tokio::test]
async fn the_service_itself_may_say_how_important_a_request_is() {
    let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
    let handler = get(|Extension(priority): Extension<Priority>| async move {
        assert_eq!(valerix_resilience::CurrentPriority::get(), Some(priority));
        priority.as_str()
    });
    let layer = resilience
        .server_layer()
        .priority(|request| (request.uri().path() == "/thumbnails").then_some(Priority::Sheddable));
    let app = Router::new()
        .route("/thumbnails", handler.clone())
        .route("/orders", handler)
        .layer(layer);
    let url = format!("http://{}", serve(app).await);
    for (path, expected) in [("thumbnails", "Sheddable"), ("orders", "Default")] {
        let answer = reqwest::get(format!("{url}/{path}")).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), expected);
    }
}
