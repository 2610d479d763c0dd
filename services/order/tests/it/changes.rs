//! Orders that their customers do not want any more: cancelled before their end, refunded after it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{PRICE, Shop, Told};

#[tokio::test]
async fn a_refunded_order_gives_money_and_stock_back_once() {
    let shop = Shop::start(5, &[]).await;
    let order = shop.place("ps5", 2).await.order();
    shop.reaches(order, "CONFIRMED").await;
    let asked = futures::future::join_all((0..5).map(|_| shop.undo(order, "refund"))).await;
    for answer in &asked {
        assert!(matches!(answer.status, 202 | 409), "{answer:?}");
    }
    let accepted = asked.iter().find(|answer| answer.status == 202).unwrap();
    assert_eq!(accepted.body()["status"], "REFUNDING");
    assert_eq!(accepted.headers["location"], format!("/api/orders/{order}"));
    shop.reaches(order, "REFUNDED").await;
    shop.adds_up(5).await;
    assert_eq!(shop.available("ps5").await, 5);
    let again = shop.undo(order, "refund").await;
    assert_eq!((again.status, &again.body()["order_status"]), (409, &json!("REFUNDED")));
    let announced: Vec<(String, Value)> =
        sqlx::query_as("SELECT type, payload FROM outbox WHERE topic = 'order.events' ORDER BY version")
            .fetch_all(&shop.pool("order").await)
            .await
            .unwrap();
    let names: Vec<&str> = announced.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["OrderCreated", "OrderConfirmed", "OrderRefunded"]);
    assert_eq!(announced[2].1["amount_minor"], 2 * PRICE);
}

#[tokio::test]
async fn a_refund_whose_answers_are_lost_refused_and_late_is_made_once() {
    // Every attempt waits twice as long as the one before: with these shares and this lease, ten of them fit into the time
    // that is waited, and a refund that is unlucky ten times in a row is one of 25,000.
    let settings = [
        ("processor", "REFUND_DECLINE_PERCENT", "25"),
        ("processor", "FAIL_PERCENT", "15"),
        ("processor", "FAIL_AFTER_PERCENT", "20"),
        ("processor", "LATE_PERCENT", "10"),
        ("processor", "LATE_BY", "2s"),
        ("payment", "SETTLE_LEASE", "100ms"),
        ("order", "COMMAND_RESEND", "1s"),
    ];
    let mut shop = Shop::start(20, &settings).await;
    let mut orders = vec![];
    for _ in 0..6 {
        orders.push(shop.place("ps5", 1).await.order());
    }
    for order in &orders {
        shop.reaches(*order, "CONFIRMED").await;
        assert_eq!(shop.undo(*order, "refund").await.status, 202);
    }
    shop.restart("payment").await;
    for order in &orders {
        shop.reaches(*order, "REFUNDED").await;
    }
    shop.adds_up(20).await;
    assert_eq!(shop.available("ps5").await, 20);
}

#[tokio::test]
async fn an_order_that_waits_is_cancelled_and_keeps_neither_stock_nor_money() {
    let mut shop = Shop::start(5, &[]).await;
    shop.kill("inventory");
    let pending = shop.place("ps5", 1).await;
    assert_eq!(pending.status, 202, "{pending:?}");
    let pending = pending.order();
    let cancelled = shop.undo(pending, "cancel").await;
    assert_eq!(
        (
            cancelled.status,
            &cancelled.body()["status"],
            &cancelled.body()["reason"]
        ),
        (202, &json!("CANCELLING"), &json!("CANCELLED_BY_CUSTOMER"))
    );
    // Asked again while it is under way: the same answer, and no second release.
    assert_eq!(shop.undo(pending, "cancel").await.text, cancelled.text);
    shop.spawn("inventory");
    shop.ready("inventory").await;
    shop.reaches(pending, "CANCELLED").await;
    // One whose stock is set aside and whose charge is under way.
    shop.kill("payment");
    let reserved = shop.place("ps5", 2).await.order();
    shop.until("its stock is set aside", || async {
        (shop.available("ps5").await == 3).then_some(())
    })
    .await;
    assert_eq!(shop.undo(reserved, "cancel").await.status, 202);
    shop.spawn("payment");
    shop.ready("payment").await;
    shop.reaches(reserved, "CANCELLED").await;
    shop.adds_up(5).await;
    assert_eq!(shop.available("ps5").await, 5);
}

#[tokio::test]
async fn an_order_at_its_end_is_not_cancelled_and_one_that_is_not_paid_is_not_refunded() {
    let shop = Shop::start(1, &[]).await;
    let sold = shop.place("ps5", 1).await.order();
    shop.reaches(sold, "CONFIRMED").await;
    let refused = shop.place("ps5", 1).await.order();
    shop.reaches(refused, "CANCELLED").await;
    for (order, verb, status, name) in [
        (sold, "cancel", "CONFIRMED", "order-not-cancellable"),
        (refused, "cancel", "CANCELLED", "order-not-cancellable"),
        (refused, "refund", "CANCELLED", "order-not-refundable"),
    ] {
        let answer = shop.undo(order, verb).await;
        assert_eq!(
            (answer.status, &answer.body()["order_status"]),
            (409, &json!(status)),
            "{answer:?}"
        );
        assert_eq!(answer.headers["valerix-problem"], name);
    }
    assert_eq!(shop.undo(Uuid::now_v7(), "cancel").await.status, 404);
    shop.adds_up(1).await;
}
