//! `GET /payments`.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::desk::Desk;

/// Every payment, as pages of two show them.
async fn listed(desk: &Desk) -> Vec<Value> {
    let mut listed = vec![];
    let mut path = "/payments?limit=2".to_owned();
    loop {
        let page = desk.get(&path).await.body();
        let payments = page["payments"].as_array().unwrap();
        assert!((1..=2).contains(&payments.len()), "{page}");
        listed.extend(payments.iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else {
            return listed;
        };
        path = format!("/payments?limit=2&cursor={next}");
    }
}

#[tokio::test]
async fn payments_are_listed_page_by_page_newest_first() {
    let desk = Desk::open(&[]).await;
    let mut made = vec![];
    // Of random orders, so that neither their ids nor the payments' grow with time.
    for amount in 1..=3 {
        made.insert(0, desk.charge(&amount.to_string(), Uuid::new_v4(), amount).await.body());
    }
    let given_up = Uuid::new_v4();
    let payment = desk.void(given_up).await.body()["payment_id"]
        .as_str()
        .unwrap()
        .to_owned();
    desk.reaches(given_up, "VOIDED").await;
    made.insert(0, desk.get(&format!("/payments/{payment}")).await.body());
    assert_eq!(listed(&desk).await, made);
    assert_eq!(
        desk.get("/payments").await.body(),
        json!({"payments": made, "next_cursor": null})
    );

    // Of one moment: still each of them once.
    sqlx::query("UPDATE payments SET created_at = now()")
        .execute(&desk.pool().await)
        .await
        .unwrap();
    made.sort_by_key(|payment| std::cmp::Reverse(payment["payment_id"].to_string()));
    assert_eq!(listed(&desk).await, made);
}

/// As one of the next version's during its rollout.
pub async fn make_unreadable(desk: &Desk, payment: &Value) {
    let pool = desk.pool().await;
    sqlx::query("ALTER TABLE payments DROP CONSTRAINT payments_state_check, DROP CONSTRAINT payments_check2")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("UPDATE payments SET state = 'OF_THE_NEXT_VERSION' WHERE id = $1::text::uuid")
        .bind(payment["payment_id"].as_str().unwrap())
        .execute(&pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_payment_that_this_version_can_not_read_hides_no_other() {
    let desk = Desk::open(&[]).await;
    let mut made = vec![];
    for amount in 1..=5 {
        made.insert(0, desk.charge(&amount.to_string(), Uuid::new_v4(), amount).await.body());
    }
    // The last of a page of two, which says where the next begins.
    make_unreadable(&desk, &made.remove(1)).await;
    assert_eq!(listed(&desk).await, made);
}

#[tokio::test]
async fn a_cursor_or_limit_that_is_none_is_named() {
    let desk = Desk::open(&[]).await;
    let payment = desk.charge("a", Uuid::new_v4(), 5).await.body();
    let oldest = format!("/payments?cursor={}", payment["payment_id"].as_str().unwrap());
    assert_eq!(
        desk.get(&oldest).await.body(),
        json!({"payments": [], "next_cursor": null})
    );
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=7", "cursor"),
        ("cursor=00000000-0000-0000-0000-000000000000", "cursor"),
    ] {
        let answer = desk.get(&format!("/payments?{query}")).await;
        assert_eq!(
            (answer.status, &answer.body()["errors"][0]["field"]),
            (400, &json!(field)),
            "{query}"
        );
    }
}
