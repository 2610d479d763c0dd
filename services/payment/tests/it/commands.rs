//! Commands by event: the same payment as over HTTP, answered every time they are asked.

use chrono::Utc;
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::{Event, EventBus};
use valerix_kit::testing::eventually;

use crate::desk::Desk;

pub async fn send(desk: &Desk, event_type: &str, id: Uuid, payload: Value) {
    let bus = RedisStreams::open(&desk.bus);
    let event = Event {
        id,
        topic: "payment.commands".to_owned(),
        event_type: event_type.to_owned(),
        aggregate: format!("test:{id}"),
        version: 1,
        occurred_at: Utc::now(),
        payload,
        traceparent: String::new(),
    };
    for outcome in bus.publish(&[event]).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_charge_by_event_is_made_once_and_answered_every_time_it_is_asked() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    let charge = json!({"order_id": order, "amount_minor": 500, "currency": "EUR", "added_later": 1});
    let id = Uuid::new_v4();
    send(&desk, "ChargePayment", id, charge.clone()).await;
    desk.reaches(order, "CHARGED").await;
    // The same event again is known; a new one asks again.
    send(&desk, "ChargePayment", id, charge.clone()).await;
    send(&desk, "ChargePayment", Uuid::new_v4(), charge).await;
    eventually("the second question is answered", || async {
        (desk.answers(order).await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(desk.answers(order).await, ["PaymentProcessed", "PaymentProcessed"]);
    assert_eq!(desk.charge("a", order, 500).await.status, 201);
    assert_eq!(desk.ledger().await.len(), 1);
}

#[tokio::test]
async fn a_void_by_event_that_overtakes_its_charge_wins() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    send(&desk, "VoidPayment", Uuid::new_v4(), json!({"order_id": order})).await;
    desk.reaches(order, "VOIDED").await;
    let charge = json!({"order_id": order, "amount_minor": 500, "currency": "EUR"});
    send(&desk, "ChargePayment", Uuid::new_v4(), charge).await;
    eventually("the charge is answered", || async {
        (desk.answers(order).await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(desk.answers(order).await, ["PaymentVoided", "PaymentVoided"]);
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["CANCELLED"]);
}

#[tokio::test]
async fn a_command_that_can_not_be_obeyed_does_not_hold_up_the_others() {
    let desk = Desk::open(&[]).await;
    let (order, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(desk.charge("a", order, 500).await.status, 201);
    let twisted = json!({"order_id": order, "amount_minor": 501, "currency": "EUR"});
    send(&desk, "ChargePayment", Uuid::new_v4(), twisted).await;
    send(&desk, "ChargePayment", Uuid::new_v4(), json!({"order_id": "no"})).await;
    send(&desk, "SomethingNew", Uuid::new_v4(), json!({})).await;
    send(
        &desk,
        "ChargePayment",
        Uuid::new_v4(),
        json!({"order_id": other, "amount_minor": 7, "currency": "EUR"}),
    )
    .await;
    desk.reaches(other, "CHARGED").await;
    desk.reaches(order, "CHARGED").await;
    assert_eq!(desk.ledger().await.len(), 2);
}
