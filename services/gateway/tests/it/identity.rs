//! Who may pass.

use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::args::Secret;
use valerix_kit::testing::Answer;
use valerix_kit::testing::access::TestAuth;
use valerix_kit::testing::log::Log;

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

/// Heads of tokens, in base64url.
const HEADS: [(&str, &str); 4] = [
    (
        "no algorithm: {alg: none, kid: test}",
        "eyJhbGciOiJub25lIiwia2lkIjoidGVzdCJ9",
    ),
    (
        "a shared secret: {alg: HS256, kid: test}",
        "eyJhbGciOiJIUzI1NiIsImtpZCI6InRlc3QifQ",
    ),
    (
        "a key that nobody knows: {alg: EdDSA, kid: other}",
        "eyJhbGciOiJFZERTQSIsImtpZCI6Im90aGVyIn0",
    ),
    ("no key: {alg: EdDSA}", "eyJhbGciOiJFZERTQSJ9"),
];

#[tokio::test]
async fn a_token_is_of_auth_for_this_shop_and_now_or_refused_and_auth_may_be_away() {
    let (auth, forger) = (TestAuth::start().await, TestAuth::start().await);
    let setup = Setup::new().target("order", mirror().await);
    let setup = setup.change(|config| auth.close(&mut config.service));
    let gateway = setup.start().await.server;
    let good = serde_json::to_value(TestAuth::claims(Uuid::new_v4(), &[])).unwrap();
    let now = good["iat"].as_u64().unwrap();
    let mut refused = Vec::new();
    for (name, value) in [
        ("exp", json!(now - 10)),
        ("exp", Value::Null),
        ("nbf", json!(now + 60)),
        ("iss", json!("somebody")),
        ("aud", json!("elsewhere")),
        ("aud", Value::Null),
        ("sub", json!("nobody")),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        refused.push((format!("{name}: {value}"), auth.sign(&claims)));
    }
    let token = auth.sign(&good);
    let (head, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    for (name, other) in HEADS {
        refused.push((name.to_owned(), format!("{other}.{rest}")));
        refused.push((format!("{name}, unsigned"), format!("{other}.{claims}.")));
    }
    refused.push(("another key of the same name".to_owned(), forger.sign(&good)));
    refused.push(("unsigned".to_owned(), format!("{head}.{claims}.")));
    refused.push(("in two parts".to_owned(), format!("{head}.{claims}")));
    refused.push(("in four parts".to_owned(), format!("{token}.{signature}")));
    let mut others: Value = good.clone();
    others["roles"] = json!(["admin"]);
    let others = forger.sign(&others);
    let others = others.split('.').nth(1).unwrap();
    refused.push((
        "claims of another token".to_owned(),
        format!("{head}.{others}.{signature}"),
    ));
    for (name, token) in &refused {
        let answer = ask(
            &gateway,
            "/api/orders/7",
            &[("authorization", &format!("Bearer {token}"))],
        )
        .await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (401, "invalid-token"),
            "{name}: {answer:?}"
        );
        assert!(!format!("{answer:?}").contains(token.as_str()), "{name}: {answer:?}");
    }
    let passes = async |token: &str| {
        let bearer = format!("Bearer {token}");
        ask(&gateway, "/api/orders/7", &[("authorization", &bearer)])
            .await
            .status
            == 200
    };
    assert!(passes(&token).await);
    let never_seen = auth.sign(&TestAuth::claims(Uuid::new_v4(), &[]));
    // The keys that were read last are good for a day.
    drop(auth);
    assert!(passes(&token).await && passes(&never_seen).await);
    assert!(!passes(&forger.sign(&good)).await);
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

#[tokio::test]
async fn the_log_has_no_token() {
    // All that the gateway says, and what its libraries say to somebody who looks for a mistake.
    let log = Log::listen("debug,valerix_gateway=trace,valerix_proxy=trace,valerix_kit=trace,valerix_resilience=trace");
    let (auth, forger) = (TestAuth::start().await, TestAuth::start().await);
    let setup = Setup::new().target("order", mirror().await);
    let setup = setup.change(|config| auth.close(&mut config.service));
    let gateway = setup.start().await.server;
    let good = TestAuth::claims(Uuid::new_v4(), &[]);
    let mut expired = TestAuth::claims(Uuid::new_v4(), &[]);
    expired.exp = expired.iat - 600;
    let tokens = [
        (auth.sign(&good), 200),
        (auth.sign(&expired), 401),
        (forger.sign(&good), 401),
        ("no.token.at-all".to_owned(), 401),
    ];
    for (token, status) in &tokens {
        for path in ["/api/orders/7", "/api/inventory/ps5"] {
            // Nobody is behind the second one, and whether there is budget to try again is a matter of time.
            let expected: &[u16] = if *status == 200 && path.ends_with("ps5") {
                &[502, 503]
            } else {
                std::slice::from_ref(status)
            };
            let bearer = format!("Bearer {token}");
            let answer = ask(&gateway, path, &[("authorization", &bearer)]).await;
            assert!(expected.contains(&answer.status), "{path} {token}: {answer:?}");
        }
    }
    let text = log.text();
    assert!(
        text.contains("valerix_kit::") && text.contains(r#""message":"answered""#),
        "the log is not this gateway's: {text}"
    );
    for (token, _) in &tokens {
        // All of it, and what says whose it is and that it is theirs; of the one that is none, its words are anybody's.
        let parts = token.split('.').skip(1).filter(|part| part.len() > 40);
        for part in [token.as_str()].into_iter().chain(parts) {
            let line = text.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "{part} is in the log");
        }
    }
}
