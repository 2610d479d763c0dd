//! A processor that is slow, or never answers: what it was asked is found out, and nobody else waits for it.

use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::testing::eventually;

use crate::commands::send;
use crate::desk::Desk;

#[tokio::test]
async fn a_charge_and_a_refund_that_are_never_answered_are_looked_up() {
    let desk = Desk::open(&["--late-percent", "100", "--late-by", "1h"]).await;
    let order = Uuid::now_v7();
    assert_eq!(desk.charge("a", order, 500).await.status, 202);
    desk.reaches(order, "CHARGED").await;
    assert_eq!(desk.void(order).await.body()["status"], "REFUNDING");
    desk.reaches(order, "REFUNDED").await;
    assert_eq!(desk.answers(order).await, ["PaymentProcessed", "PaymentRefunded"]);
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["REFUNDED"]);
}

#[tokio::test]
async fn a_processor_that_needs_longer_than_anybody_waits_at_first_charges_once() {
    let desk = Desk::open(&["--delay", "1500ms"]).await;
    let order = Uuid::now_v7();
    assert_eq!(desk.charge("a", order, 500).await.status, 202);
    desk.reaches(order, "CHARGED").await;
    assert_eq!(desk.ledger().await.len(), 1);
}

#[tokio::test]
async fn charges_that_hang_hold_nobody_else_up() {
    let charge = post(|Json(charge): Json<Value>| async move {
        if charge["amount_minor"] == 1 {
            std::future::pending::<()>().await;
        }
        Json(json!({"status": "SUCCEEDED"}))
    });
    let none = get(|| async { StatusCode::NOT_FOUND });
    let routes = Router::new().route("/charges", charge).route("/charges/{key}", none);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    // Nobody gives up while this test runs.
    let desk = Desk::before(url, Duration::from_secs(3_600), CancellationToken::new()).await;
    let command = async |amount: i64| {
        let order = Uuid::now_v7();
        let charge = json!({"order_id": order, "amount_minor": amount, "currency": "EUR"});
        send(&desk, "ChargePayment", Uuid::new_v4(), charge).await;
        order
    };
    for _ in 0..40 {
        command(1).await;
    }
    let order = command(2).await;
    desk.reaches(order, "CHARGED").await;
}

/// The database does not answer in the moment in which a payment is given back.
#[tokio::test]
async fn a_payment_is_given_back_once_the_database_answers_again() {
    let busy = || async { StatusCode::SERVICE_UNAVAILABLE };
    let routes = Router::new()
        .route("/charges", post(busy))
        .route("/charges/{key}", get(busy));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    // Who takes the payment up keeps it for an hour, if it is not given back.
    let desk = Desk::before(url, Duration::from_secs(3_600), CancellationToken::new()).await;
    let pool = desk.pool().await;
    // Only a payment that is given back falls due earlier than before. A sequence counts what is rolled back too.
    sqlx::raw_sql(
        "CREATE SEQUENCE refusals;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM nextval('refusals'); RAISE EXCEPTION 'not now'; END $$;
         CREATE TRIGGER not_now BEFORE UPDATE ON payments FOR EACH ROW WHEN (NEW.due_at < OLD.due_at)
         EXECUTE FUNCTION refuse();",
    )
    .execute(&pool)
    .await
    .unwrap();
    let order = Uuid::now_v7();
    let charge = json!({"order_id": order, "amount_minor": 5, "currency": "EUR"});
    send(&desk, "ChargePayment", Uuid::new_v4(), charge).await;
    let asked = async |question: &'static str| sqlx::query_scalar::<_, bool>(question).fetch_one(&pool).await.unwrap();
    eventually("the refusal", async || {
        asked("SELECT is_called FROM refusals").await.then_some(())
    })
    .await;
    assert!(asked("SELECT due_at > now() + interval '50 minutes' FROM payments").await);
    sqlx::raw_sql("DROP TRIGGER not_now ON payments")
        .execute(&pool)
        .await
        .unwrap();
    eventually("the payment is due soon", async || {
        asked("SELECT due_at < now() + interval '11 seconds' FROM payments")
            .await
            .then_some(())
    })
    .await;
}
