//! Who may pass.

use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::args::Secret;
use valerix_kit::testing::Answer;
use valerix_kit::testing::access::TestAuth;

use super::edge::{ask, mirror};
use super::support::Setup;

#[tokio::test]
async fn a_token_that_is_sent_must_be_good_and_a_role_must_be_had() {
    let auth = TestAuth::start().await;
    let address = mirror().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.v1.json");
    let route = |name: &str, auth: Value| json!({"name": name, "match": {"pathPrefix": format!("/{name}")}, "target": "order", "auth": auth});
    let document = json!({
        "version": 1,
        "targets": [{"name": "order", "url": format!("http://{address}")}],
        "routes": [
            route("anyone", json!({"type": "None"})),
            route("optional", json!({"type": "Optional"})),
            route("user", json!({"type": "Required"})),
            route("admin", json!({"type": "Required", "roles": ["admin"]})),
        ],
    });
    std::fs::write(&file, document.to_string()).unwrap();
    let setup = Setup::new().change(|config| {
        auth.close(&mut config.service);
        config.upstreams.clear();
        config.gateway_config = Some(file);
    });
    let gateway = setup.start().await.server;
    let (user, admin) = (
        auth.bearer(Uuid::new_v4(), &[]),
        auth.bearer(Uuid::new_v4(), &["admin"]),
    );
    for (token, statuses) in [
        (None, [200, 200, 401, 401]),
        (Some("Bearer no.token.at-all"), [200, 401, 401, 401]),
        (Some(user.as_str()), [200, 200, 200, 403]),
        (Some(admin.as_str()), [200, 200, 200, 200]),
    ] {
        for (route, status) in ["anyone", "optional", "user", "admin"].into_iter().zip(statuses) {
            let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
            let answer = ask(&gateway, &format!("/{route}"), &headers).await;
            assert_eq!(answer.status, status, "{route} {token:?}: {answer:?}");
            if status == 200 {
                let handed_on = &answer.body()["headers"]["authorization"];
                assert_eq!(handed_on.as_str(), token, "{route}");
            }
        }
    }
}

#[tokio::test]
async fn a_user_is_counted_by_who_they_are_and_not_by_where() {
    let auth = TestAuth::start().await;
    let setup = Setup::new().target("order", mirror().await);
    let gateway = setup
        .change(|config| auth.close(&mut config.service))
        .start()
        .await
        .server;
    let (one, other) = (auth.bearer(Uuid::new_v4(), &[]), auth.bearer(Uuid::new_v4(), &[]));
    let order = |token: &str| {
        let request = gateway.request("/api/orders").header("authorization", token);
        async { Answer::of(request).await.status }
    };
    for _ in 0..5 {
        assert_eq!(order(&one).await, 200);
    }
    assert_eq!(order(&one).await, 429);
    assert_eq!(order(&other).await, 200);
}

#[tokio::test]
async fn a_service_that_shares_a_key_hears_that_the_gateway_has_passed_a_request_on() {
    let (with_key, without) = (mirror().await, mirror().await);
    let setup = Setup::new().target("auth", with_key).target("order", without);
    let keys = format!("auth={}", "k".repeat(32));
    let gateway = setup
        .change(|config| config.service.identity.call_keys = Some(Secret::from(keys)))
        .start()
        .await
        .server;
    let forged = [("valerix-forwarded-by", "forged")];
    let told = async |path: &str| ask(&gateway, path, &forged).await.body()["headers"]["valerix-forwarded-by"].clone();
    let proof = told("/auth/login").await;
    assert_eq!(proof.as_str().map(|proof| proof.split('.').count()), Some(3), "{proof}");
    assert_eq!(
        told("/api/orders").await,
        Value::Null,
        "what comes from outside is nobody's word"
    );
    let headers = ask(&gateway, "/auth/login", &[]).await.body()["headers"].clone();
    assert_eq!(
        headers["valerix-service-token"],
        Value::Null,
        "who asks is not the gateway"
    );
}
