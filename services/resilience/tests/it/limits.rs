//! Rate limits and the limit of requests at a time, over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::{get, post};
use valerix_resilience::Resilience;
use valerix_resilience::policy::{
    Admission, Concurrency, ErrorsFault, Fault, LimitKey, LimitKeyType, Mode, Policy, RateLimitRule,
};

use crate::support::{Mount, eventually, faults, policy, serve, with_policy};

fn rule(name: &str, requests: u32) -> RateLimitRule {
    RateLimitRule {
        name: name.to_owned(),
        scope: valerix_resilience::policy::LimitScope::Replica,
        routes: vec![],
        requests,
        window: "10s".parse().unwrap(),
        burst: None,
        algorithm: None,
        key: None,
    }
}

fn limited(rules: Vec<RateLimitRule>, mode: Mode) -> Policy {
    policy(|policy, _| {
        policy.mode = mode;
        policy.inbound.rate_limit.rules = rules;
    })
}

async fn served(policy: &Policy) -> (Resilience, String) {
    let resilience = with_policy(policy).await;
    let app = Router::new()
        .route("/api/orders", post(|| async {}).get(|| async {}))
        .route("/health", get(|| async {}))
        .layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    (resilience, url)
}

#[tokio::test]
async fn the_sixth_order_is_refused_as_the_draft_says() {
    let mut demo = rule("orders", 5);
    demo.routes = vec!["POST /api/orders".to_owned()];
    let (resilience, url) = served(&limited(vec![demo], Mode::Enforce)).await;
    let http = reqwest::Client::new();
    for left in (0..5).rev() {
        let answer = http.post(format!("{url}/api/orders")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ratelimit-policy"], "\"orders\";q=5;w=10");
        assert!(
            answer.headers()["ratelimit"]
                .to_str()
                .unwrap()
                .starts_with(&format!("\"orders\";r={left};t="))
        );
    }
    let answer = http.post(format!("{url}/api/orders")).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    let retry_after = answer.headers()["retry-after"].to_str().unwrap().to_owned();
    assert!((1..=12).contains(&retry_after.parse::<u64>().unwrap()));
    assert_eq!(answer.headers()["ratelimit"], format!("\"orders\";r=0;t={retry_after}"));
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(problem["violated-policies"], serde_json::json!(["orders"]));
    assert_eq!(
        http.get(format!("{url}/api/orders")).send().await.unwrap().status(),
        200,
        "another route"
    );
    assert_eq!(http.get(format!("{url}/health")).send().await.unwrap().status(), 200);
    let report = resilience.report();
    let limit = report.limits.iter().find(|limit| limit.name == "orders").unwrap();
    assert_eq!((limit.limit, limit.allowed, limit.refused), (5, 5, 1));
}

