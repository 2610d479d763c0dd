//! Who is let in: tokens of users and of services, over HTTP.

use axum::Router;
use axum::routing::get;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::api::{Api, Operation};
use valerix_kit::args::ServiceArgs;
use valerix_kit::identity::{Access, Caller, SERVICE_TOKEN};
use valerix_kit::service::{Service, StartError};
use valerix_kit::testing::access::{TestAuth, every_route, proof};
use valerix_kit::testing::{Answer, TestServer, free_port, service_args};

async fn who(caller: Caller) -> String {
    caller.principal().into_owned()
}

fn api() -> Api {
    Api::new("test", "")
        .get("/open", who, Operation::new("Open", Access::Open))
        .get("/public", who, Operation::new("Public", Access::Public))
        .get("/user", who, Operation::new("User", Access::User))
        .post("/admin", who, Operation::new("Admin", Access::Admin))
        .get(
            "/named/{id}",
            who,
            Operation::new("Named", Access::Service(&["order", "payment"])),
        )
}

async fn start(args: &ServiceArgs, api: impl Into<Api>) -> TestServer {
    TestServer::start(Service::new(args).await.unwrap().bind(api).await.unwrap()).await
}

async fn closed() -> (TestAuth, TestServer) {
    let auth = TestAuth::start().await;
    let mut args = service_args("test");
    auth.close(&mut args);
    let server = start(&args, api()).await;
    (auth, server)
}

async fn ask(server: &TestServer, path: &str, authorization: &str) -> Answer {
    Answer::of(
        server
            .call(http::Method::GET, path)
            .header("authorization", authorization),
    )
    .await
}

#[tokio::test]
async fn every_route_lets_in_whom_it_declares() {
    let (auth, server) = closed().await;
    let routes = every_route(&server, "test", |user, roles| auth.bearer(user, roles)).await;
    let named = json!({"services": ["order", "payment"]});
    let expected = [("GET /named/{id}", named), ("POST /admin", json!("admin"))];
    for (route, access) in expected {
        assert!(routes.contains(&(route.to_owned(), access)), "{routes:?}");
    }
    assert!(routes.contains(&("GET /open".to_owned(), json!("open"))), "{routes:?}");
    assert_eq!(routes.len(), 5);
}

#[tokio::test]
async fn a_handler_is_told_who_calls() {
    let (auth, server) = closed().await;
    let user = Uuid::new_v4();
    assert_eq!(server.get("/public").await.text, "anonymous");
    let bearer = auth.bearer(user, &["user"]);
    assert_eq!(ask(&server, "/public", &bearer).await.text, format!("user:{user}"));
    assert_eq!(
        ask(&server, "/user", &bearer.replacen("Bearer", "bearer", 1))
            .await
            .status,
        200
    );
    let service = server
        .call(http::Method::GET, "/named/1")
        .header(SERVICE_TOKEN, proof("order", "test"));
    assert_eq!(Answer::of(service).await.text, "service:order");
}

#[tokio::test]
async fn an_open_route_looks_at_no_token() {
    let (auth, server) = closed().await;
    let good = auth.bearer(Uuid::new_v4(), &["admin"]);
    let mut expired = TestAuth::claims(Uuid::new_v4(), &[]);
    expired.exp = expired.iat - 600;
    let expired = format!("Bearer {}", auth.sign(&expired));
    for token in [good.as_str(), &expired, "Bearer nonsense", "Basic YTpi"] {
        let answer = ask(&server, "/open", token).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "anonymous"), "{token}");
    }
    let document = server.get("/openapi.json").await.body();
    assert_eq!(document["paths"]["/open"]["get"]["security"], json!([]));
}

#[tokio::test]
async fn refusals_say_what_is_needed() {
    let (auth, server) = closed().await;
    let nobody = server.get("/user").await;
    assert_eq!((nobody.status, nobody.problem().as_str()), (401, "unauthenticated"));
    let user = auth.bearer(Uuid::new_v4(), &[]);
    let admin = Answer::of(server.request("/admin").header("authorization", &user)).await;
    assert_eq!((admin.status, admin.problem().as_str()), (403, "forbidden"));
    assert!(admin.text.contains("the role admin"), "{admin:?}");
    for malformed in ["Basic YTpi", "Bearer", "Bearer ", "Bearer nonsense", "Bearer a.b.c"] {
        let answer = ask(&server, "/public", malformed).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (401, "invalid-token"),
            "{malformed}"
        );
    }
    let wrong_method = server.post("/user", &json!({})).await;
    assert_eq!(wrong_method.status, 405);
}

