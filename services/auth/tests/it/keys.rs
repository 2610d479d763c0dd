//! Signing keys: made, exchanged, shared by replicas, kept encrypted.

use clap::Parser;
use http::Method;
use serde_json::{Value, json};
use valerix_auth::store::keys;
use valerix_kit::api::{Api, Operation};
use valerix_kit::args::ServiceArgs;
use valerix_kit::identity::{Access, Caller};
use valerix_kit::service::Service;
use valerix_kit::testing::{Answer, TestServer, service_args};

use crate::app::{ADMIN, App, bearer};

async fn published(server: &TestServer) -> Vec<String> {
    let set = server.get("/.well-known/jwks.json").await.body();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn key_of(tokens: &Value) -> String {
    let header = jsonwebtoken::decode_header(tokens["access_token"].as_str().unwrap()).unwrap();
    header.kid.unwrap()
}

/// A service as every other one of the shop.
async fn other_service(auth: &TestServer) -> TestServer {
    let mut args: ServiceArgs = service_args("other");
    args.identity.auth_url = Some(auth.base.clone());
    let who = |caller: Caller| async move { caller.principal().into_owned() };
    let api = Api::<()>::new("other", "").get("/who", who, Operation::new("Who", Access::User));
    TestServer::start(Service::new(&args).await.unwrap().bind(api).await.unwrap()).await
}

async fn who(server: &TestServer, tokens: &Value) -> String {
    let request = server.call(Method::GET, "/who").header("authorization", bearer(tokens));
    Answer::of(request).await.text
}

#[tokio::test]
async fn other_services_verify_what_auth_signs_before_and_after_a_rotation() {
    let app = App::with(&["--key-lead=0s"]).await;
    let user = app.register("ada@example.com").await;
    let principal = format!("user:{}", user["id"].as_str().unwrap());
    let before = app.login("ada@example.com").await;
    let other = other_service(&app.server).await;
    assert_eq!(who(&other, &before).await, principal);
    let admin = app.login(ADMIN).await;
    let rotated = app.as_user(Method::POST, "/auth/keys/rotate", &admin, None).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let after = app.login("ada@example.com").await;
    assert_eq!(json!(key_of(&after)), rotated.body()["id"]);
    assert_eq!(published(&app.server).await, [key_of(&after), key_of(&before)]);
    // One that starts now sees both; one that has just asked for the keys waits before it asks again.
    let later = other_service(&app.server).await;
    assert_eq!(
        [who(&later, &before).await, who(&later, &after).await],
        [principal.clone(), principal]
    );
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs() {
    let app = App::spawn().await;
    let admin = app.login(ADMIN).await;
    let rotated = app
        .as_user(Method::POST, "/auth/keys/rotate", &admin, None)
        .await
        .body();
    let new = rotated["id"].as_str().unwrap().to_owned();
    let again = app.login(ADMIN).await;
    assert_eq!(key_of(&again), key_of(&admin));
    assert_eq!(published(&app.server).await, [new, key_of(&admin)]);
}

#[tokio::test]
async fn replicas_share_one_key_that_the_database_does_not_know() {
    let app = App::spawn().await;
    let replicas = [app.replica(&[]).await, app.replica(&[]).await];
    for replica in &replicas {
        assert_eq!(published(replica).await, published(&app.server).await);
    }
    let tokens = app.login(ADMIN).await;
    let asked = replicas[0]
        .call(Method::GET, "/auth/me")
        .header("authorization", bearer(&tokens));
    assert_eq!(Answer::of(asked).await.status, 200);
    let kept: Vec<u8> = sqlx::query_scalar("SELECT private_key FROM signing_keys")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    // What every Ed25519 key begins with in PKCS#8, after its length.
    let plain = [0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
    assert!(
        !kept
            .windows(plain.len())
            .any(|window| window == plain || window[1..] == plain[1..])
    );
}

#[tokio::test]
async fn another_secret_makes_another_key_and_old_tokens_hold() {
    let app = App::spawn().await;
    let tokens = app.login(ADMIN).await;
    let replica = app
        .replica(&["--auth-key-secret=another secret that nobody can guess"])
        .await;
    assert_eq!(published(&replica).await.len(), 2);
    let asked = replica
        .call(Method::GET, "/auth/me")
        .header("authorization", bearer(&tokens));
    assert_eq!(Answer::of(asked).await.status, 200);
}

#[tokio::test]
async fn a_key_is_forgotten_when_its_last_token_is_over_and_the_last_key_never() {
    let app = App::with(&["--key-lead=0s"]).await;
    let admin = app.login(ADMIN).await;
    app.as_user(Method::POST, "/auth/keys/rotate", &admin, None).await;
    let hour = std::time::Duration::from_secs(3600);
    let count = async || keys::all(&app.pool).await.unwrap().len();
    keys::forget(&app.pool, hour).await.unwrap();
    assert_eq!(count().await, 2, "its tokens may be about");
    sqlx::query("UPDATE signing_keys SET signs_from = signs_from - interval '2 hours'")
        .execute(&app.pool)
        .await
        .unwrap();
    for _ in 0..2 {
        keys::forget(&app.pool, hour).await.unwrap();
        assert_eq!(count().await, 1);
    }
}

#[tokio::test]
async fn a_short_secret_is_refused_at_the_start() {
    let arguments = [
        "auth",
        "--database-url=postgres://nobody@127.0.0.1/none",
        "--redis-url=redis://127.0.0.1/",
        "--auth-key-secret=short",
    ];
    let mut config = valerix_auth::config::Config::parse_from(arguments);
    config.service = service_args("auth");
    let error = valerix_auth::startup::build(config).await.err().unwrap();
    assert_eq!(error.to_string(), "failed to read AUTH_KEY_SECRET");
}
