//! What goes out, what is due, and what the rows say of it.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use uuid::Uuid;
use valerix_kit::money::Money;
use valerix_kit::telemetry::TraceContext;
use valerix_order::keys;
use valerix_order::saga::state::{Input, Reason};
use valerix_resilience::idempotency::{Claim, Idempotency, IdempotentRequest, StoredAnswer};

use super::Orders;

#[tokio::test]
async fn a_command_that_can_not_be_sent_holds_nobody_else_up() {
    let orders = Orders::new().await;
    let (broken, sound) = (orders.place().await, orders.place().await);
    // As after a restore of half of the tables: the second copy is in the outbox before it was counted.
    sqlx::query(
        "INSERT INTO outbox (event_id, aggregate, version, topic, type, payload) VALUES ($1, $2, 2, 't', 't', '{}')",
    )
    .bind(Uuid::new_v4())
    .bind(format!("order:{broken}:reserve"))
    .execute(&orders.pool)
    .await
    .unwrap();
    orders.run("UPDATE commands SET due_at = now()").await;
    let sent = orders.store.send_due(100).await.unwrap();
    assert_eq!((sent.due, sent.failed.len()), (2, 1), "{sent:?}");
    assert_eq!(orders.copies(sound).await, [1, 2]);
    // Its next copy is a later version, and goes.
    orders.run("UPDATE commands SET due_at = now()").await;
    assert_eq!(orders.store.send_due(100).await.unwrap().failed.len(), 0);
    assert_eq!(orders.copies(broken).await, [1, 2, 3]);
}

/// A clock that is set back leaves moments in the future behind it.
#[tokio::test]
async fn a_command_that_nobody_puts_off_so_far_is_sent() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    orders
        .run("UPDATE commands SET due_at = now() + interval '15 minutes'")
        .await;
    orders.sweeper().round().await.unwrap();
    assert_eq!(orders.copies(order).await, [1], "a command may be put off so far");
    orders
        .run("UPDATE commands SET due_at = now() + interval '1 hour'")
        .await;
    orders.sweeper().round().await.unwrap();
    assert_eq!(orders.copies(order).await, [1, 2]);
}

#[tokio::test]
async fn an_order_that_can_not_be_expired_holds_nobody_else_up() {
    let orders = Orders::new().await;
    let (broken, sound) = (orders.place().await, orders.place().await);
    orders.run("UPDATE orders SET expires_at = now()").await;
    // The longest overdue order is the one that always fails.
    sqlx::query("UPDATE orders SET expires_at = now() - interval '1 hour' WHERE id = $1")
        .bind(broken)
        .execute(&orders.pool)
        .await
        .unwrap();
    orders
        .run("ALTER TABLE orders ADD CONSTRAINT of_the_next_version CHECK (state <> 'CANCELLING' OR expires_at > now() - interval '1 minute')")
        .await;
    orders.run("UPDATE commands SET due_at = now()").await;
    orders.sweeper().round().await.unwrap();
    let states: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, state FROM orders ORDER BY id")
        .fetch_all(&orders.pool)
        .await
        .unwrap();
    assert_eq!(
        states,
        [(broken, "PENDING".to_owned()), (sound, "CANCELLING".to_owned())]
    );
    // Commands are sent all the same.
    assert_eq!(orders.copies(broken).await, [1, 2]);
}

