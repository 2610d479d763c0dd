//! Contacts are asked once, follow their users, and go with them.

use sqlx::PgPool;
use uuid::Uuid;

use crate::app::{App, ended};

async fn kept(pool: &PgPool, user: Uuid) -> Option<(Option<String>, Option<String>)> {
    sqlx::query_as("SELECT email, phone FROM contacts WHERE user_id = $1")
        .bind(user)
        .fetch_optional(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_contact_is_asked_once_and_again_after_a_change() {
    let app = App::spawn().await;
    let user = app.auth.user("ada@example.com", None);
    for _ in 0..3 {
        let event = app.confirm(Some(user), 1).await;
        assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
        app.end(event, "SMS").await;
    }
    let asked = app.auth.asked();
    assert!(
        (1..=2).contains(&asked),
        "both channels of the first event may ask: {asked}"
    );
    app.auth.set(user, "lovelace@example.com", None, 2);
    app.about_user("UserChanged", user, 2).await;
    app.caught_up().await;
    let event = app.confirm(Some(user), 1).await;
    assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
    assert_eq!(app.smtp.taken().last().unwrap().to, "<lovelace@example.com>");
    app.end(event, "SMS").await;
    // A change that was heard of late says nothing new.
    let asked = app.auth.asked();
    app.about_user("UserChanged", user, 1).await;
    app.caught_up().await;
    let event = app.confirm(Some(user), 1).await;
    app.end(event, "EMAIL").await;
    assert_eq!(app.auth.asked(), asked);
}

#[tokio::test]
async fn a_deleted_user_leaves_no_contact_and_hears_nothing_more() {
    let app = App::spawn().await;
    let user = app.auth.user("ada@example.com", Some("+4912345"));
    let event = app.confirm(Some(user), 1).await;
    app.end(event, "EMAIL").await;
    assert_eq!(
        kept(&app.pool, user).await.unwrap().0.as_deref(),
        Some("ada@example.com")
    );
    app.about_user("UserDeleted", user, 2).await;
    app.caught_up().await;
    assert_eq!(kept(&app.pool, user).await, Some((None, None)));
    // Even when auth would still answer, or a change is heard of later.
    app.about_user("UserChanged", user, 1).await;
    app.caught_up().await;
    let event = app.confirm(Some(user), 1).await;
    assert_eq!(app.end(event, "EMAIL").await, ended("SKIPPED", Some("USER_GONE")));
    assert_eq!(kept(&app.pool, user).await, Some((None, None)));
    assert_eq!(app.smtp.taken().len(), 1);
}

#[tokio::test]
async fn messages_wait_for_an_auth_that_is_away_and_are_skipped_with_their_user() {
    let app = App::spawn().await;
    app.auth.away(true);
    let (stays, goes) = (
        app.auth.user("ada@example.com", None),
        app.auth.user("bob@example.com", None),
    );
    let (first, second) = (app.confirm(Some(stays), 1).await, app.confirm(Some(goes), 1).await);
    for event in [first, second] {
        app.message_when(event, "EMAIL", |(_, reason)| reason.is_some()).await;
    }
    app.about_user("UserDeleted", goes, 2).await;
    app.caught_up().await;
    assert_eq!(app.end(second, "EMAIL").await, ended("SKIPPED", Some("USER_GONE")));
    app.auth.away(false);
    assert_eq!(app.end(first, "EMAIL").await, ended("SENT", None));
    assert_eq!(app.smtp.taken().len(), 1);
}

#[tokio::test]
async fn guests_and_unknown_users_are_skipped() {
    let app = App::spawn().await;
    let (guest, stranger) = (app.confirm(None, 1).await, app.confirm(Some(Uuid::now_v7()), 1).await);
    for channel in ["EMAIL", "SMS"] {
        assert_eq!(app.end(guest, channel).await, ended("SKIPPED", Some("GUEST")));
        assert_eq!(app.end(stranger, channel).await, ended("SKIPPED", Some("USER_GONE")));
    }
}
