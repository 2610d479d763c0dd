//! Rules of scope `Distributed` at servers: what a client sees, what the report and the metrics say.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use prometheus::{Registry, TextEncoder};
use valerix_resilience::policy::{LimitAlgorithm, LimitKey, LimitKeyType, LimitScope, Mode, Policy, RateLimitRule};
use valerix_resilience::{Resilience, StartError};

use super::PATIENT;
use super::redis_server::{Mode as Way, Proxy, RedisServer};
use crate::support::{dead_address, eventually, policy, serve};

fn shared(name: &str, requests: u32) -> RateLimitRule {
    RateLimitRule {
        name: name.to_owned(),
        scope: LimitScope::Distributed,
        routes: vec![],
        requests,
        // Long enough for any machine: nothing comes back while a test runs.
        window: "1h".parse().unwrap(),
        burst: None,
        algorithm: None,
        key: None,
    }
}

fn keyed(mut rule: RateLimitRule, key_type: LimitKeyType, name: Option<&str>) -> RateLimitRule {
    let name = name.map(str::to_owned);
    rule.key = Some(LimitKey { key_type, name });
    rule
}

fn limited(rules: Vec<RateLimitRule>, mode: Mode) -> Policy {
    policy(|policy, _| {
        policy.mode = mode;
        policy.inbound.rate_limit.rules = rules;
    })
}

struct Replica {
    resilience: Resilience,
    registry: Registry,
    url: String,
    folder: tempfile::TempDir,
}

impl Replica {
    async fn start(redis_url: &str, service: &str, policy: &Policy) -> Self {
        let registry = Registry::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("policy.v1.json"), policy.render()).unwrap();
        let resilience = Resilience::builder()
            .service(service)
            .namespace("shop")
            .registry(registry.clone())
            .policy_folder(folder.path())
            .redis_url(redis_url)
            .redis_timeout(PATIENT)
            .start()
            .await
            .unwrap();
        let layer = resilience.server_layer().claims(|request, name| {
            let token = request.headers().get("authorization")?.to_str().ok()?;
            token.strip_prefix(&format!("{name}=")).map(str::to_owned)
        });
        let app = Router::new().route("/api/orders", post(|| async {})).layer(layer);
        let url = format!("http://{}/api/orders", serve(app).await);
        Self {
            resilience,
            registry,
            url,
            folder,
        }
    }

    async fn order(&self, header: Option<(&str, &str)>) -> reqwest::Response {
        let request = reqwest::Client::new().post(&self.url);
        let request = header
            .into_iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.unwrap()
    }

    fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    fn limit(&self, name: &str) -> valerix_resilience::policy::LimitReport {
        let report = self.resilience.report();
        report.limits.into_iter().find(|limit| limit.name == name).unwrap()
    }
}

#[tokio::test]
async fn two_servers_count_as_one_and_say_so() {
    let server = RedisServer::start();
    let rule = shared("orders", 5);
    let policy = limited(vec![rule], Mode::Enforce);
    let replicas = [
        Replica::start(&server.url(), "order", &policy).await,
        Replica::start(&server.url(), "order", &policy).await,
    ];
    for (order, left) in (0..5).zip((0..5).rev()) {
        let answer = replicas[usize::from(order >= 3)].order(None).await;
        assert_eq!(answer.status(), 200, "order {order}");
        assert_eq!(answer.headers()["ratelimit-policy"], "\"orders\";q=5;w=3600");
        let said = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(
            said.starts_with(&format!("\"orders\";r={left};t=")),
            "order {order}: {said}"
        );
    }
    for replica in &replicas {
        let answer = replica.order(None).await;
        assert_eq!(answer.status(), 429);
        let retry_after = answer.headers()["retry-after"].to_str().unwrap().to_owned();
        assert!(
            (1..=4_200).contains(&retry_after.parse::<u64>().unwrap()),
            "{retry_after}"
        );
        assert_eq!(answer.headers()["ratelimit"], format!("\"orders\";r=0;t={retry_after}"));
    }
    let asked = server.script_calls();
    for _ in 0..20 {
        assert_eq!(replicas[0].order(None).await.status(), 429);
    }
    let more = server.script_calls() - asked;
    assert!(
        more <= 10,
        "a refusal is kept until it may change: {more} calls for 20 requests"
    );
    let limit = replicas[0].limit("orders");
    assert_eq!((limit.limit, limit.allowed, limit.degraded), (5, 3, false));
    assert!(
        replicas[0]
            .metrics()
            .contains("resilience_ratelimit_degraded{rule=\"orders\"} 0")
    );
    assert!(
        replicas[0]
            .metrics()
            .contains("resilience_ratelimit_redis_calls_total{result=\"answered\"}")
    );
}