#[tokio::test]
async fn copies_of_a_command_become_rare() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    let mut waits = vec![];
    for _ in 0..7 {
        orders.run("UPDATE commands SET due_at = now()").await;
        assert_eq!(orders.store.send_due(100).await.unwrap().due, 1);
        let wait: f64 = sqlx::query_scalar(
            "SELECT round(extract(epoch FROM due_at - now()) / 30)::float8 FROM commands WHERE order_id = $1",
        )
        .bind(order)
        .fetch_one(&orders.pool)
        .await
        .unwrap();
        waits.push(wait);
    }
    // In times of 30 s: up to a quarter of an hour.
    assert_eq!(waits, [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
}

#[tokio::test]
async fn a_command_that_nobody_answers_grows_old_however_often_it_is_sent() {
    let orders = Orders::new().await;
    assert_eq!(orders.store.open().await.unwrap().oldest_seconds, 0.0);
    orders.place().await;
    orders
        .run("UPDATE commands SET created_at = now() - interval '1 hour', due_at = now() - interval '1 second'")
        .await;
    assert_eq!(orders.store.send_due(10).await.unwrap().due, 1);
    let open = orders.store.open().await.unwrap();
    // It is not overdue, as it has just been sent: nothing but its age tells that it waits in vain.
    assert_eq!(open.overdue_seconds, 0.0);
    assert!((3600.0..3700.0).contains(&open.oldest_seconds), "{open:?}");
}

#[tokio::test]
async fn an_order_that_this_version_can_not_read_hides_no_other() {
    let orders = Orders::new().await;
    let (old, foreign, new) = (orders.place().await, orders.place().await, orders.place().await);
    orders
        .run("ALTER TABLE orders DROP CONSTRAINT orders_state_check, DROP CONSTRAINT orders_check")
        .await;
    sqlx::query("UPDATE orders SET state = 'OF_THE_NEXT_VERSION' WHERE id = $1")
        .bind(foreign)
        .execute(&orders.pool)
        .await
        .unwrap();
    let page = orders.store.page("anonymous", None, 10).await.unwrap();
    let page: Vec<_> = page
        .into_iter()
        .map(|(id, order)| (id, order.map(|order| order.id)))
        .collect();
    assert_eq!(page, [(new, Some(new)), (foreign, None), (old, Some(old))]);
}

/// Its payment is away for longer than answers are kept.
#[tokio::test]
async fn a_key_lives_as_long_as_its_order_is_under_way() {
    let orders = Orders::new().await;
    let day = Duration::from_secs(24 * 3_600);
    let idempotency = Idempotency::new(day, Duration::from_secs(30));
    let request =
        |key: &str| IdempotentRequest::new(key, "anonymous", &Method::POST, "/api/orders", "/api/orders", b"{}");
    let (open, ended) = (orders.place().await, orders.place().await);
    let mut connection = orders.pool.acquire().await.unwrap();
    for (key, order) in [("open", open), ("ended", ended)] {
        let claim = idempotency.claim(&mut connection, &request(key), order).await.unwrap();
        let Claim::Started(attempt) = claim else {
            panic!("{claim:?}")
        };
        let answer = StoredAnswer::json(StatusCode::ACCEPTED, &order).unwrap();
        let _ = attempt.complete(&mut connection, answer).await.unwrap();
    }
    orders
        .store
        .apply(ended, Input::Rejected(Reason::OutOfStock), None)
        .await
        .unwrap();
    assert_eq!(
        keys::look(&orders.store, idempotency).await.unwrap(),
        0,
        "all of it is still to come"
    );
    for _ in 0..5 {
        orders
            .run("UPDATE idempotency_keys SET expires_at = expires_at - interval '13 hours'")
            .await;
        keys::look(&orders.store, idempotency).await.unwrap();
    }
    let claim = idempotency
        .claim(&mut connection, &request("open"), Uuid::now_v7())
        .await;
    assert!(matches!(claim.unwrap(), Claim::Replay(_)));
    let claim = idempotency
        .claim(&mut connection, &request("ended"), Uuid::now_v7())
        .await;
    assert!(matches!(claim.unwrap(), Claim::Started(_)));
}

#[tokio::test]
async fn what_comes_again_and_changes_nothing_is_one_line_of_the_history() {
    let orders = Orders::new().await;
    let order = orders.place().await;
    let price = Money::new(49_900, "EUR").unwrap();
    for input in [
        Input::Unanswered,
        Input::Returned,
        Input::Reserved,
        Input::Charged,
        Input::Committed,
    ] {
        for _ in 0..50 {
            orders.store.apply(order, input, Some(&price)).await.unwrap();
        }
    }
    let history = orders.store.history(order, 0, 1_000).await.unwrap();
    let lines: Vec<_> = history
        .iter()
        .map(|taken| (taken.input.as_str(), taken.to_state.as_str(), taken.verdict.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("Unanswered", "PENDING", "applied"),
            ("Returned", "PENDING", "ignored"),
            ("Reserved", "RESERVED", "applied"),
            ("Reserved", "RESERVED", "ignored"),
            ("Charged", "CONFIRMED", "applied"),
            ("Charged", "CONFIRMED", "ignored"),
            ("Committed", "CONFIRMED", "applied"),
        ]
    );
}

#[tokio::test]
async fn what_is_sent_again_stays_in_the_trace_of_the_order() {
    let orders = Orders::new().await;
    let placing = TraceContext::fresh();
    let trace = placing.trace_id().to_owned();
    let order = placing.scope(orders.place()).await;
    for overdue in [
        "UPDATE commands SET due_at = now()",
        "UPDATE orders SET expires_at = now()",
    ] {
        orders.run(overdue).await;
        orders.sweeper().round().await.unwrap();
    }
    let written: Vec<(String, String)> =
        sqlx::query_as("SELECT type, split_part(traceparent, '-', 2) FROM outbox ORDER BY created_at, type")
            .fetch_all(&orders.pool)
            .await
            .unwrap();
    let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["OrderCreated", "ReserveStock", "ReserveStock", "ReleaseStock"],
        "{order}"
    );
    assert!(written.iter().all(|(_, of)| *of == trace), "{trace}: {written:?}");
}
