//! What a page is told: as much as its reader may see, in time, and honestly late.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use valerix_crds::names::SERVICE_LABEL;
use valerix_kit::testing::eventually;

use super::cluster::Cluster;
use super::support::{Console, experiment, followed, names, serve, service};

fn is(kind: &str) -> impl Fn(&Value) -> bool + '_ {
    move |message| message["type"] == kind
}

#[tokio::test]
async fn everything_comes_first_and_then_what_changes() {
    let cluster = Cluster::new();
    cluster.put("resilientservices", "shop", "order", service("all is well"));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let snapshot = stream
        .until("the snapshot", |message| {
            message["objects"].as_array().is_some_and(|all| !all.is_empty())
        })
        .await;
    assert_eq!(names(&snapshot), ["ResilientService/shop/order"]);
    let shown = &snapshot["objects"][0];
    assert_eq!(
        (&shown["light"], &shown["reason"], &shown["since"]),
        (&json!("Green"), &json!("AllIsWell"), &json!("2026-11-27T10:00:00Z"))
    );
    cluster.put("chaosexperiments", "shop", "slow", experiment());
    let upserted = stream.until("the experiment", is("upserted")).await;
    assert_eq!(upserted["object"]["endsAt"], "2026-11-27T10:00:30Z");
    assert_eq!(
        (&upserted["object"]["fault"], &upserted["object"]["settings"]["delay"]),
        (&json!("latency"), &json!("2s"))
    );
    cluster.remove("chaosexperiments", "shop", "slow");
    let deleted = stream.until("its end", is("deleted")).await;
    assert_eq!(
        deleted,
        json!({"type": "deleted", "kind": "ChaosExperiment", "namespace": "shop", "name": "slow"})
    );
}

#[tokio::test]
async fn a_restore_is_told_step_by_step() {
    let cluster = Cluster::new();
    let restore = |status: Value| {
        json!({"kind": "Restore", "metadata": {}, "status": status, "spec": {
            "source": {"policyRef": {"name": "daily"}, "select": "Slot", "slot": "2026-11-20"},
            "target": {"connectionSecretRef": {"name": "db"}}, "databases": [{"name": "orders", "as": "orders_look"}]}})
    };
    cluster.put("restores", "shop", "look", restore(json!({})));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let snapshot = stream
        .until("the restore", |message| {
            message["objects"].as_array().is_some_and(|all| !all.is_empty())
        })
        .await;
    let shown = &snapshot["objects"][0];
    assert_eq!(
        (
            &shown["kind"],
            &shown["phase"],
            &shown["over"],
            &shown["slot"],
            &shown["policy"],
            &shown["mode"]
        ),
        (
            &json!("Restore"),
            &json!("Pending"),
            &json!(false),
            &json!("2026-11-20"),
            &json!("daily"),
            &json!("NewDatabase")
        )
    );
    assert_eq!(
        shown["databases"][0]["target"], "orders_look",
        "what was asked for, before the runner says more"
    );
    let done = json!({"phase": "Completed", "tables": 7, "databases": [{"name": "orders", "as": "orders", "phase": "Completed", "tables": 7,
        "previous": "orders_before_20261120", "previousUntil": "2026-12-04T00:00:00Z"}]});
    cluster.put("restores", "shop", "look", restore(done.clone()));
    let upserted = stream.until("its end", is("upserted")).await;
    let shown = &upserted["object"];
    assert_eq!((&shown["over"], &shown["tables"]), (&json!(true), &json!(7)));
    assert_eq!(shown["databases"][0]["previous"], "orders_before_20261120");
    let mut dropped = done;
    dropped["databases"][0]["previousDropped"] = json!(true);
    cluster.put("restores", "shop", "look", restore(dropped));
    let upserted = stream.until("the old one's end", is("upserted")).await;
    assert_eq!(
        upserted["object"]["databases"][0]["previous"],
        Value::Null,
        "what is dropped is not offered"
    );
}

