//! Orders that the probes of chaos experiments place: answered as any other, and they buy nothing.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{PRICE, Shop, Told};

#[tokio::test]
async fn the_order_of_a_probe_goes_the_whole_way_and_buys_nothing() {
    let shop = Shop::start(5, &[]).await;
    let key = Uuid::now_v7().to_string();
    let bought = shop.place("ps5", 1).await;
    let probed = shop.probe(&key, "ps5", 1).await;
    let told = |answer: &Value| {
        let mut told = answer.clone();
        told["order_id"] = Value::Null;
        told
    };
    assert_eq!(
        (probed.status, told(&probed.body())),
        (bought.status, told(&bought.body())),
        "{probed:?}"
    );
    assert_eq!(probed.body()["status"], "CONFIRMED");
    shop.reaches(probed.order(), "REFUNDED").await;
    // What the probe was told stands, whatever became of its order since.
    assert_eq!(shop.probe(&key, "ps5", 1).await.text, probed.text);
    let shown = shop
        .get("order", &format!("/api/orders/{}", probed.order()))
        .await
        .body();
    assert_eq!(
        (&shown["reason"], &shown["amount_minor"]),
        (&json!("PROBE"), &json!(PRICE))
    );
    // Money and stock are those of the one that a customer has bought; nobody has heard of another sale.
    shop.adds_up(5).await;
    assert_eq!(shop.available("ps5").await, 4);
    let announced: Vec<(String, Value)> = sqlx::query_as(
        "SELECT type, payload FROM outbox WHERE topic = 'order.events' AND aggregate = $1 ORDER BY version",
    )
    .bind(format!("order:{}", probed.order()))
    .fetch_all(&shop.pool("order").await)
    .await
    .unwrap();
    let names: Vec<&str> = announced.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["OrderCreated", "OrderCancelled"]);
    assert_eq!(announced[1].1["reason"], "PROBE");
    // Who counts orders leaves it out from its first announcement on.
    assert!(
        announced.iter().all(|(_, payload)| payload["probe"] == true),
        "{announced:?}"
    );
}

#[tokio::test]
async fn a_mark_spares_nobody_a_refusal_and_an_order_that_waited_is_undone_as_well() {
    let mut shop = Shop::start(2, &[]).await;
    let fresh = || Uuid::now_v7().to_string();
    assert_eq!(shop.probe("", "ps5", 1).await.status, 400);
    assert_eq!(shop.probe(&fresh(), "ps5", 0).await.status, 422);
    let refused = shop.probe(&fresh(), "ps5", 3).await;
    assert_eq!(
        (refused.status, &refused.body()["reason"]),
        (201, &json!("OUT_OF_STOCK")),
        "{refused:?}"
    );
    // The fault of an experiment: the order is finished by event, after the process that took it in has died.
    shop.kill("payment");
    let waits = shop.probe(&fresh(), "ps5", 2).await;
    assert_eq!((waits.status, &waits.body()["status"]), (202, &json!("QUEUED")));
    shop.kill("order");
    shop.spawn("order");
    shop.spawn("payment");
    shop.ready("order").await;
    shop.ready("payment").await;
    shop.reaches(waits.order(), "REFUNDED").await;
    shop.adds_up(2).await;
    assert_eq!(shop.available("ps5").await, 2);
}