#[tokio::test]
async fn a_token_that_is_not_auth_s_for_this_shop_and_now_is_refused() {
    let (auth, server) = closed().await;
    let now = get_current_timestamp();
    let good = serde_json::to_value(TestAuth::claims(Uuid::new_v4(), &["admin"])).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        format!("Bearer {}", auth.sign(&claims))
    };
    assert_eq!(ask(&server, "/user", &with("nbf", json!(now))).await.status, 200);
    for (name, value) in [
        ("exp", json!(now - 10)),
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("nbf", json!(now + 60)),
        ("iss", json!("somebody")),
        ("iss", Value::Null),
        ("aud", json!("elsewhere")),
        ("aud", Value::Null),
        ("sub", json!("not-a-uuid")),
    ] {
        let answer = ask(&server, "/user", &with(name, value.clone())).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (401, "invalid-token"),
            "{name}: {value}"
        );
    }
}

/// The algorithm belongs to the key. A token that names another one, above all one that is signed with the public key as
/// if it were a shared secret, is refused.
#[tokio::test]
async fn the_algorithm_is_the_key_s_and_not_the_token_s() {
    let (auth, server) = closed().await;
    let claims = TestAuth::claims(Uuid::new_v4(), &["admin"]);
    let AlgorithmParameters::OctetKeyPair(public) = &auth.jwk().algorithm else {
        panic!("an Ed25519 key");
    };
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("test".to_owned());
    let raw = EncodingKey::from_urlsafe_base64_secret(&format!("{}=", public.x)).unwrap();
    let text = EncodingKey::from_secret(public.x.as_bytes());
    for key in [raw, text] {
        let token = encode(&header, &claims, &key).unwrap();
        assert_eq!(ask(&server, "/user", &format!("Bearer {token}")).await.status, 401);
    }
    let good = auth.sign(&claims);
    assert_eq!(ask(&server, "/user", &format!("Bearer {good}")).await.status, 200);
    let (_, rest) = good.split_once('.').unwrap();
    // {"alg":"none","kid":"test"} and {"alg":"ES256","kid":"test"}, base64url.
    for other in [
        "eyJhbGciOiJub25lIiwia2lkIjoidGVzdCJ9",
        "eyJhbGciOiJFUzI1NiIsImtpZCI6InRlc3QifQ",
    ] {
        assert_eq!(
            ask(&server, "/user", &format!("Bearer {other}.{rest}")).await.status,
            401
        );
        let (payload, _) = rest.split_once('.').unwrap();
        assert_eq!(
            ask(&server, "/user", &format!("Bearer {other}.{payload}."))
                .await
                .status,
            401
        );
    }
}

#[tokio::test]
async fn while_auth_was_never_reached_a_token_can_not_be_judged() {
    let auth = TestAuth::start().await;
    let mut args = service_args("test");
    auth.close(&mut args);
    args.identity.auth_url = Some(format!("http://127.0.0.1:{}", free_port()));
    let server = start(&args, api()).await;
    let answer = ask(&server, "/user", &auth.bearer(Uuid::new_v4(), &[])).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    assert_eq!(server.get("/public").await.status, 200);
    let service = server
        .call(http::Method::GET, "/named/1")
        .header(SERVICE_TOKEN, proof("order", "test"));
    assert_eq!(Answer::of(service).await.status, 200, "services do not need auth");
}

#[tokio::test]
async fn without_auth_everyone_is_anonymous_and_may_do_everything() {
    let server = start(&service_args("test"), api()).await;
    for path in ["/public", "/user", "/named/1"] {
        assert_eq!(ask(&server, path, "Bearer nonsense").await.text, "anonymous", "{path}");
    }
}

#[tokio::test]
async fn a_route_without_a_guard_knows_who_calls_when_it_asks() {
    let auth = TestAuth::start().await;
    let mut args = service_args("test");
    auth.close(&mut args);
    let server = start(&args, Router::new().route("/who", get(who))).await;
    assert_eq!(server.get("/who").await.text, "anonymous");
    assert_eq!(ask(&server, "/who", "Bearer nonsense").await.status, 401);
}

#[tokio::test]
async fn the_calls_of_a_service_prove_who_it_is() {
    let (_auth, server) = closed().await;
    let mut args = service_args("order");
    let key = "order-and-whom-it-calls-share-this-key";
    args.identity.call_keys = Some(format!("test={key}").into());
    let order = Service::new(&args).await.unwrap();
    let ask = async |name: &str| {
        let client = order.client(name, &server.base).unwrap();
        client.get("/named/1").send().await.unwrap().status()
    };
    assert_eq!(ask("test").await, 200);
    assert_eq!(
        ask("elsewhere").await,
        401,
        "a call of another service carries no token for this one"
    );
    args.identity.call_keys = Some("test=short-secret".to_owned().into());
    let Err(error @ StartError::Identity(_)) = Service::new(&args).await else {
        panic!("a short key is refused at start");
    };
    assert!(!format!("{error:?}{error}").contains("short-secret"));
}