#[tokio::test]
async fn it_is_remembered_when_a_pod_was_ready() {
    let cluster = Cluster::new();
    let pod = |ready: bool| {
        let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        json!({"kind": "Pod", "metadata": {"labels": {SERVICE_LABEL: "order"}}, "status": {"phase": "Running", "conditions": conditions}})
    };
    cluster.put("pods", "shop", "order-1", pod(true));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    cluster.put("pods", "shop", "order-1", pod(false));
    cluster.put("pods", "shop", "order-2", pod(true));
    cluster.remove("pods", "shop", "order-1");
    let turns = eventually("every turn is remembered", || async {
        let answer = console.server.get("/api/services/shop/order/readiness").await.body();
        let turns = answer["turns"].as_array()?.clone();
        (turns.len() == 4).then_some(turns)
    })
    .await;
    let told: Vec<String> = turns
        .iter()
        .map(|turn| format!("{} {}", turn["pod"], turn["state"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        ["order-1 Ready", "order-1 Unready", "order-2 Ready", "order-1 Gone"]
    );
    let other = console.server.get("/api/services/shop/payment/readiness").await;
    assert_eq!(other.body(), json!({"turns": []}), "another's pods are not its own");
}

#[tokio::test]
async fn two_people_see_what_each_may_list_and_nothing_else() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    cluster.allow("bob", &["shop"]);
    cluster.allow("eve", &[]);
    for namespace in ["shop", "vault"] {
        cluster.put(
            "resilientservices",
            namespace,
            "order",
            service("secret of ".to_owned().as_str()),
        );
    }
    let console = Console::start(cluster.clone()).await;
    followed(&cluster).await;
    let (ann, bob, eve) = (
        console.sign_in("ann").await,
        console.sign_in("bob").await,
        console.sign_in("eve").await,
    );
    let (mut anns, mut bobs, mut eves) = (ann.follow().await, bob.follow().await, eve.follow().await);
    let all = anns.until("Ann's snapshot", is("snapshot")).await;
    assert_eq!(
        names(&all),
        ["ResilientService/shop/order", "ResilientService/vault/order"]
    );
    let own = bobs.until("Bob's snapshot", is("snapshot")).await;
    assert_eq!(names(&own), ["ResilientService/shop/order"]);
    let nothing = eves.until("Eve's snapshot", is("snapshot")).await;
    assert!(names(&nothing).is_empty());
    assert!(
        nothing["streams"]
            .as_array()
            .unwrap()
            .iter()
            .all(|stream| stream["forbidden"] == true),
        "{nothing}"
    );
    assert!(
        own["streams"]
            .as_array()
            .unwrap()
            .iter()
            .all(|stream| stream["forbidden"] == false),
        "{own}"
    );

    cluster.put("chaosexperiments", "vault", "hidden", experiment());
    cluster.put("chaosexperiments", "shop", "open", experiment());
    let seen = anns.until("Ann's first change", is("upserted")).await;
    assert_eq!(seen["object"]["name"], "hidden");
    let seen = bobs.until("Bob's first change", is("upserted")).await;
    assert_eq!(
        seen["object"]["name"], "open",
        "what is in the vault came before, and not to Bob"
    );
    let detail = bob.get("/api/objects/ResilientService/vault/order").await;
    assert_eq!(detail.status, 403, "{detail:?}");
    let detail = bob.get("/api/objects/ResilientService/shop/order").await;
    assert_eq!(
        (detail.status, &detail.body()["object"]["spec"]["image"]),
        (200, &json!("registry/order:1"))
    );
    for path in [
        "/api/services/vault/order/pods",
        "/api/services/vault/order/moments",
        "/api/services/vault/order/readiness",
        "/api/happened?namespace=vault",
    ] {
        assert_eq!(bob.get(path).await.status, 403, "{path}");
    }

    for namespace in ["shop", "vault"] {
        let of = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService",
            "namespace": namespace, "name": "order",
        });
        cluster.put(
            "events",
            namespace,
            "order.1",
            json!({"involvedObject": of, "metadata": {}}),
        );
    }
    for (who, told) in [(&ann, &["shop", "vault"][..]), (&bob, &["shop"])] {
        let happened = who.get("/api/happened").await;
        let events = happened.body()["events"].as_array().cloned().unwrap_or_default();
        let namespaces: BTreeSet<_> = events.iter().filter_map(|event| event["namespace"].as_str()).collect();
        assert_eq!(namespaces, told.iter().copied().collect(), "{happened:?}");
    }
    assert_eq!(eve.get("/api/happened").await.status, 403, "nobody answers her");
}

