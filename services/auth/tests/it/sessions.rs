//! Refresh tokens: exchanged once, and what a second time means.

use http::Method;
use serde_json::json;

use crate::app::App;

const STRICT: &str = "--refresh-grace=0s";

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_others_of_the_same_session() {
    let app = App::with(&[STRICT]).await;
    let user = app.register("ada@example.com").await;
    let first = app.login("ada@example.com").await;
    assert_eq!(
        [&first["expires_in"], &first["refresh_expires_in"]],
        [300, 14 * 24 * 3600]
    );
    let second = app.refresh(&first).await.body();
    let third = app.refresh(&second).await.body();
    assert_ne!(first["refresh_token"], third["refresh_token"]);
    let me = app.as_user(Method::GET, "/auth/me", &third, None).await;
    assert_eq!(me.body(), user);
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM refresh_tokens")
        .fetch_all(&app.pool)
        .await
        .unwrap();
    let token = third["refresh_token"].as_str().unwrap().as_bytes();
    assert!(
        kept.len() == 3 && kept.iter().all(|kept| kept != token),
        "only hashes are kept"
    );
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_ends_the_session_of_whoever_has_it() {
    let app = App::with(&[STRICT]).await;
    app.register("ada@example.com").await;
    let (stolen, other) = (app.login("ada@example.com").await, app.login("ada@example.com").await);
    let thief = app.refresh(&stolen).await.body();
    assert_eq!(app.refresh(&stolen).await.problem(), "refresh-token-reused");
    assert_eq!(app.refresh(&thief).await.problem(), "invalid-refresh-token");
    assert_eq!(app.refresh(&stolen).await.problem(), "invalid-refresh-token");
    assert_eq!(
        app.refresh(&other).await.status,
        200,
        "another login is another session"
    );
}

#[tokio::test]
async fn of_two_exchanges_at_the_same_moment_one_is_the_second() {
    let app = App::with(&[STRICT]).await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let answers = futures::future::join_all((0..8).map(|_| app.refresh(&tokens))).await;
    let exchanged = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(exchanged, 1, "{answers:?}");
}

#[tokio::test]
async fn an_answer_that_was_lost_costs_nobody_the_session() {
    let app = App::with(&["--refresh-grace=1h"]).await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let (lost, again) = (app.refresh(&tokens).await, app.refresh(&tokens).await);
    assert_eq!([lost.status, again.status], [200, 200]);
    assert_eq!(app.refresh(&again.body()).await.status, 200);
}

#[tokio::test]
async fn the_grace_never_makes_two_of_a_session() {
    let app = App::with(&["--refresh-grace=1h"]).await;
    app.register("ada@example.com").await;
    // Shown again once its successor was used: somebody kept a copy.
    let tokens = app.login("ada@example.com").await;
    let next = app.refresh(&tokens).await.body();
    let after = app.refresh(&next).await.body();
    assert_eq!(app.refresh(&tokens).await.problem(), "refresh-token-reused");
    assert_eq!(app.refresh(&after).await.problem(), "invalid-refresh-token");
    // Both of two that were given for one are used: one of them by somebody else.
    let tokens = app.login("ada@example.com").await;
    let (first, second) = (app.refresh(&tokens).await.body(), app.refresh(&tokens).await.body());
    assert_eq!(app.refresh(&first).await.problem(), "refresh-token-reused");
    assert_eq!(app.refresh(&second).await.problem(), "invalid-refresh-token");
}

#[tokio::test]
async fn who_logs_out_gets_no_more_tokens() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let next = app.refresh(&tokens).await.body();
    let body = json!({"refresh_token": next["refresh_token"]});
    for _ in 0..2 {
        assert_eq!(app.post("/auth/logout", body.clone()).await.status, 204);
    }
    assert_eq!(app.refresh(&next).await.problem(), "invalid-refresh-token");
    assert_eq!(
        app.post("/auth/logout", json!({"refresh_token": "nobody's"}))
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn a_refresh_token_that_is_over_is_refused() {
    let app = App::with(&["--refresh-token-lifetime=0s"]).await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    assert_eq!(app.refresh(&tokens).await.problem(), "invalid-refresh-token");
}
