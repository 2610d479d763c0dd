//! Users come, change and go.

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use valerix_kit::identity::SERVICE_TOKEN;
use valerix_kit::postgres::begin;
use valerix_kit::testing::access::proof;
use valerix_kit::testing::{Answer, eventually};

use crate::app::{ADMIN, App, PASSWORD};

/// The events of a user as (type, version, payload).
async fn events(pool: &PgPool, user: &Value) -> Vec<(String, i64, Value)> {
    let aggregate = format!("user:{}", user["id"].as_str().unwrap());
    sqlx::query_as(
        "SELECT type, version, payload FROM outbox WHERE aggregate = $1 AND topic = 'auth.events' ORDER BY version",
    )
    .bind(aggregate)
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn contact(app: &App, user: &Value) -> Answer {
    let path = format!("/auth/users/{}/contact", user["id"].as_str().unwrap());
    Answer::of(
        app.server
            .call(Method::GET, &path)
            .header(SERVICE_TOKEN, proof("notification", "auth")),
    )
    .await
}

#[tokio::test]
async fn a_user_registers_once_and_sees_who_they_are() {
    let app = App::spawn().await;
    let body = json!({"email": " Ada@Example.com", "password": PASSWORD, "name": "Ada", "phone": "+43 1 2345678"});
    let answer = app.post("/auth/register", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let user = answer.body();
    assert_eq!(
        [&user["email"], &user["name"], &user["phone"]],
        ["ada@example.com", "Ada", "+4312345678"]
    );
    assert!(!answer.text.contains("password"), "{answer:?}");
    let again = app
        .post(
            "/auth/register",
            json!({"email": "ADA@example.com", "password": PASSWORD}),
        )
        .await;
    assert_eq!((again.status, again.problem().as_str()), (409, "email-taken"));
    let tokens = app.login("ada@EXAMPLE.com").await;
    let me = app.as_user(Method::GET, "/auth/me", &tokens, None).await;
    assert_eq!(me.body(), user);
}

#[tokio::test]
async fn every_field_that_is_not_acceptable_is_named() {
    let app = App::spawn().await;
    let body = json!({"email": "ada", "password": "short", "name": "", "phone": "12"});
    let answer = app.post("/auth/register", body).await;
    assert_eq!(answer.status, 422);
    let body = answer.body();
    let fields: Vec<&str> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["/email", "/password", "/name", "/phone"]);
    for (body, field) in [
        (json!({"email": "a@example.com"}), "/password"),
        (json!({"email": 7, "password": PASSWORD}), "/email"),
        (
            json!({"email": "a@example.com", "password": PASSWORD, "admin": true}),
            "/admin",
        ),
        (
            json!({"email": "a@example.com", "password": PASSWORD, "name": "a\u{0}"}),
            "/name",
        ),
    ] {
        let answer = app.post("/auth/register", body).await;
        assert_eq!(
            (answer.status, &answer.body()["errors"][0]["field"]),
            (422, &json!(field))
        );
    }
    assert_eq!(app.try_login("nonsense", PASSWORD).await.status, 422);
    // A password of any length and with any character is compared, not refused.
    assert_eq!(app.try_login("a@example.com", "\u{0}").await.status, 401);
    assert_eq!(
        app.post("/auth/refresh", json!({"refresh_token": "\u{0}"}))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_change_of_the_contact_is_announced_without_it() {
    let app = App::spawn().await;
    let user = app.register("ada@example.com").await;
    app.register("bob@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let patch = async |body: Value| app.as_user(Method::PATCH, "/auth/me", &tokens, Some(body)).await;
    let with_phone = patch(json!({"phone": "+4312345678", "name": "Ada"})).await;
    assert_eq!(
        (with_phone.status, &with_phone.body()["phone"]),
        (200, &json!("+4312345678"))
    );
    let without = patch(json!({"phone": null})).await.body();
    assert_eq!([&without["phone"], &without["name"]], [&Value::Null, &json!("Ada")]);
    let email = json!({"email": "countess@example.com"});
    assert_eq!(patch(email).await.status, 422, "the password is needed");
    let with = |email: &str, password: &str| json!({"email": email, "current_password": password});
    assert_eq!(
        patch(with("countess@example.com", "another one")).await.problem(),
        "wrong-password"
    );
    assert_eq!(patch(with("bob@example.com", PASSWORD)).await.problem(), "email-taken");
    assert_eq!(patch(with("countess@example.com", PASSWORD)).await.status, 200);
    let expected = json!({"user_id": user["id"], "email": "countess@example.com", "phone": null, "version": 4});
    assert_eq!(contact(&app, &user).await.body(), expected);
    let payload = json!({"user_id": user["id"]});
    let expected = [2, 3, 4].map(|version| ("UserChanged".to_owned(), version, payload.clone()));
    assert_eq!(events(&app.pool, &user).await, expected);
}

#[tokio::test]
async fn another_password_ends_all_sessions() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let body = json!({"password": "another password", "current_password": PASSWORD});
    assert_eq!(
        app.as_user(Method::PATCH, "/auth/me", &tokens, Some(body)).await.status,
        200
    );
    assert_eq!(app.refresh(&tokens).await.status, 401);
    assert_eq!(app.try_login("ada@example.com", PASSWORD).await.status, 401);
    assert_eq!(app.try_login("ada@example.com", "another password").await.status, 200);
}

#[tokio::test]
async fn a_user_who_leaves_is_gone_and_announced_once() {
    let app = App::spawn().await;
    let user = app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    for _ in 0..2 {
        let answer = app.as_user(Method::DELETE, "/auth/me", &tokens, None).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    assert_eq!(
        app.as_user(Method::GET, "/auth/me", &tokens, None).await.problem(),
        "unknown-user"
    );
    assert_eq!(contact(&app, &user).await.problem(), "unknown-user");
    assert_eq!(app.refresh(&tokens).await.status, 401);
    assert_eq!(app.try_login("ada@example.com", PASSWORD).await.status, 401);
    let payload = json!({"user_id": user["id"]});
    assert_eq!(events(&app.pool, &user).await, [("UserDeleted".to_owned(), 2, payload)]);
    assert_ne!(
        app.register("ada@example.com").await["id"],
        user["id"],
        "whoever comes next is somebody else"
    );
}

#[tokio::test]
async fn the_admin_of_the_configuration_is_there_with_its_password() {
    let app = App::spawn().await;
    let before = app.login(ADMIN).await;
    let me = app.as_user(Method::GET, "/auth/me", &before, None).await.body();
    assert_eq!(me["admin"], true);
    let _same = app.replica(&[]).await;
    assert_eq!(app.login(ADMIN).await["token_type"], "Bearer");
    let _other = app.replica(&["--admin-password=another password"]).await;
    assert_eq!(app.try_login(ADMIN, PASSWORD).await.status, 401);
    assert_eq!(app.try_login(ADMIN, "another password").await.status, 200);
    assert_eq!(
        app.refresh(&before).await.status,
        401,
        "sessions of the old password are over"
    );
}

#[tokio::test]
async fn what_the_admin_chooses_stays_until_the_configuration_changes() {
    let app = App::spawn().await;
    let tokens = app.login(ADMIN).await;
    let body = json!({"password": "chosen by the admin", "current_password": PASSWORD});
    let changed = app.as_user(Method::PATCH, "/auth/me", &tokens, Some(body)).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let _same = app.replica(&[]).await;
    assert_eq!(app.try_login(ADMIN, PASSWORD).await.status, 401);
    let chosen = app.try_login(ADMIN, "chosen by the admin").await;
    assert_eq!(chosen.status, 200, "{chosen:?}");
    let _other = app.replica(&["--admin-password=another password"]).await;
    assert_eq!(app.try_login(ADMIN, "chosen by the admin").await.status, 401);
    assert_eq!(app.try_login(ADMIN, "another password").await.status, 200);
    assert_eq!(app.refresh(&chosen.body()).await.status, 401);
    // An admin of an earlier release, of whom it is not known what was taken over.
    sqlx::query("UPDATE users SET configured_hash = NULL")
        .execute(&app.pool)
        .await
        .unwrap();
    let kept = app.try_login(ADMIN, "another password").await.body();
    let _again = app.replica(&["--admin-password=another password"]).await;
    assert_eq!(app.refresh(&kept).await.status, 200);
    let remembered = "SELECT configured_hash = password_hash FROM users";
    let remembered: Option<bool> = sqlx::query_scalar(remembered).fetch_one(&app.pool).await.unwrap();
    assert_eq!(remembered, Some(true));
}

/// Waits until `count` statements wait for a lock in this database.
async fn waiting(pool: &PgPool, count: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("statements wait for the row", || async {
        let found: i64 = sqlx::query_scalar(waiting).fetch_one(pool).await.unwrap();
        (found == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_two_changes_that_the_same_password_proves_one_is_made() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let tokens = app.login("ada@example.com").await;
    let change = |password: &str| {
        let body = json!({"password": password, "current_password": PASSWORD});
        app.as_user(Method::PATCH, "/auth/me", &tokens, Some(body))
    };
    let mut held = begin(&app.pool).await.unwrap();
    let lock = "SELECT id FROM users WHERE email = 'ada@example.com' FOR UPDATE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let release = async {
        waiting(&app.pool, 2).await;
        held.commit().await.unwrap();
    };
    let (one, other, ()) = tokio::join!(change("first password"), change("second password"), release);
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403], "{one:?} {other:?}");
    let last = if one.status == 200 {
        "first password"
    } else {
        "second password"
    };
    assert_eq!(app.try_login("ada@example.com", last).await.status, 200);
}

#[tokio::test]
async fn a_login_that_a_change_of_the_password_overtakes_gives_no_session() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let mut change = begin(&app.pool).await.unwrap();
    sqlx::query("UPDATE users SET password_hash = 'another' WHERE email = 'ada@example.com'")
        .execute(&mut *change)
        .await
        .unwrap();
    let release = async {
        waiting(&app.pool, 1).await;
        change.commit().await.unwrap();
    };
    let (login, ()) = tokio::join!(app.try_login("ada@example.com", PASSWORD), release);
    assert_eq!((login.status, login.problem().as_str()), (401, "wrong-credentials"));
    let sessions: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(sessions, 0);
}
