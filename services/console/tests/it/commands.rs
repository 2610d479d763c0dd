//! Commands: in whose name, with which proof, and whose words are passed on.

use serde_json::json;
use valerix_kit::testing::Answer;

use super::cluster::Cluster;
use super::support::{Console, experiment};

#[tokio::test]
async fn a_command_is_one_write_in_the_name_of_whoever_gives_it() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["shop"]);
    cluster.put("chaosexperiments", "shop", "slow", experiment());
    cluster.put("backuppolicies", "shop", "daily", json!({"metadata": {}, "spec": {}}));
    let console = Console::start(cluster.clone()).await;
    let ann = console.sign_in("ann").await;
    let spec = json!({"target": {"service": "auth"}, "latency": {"delay": "2s"}, "duration": "30s"});
    let created = ann
        .command(
            "/api/experiments",
            &json!({"namespace": "shop", "name": "auth-slow", "spec": spec}),
        )
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    for path in [
        "/api/experiments/shop/slow/stop",
        "/api/experiments/shop/slow/run",
        "/api/policies/shop/daily/run",
    ] {
        let answer = ann.command(path, &json!({})).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let writes = cluster.writes();
    assert!(writes.iter().all(|write| write.token == "ann"), "{writes:?}");
    let [created, stopped, ran, kept] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(created.body["spec"], spec);
    assert!(created.query.contains("fieldValidation=Strict"), "{}", created.query);
    assert_eq!(stopped.body, json!({"spec": {"desired": "Stop"}}));
    assert_eq!(ran.body["spec"]["desired"], "Run");
    let run =
        |write: &super::cluster::Recorded| write.body["metadata"]["annotations"]["resilience.valerix.io/run"].clone();
    assert!(run(ran).is_string() && run(kept).is_string() && run(ran) != run(kept));
}