#[tokio::test]
async fn who_may_not_list_pods_is_not_told_their_names() {
    let metrics = get(|| std::future::ready("http_requests_total{route=\"/\",status=\"200\"} 1\n"));
    let port = serve(Router::new().route("/metrics", metrics)).await;
    let cluster = Cluster::new();
    cluster.allow("ann", &["shop"]);
    cluster.allow("bob", &["shop", "!pods"]);
    let mut order = service("well");
    order["spec"]["resilience"] = json!({"reportPort": port});
    cluster.put("resilientservices", "shop", "order", order);
    let status = json!({"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]});
    let pod = json!({"kind": "Pod", "metadata": {"labels": {SERVICE_LABEL: "order"}}, "spec": {"containers": []}, "status": status});
    cluster.put("pods", "shop", "order-1", pod);
    let console = Console::start(cluster.clone()).await;
    let (ann, bob) = (console.sign_in("ann").await, console.sign_in("bob").await);
    let (mut anns, mut bobs) = (ann.follow().await, bob.follow().await);
    let told = |message: &Value| message["services"][0]["name"] == "order";
    let all = anns.until("Ann's figures", told).await;
    assert_eq!(all["services"][0]["pods"][0]["pod"], "order-1");
    let some = bobs.until("Bob's figures", told).await;
    assert_eq!(some["services"][0]["pods"], json!([]));
    assert_eq!(
        some["services"][0]["leftOut"], "you may not list pods in this namespace",
        "nobody takes that for a service without pods"
    );
}

#[tokio::test]
async fn what_happened_is_told_however_much_happens_to_others() {
    let cluster = Cluster::new();
    let put = |namespace: &str, name: &str, version: &str, at: u32| {
        let of = json!({"apiVersion": version, "kind": "X", "namespace": namespace, "name": "x"});
        let at = format!("2026-11-27T10:{:02}:{:02}Z", at / 60, at % 60);
        let event = json!({"kind": "Event", "involvedObject": of, "metadata": {}, "reason": name, "lastTimestamp": at});
        cluster.put("events", namespace, name, event);
    };
    for number in 0..600 {
        put("busy", &format!("foreign-{number:03}"), "v1", 3_000);
    }
    // More than a page of our own too, the newest of them behind all others.
    for number in 0..700 {
        put(
            "shop",
            &format!("own-{number:03}"),
            "resilience.valerix.io/v1alpha1",
            number,
        );
    }
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    let happened = console.server.get("/api/happened").await.body();
    let events = happened["events"].as_array().unwrap();
    assert_eq!(
        (
            events.len(),
            &events[0]["reason"],
            &events[199]["reason"],
            &happened["truncated"]
        ),
        (200, &json!("own-699"), &json!("own-500"), &json!(false))
    );
}

#[tokio::test]
async fn whether_the_operator_leads_is_told_within_five_seconds() {
    let cluster = Cluster::new();
    let lease = |holder: &str, second: u32| {
        let at = format!("2020-01-01T00:00:{second:02}.000000Z");
        json!({"kind": "Lease", "metadata": {}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": at}})
    };
    let put = |holder: &str, second: u32| cluster.put("leases", "system", "operator", lease(holder, second));
    put("one", 0);
    cluster.put("resilientservices", "shop", "order", service("well"));
    let console = Console::with(cluster.clone(), |config| {
        config.anonymous_read = true;
        config.operator_lease = Some("system/operator".parse().unwrap());
    })
    .await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let silent = |reason: &'static str| {
        move |message: &Value| {
            let told = message["operatorSilence"]["reason"].as_str();
            told.is_some_and(|told| told.contains(reason))
        }
    };
    let leads = |message: &Value| message["type"] == "heartbeat" && message["operatorSilence"].is_null();
    stream
        .until("it leads, for all that its clock is years behind", leads)
        .await;
    for (what, reason) in [("given back", "given its Lease back"), ("deleted", "has no Lease")] {
        let begun = Instant::now();
        if what == "deleted" {
            cluster.remove("leases", "system", "operator");
        } else {
            put("", 1);
        }
        let told = stream.until(what, silent(reason)).await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{what}: {:?}",
            begun.elapsed()
        );
        assert!(told["operatorSilence"]["since"].is_string(), "{told}");
        let first = console.follow(None).await.next().await.unwrap();
        assert!(silent(reason)(&first), "who comes now is told at once: {first}");
        put("two", 2);
        stream.until("it leads again", leads).await;
    }
    // It dies: its next renewal, five seconds after this one, does not come.
    let renewed = Instant::now();
    put("two", 10);
    stream.until("it is dead", silent("does not renew")).await;
    assert!(renewed.elapsed() < Duration::from_secs(10), "{:?}", renewed.elapsed());
    put("three", 20);
    stream.until("another leads", leads).await;
}

#[tokio::test]
async fn a_new_namespace_comes_to_whoever_may_see_it() {
    let cluster = Cluster::new();
    cluster.allow("bob", &["shop", "new"]);
    cluster.put("resilientservices", "shop", "order", service("well"));
    let console = Console::start(cluster.clone()).await;
    followed(&cluster).await;
    let bob = console.sign_in("bob").await;
    let mut stream = bob.follow().await;
    stream.until("the snapshot", is("snapshot")).await;
    cluster.put("resilientservices", "new", "order", service("well"));
    let again = stream
        .until("a snapshot with it", |message| {
            message["type"] == "snapshot" && names(message).len() == 2
        })
        .await;
    assert_eq!(
        names(&again),
        ["ResilientService/new/order", "ResilientService/shop/order"]
    );
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_the_stream() {
    let cluster = Cluster::new();
    cluster.allow("bob", &["shop"]);
    cluster.put("resilientservices", "shop", "order", service("well"));
    let console = Console::start(cluster.clone()).await;
    followed(&cluster).await;
    let bob = console.sign_in("bob").await;
    let mut stream = bob.follow().await;
    stream.until("the snapshot", is("snapshot")).await;
    cluster.revoke("bob");
    // What is new somewhere is a reason to ask.
    cluster.put("resilientservices", "elsewhere", "order", service("well"));
    stream.until("the end of the session", is("signedOut")).await;
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn while_the_api_server_is_away_the_page_is_late_and_afterwards_it_is_true_again() {
    let cluster = Cluster::new();
    cluster.put("resilientservices", "shop", "order", service("before"));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let late = |late: bool| {
        move |message: &Value| {
            let streams = message["streams"].as_array();
            message["type"] == "heartbeat" && streams.is_some_and(|all| all.iter().all(|one| one["late"] == late))
        }
    };
    stream.until("all is current", late(false)).await;
    cluster.go_down();
    let beat = stream.until("all is late", late(true)).await;
    assert_eq!(beat["streams"][0]["error"], "the API server does not answer");
    assert!(
        beat["streams"][0]["asOf"].is_string(),
        "it says until when it knew: {beat}"
    );
    cluster.put("resilientservices", "shop", "order", service("after"));
    cluster.come_back();
    stream
        .until("what happened meanwhile", |message| {
            message.to_string().contains("\"message\":\"after\"")
        })
        .await;
    stream.until("all is current again", late(false)).await;
}

#[tokio::test]
async fn whoever_does_not_read_is_let_go_and_costs_nobody_else_anything() {
    let cluster = Cluster::new();
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let address = console.server.base.strip_prefix("http://").unwrap();
    let mut deaf = tokio::net::TcpStream::connect(address).await.unwrap();
    deaf.write_all(b"GET /api/events HTTP/1.1\r\nHost: console\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    deaf.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut stream = console.follow(None).await;
    stream.until("the snapshot", is("snapshot")).await;
    // More than the buffers of two sockets hold, each a message of a quarter of a megabyte.
    let large = "x".repeat(256 * 1024);
    for round in 0..100 {
        cluster.put(
            "resilientservices",
            "shop",
            "order",
            service(&format!("{round} {large}")),
        );
        stream
            .until("the change", |message| {
                message["object"]["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(&format!("{round} ")))
            })
            .await;
    }
    // The place of the deaf one is free again: nothing is kept for it.
    eventually("it is let go", || async {
        let metrics = reqwest::get(format!("{}/metrics", console.server.report))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        metrics.lines().any(|line| line == "console_streams 1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn hostile_names_and_words_are_data() {
    let cluster = Cluster::new();
    let hostile = "</script><img src=x onerror=alert(1)>\u{2028}data: {\"type\":\"signedOut\"}\n\nevent: x";
    cluster.put("resilientservices", "shop", "order", service(hostile));
    let console = Console::with(cluster.clone(), |config| config.anonymous_read = true).await;
    followed(&cluster).await;
    let mut stream = console.follow(None).await;
    let snapshot = stream
        .until("the snapshot", |message| message["type"] == "snapshot")
        .await;
    assert_eq!(snapshot["objects"][0]["message"], hostile, "as it is, in one message");
    let next = stream.next().await.unwrap();
    assert_ne!(next["type"], "signedOut");
}
