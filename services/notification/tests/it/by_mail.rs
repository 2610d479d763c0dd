//! E-mails leave once, whatever the mail server does.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use valerix_kit::events::Event;
use valerix_kit::testing::{TestDatabase, eventually};
use valerix_notification::events::ORDER_EVENTS;
use valerix_notification::startup::migrations;
use valerix_notification::{message, store};

use crate::app::{App, ended};
use crate::smtp::Mood;

#[tokio::test]
async fn two_replicas_send_one_e_mail_per_event_however_often_it_comes() {
    let mut app = App::spawn().await;
    app.replica().await;
    let user = app.auth.user("ada@example.com", Some("+4912345"));
    let mut events = vec![];
    for _ in 0..10 {
        events.push(app.confirm(Some(user), 3).await);
    }
    app.caught_up().await;
    for event in &events {
        assert_eq!(app.end(*event, "EMAIL").await, ended("SENT", None));
        assert_eq!(app.end(*event, "SMS").await, ended("RECORDED", None));
    }
    let mut ids: Vec<String> = app.smtp.taken().into_iter().map(|mail| mail.message_id).collect();
    ids.sort();
    let mut expected: Vec<String> = events
        .iter()
        .map(|event| format!("<{event}.email@valerix.example>"))
        .collect();
    expected.sort();
    assert_eq!(ids, expected);
    let mail = &app.smtp.taken()[0];
    assert_eq!(mail.to, "<ada@example.com>");
    assert!(
        mail.text.contains("Subject: Your order is confirmed") && mail.text.contains("499.00 EUR"),
        "{mail:?}"
    );
}

/// Order has forgotten what it has announced, and announces it once more under another version; what follows is news.
#[tokio::test]
async fn what_became_of_an_order_is_told_once_whichever_event_tells_it() {
    let app = App::spawn().await;
    let (user, order) = (app.auth.user("ada@example.com", None), Uuid::now_v7());
    let payload = json!({"order_id": order, "user_id": user, "item_id": "ps5", "quantity": 1, "amount_minor": 49900,
        "currency": "EUR"});
    let announce = async |kind: &str, version: i64| {
        let aggregate = format!("order:{order}");
        app.publish(ORDER_EVENTS, kind, &aggregate, version, &payload).await
    };
    let first = announce("OrderConfirmed", 3).await;
    assert_eq!(app.end(first, "EMAIL").await, ended("SENT", None));
    announce("OrderConfirmed", 4).await;
    let news = announce("OrderRefunded", 6).await;
    app.caught_up().await;
    assert_eq!(app.end(news, "EMAIL").await, ended("SENT", None));
    let told: Vec<Uuid> = sqlx::query_scalar("SELECT event_id FROM notifications WHERE channel = 'EMAIL' ORDER BY id")
        .fetch_all(&app.pool)
        .await
        .unwrap();
    assert_eq!(told, [first, news]);
    let ids: Vec<String> = app.smtp.taken().into_iter().map(|mail| mail.message_id).collect();
    assert_eq!(
        ids,
        [first, news].map(|event| format!("<{event}.email@valerix.example>"))
    );
}

/// The second is heard of while the transaction of the first is open, by another replica.
#[tokio::test]
async fn two_events_that_tell_the_same_at_the_same_moment_make_one_message() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    migrations().run(&pool).await.unwrap();
    let payload = json!({"order_id": Uuid::now_v7(), "item_id": "ps5", "quantity": 1, "reason": "EXPIRED"});
    let event = |version| Event {
        id: Uuid::now_v7(),
        topic: ORDER_EVENTS.into(),
        event_type: "OrderCancelled".into(),
        aggregate: "order:1".into(),
        version,
        occurred_at: chrono::Utc::now(),
        payload: payload.clone(),
        traceparent: String::new(),
    };
    let add = async |event: &Event| {
        let mut transaction = valerix_kit::postgres::begin(&pool).await.unwrap();
        let notice = message::read(event).unwrap().unwrap();
        store::add(&mut transaction, event.id, &notice).await.unwrap();
        transaction
    };
    let first = add(&event(3)).await;
    tokio::join!(async { add(&event(4)).await.commit().await.unwrap() }, async {
        eventually("the second waits for the first", || async {
            let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                         AND wait_event_type = 'Lock')";
            let waits: bool = sqlx::query_scalar(waits).fetch_one(&pool).await.unwrap();
            waits.then_some(())
        })
        .await;
        first.commit().await.unwrap();
    });
    let messages: i64 = sqlx::query_scalar("SELECT count(*) FROM notifications WHERE channel = 'EMAIL'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(messages, 1);
}

#[tokio::test]
async fn a_message_that_the_server_refuses_for_good_is_given_up_without_naming_the_address() {
    let app = App::spawn().await;
    app.smtp.mood(Mood::Refuses);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    assert_eq!(
        app.end(event, "EMAIL").await,
        ended("FAILED", Some("the mail server refused it with 550"))
    );
    assert_eq!(app.smtp.tried(), 1);
    assert_eq!(app.end(event, "SMS").await, ended("SKIPPED", Some("NO_PHONE")));
}

#[tokio::test]
async fn a_busy_server_is_tried_again_until_it_takes_the_message() {
    let app = App::spawn().await;
    app.smtp.mood(Mood::IsBusy);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    app.message_when(event, "EMAIL", |(_, reason)| {
        reason.as_deref() == Some("the mail server refused it with 451")
    })
    .await;
    app.smtp.mood(Mood::Takes);
    assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
    assert_eq!(app.smtp.taken().len(), 1);
}