#[tokio::test]
async fn a_refusal_is_the_api_servers_own() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["shop"]);
    let console = Console::start(cluster.clone()).await;
    let ann = console.sign_in("ann").await;
    let new = |namespace: &str, count: u32| json!({"namespace": namespace, "name": "x", "spec": {"count": count}});
    let forbidden = ann.command("/api/experiments", &new("vault", 1)).await;
    assert_eq!((forbidden.status, forbidden.problem().as_str()), (403, "forbidden"));
    let detail = forbidden.body()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("User \"user:ann\" cannot do it in the namespace \"vault\""),
        "{detail}"
    );
    let invalid = ann.command("/api/experiments", &new("shop", 0)).await;
    assert_eq!((invalid.status, invalid.problem().as_str()), (422, "refused"));
    assert_eq!(
        invalid.body()["detail"],
        "spec.count: count must be a number from 1 to 100"
    );
    assert_eq!(
        invalid.body()["errors"],
        json!([{"field": "spec.count", "detail": "count must be a number from 1 to 100"}])
    );
    let missing = ann.command("/api/experiments/shop/none/stop", &json!({})).await;
    assert_eq!(missing.status, 404, "{missing:?}");
    let elsewhere = ann.command("/api/experiments", &new("shop/../vault", 1)).await;
    assert_eq!(elsewhere.status, 422, "{elsewhere:?}");
    cluster.go_down();
    let lost = ann.command("/api/experiments", &new("shop", 1)).await;
    assert_eq!((lost.status, lost.problem().as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn what_is_only_checked_is_not_written() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["shop"]);
    let console = Console::start(cluster.clone()).await;
    let ann = console.sign_in("ann").await;
    for path in ["/api/experiments", "/api/restores"] {
        let new = |count: u32| json!({"namespace": "shop", "name": "x", "spec": {"count": count}, "check": true});
        let accepted = ann.command(path, &new(1)).await;
        assert_eq!(accepted.status, 200, "{path}: {accepted:?}");
        let refused = ann.command(path, &new(0)).await;
        assert_eq!(
            (refused.status, &refused.body()["errors"][0]["field"]),
            (422, &json!("spec.count")),
            "{path}"
        );
    }
    let writes = cluster.writes();
    assert!(
        writes.len() == 4 && writes.iter().all(|write| write.query.contains("dryRun=All")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn a_restore_is_begun_in_the_name_of_whoever_asks_for_it() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["shop"]);
    cluster.allow("eve", &[]);
    let console = Console::start(cluster.clone()).await;
    let spec = json!({
        "source": {"policyRef": {"name": "daily"}, "select": "Slot", "slot": "2026-11-20"},
        "target": {"connectionSecretRef": {"name": "db"}, "adminSecretRef": {"name": "admin"}},
        "databases": [{"name": "orders"}], "mode": "ReplaceDatabase", "replace": {"confirm": "orders"},
    });
    let new = json!({"namespace": "shop", "name": "back", "spec": spec});
    let eve = console.sign_in("eve").await;
    let refused = eve.command("/api/restores", &new).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"));
    let ann = console.sign_in("ann").await;
    let created = ann.command("/api/restores", &new).await;
    assert_eq!(
        (created.status, created.body()),
        (201, json!({"namespace": "shop", "name": "back"}))
    );
    let written = cluster.writes().pop().unwrap();
    assert_eq!((written.token.as_str(), &written.body["spec"]), ("ann", &spec));
    assert_eq!(
        written.path,
        "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/restores"
    );
    assert!(
        !written.query.contains("dryRun") && written.query.contains("fieldValidation=Strict"),
        "{}",
        written.query
    );
}

#[tokio::test]
async fn forms_follow_the_schemas_of_the_kinds() {
    let console = Console::with(Cluster::new(), |config| config.anonymous_read = true).await;
    let chaos = console.server.get("/api/schemas/ChaosExperiment").await.body();
    let faults = chaos["oneOf"].as_array().unwrap();
    assert!(faults.len() >= 9 && faults.contains(&json!("latency")), "{faults:?}");
    for fault in faults {
        assert!(
            chaos["spec"]["properties"][fault.as_str().unwrap()].is_object(),
            "{fault}"
        );
    }
    assert_eq!(
        chaos["spec"]["properties"]["latency"]["properties"]["percent"]["maximum"].as_f64(),
        Some(100.0)
    );
    let restore = console.server.get("/api/schemas/Restore").await.body();
    assert_eq!(restore["oneOf"], json!([]));
    assert!(restore["spec"]["properties"]["replace"]["properties"]["confirm"].is_object());
    assert_eq!(console.server.get("/api/schemas/Pod").await.problem(), "no-schema");
    assert_eq!(
        Console::start(Cluster::new())
            .await
            .server
            .get("/api/schemas/Restore")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn no_command_goes_through_without_the_pages_own_proof() {
    let cluster = Cluster::new();
    cluster.allow("ann", &["*"]);
    cluster.allow("bob", &["*"]);
    cluster.put("chaosexperiments", "shop", "slow", experiment());
    let console = Console::start(cluster.clone()).await;
    let (ann, bob) = (console.sign_in("ann").await, console.sign_in("bob").await);
    for (cookie, proof, site) in [
        (ann.cookie.as_str(), None, None),
        (&ann.cookie, Some(""), None),
        (&ann.cookie, Some(bob.csrf.as_str()), None),
        (&ann.cookie, Some(&ann.csrf), Some("cross-site")),
        (&ann.cookie, Some(&ann.csrf), Some("same-site")),
        ("valerix-console=guessed", Some(&ann.csrf), None),
    ] {
        let request = console
            .server
            .request("/api/experiments/shop/slow/stop")
            .header("cookie", cookie);
        let request = proof
            .into_iter()
            .fold(request, |request, proof| request.header("x-valerix-csrf", proof));
        let request = site
            .into_iter()
            .fold(request, |request, site| request.header("sec-fetch-site", site));
        let answer = Answer::of(request).await;
        assert!(matches!(answer.status, 401 | 403), "{proof:?} {site:?}: {answer:?}");
    }
    assert!(cluster.writes().is_empty());
    let own = console
        .server
        .request("/api/experiments/shop/slow/stop")
        .header("cookie", &ann.cookie);
    let own = own
        .header("x-valerix-csrf", &ann.csrf)
        .header("sec-fetch-site", "same-origin");
    assert_eq!(Answer::of(own).await.status, 200, "the same with all of it");
}
