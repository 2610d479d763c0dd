//! The payments against the processor's ledger: what one side does not know, or knows otherwise, is named.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::testing::{Answer, eventually};

use crate::desk::Desk;

const PATH: &str = "/api/admin/reconciliation";

/// Asks for a comparison and waits for its report.
async fn reconcile(desk: &Desk) -> Value {
    let asked = Answer::of(desk.http.post(format!("{}{PATH}", desk.url))).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let id = asked.body()["id"].as_i64().unwrap();
    eventually("it is compared", || async {
        let report = desk.get(PATH).await.body()["report"].clone();
        (report["id"].as_i64()? >= id).then_some(report)
    })
    .await
}

async fn run(pool: &sqlx::PgPool, statement: &'static str, id: Uuid) {
    sqlx::query(statement).bind(id).execute(pool).await.unwrap();
}

#[tokio::test]
async fn differences_of_every_kind_are_named_and_agreement_is_none() {
    let desk = Desk::open(&[]).await;
    let mut payments = vec![];
    for number in 0..6 {
        let charged = desk.charge(&format!("k{number}"), Uuid::now_v7(), 500).await.body();
        let id = |member: &str| charged[member].as_str().unwrap().parse::<Uuid>().unwrap();
        payments.push((id("payment_id"), id("order_id")));
    }
    desk.void(payments[5].1).await;
    desk.reaches(payments[5].1, "REFUNDED").await;
    let agreed = reconcile(&desk).await;
    assert_eq!((&agreed["charges"], &agreed["differences"]), (&json!(6), &json!([])));
    assert_eq!(desk.metric("payment_reconciliation_differences").await, 0.0);

    let (pool, ledger) = (desk.pool().await, desk.processor_pool().await);
    // A lost row, a lost charge, another amount, money given back behind payment's back.
    run(&pool, "DELETE FROM payments WHERE id = $1", payments[0].0).await;
    run(&ledger, "DELETE FROM charges WHERE key = $1::text", payments[1].0).await;
    run(
        &ledger,
        "UPDATE charges SET amount_minor = 501 WHERE key = $1::text",
        payments[2].0,
    )
    .await;
    run(
        &ledger,
        "UPDATE charges SET status = 'REFUNDED', refunded_at = now() WHERE key = $1::text",
        payments[3].0,
    )
    .await;
    let report = reconcile(&desk).await;
    let named = |kind: &str| {
        let differences = report["differences"].as_array().unwrap();
        differences
            .iter()
            .find(|difference| difference["kind"] == kind)
            .unwrap()
            .clone()
    };
    assert_eq!(report["differences_total"], 4, "{report}");
    for (index, kind) in ["UNKNOWN_TO_PAYMENT", "UNKNOWN_TO_PROCESSOR", "AMOUNT", "STATE"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(named(kind)["key"], json!(payments[index].0), "{report}");
    }
    assert_eq!(named("AMOUNT")["processor_amount_minor"], 501);
    assert_eq!(
        (&named("STATE")["payment_status"], &named("STATE")["processor_status"]),
        (&json!("CHARGED"), &json!("REFUNDED"))
    );
    eventually("the metric shows it", || async {
        (desk.metric("payment_reconciliation_differences").await == 4.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_payment_that_this_version_can_not_read_keeps_no_comparison_from_its_end() {
    let desk = Desk::open(&[]).await;
    let mut made = vec![];
    for number in 0..3 {
        made.push(desk.charge(&number.to_string(), Uuid::now_v7(), 500).await.body());
    }
    crate::list::make_unreadable(&desk, &made[0]).await;
    let lost = made[1]["payment_id"].as_str().unwrap();
    run(
        &desk.pool().await,
        "DELETE FROM payments WHERE id = $1",
        lost.parse().unwrap(),
    )
    .await;
    let report = reconcile(&desk).await;
    assert_eq!(
        (
            &report["charges"],
            &report["differences_total"],
            &report["differences"][0]["key"]
        ),
        (&json!(3), &json!(1), &json!(lost)),
        "{report}"
    );
}

#[tokio::test]
async fn a_payment_that_is_under_way_is_no_difference() {
    // The charge is made, and payment does not know it yet.
    let desk = Desk::open(&["--late-percent", "100", "--late-by", "1h"]).await;
    let order = Uuid::now_v7();
    let (_, report) = tokio::join!(desk.charge("a", order, 500), async {
        eventually("it is in the ledger", || async {
            (desk.ledger().await.len() == 1).then_some(())
        })
        .await;
        reconcile(&desk).await
    });
    assert_eq!(
        (&report["charges"], &report["differences_total"]),
        (&json!(1), &json!(0)),
        "{report}"
    );
}

#[tokio::test]
async fn a_refund_of_a_charge_that_the_processor_has_lost_is_named_and_its_age_shown() {
    let desk = Desk::open(&[]).await;
    let order = Uuid::now_v7();
    let charged = desk.charge("a", order, 500).await.body();
    let payment = charged["payment_id"].as_str().unwrap();
    let id: Uuid = payment.parse().unwrap();
    // The processor's archive of last night is back: the refund is asked for again and again, for nothing.
    let ledger = desk.processor_pool().await;
    run(&ledger, "DELETE FROM charges WHERE key = $1::text", id).await;
    assert_eq!(desk.refund(payment).await.status, 200);
    desk.reaches(order, "REFUNDING").await;
    let report = reconcile(&desk).await;
    let difference = &report["differences"][0];
    assert_eq!(
        (
            &report["differences_total"],
            &difference["kind"],
            &difference["payment_status"]
        ),
        (&json!(1), &json!("UNKNOWN_TO_PROCESSOR"), &json!("REFUNDING")),
        "{report}"
    );
    let pool = desk.pool().await;
    run(
        &pool,
        "UPDATE payments SET updated_at = now() - interval '1 hour' WHERE id = $1",
        id,
    )
    .await;
    eventually("the metrics tell how long", || async {
        let age = desk.metric("payments_open_oldest_seconds").await;
        let refunding = desk.metric("payments_open{state=\"REFUNDING\"}").await;
        ((3600.0..3700.0).contains(&age) && refunding == 1.0).then_some(())
    })
    .await;
    // A charge with which nothing can be given back is no better than none.
    run(
        &ledger,
        "INSERT INTO charges (key, status) VALUES ($1::text, 'CANCELLED')",
        id,
    )
    .await;
    assert_eq!(reconcile(&desk).await["differences"][0]["kind"], "STATE");
    let made = "UPDATE charges SET status = 'SUCCEEDED', amount_minor = 500, currency = 'EUR' WHERE key = $1::text";
    run(&ledger, made, id).await;
    desk.reaches(order, "REFUNDED").await;
    assert_eq!(reconcile(&desk).await["differences_total"], 0);
}

#[tokio::test]
async fn charges_with_keys_that_are_no_payments_ids_are_named_and_end_no_comparison() {
    let desk = Desk::open(&[]).await;
    let charged = desk.charge("a", Uuid::now_v7(), 500).await.body();
    let known = charged["payment_id"].as_str().unwrap().to_uppercase();
    let keys = ["a#b", "a?b", "..", "x%ff", &known];
    for key in keys {
        let charge = json!({"key": key, "amount_minor": 7, "currency": "EUR"});
        let made = Answer::of(desk.http.post(format!("{}/charges", desk.processor)).json(&charge)).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let report = reconcile(&desk).await;
    let differences = report["differences"].as_array().unwrap();
    let named: Vec<&str> = differences
        .iter()
        .map(|difference| {
            assert_eq!(difference["kind"], "UNKNOWN_TO_PAYMENT", "{report}");
            difference["key"].as_str().unwrap()
        })
        .collect();
    assert_eq!(named, keys, "{report}");
}

#[tokio::test]
async fn comparisons_that_come_to_no_end_are_counted_and_grow_old() {
    let nobody = format!("http://127.0.0.1:{}", valerix_kit::testing::free_port());
    let desk = Desk::before(nobody, Duration::from_secs(1), CancellationToken::new()).await;
    eventually("one has failed", || async {
        let failed = desk.metric("payment_reconciliations_total{outcome=\"call\"}").await;
        (failed >= 1.0).then_some(())
    })
    .await;
    sqlx::query("UPDATE reconciliations SET asked_at = now() - interval '1 day'")
        .execute(&desk.pool().await)
        .await
        .unwrap();
    eventually("its age is shown", || async {
        (desk.metric("payment_reconciliation_age_seconds").await >= 86_400.0).then_some(())
    })
    .await;
    assert_eq!(
        desk.metric("payment_reconciliations_total{outcome=\"compared\"}").await,
        0.0
    );
}