#[tokio::test]
async fn each_key_has_its_own_limit() {
    let mut keyed = rule("tenants", 1);
    keyed.key = Some(LimitKey {
        key_type: LimitKeyType::Header,
        name: Some("x-tenant".to_owned()),
    });
    let (_resilience, url) = served(&limited(vec![keyed], Mode::Enforce)).await;
    let http = reqwest::Client::new();
    let order = |tenant: &'static str| {
        let request = http.post(format!("{url}/api/orders")).header("x-tenant", tenant);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(
        (order("a").await, order("b").await, order("a").await, order("b").await),
        (200, 200, 429, 429)
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_keys_like_others() {
    use tower::ServiceExt;
    let mut keyed = rule("tenants", 1);
    keyed.key = Some(LimitKey {
        key_type: LimitKeyType::Header,
        name: Some("x-tenant".to_owned()),
    });
    let resilience = with_policy(&limited(vec![keyed], Mode::Enforce)).await;
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(resilience.server_layer());
    let ask = async |tenant: &[u8]| {
        let request = http::Request::get("/").header("x-tenant", tenant);
        let request = request.body(axum::body::Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(
        (ask(b"\xe9").await, ask(b"\xe8").await, ask(b"\xe9").await),
        (200, 200, 429)
    );
}

/// Counts what is said as an error.
#[derive(Clone, Default)]
struct Errors(Arc<AtomicUsize>);

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &tracing::Id) {}

    fn exit(&self, _: &tracing::Id) {}
}

/// All callers are one then, which is said, and not with each request.
#[tokio::test]
async fn a_limit_by_address_where_nobody_tells_addresses_counts_all_as_one_and_says_so_once() {
    use tower::ServiceExt;
    let mut keyed = rule("clients", 2);
    keyed.key = Some(LimitKey {
        key_type: LimitKeyType::ClientIp,
        name: None,
    });
    let resilience = with_policy(&limited(vec![keyed], Mode::Enforce)).await;
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(resilience.server_layer());
    let errors = Errors::default();
    let _heard = tracing::subscriber::set_default(errors.clone());
    let ask = async |peer: Option<[u8; 4]>| {
        // What a client says of itself is not believed of nobody.
        let mut request = http::Request::get("/").header("x-forwarded-for", "192.0.2.7");
        if let Some(peer) = peer {
            let peer = std::net::SocketAddr::from((peer, 80));
            request = request.extension(axum::extract::ConnectInfo(peer));
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(
        (ask(Some([10, 0, 0, 1])).await, errors.0.load(Ordering::SeqCst)),
        (200, 0)
    );
    assert_eq!((ask(None).await, ask(None).await, ask(None).await), (200, 200, 429));
    assert_eq!(ask(Some([10, 0, 0, 1])).await, 200, "it has its own");
    assert_eq!(errors.0.load(Ordering::SeqCst), 1);
}

/// Only probes pass untouched: whoever puts these on the main port has them guarded like the rest.
#[tokio::test]
async fn metrics_and_report_on_the_main_port_are_requests_like_others() {
    const PATHS: [&str; 2] = ["/metrics", "/resilience"];
    let served = async |resilience: &Resilience| {
        let app = Router::new()
            .route("/metrics", get(|| async {}))
            .route("/held", get(std::future::pending::<()>))
            .merge(resilience.report_router())
            .layer(resilience.server_layer());
        format!("http://{}", serve(app).await)
    };
    let ask = async |url: &str, path: &str| reqwest::get(format!("{url}{path}")).await.unwrap().status().as_u16();

    let limited = with_policy(&limited(vec![rule("all", 2)], Mode::Enforce)).await;
    let url = served(&limited).await;
    for expected in [200, 429] {
        for path in PATHS {
            assert_eq!(ask(&url, path).await, expected, "{path}");
        }
    }

    let one = policy(|policy, _| {
        policy.inbound.concurrency = Some(Concurrency {
            max: 1,
            ..Concurrency::default()
        });
    });
    let full = with_policy(&one).await;
    let url = served(&full).await;
    let held = tokio::spawn(reqwest::get(format!("{url}/held")));
    eventually("the one place is taken", || {
        full.report().limits.iter().any(|limit| limit.in_use == 1)
    })
    .await;
    for path in PATHS {
        assert_eq!(ask(&url, path).await, 503, "{path}");
    }
    held.abort();

    let mut mount = Mount::with_policy(&policy(|policy, _| policy.chaos.admission = Admission::Allowed));
    let errors = ErrorsFault {
        percent: 100,
        status: 418,
        routes: vec![],
    };
    let fault = Fault {
        errors: Some(errors),
        ..Fault::default()
    };
    mount.faults = Some(faults("run", fault, "60s").render());
    mount.publish();
    let faulty = mount.start().await;
    let url = served(&faulty).await;
    for path in PATHS {
        assert_eq!(ask(&url, path).await, 418, "{path}");
    }
}

#[tokio::test]
async fn a_request_that_one_rule_refuses_uses_up_no_other() {
    let (resilience, url) = served(&limited(vec![rule("wide", 10), rule("narrow", 2)], Mode::Enforce)).await;
    let http = reqwest::Client::new();
    for _ in 0..6 {
        http.post(format!("{url}/api/orders")).send().await.unwrap();
    }
    let report = resilience.report();
    let allowed = |name: &str| report.limits.iter().find(|limit| limit.name == name).unwrap().allowed;
    assert_eq!((allowed("wide"), allowed("narrow")), (2, 2));
}

#[tokio::test]
async fn shadow_counts_and_shows_nothing() {
    let (resilience, url) = served(&limited(vec![rule("all", 1)], Mode::Shadow)).await;
    for _ in 0..3 {
        let answer = reqwest::get(format!("{url}/api/orders")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("ratelimit").is_none());
    }
    assert_eq!(
        resilience
            .report()
            .limits
            .iter()
            .find(|limit| limit.name == "all")
            .unwrap()
            .refused,
        2
    );
}

#[tokio::test]
async fn a_reload_keeps_what_was_used() {
    let (resilience, url) = served(&limited(vec![rule("all", 5)], Mode::Enforce)).await;
    for _ in 0..5 {
        reqwest::get(format!("{url}/api/orders")).await.unwrap();
    }
    resilience
        .apply_policy(limited(vec![rule("all", 6)], Mode::Enforce).render().as_bytes())
        .unwrap();
    assert_eq!(reqwest::get(format!("{url}/api/orders")).await.unwrap().status(), 200);
    assert_eq!(reqwest::get(format!("{url}/api/orders")).await.unwrap().status(), 429);
}

#[tokio::test]
async fn a_place_is_held_until_the_answer_has_been_sent() {
    let one = policy(|policy, _| {
        policy.inbound.concurrency = Some(Concurrency {
            max: 1,
            ..Concurrency::default()
        });
    });
    let resilience = with_policy(&one).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let waiting = gate.clone();
    let handler = get(move || async move {
        let head = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"head"))]);
        let tail = futures::stream::once(async move {
            drop(waiting.acquire().await);
            Ok(bytes::Bytes::from_static(b"tail"))
        });
        axum::body::Body::from_stream(futures::StreamExt::chain(head, tail))
    });
    let url = format!(
        "http://{}",
        serve(Router::new().route("/", handler).layer(resilience.server_layer())).await
    );
    let streaming = reqwest::get(&url).await.unwrap();
    let refused = reqwest::get(&url).await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["valerix-retry"]),
        (503, &"no".parse().unwrap())
    );
    gate.add_permits(10);
    assert_eq!(streaming.text().await.unwrap(), "headtail");
    let in_use = || {
        resilience
            .report()
            .limits
            .iter()
            .find(|limit| limit.name == "concurrency")
            .unwrap()
            .in_use
    };
    eventually("the place is free", || in_use() == 0).await;
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_finds_no_place_is_told_what_is_left_of_the_quota() {
    let mut document = limited(vec![rule("orders", 5)], Mode::Enforce);
    document.inbound.concurrency = Some(Concurrency {
        max: 1,
        ..Concurrency::default()
    });
    let resilience = with_policy(&document).await;
    let handler = get(std::future::pending::<()>);
    let app = Router::new().route("/", handler).layer(resilience.server_layer());
    let url = format!("http://{}/", serve(app).await);
    let held = tokio::spawn(reqwest::get(url.clone()));
    eventually("one is handled", || {
        let report = resilience.report();
        report
            .limits
            .iter()
            .any(|limit| limit.name == "concurrency" && limit.in_use == 1)
    })
    .await;
    let refused = reqwest::get(&url).await.unwrap();
    assert_eq!(refused.status(), 503);
    let left = refused.headers()["ratelimit"].to_str().unwrap();
    assert!(left.starts_with("\"orders\";r=3;t="), "{left}");
    held.abort();
}
