//! A void is honoured whenever it comes: before, during and after the charge.

use std::time::Duration;

use uuid::Uuid;
use valerix_kit::testing::eventually;

use crate::desk::Desk;

#[tokio::test]
async fn a_void_before_the_charge_leaves_a_tombstone_that_the_charge_finds() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    let voided = desk.void(order).await;
    assert_eq!(
        (voided.status, voided.body()["status"].as_str()),
        (200, Some("VOIDED")),
        "{voided:?}"
    );
    let charge = desk.charge("a", order, 500).await;
    assert_eq!(charge.status, 409, "{charge:?}");
    assert_eq!(charge.body()["payment"]["status"], "VOIDED");
    assert_eq!(desk.ledger().await.len(), 0);
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
    let desk = Desk::open(&["--delay", "500ms"]).await;
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
