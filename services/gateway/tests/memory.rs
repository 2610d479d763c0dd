//! What routes hold, and how often memory is asked for on behalf of a request. A program of its own, whose tests wait for each
//! other: what others take would count too.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking, and here are those of others too"
)]

#[path = "it/support.rs"]
mod support;

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::Setup;
use tokio::runtime::Builder;
use uuid::Uuid;
use valerix_gateway::document::Gateway;
use valerix_gateway::table::{Overrides, Table};
use valerix_kit::testing::access::TestAuth;
use valerix_policy::{LimitKey, LimitKeyType, LimitScope, POLICY_FILE, Policy, RateLimitRule, Target};
use valerix_proxy::testing::{kilobytes, memory_is_asked_for};
use valerix_resilience::Resilience;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs a test while no other is there, nor anything of one.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // It ends before the other test begins: what it gives back would count too.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

const ROUTES: usize = 5_000;
/// Bytes that a table may hold for each of its routes; and those that it may hold beside the one that it follows, of which
/// one route has changed.
const OF_A_ROUTE: usize = 320;
const OF_THE_SAME_ROUTE: usize = 128;

/// Times that memory is asked for, for a request with a known token that meets a limit and a breaker.
const MOST: usize = 54;

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn a_table_that_follows_another_holds_what_has_changed() {
    alone(async {
        let resilience = Resilience::builder().start().await.unwrap();
        let table = |last: &str, former: &Table| {
            let prefixes = (1..ROUTES).map(|number| format!("/area-{}/things-{number}", number % 50));
            let routes = prefixes.chain([last.to_owned()]).enumerate();
            let route = |(number, prefix)| json!({"name": format!("r{number}"), "match": {"pathPrefix": prefix}, "target": "a"});
            let routes: Vec<Value> = routes.map(route).collect();
            let document =
                json!({"version": 1, "targets": [{"name": "a", "url": "http://127.0.0.1:1"}], "routes": routes});
            let parsed = Gateway::parse(document.to_string().as_bytes()).unwrap();
            drop(document);
            Table::new(parsed, &resilience, &Overrides::new(), former)
        };
        let nothing = Table::default();
        let before = held();
        let first = table("/first", &nothing);
        let of_first = held() - before;
        let second = table("/second", &first);
        let of_second = held() - before - of_first;
        eprintln!("{of_first} bytes, and {of_second} beside them");
        assert!(of_first <= ROUTES * OF_A_ROUTE, "{of_first} bytes for {ROUTES} routes");
        assert!(
            of_second <= ROUTES * OF_THE_SAME_ROUTE,
            "{of_second} bytes for {ROUTES} routes of which one has changed"
        );
        drop((first, second));
    });
}

#[test]
fn a_request_at_the_edge_asks_for_memory_a_few_times() {
    alone(async {
        let auth = TestAuth::start().await;
        let url = format!("http://{}", kilobytes().await);
        let mut policy = Policy::default();
        policy.targets.push(Target::named("backend"));
        policy.inbound.rate_limit.rules.push(RateLimitRule {
            name: "small".to_owned(),
            scope: LimitScope::Replica,
            routes: vec!["GET /small".to_owned()],
            requests: 1_000_000,
            window: "10s".parse().unwrap(),
            burst: None,
            algorithm: None,
            key: Some(LimitKey {
                key_type: LimitKeyType::Claim,
                name: Some("sub".to_owned()),
            }),
        });
        let route = json!({"name": "small", "match": {"pathPrefix": "/small"}, "target": "backend", "auth": {"type": "Required"}});
        let document = json!({"version": 1, "targets": [{"name": "backend", "url": url}], "routes": [route]});
        let setup = Setup::new().document(&document).change(|config| {
            auth.close(&mut config.service);
            std::fs::create_dir_all(&config.service.policy_dir).unwrap();
            std::fs::write(config.service.policy_dir.join(POLICY_FILE), policy.render()).unwrap();
        });
        let gateway = setup.start().await;
        let bearer = auth.bearer(Uuid::new_v4(), &[]);
        let request = format!("GET /small HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\nAuthorization: {bearer}\r\n\r\n");
        let mut client = gateway.connect().await;
        let taken = || {
            let stats = ALLOCATOR.stats();
            stats.allocations + stats.reallocations
        };
        memory_is_asked_for(MOST, &mut client, request.as_bytes(), taken).await;
    });
}
