//! A processor that is slow, or never answers: what it was asked is found out, and nobody else waits for it.

use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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
