//! What a caller sees.

use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::postgres::begin;
use valerix_kit::testing::eventually;

use crate::app::{App, command};

#[tokio::test]
async fn an_order_is_deducted_once_however_often_it_is_asked() {
    let app = App::spawn(10).await;
    let order = Uuid::new_v4();
    let expected = json!({
        "outcome": "RESERVED", "order_id": order, "item_id": "ps5", "quantity": 3,
        "unit_price_minor": 49900, "currency": "EUR",
    });
    assert_eq!(app.deduct(order, 3).await, (200, expected.clone()));
    let again = join_all((0..10).map(|_| app.deduct(order, 3))).await;
    assert!(
        again.iter().all(|answer| *answer == (200, expected.clone())),
        "{again:?}"
    );
    assert_eq!(app.available().await, 7);
    let said = app.answers(order, 1).await;
    assert_eq!(said[0].0, "InventoryReserved");
    assert_eq!(said[0].1["unit_price_minor"], 49900);
    assert_eq!(app.said(order).await.len(), 1, "the decision is published once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_concurrent_orders_for_the_last_item_on_two_replicas_reserve_it_once() {
    let app = App::spawn(1).await;
    let bases = [app.base.clone(), app.replica(1).await];
    let orders: Vec<Uuid> = (0..10).map(|_| Uuid::new_v4()).collect();
    let answers = join_all(orders.iter().enumerate().map(|(number, order)| {
        let (app, base) = (&app, &bases[number % 2]);
        async move { app.deduct_at(base, &command(*order, 1)).await }
    }))
    .await;
    let outcomes = |outcome: &str| answers.iter().filter(|(_, body)| body["outcome"] == outcome).count();
    assert_eq!((outcomes("RESERVED"), outcomes("REJECTED")), (1, 9), "{answers:?}");
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(app.available().await, 0);
    app.assert_stock_adds_up().await;
}

/// One order that stands still while it is written down keeps the item from nobody.
#[tokio::test]
async fn an_item_is_taken_when_all_else_is_written() {
    let app = App::spawn(10).await;
    let order = Uuid::new_v4();
    let mut written = begin(&app.pool).await.unwrap();
    sqlx::query("LOCK TABLE outbox IN EXCLUSIVE MODE")
        .execute(&mut *written)
        .await
        .unwrap();
    let others = async {
        eventually("its answer can not be written", || async {
            let waits: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO outbox%')",
            )
            .fetch_one(&app.pool)
            .await
            .unwrap();
            waits.then_some(())
        })
        .await;
        let free = sqlx::query("SELECT FROM items WHERE item_id = 'ps5' FOR UPDATE NOWAIT");
        let free = free.execute(&app.pool).await;
        written.rollback().await.unwrap();
        free
    };
    let ((status, body), free) = tokio::join!(app.deduct(order, 4), others);
    assert!(free.is_ok(), "the item is held meanwhile: {free:?}");
    assert_eq!((status, &body["outcome"]), (200, &json!("RESERVED")));
    app.assert_stock_adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_order_asked_at_once_on_two_replicas_is_deducted_once() {
    let app = App::spawn(100).await;
    let bases = [app.base.clone(), app.replica(100).await];
    let order = Uuid::new_v4();
    let answers = join_all((0..20).map(|number| {
        let (app, base) = (&app, &bases[number % 2]);
        async move { app.deduct_at(base, &command(order, 5)).await }
    }))
    .await;
    assert!(
        answers
            .iter()
            .all(|(status, body)| *status == 200 && body["outcome"] == "RESERVED"),
        "{answers:?}"
    );
    assert_eq!(app.available().await, 95);
}

#[tokio::test]
async fn a_refusal_is_stored_and_a_restock_does_not_change_it() {
    let app = App::spawn(1).await;
    let order = Uuid::new_v4();
    let refused = (
        200,
        json!({
            "outcome": "REJECTED", "order_id": order, "item_id": "ps5", "quantity": 2, "reason": "OUT_OF_STOCK",
        }),
    );
    assert_eq!(app.deduct(order, 2).await, refused);
    let restock = |key: &'static str, quantity: i64| {
        let request = app
            .client
            .post(format!("{}/api/inventory/restock", app.base))
            .header("idempotency-key", key)
            .json(&json!({"item_id": "ps5", "quantity": quantity}));
        async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let (status, item) = restock("\"one\"", 5).await;
    assert_eq!(
        (status, &item["available"], &item["initial"]),
        (200, &json!(6), &json!(6))
    );
    assert_eq!(
        restock("one", 5).await.1["available"],
        6,
        "the same key changes nothing"
    );
    let (status, problem) = restock("one", 6).await;
    assert_eq!(
        (status, &problem["type"]),
        (422, &json!("https://valerix.io/problems/idempotency-key-reused"))
    );
    assert_eq!(app.deduct(order, 2).await, refused);
    assert_eq!(app.deduct(Uuid::new_v4(), 6).await.1["outcome"], "RESERVED");
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn an_unknown_item_and_a_reused_order_id_are_problems() {
    let app = App::spawn(5).await;
    let order = Uuid::new_v4();
    for _ in 0..2 {
        let (status, problem) = app
            .deduct_at(&app.base, &json!({"order_id": order, "item_id": "ps6", "quantity": 1}))
            .await;
        assert_eq!(status, 422);
        assert!(problem["type"].as_str().unwrap().ends_with("/unknown-item"));
        assert_eq!(problem["errors"][0]["field"], "/item_id");
    }
    assert_eq!(app.answers(order, 1).await[0].1["reason"], "UNKNOWN_ITEM");
    let other = Uuid::new_v4();
    app.deduct(other, 1).await;
    let (status, problem) = app.deduct(other, 2).await;
    assert_eq!(status, 422);
    assert!(problem["type"].as_str().unwrap().ends_with("/key-reused"));
    assert_eq!(app.available().await, 4);
}

#[tokio::test]
async fn an_item_is_shown_with_what_was_supplied() {
    let app = App::spawn(5).await;
    app.deduct(Uuid::new_v4(), 2).await;
    let get = |path: &'static str| {
        let request = app.client.get(format!("{}{path}", app.base));
        async move { request.send().await.unwrap() }
    };
    let item: Value = get("/api/inventory/ps5").await.json().await.unwrap();
    let expected =
        json!({"item_id": "ps5", "available": 3, "initial": 5, "unit_price_minor": 49900, "currency": "EUR"});
    assert_eq!(item, expected);
    for path in ["/api/inventory/ps6", "/api/inventory/%00", "/api/inventory/a%20b"] {
        let response = get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(get("/api/inventory/%ff").await.status(), 400);
}

#[tokio::test]
async fn malformed_bodies_of_every_kind_are_problems_that_name_the_field() {
    let app = App::spawn(5).await;
    let url = format!("{}/api/inventory/deduct", app.base);
    let good = command(Uuid::new_v4(), 1);
    let mut cases: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, ""),
        ("{".into(), 400, ""),
        ("\"x\"".into(), 422, ""),
        ("[1,2,3]".into(), 422, "/order_id"),
        ("{}".into(), 422, "/order_id"),
        ("[".repeat(50_000), 400, ""),
    ];
    let wrong = [
        (
            "order_id",
            vec![json!(1), json!("x"), json!(null), json!({}), json!("")],
        ),
        (
            "item_id",
            vec![
                json!(1),
                json!(""),
                json!("a b"),
                json!("\u{0}"),
                json!("ä"),
                json!(null),
                json!("x".repeat(65)),
            ],
        ),
        (
            "quantity",
            vec![
                json!(0),
                json!(-1),
                json!(1.5),
                json!("1"),
                json!(1_000_001),
                json!(u64::MAX),
                json!(1e300),
                json!(null),
            ],
        ),
    ];
    let pointers = ["/order_id", "/item_id", "/quantity"];
    for ((field, values), pointer) in wrong.into_iter().zip(pointers) {
        for value in values {
            let mut body = good.clone();
            body[field] = value;
            cases.push((body.to_string(), 422, pointer));
        }
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        cases.push((body.to_string(), 422, pointer));
    }
    for (body, expected, field) in cases {
        let shown: String = body.chars().take(100).collect();
        let request = app
            .client
            .post(&url)
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{shown}"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status);
        assert!(
            status == expected || (status == 422 && expected == 400),
            "{shown}: {problem}"
        );
        if !field.is_empty() && !shown.starts_with('[') {
            assert_eq!(problem["errors"][0]["field"], field, "{shown}: {problem}");
        }
    }
    let restock = app
        .client
        .post(format!("{}/api/inventory/restock", app.base))
        .json(&json!({}));
    assert_eq!(restock.send().await.unwrap().status(), 400, "no Idempotency-Key");
    assert_eq!(app.available().await, 5);
}
