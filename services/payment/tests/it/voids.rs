//! A void is honoured whenever it comes: before, during and after the charge, and also where the charge's row was lost. A
//! refund is one of a charge that was made.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use valerix_kit::testing::eventually;

use crate::commands::send;
use crate::desk::Desk;

#[tokio::test]
async fn a_void_before_the_charge_leaves_what_the_charge_finds() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    let voided = desk.void(order).await;
    assert_eq!(
        (voided.status, voided.body()["status"].as_str()),
        (200, Some("PROCESSING")),
        "whether it was never charged is the processor's to say: {voided:?}"
    );
    desk.reaches(order, "VOIDED").await;
    let charge = desk.charge("a", order, 500).await;
    assert_eq!(charge.status, 409, "{charge:?}");
    assert_eq!(charge.body()["payment"]["status"], "VOIDED");
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["CANCELLED"]);
    assert_eq!(desk.answers(order).await, ["PaymentVoided"]);
}

#[tokio::test]
async fn a_void_that_meets_a_finished_charge_gives_the_money_back() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    assert_eq!(desk.charge("a", order, 500).await.status, 201);
    assert_eq!(desk.void(order).await.body()["status"], "REFUNDING");
    desk.reaches(order, "REFUNDED").await;
    assert_eq!(desk.void(order).await.body()["status"], "REFUNDED");
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["REFUNDED"]);
    assert_eq!(
        desk.answers(order).await,
        ["PaymentProcessed", "PaymentRefunded", "PaymentRefunded"]
    );
}

#[tokio::test]
async fn a_void_that_is_faster_than_the_charge_forbids_it() {
    // Longer by far than the void takes, which comes once the charge is stored.
    let desk = Desk::open(&["--delay", "5s"]).await;
    let order = Uuid::now_v7();
    let (charge, ()) = tokio::join!(desk.charge("a", order, 500), async {
        desk.reaches(order, "PROCESSING").await;
        assert_eq!(desk.void(order).await.body()["status"], "PROCESSING");
    });
    assert!(matches!(charge.status, 202 | 409), "{charge:?}");
    desk.reaches(order, "VOIDED").await;
    assert_eq!(desk.answers(order).await, ["PaymentVoided"]);
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["CANCELLED"]);
}

#[tokio::test]
async fn a_void_that_comes_after_the_charge_lets_the_outcome_decide() {
    for (declined, end, answer) in [("0", "REFUNDED", "PaymentRefunded"), ("100", "VOIDED", "PaymentVoided")] {
        // The charge is decided at once, and nobody is told.
        let late = [
            "--late-percent",
            "100",
            "--late-by",
            "1h",
            "--decline-percent",
            declined,
        ];
        let desk = Desk::patient(&late, Duration::from_secs(3)).await;
        let order = Uuid::now_v7();
        let (charge, ()) = tokio::join!(desk.charge("a", order, 500), async {
            eventually("the charge is decided", || async {
                (desk.ledger().await.len() == 1).then_some(())
            })
            .await;
            assert_eq!(desk.void(order).await.body()["status"], "PROCESSING");
        });
        assert!(matches!(charge.status, 202 | 409), "{charge:?}");
        desk.reaches(order, end).await;
        assert_eq!(desk.answers(order).await, [answer]);
        assert!(!desk.ledger().await.values().any(|status| status == "SUCCEEDED"));
    }
}

#[tokio::test]
async fn a_refund_gives_the_money_of_a_charge_back_once_by_either_way() {
    let desk = Desk::open(&["--fail-after-percent", "50"]).await;
    let order = Uuid::now_v7();
    desk.charge("a", order, 500).await;
    desk.reaches(order, "CHARGED").await;
    let payment = desk.charge("a", order, 500).await.body()["payment_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let refunded = desk.refund(&payment).await;
    assert_eq!(
        (refunded.status, refunded.body()["status"].as_str()),
        (200, Some("REFUNDING"))
    );
    send(&desk, "RefundPayment", Uuid::new_v4(), json!({"order_id": order})).await;
    desk.reaches(order, "REFUNDED").await;
    assert_eq!(desk.refund(&payment).await.body()["status"], "REFUNDED");
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["REFUNDED"]);
}

#[tokio::test]
async fn what_was_not_charged_is_not_refunded() {
    let desk = Desk::open(&["--decline-percent", "100"]).await;
    let (declined, unknown) = (Uuid::now_v7(), Uuid::now_v7());
    let answer = desk.charge("a", declined, 500).await;
    let payment = answer.body()["payment"]["payment_id"].as_str().unwrap().to_owned();
    let refused = desk.refund(&payment).await;
    assert_eq!(
        (refused.status, &refused.body()["payment"]["status"]),
        (409, &json!("DECLINED"))
    );
    assert_eq!(desk.refund(&unknown.to_string()).await.status, 404);
    // By event: order refunds what it knows to be charged, so the row may be lost, and the processor has the word.
    send(&desk, "RefundPayment", Uuid::new_v4(), json!({"order_id": unknown})).await;
    desk.reaches(unknown, "VOIDED").await;
    assert_eq!(desk.answers(unknown).await, ["PaymentVoided"]);
    assert!(!desk.ledger().await.values().any(|status| status == "REFUNDED"));
}

/// The table comes back from last night: the charge was made, and nobody here knows it.
#[tokio::test]
async fn the_money_of_a_charge_whose_row_was_lost_is_given_back_all_the_same() {
    for (command, by_http) in [("VoidPayment", true), ("VoidPayment", false), ("RefundPayment", false)] {
        let desk = Desk::open(&[]).await;
        let order = Uuid::now_v7();
        assert_eq!(desk.charge("a", order, 500).await.status, 201);
        sqlx::raw_sql("DELETE FROM outbox; DELETE FROM payments")
            .execute(&desk.pool().await)
            .await
            .unwrap();
        if by_http {
            assert_eq!(desk.void(order).await.body()["status"], "PROCESSING");
        } else {
            send(&desk, command, Uuid::new_v4(), json!({"order_id": order})).await;
        }
        desk.reaches(order, "REFUNDED").await;
        assert_eq!(desk.answers(order).await, ["PaymentRefunded"], "{command}");
        assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["REFUNDED"]);
        let charge = desk.charge("b", order, 500).await;
        assert_eq!(
            (charge.status, &charge.body()["payment"]["status"]),
            (409, &json!("REFUNDED"))
        );
    }
}