#[tokio::test]
async fn keys_are_counted_apart_and_not_written_down() {
    let server = RedisServer::start();
    let rules = [
        keyed(shared("tenants", 1), LimitKeyType::Header, Some("x-tenant")),
        keyed(shared("subjects", 1), LimitKeyType::Claim, Some("sub")),
        keyed(shared("addresses", 3), LimitKeyType::ClientIp, None),
    ];
    let of = |rule: usize| limited(vec![rules[rule].clone()], Mode::Enforce);
    for (rule, first, second) in [
        (0, Some(("x-tenant", "tenant-a")), Some(("x-tenant", "tenant-b"))),
        (
            1,
            Some(("authorization", "sub=alice")),
            Some(("authorization", "sub=bob")),
        ),
    ] {
        let replicas = [
            Replica::start(&server.url(), "order", &of(rule)).await,
            Replica::start(&server.url(), "order", &of(rule)).await,
        ];
        assert_eq!(replicas[0].order(first).await.status(), 200);
        assert_eq!(replicas[1].order(first).await.status(), 429);
        assert_eq!(replicas[1].order(second).await.status(), 200);
        assert_eq!(replicas[0].order(second).await.status(), 429);
    }
    let replica = Replica::start(&server.url(), "order", &of(2)).await;
    let other = Replica::start(&server.url(), "payment", &of(2)).await;
    for _ in 0..3 {
        assert_eq!(replica.order(None).await.status(), 200);
        assert_eq!(
            other.order(None).await.status(),
            200,
            "another service has limits of its own"
        );
    }
    assert_eq!(replica.order(None).await.status(), 429);
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("valerix:limit:shop/"), "{key}");
        assert!(
            !["tenant-a", "alice", "127.0.0.1"]
                .iter()
                .any(|secret| key.contains(secret)),
            "{key}"
        );
        let left: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        assert!((1..=4_200_000).contains(&left), "{key} stays {left} ms");
    }
}

#[tokio::test]
async fn what_one_rule_refuses_uses_up_no_other() {
    let server = RedisServer::start();
    let rules = vec![shared("wide", 10), shared("narrow", 2)];
    let replica = Replica::start(&server.url(), "order", &limited(rules, Mode::Enforce)).await;
    for order in 0..6 {
        assert_eq!(replica.order(None).await.status(), if order < 2 { 200 } else { 429 });
    }
    assert_eq!((replica.limit("wide").allowed, replica.limit("narrow").allowed), (2, 2));
    // Another replica finds the rest of the wide one, when what was drawn for it has gone back.
    let other = Replica::start(
        &server.url(),
        "order",
        &limited(vec![shared("wide", 10)], Mode::Enforce),
    )
    .await;
    let mut accepted = 0;
    for _ in 0..9 {
        accepted += usize::from(other.order(None).await.status() == 200);
    }
    assert!((6..=8).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn shadow_shows_nothing_and_disabled_asks_nobody() {
    let server = RedisServer::start();
    let replica = Replica::start(&server.url(), "order", &limited(vec![shared("all", 1)], Mode::Shadow)).await;
    for _ in 0..3 {
        let answer = replica.order(None).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("ratelimit").is_none() && answer.headers().get("retry-after").is_none());
    }
    assert_eq!(replica.limit("all").refused, 2);
    assert!(
        replica
            .metrics()
            .contains("resilience_ratelimit_decisions_total{decision=\"shadow_limited\",rule=\"all\"} 2")
    );
    let asked = server.script_calls();
    let off = limited(vec![shared("all", 1)], Mode::Disabled);
    let replica = Replica::start(&server.url(), "other", &off).await;
    for _ in 0..3 {
        assert_eq!(replica.order(None).await.status(), 200);
    }
    assert_eq!(server.script_calls(), asked);
}

#[tokio::test]
async fn without_redis_the_local_share_holds_and_is_reported() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.address()).await;
    let policy = limited(vec![shared("orders", 2)], Mode::Enforce);
    let replica = Replica::start(&proxy.url(), "order", &policy).await;
    assert_eq!(replica.order(None).await.status(), 200);
    let healthy = replica.resilience.report().etag();
    let report = format!("http://{}/resilience", serve(replica.resilience.report_router()).await);
    let follow = |since: &str| {
        let poll = reqwest::Client::new()
            .get(&report)
            .query(&[("since", since), ("wait", "60s")]);
        tokio::spawn(async move { poll.send().await.unwrap().status().as_u16() })
    };
    let follower = follow(&healthy);
    proxy.set(Way::Cut);
    // Only who asks finds out.
    assert_eq!(replica.order(None).await.status(), 200, "the second of its own share");
    eventually("degraded", || replica.limit("orders").degraded).await;
    assert_eq!(follower.await.unwrap(), 200, "who follows the report is told");
    let follower = follow(&replica.resilience.report().etag());
    assert!(
        replica
            .metrics()
            .contains("resilience_ratelimit_degraded{rule=\"orders\"} 1")
    );
    let refused = replica.order(None).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(
        replica
            .metrics()
            .contains("resilience_ratelimit_local_decisions_total{rule=\"orders\"}")
    );
    proxy.set(Way::Pass);
    eventually("shared again", || !replica.limit("orders").degraded).await;
    assert_eq!(replica.resilience.report().etag(), healthy);
    assert_eq!(follower.await.unwrap(), 200, "and told again");
}

