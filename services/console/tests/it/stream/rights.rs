//! As much as its reader may see: no more, and no longer.

use std::collections::BTreeSet;

use axum::Router;
use axum::routing::get;

use super::*;
use crate::support::serve;

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
    let forbidden = |told: &Value, wanted: bool| {
        let mut streams = told["streams"].as_array().unwrap().iter();
        assert!(streams.all(|stream| stream["forbidden"] == wanted), "{told}");
    };
    forbidden(&nothing, true);
    forbidden(&own, false);

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
