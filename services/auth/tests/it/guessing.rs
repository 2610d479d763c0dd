//! Guessing at passwords is slowed down, and tells nothing.

use std::time::Duration;

use serde_json::json;
use valerix_auth::lockout::{LONGEST, Subject};
use valerix_auth::store::attempts;
use valerix_kit::testing::Answer;

use crate::app::{App, PASSWORD};

#[tokio::test]
async fn a_user_who_is_none_is_answered_like_a_wrong_password() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let (wrong, nobody) = (
        app.try_login("ada@example.com", "wrong").await,
        app.try_login("eve@example.com", "wrong").await,
    );
    assert_eq!((wrong.status, &wrong.text), (401, &nobody.text));
    assert!(wrong.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn after_five_failures_an_account_is_closed_for_its_right_password_too() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    // Every one of those that come at once counts.
    let guesses = (0..12).map(|number| {
        let app = &app;
        async move { app.try_login("ada@example.com", &format!("guess {number}")).await }
    });
    let answers = futures::future::join_all(guesses).await;
    let guessed = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(guessed, 5, "{answers:?}");
    let closed = app.try_login("ada@example.com", PASSWORD).await;
    assert_eq!((closed.status, closed.problem().as_str()), (429, "too-many-attempts"));
    assert_eq!(closed.headers["retry-after"], "1");
    // An account that is none closes as well: the answer does not tell which exist.
    for _ in 0..5 {
        assert_eq!(app.try_login("eve@example.com", "guess").await.status, 401);
    }
    assert_eq!(app.try_login("eve@example.com", "guess").await.status, 429);
    sqlx::query("UPDATE attempts SET locked_until = now()")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(app.try_login("ada@example.com", PASSWORD).await.status, 200);
    assert_eq!(
        app.try_login("ada@example.com", "wrong").await.status,
        401,
        "a success forgets the failures"
    );
}

#[tokio::test]
async fn each_time_is_twice_as_long_up_to_a_bound() {
    let app = App::spawn().await;
    let subject = Subject::account("ada@example.com");
    let open = async || {
        sqlx::query("UPDATE attempts SET locked_until = now()")
            .execute(&app.pool)
            .await
            .unwrap();
        assert_eq!(attempts::count(&app.pool, &subject).await.unwrap(), None);
    };
    let mut closed = Vec::new();
    for number in 1..20 {
        open().await;
        if number >= subject.free {
            let left = attempts::count(&app.pool, &subject).await.unwrap().unwrap();
            closed.push(left.as_secs_f64().ceil());
        }
    }
    assert_eq!(closed[..5], [1.0, 2.0, 4.0, 8.0, 16.0]);
    assert!(
        closed.iter().all(|seconds| *seconds <= LONGEST.as_secs_f64()),
        "{closed:?}"
    );
    assert_eq!(closed.last(), Some(&LONGEST.as_secs_f64()));
    sqlx::query("UPDATE attempts SET last_at = now() - interval '2 hours', locked_until = now()")
        .execute(&app.pool)
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            attempts::count(&app.pool, &subject).await.unwrap(),
            None,
            "old failures are forgotten"
        );
    }
}

#[tokio::test]
async fn an_address_that_guesses_at_many_accounts_is_closed() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let from = async |address: &str, email: &str, password: &str| {
        let request = app.server.request("/auth/login").header("x-forwarded-for", address);
        Answer::of(request.json(&json!({"email": email, "password": password})))
            .await
            .status
    };
    let subject = Subject::address("192.0.2.7");
    for number in 0..subject.free {
        assert_eq!(
            from("192.0.2.7", &format!("user{number}@example.com"), "guess").await,
            401,
            "{number}"
        );
    }
    assert_eq!(from("192.0.2.7", "ada@example.com", PASSWORD).await, 429);
    assert_eq!(
        from("192.0.2.8", "ada@example.com", PASSWORD).await,
        200,
        "others are not"
    );
    let left = attempts::count(&app.pool, &subject).await.unwrap().unwrap();
    assert!(left <= Duration::from_secs(1), "{left:?}");
}