#[tokio::test]
async fn a_start_never_waits_long_for_redis_and_names_a_bad_url() {
    let policy = limited(vec![shared("orders", 2)], Mode::Enforce);
    let dead = format!("redis://{}/", dead_address());
    let replica = tokio::time::timeout(Duration::from_secs(5), Replica::start(&dead, "order", &policy))
        .await
        .expect("a start does not wait for Redis");
    assert_eq!(replica.order(None).await.status(), 200);
    eventually("degraded", || replica.limit("orders").degraded).await;
    for url in ["", "http://:secret@redis/", "redis://:secret@redis:port/"] {
        let error = Resilience::builder().redis_url(url).start().await.unwrap_err();
        assert!(matches!(error, StartError::Redis { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("redis_url") && text.contains("redis://") && !text.contains("secret"),
            "{text}"
        );
    }
    // By TLS, too; that nobody is there is no error of the start.
    let over_tls = format!("rediss://:secret@{}/", dead_address());
    let replica = Replica::start(&over_tls, "order", &policy).await;
    eventually("degraded", || replica.limit("orders").degraded).await;
}

#[tokio::test]
async fn the_share_follows_the_number_of_ready_replicas() {
    let policy = limited(vec![shared("orders", 12)], Mode::Enforce);
    let dead = format!("redis://{}/", dead_address());
    let replica = Replica::start(&dead, "order", &policy).await;
    eventually("degraded", || replica.limit("orders").degraded).await;
    for replicas in [3, 2, 6] {
        let runtime = valerix_resilience::policy::Runtime::new(replicas).render();
        std::fs::write(replica.folder.path().join("runtime.json"), runtime).unwrap();
        let share = u64::from(12 / replicas);
        eventually("a new share", || replica.limit("orders").limit == share).await;
    }
    assert_eq!(
        replica.order(None).await.headers()["ratelimit-policy"],
        "\"orders\";q=12;w=3600"
    );
    assert_eq!(replica.order(None).await.status(), 200);
    assert_eq!(replica.order(None).await.status(), 429);
}

const ENVIRONMENT: &str = "VALERIX_TEST_ENVIRONMENT";

/// A child of the test below: takes what the environment names.
#[tokio::test]
async fn by_environment() {
    if std::env::var_os(ENVIRONMENT).is_none() {
        return;
    }
    let resilience = Resilience::builder()
        .service("order")
        .redis_timeout(PATIENT)
        .start()
        .await
        .unwrap();
    let policy = limited(vec![shared("orders", 12)], Mode::Enforce);
    resilience.apply_policy(policy.render().as_bytes()).unwrap();
    let app = Router::new()
        .route("/", post(|| async {}))
        .layer(resilience.server_layer());
    let url = format!("http://{}/", serve(app).await);
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(answer.headers()["ratelimit-policy"], "\"orders\";q=12;w=3600");
}

#[tokio::test]
async fn the_environment_names_the_redis() {
    let (events, limits) = (RedisServer::start(), RedisServer::start());
    for (second, expected) in [(None, &events), (Some(limits.url()), &limits)] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child
            .args(["shared_limits::http::by_environment", "--exact"])
            .env(ENVIRONMENT, "1")
            .env("REDIS_URL", events.url())
            .env("REDIS_PREFIX", "px:");
        if let Some(url) = second {
            child.env("REDIS_LIMITS_URL", url);
        }
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(expected.command(&["DBSIZE"]), "1");
        assert!(expected.command(&["RANDOMKEY"]).starts_with("px:limit:order:orders:"));
        expected.command(&["FLUSHALL"]);
    }
    assert_eq!(events.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_rule_may_become_shared_and_back_while_requests_come() {
    let server = RedisServer::start();
    let own = RateLimitRule {
        scope: LimitScope::Replica,
        algorithm: Some(LimitAlgorithm::GCRA),
        ..shared("orders", 4)
    };
    let replica = Replica::start(&server.url(), "order", &limited(vec![own.clone()], Mode::Enforce)).await;
    assert_eq!(replica.order(None).await.status(), 200);
    let asked = server.script_calls();
    assert_eq!(asked, 0, "no rule needs Redis");
    let put = |rule| {
        replica
            .resilience
            .apply_policy(limited(vec![rule], Mode::Enforce).render().as_bytes())
    };
    put(shared("orders", 4)).unwrap();
    let mut accepted = 0;
    for _ in 0..8 {
        accepted += usize::from(replica.order(None).await.status() == 200);
    }
    assert!((4..=8).contains(&accepted), "{accepted}");
    eventually("asked", || server.script_calls() > 0).await;
    put(own).unwrap();
    assert!(!replica.limit("orders").degraded);
}
