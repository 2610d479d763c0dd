//! A charge happens once, whoever asks how often, and its answer is the same every time.

use serde_json::json;
use uuid::Uuid;
use valerix_kit::testing::eventually;

use crate::desk::Desk;

#[tokio::test]
async fn a_charge_is_made_once_and_its_answer_replayed() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    let first = desk.charge("a", order, 500).await;
    assert_eq!(first.status, 201, "{first:?}");
    let payment = first.body()["payment_id"].clone();
    assert_eq!(
        first.body(),
        json!({"payment_id": payment, "order_id": order, "amount_minor": 500, "currency": "EUR",
               "status": "CHARGED", "reason": null})
    );
    let again = desk.charge("a", order, 500).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["location"], first.headers["location"]);
    let location = first.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(desk.get(&location).await.body(), first.body());

    assert_eq!(desk.charge("a", order, 501).await.status, 422);
    assert_eq!(desk.charge("b", order, 501).await.status, 422);
    // Another key, the same order: the payment that there is.
    assert_eq!(desk.charge("b2", order, 500).await.body(), first.body());
    assert_eq!(desk.ledger().await.len(), 1);
    assert_eq!(desk.answers(order).await, ["PaymentProcessed"]);
}

#[tokio::test]
async fn a_decline_is_an_answer_and_replayed_as_one() {
    let desk = Desk::open(&["--decline-percent", "100"]).await;
    let order = Uuid::now_v7();
    let first = desk.charge("a", order, 500).await;
    assert_eq!(first.status, 402, "{first:?}");
    assert_eq!(first.headers["content-type"], "application/problem+json");
    assert_eq!(first.body()["payment"]["status"], "DECLINED");
    assert_eq!(first.body()["payment"]["reason"], "CARD_DECLINED");
    let again = desk.charge("a", order, 500).await;
    assert_eq!((again.status, &again.text), (402, &first.text));
    for answer in [&first, &again] {
        assert_eq!(answer.headers["valerix-problem"], "payment-declined", "{answer:?}");
    }
    assert_eq!(again.headers["content-type"], first.headers["content-type"]);
    assert_eq!(desk.answers(order).await, ["PaymentFailed"]);
}

#[tokio::test]
async fn many_callers_at_once_make_one_charge() {
    let desk = Desk::open(&["--delay", "100ms"]).await;
    let order = Uuid::now_v7();
    let calls = (0..30).map(|call| {
        let desk = &desk;
        async move {
            let key = format!("key-{}", call % 3);
            loop {
                let answer = desk.charge(&key, order, 700).await;
                match answer.status {
                    201 => return answer.text,
                    409 => assert_eq!(answer.headers["retry-after"], "1"),
                    202 | 503 => {}
                    _ => panic!("{answer:?}"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    });
    let mut answers = futures::future::join_all(calls).await;
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(desk.ledger().await.len(), 1);
    assert_eq!(desk.answers(order).await, ["PaymentProcessed"]);
}

#[tokio::test]
async fn a_late_processor_leaves_the_payment_processing_and_it_goes_on_by_itself() {
    // Longer than the caller waits, and far less than the 800 ms that payment itself waits.
    let desk = Desk::open(&["--delay", "250ms"]).await;
    let order = Uuid::now_v7();
    // Where the machine stands still, the caller's time is over before the payment is stored: then he asks again.
    eventually("the payment is stored", || async {
        let answer = desk.charge_within(200, "a", order, 500).await;
        assert!(matches!(answer.status, 202 | 409 | 503 | 504), "{answer:?}");
        desk.is_stored(order).await.then_some(())
    })
    .await;
    desk.reaches(order, "CHARGED").await;
    assert_eq!(desk.answers(order).await, ["PaymentProcessed"]);
    eventually("the same key gets the end", || async {
        let answer = desk.charge("a", order, 500).await;
        (answer.status == 201).then_some(())
    })
    .await;
    assert_eq!(desk.ledger().await.len(), 1);
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_asked_for_again_by_the_same_key() {
    let desk = Desk::open(&["--fail-after-percent", "15"]).await;
    let (mut orders, mut lost) = (Vec::new(), 0);
    while lost < 2 && orders.len() < 200 {
        let order = Uuid::now_v7();
        let answer = desk.charge(&order.to_string(), order, 500).await;
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        lost += usize::from(answer.status == 202);
        orders.push(order);
    }
    assert_eq!(lost, 2, "no answer was lost");
    for order in &orders {
        desk.reaches(*order, "CHARGED").await;
    }
    assert_eq!(desk.ledger().await.len(), orders.len());
}

#[tokio::test]
async fn a_payment_whose_row_was_lost_asks_for_the_charge_that_was_made() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    let first = desk.charge("a", order, 500).await;
    assert_eq!(first.status, 201, "{first:?}");
    // What an archive of the night before knows of this order.
    let pool = desk.pool().await;
    sqlx::query("TRUNCATE payments, outbox, inbox, idempotency_keys")
        .execute(&pool)
        .await
        .unwrap();
    let again = desk.charge("b", order, 500).await;
    assert_eq!((again.status, again.body()), (201, first.body()));
    assert_eq!(desk.ledger().await.into_values().collect::<Vec<_>>(), ["SUCCEEDED"]);
}