#[tokio::test]
async fn after_so_many_failures_a_message_is_given_up_with_the_reason() {
    let app = App::spawn_with(|config, _| config.delivery_attempts = 3).await;
    app.smtp.mood(Mood::IsBusy);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    assert_eq!(
        app.end(event, "EMAIL").await,
        ended("FAILED", Some("the mail server refused it with 451"))
    );
    assert_eq!(app.smtp.tried(), 3);
}

#[tokio::test]
async fn what_says_nothing_about_a_message_is_no_attempt() {
    for (mood, reason) in [
        (Mood::IsAway, "the mail server is not reached"),
        (Mood::WantsCredentials, "the mail server refused it with 530"),
        (Mood::IsSilent, "the mail server did not answer within 1000 ms"),
    ] {
        let app = App::spawn_with(|config, _| {
            config.delivery_attempts = 2;
            config.smtp_timeout = Duration::from_secs(1);
        })
        .await;
        app.smtp.mood(mood);
        let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
        eventually("it is tried again and again", || async {
            (app.smtp.tried() >= 3).then_some(())
        })
        .await;
        // On a busy machine one may have been told that it was late.
        let waits = ended("QUEUED", Some(reason));
        app.message_when(event, "EMAIL", |message| *message == waits).await;
        app.smtp.mood(Mood::Takes);
        assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None), "{mood:?}");
    }
}

#[tokio::test]
async fn a_message_that_waited_too_long_for_its_server_is_given_up() {
    let app = App::spawn_with(|config, _| config.delivery_expiry = Duration::from_secs(3)).await;
    app.smtp.mood(Mood::IsAway);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    assert_eq!(
        app.end(event, "EMAIL").await,
        ended("FAILED", Some("the mail server is not reached"))
    );
    assert!(app.smtp.tried() > 1);
}

/// Postgres fails between the mail server's answer and the end of the lease, which nobody waits for.
#[tokio::test]
async fn that_a_message_was_sent_is_written_down_however_often_that_fails() {
    let app = App::spawn().await;
    let fails = "CREATE SEQUENCE failures; \
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            IF NEW.status = 'SENT' AND nextval('failures') <= 3 THEN RAISE EXCEPTION 'not now'; END IF; RETURN NEW; \
        END $$; \
        CREATE TRIGGER fail BEFORE UPDATE ON notifications FOR EACH ROW EXECUTE FUNCTION fail()";
    sqlx::raw_sql(fails).execute(&app.pool).await.unwrap();
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
    let asked: i64 = sqlx::query_scalar("SELECT last_value FROM failures")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!((asked, app.smtp.taken().len()), (4, 1));
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_message_for_ever() {
    let app = App::spawn_with(|config, _| config.smtp_timeout = Duration::from_millis(200)).await;
    app.smtp.mood(Mood::Hangs);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    app.message_when(event, "EMAIL", |(_, reason)| reason.is_some()).await;
    app.smtp.mood(Mood::Takes);
    assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
}

/// Nobody can know whether the server has taken what it did not answer; the id tells the two apart from two messages.
#[tokio::test]
async fn a_message_whose_answer_is_lost_is_sent_again_under_the_same_id() {
    let app = App::spawn().await;
    app.smtp.mood(Mood::Cuts);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    app.message_when(event, "EMAIL", |(_, reason)| reason.is_some()).await;
    app.smtp.mood(Mood::Takes);
    assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
    let taken = app.smtp.taken();
    assert!(taken.len() >= 2);
    assert!(
        taken.iter().all(|mail| mail.message_id == taken[0].message_id),
        "{taken:?}"
    );
}

/// It may have taken each of them: nobody is told the same for a day.
#[tokio::test]
async fn a_server_that_takes_and_never_answers_gets_a_message_so_many_times() {
    for mood in [Mood::Cuts, Mood::Hangs] {
        let app = App::spawn_with(|config, _| {
            config.delivery_attempts = 3;
            config.smtp_timeout = Duration::from_secs(2);
        })
        .await;
        app.smtp.mood(mood);
        let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
        assert_eq!(app.end(event, "EMAIL").await.0, "FAILED", "{mood:?}");
        assert_eq!(app.smtp.tried(), 3, "{mood:?}");
    }
}

#[tokio::test]
async fn a_replica_that_dies_before_it_says_so_leaves_the_message_to_others() {
    let mut app = App::spawn().await;
    app.smtp.mood(Mood::IsBusy);
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    app.message_when(event, "EMAIL", |(_, reason)| reason.is_some()).await;
    app.servers.clear();
    // Whoever took it is gone, and its lease has run out.
    sqlx::query("UPDATE notifications SET due_at = now(), taken = taken + 1")
        .execute(&app.pool)
        .await
        .unwrap();
    app.smtp.mood(Mood::Takes);
    app.replica().await;
    assert_eq!(app.end(event, "EMAIL").await, ended("SENT", None));
}

#[tokio::test]
async fn without_a_mail_server_e_mails_are_recorded_and_with_a_wrong_url_they_wait() {
    let app = App::spawn_with(|config, _| config.smtp_url = None).await;
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    assert_eq!(app.end(event, "EMAIL").await, ended("RECORDED", None));
    let app = App::spawn_with(|config, _| config.smtp_url = Some("imap://ada:secret@host".to_owned().into())).await;
    let event = app.confirm(Some(app.auth.user("ada@example.com", None)), 1).await;
    let waits = app.message_when(event, "EMAIL", |(_, reason)| reason.is_some()).await;
    assert_eq!(waits, ended("QUEUED", Some("SMTP_URL can not be used")));
}
