//! Recounts and bulk restocks: one at a time, and nothing of a holder who was overtaken.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::args::BusArgs;
use valerix_kit::postgres::begin;
use valerix_kit::testing::{Answer, bus_args, eventually};

use crate::app::App;

async fn recount(app: &App, base: &str, query: &str) -> Answer {
    Answer::of(app.client.post(format!("{base}/api/inventory/recount{query}"))).await
}

async fn restock(app: &App, base: &str, key: &str, items: Value) -> Answer {
    let request = app.client.post(format!("{base}/api/inventory/restock/bulk"));
    Answer::of(request.header("idempotency-key", key).json(&json!({"items": items}))).await
}

async fn miscount(app: &App, by: i64) {
    sqlx::query("UPDATE items SET available = available + $1")
        .bind(by)
        .execute(&app.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_recount_corrects_what_is_available() {
    let app = App::spawn(10).await;
    app.deduct(Uuid::new_v4(), 3).await;
    miscount(&app, 2).await;
    let corrected = recount(&app, &app.base, "").await;
    assert_eq!(corrected.status, 200, "{corrected:?}");
    let item = json!({"item_id": "ps5", "available": 7, "correction": -2});
    assert_eq!(corrected.body()["items"], json!([item]));
    assert_eq!(recount(&app, &app.base, "").await.body()["items"][0]["correction"], 0);
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn a_recount_disturbs_no_order_that_is_decided_meanwhile() {
    let app = App::spawn(1_000).await;
    // Fewer at a time than there are connections.
    let orders = futures::stream::iter(0..60).map(|_| app.deduct(Uuid::new_v4(), 1));
    let orders = orders.buffer_unordered(5).collect::<Vec<_>>();
    let recounts = async {
        for _ in 0..20 {
            miscount(&app, 3).await;
            let answer = recount(&app, &app.base, "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.body()["items"][0]["correction"], -3, "{answer:?}");
        }
    };
    let (orders, ()) = tokio::join!(orders, recounts);
    assert!(orders.iter().all(|(_, body)| body["outcome"] == "RESERVED"));
    assert_eq!(app.available().await, 940);
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn a_recount_that_waits_at_one_item_holds_up_no_order_of_another() {
    let app = App::spawn(10).await;
    sqlx::query(
        "INSERT INTO items (item_id, initial, available, unit_price_minor, currency) VALUES ('xbox', 5, 5, 1, 'EUR')",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    miscount(&app, 2).await;
    let mut decides = begin(&app.pool).await.unwrap();
    sqlx::query("SELECT FROM items WHERE item_id = 'xbox' FOR UPDATE")
        .execute(&mut *decides)
        .await
        .unwrap();
    let orders = async {
        eventually("the recount waits", || async {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(&app.pool)
            .await
            .unwrap();
            (waiting == 1).then_some(())
        })
        .await;
        let order = app.deduct(Uuid::new_v4(), 3);
        let (_, decided) = tokio::time::timeout(Duration::from_secs(20), order).await.unwrap();
        assert_eq!(decided["outcome"], "RESERVED", "{decided}");
        decides.rollback().await.unwrap();
    };
    let (answer, ()) = tokio::join!(recount(&app, &app.base, ""), orders);
    let items = json!([
        {"item_id": "ps5", "available": 10, "correction": -2},
        {"item_id": "xbox", "available": 5, "correction": -2},
    ]);
    assert_eq!((answer.status, &answer.body()["items"]), (200, &items), "{answer:?}");
    assert_eq!(app.available().await, 7);
    app.assert_stock_adds_up().await;
}

#[tokio::test]
async fn an_item_is_added_up_by_an_index() {
    let app = App::spawn(10).await;
    let mut transaction = begin(&app.pool).await.unwrap();
    sqlx::query("SET LOCAL enable_seqscan = off")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN SELECT sum(quantity) FROM reservations WHERE item_id = 'ps5' AND state IN ('RESERVED', 'COMMITTED')",
    )
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    assert!(plan.iter().any(|line| line.contains("reservations_taken")), "{plan:?}");
}

#[tokio::test]
async fn a_holder_who_stood_still_and_was_overtaken_writes_nothing() {
    let app = App::spawn(10).await;
    let other = app.replica(10).await;
    // One that asks in the moment in which the other looks is refused, and asks again.
    let still = eventually("it held the lock", || async {
        let answer = recount(&app, &app.base, "?hold=6s").await;
        (answer.status != 423).then_some(answer)
    });
    let overtaken = async {
        let refused = eventually("the lock is held", || async {
            let answer = recount(&app, &other, "").await;
            (answer.status == 423).then_some(answer)
        })
        .await;
        assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
        assert_eq!(refused.headers["valerix-problem"], "locked");
        let overtook = eventually("the lock is over", || async {
            let answer = recount(&app, &other, "").await;
            (answer.status == 200).then_some(answer)
        })
        .await;
        miscount(&app, 1).await;
        overtook.body()["token"].as_i64().unwrap()
    };
    let (still, token) = tokio::join!(still, overtaken);
    assert_eq!(
        (still.status, &still.headers["valerix-problem"]),
        (409, &"overtaken".parse().unwrap())
    );
    assert!(still.body()["token"].as_i64().unwrap() < token, "{still:?}");
    assert_eq!(app.available().await, 11, "it would have corrected this");
    let next = recount(&app, &other, "").await;
    assert!(next.body()["token"].as_i64().unwrap() > token, "{next:?}");
}

#[tokio::test]
async fn a_bulk_restock_adds_all_or_nothing_once() {
    let app = App::spawn(10).await;
    let half = json!([{"item_id": "ps5", "quantity": 1}, {"item_id": "ps6", "quantity": 1}]);
    let refused = restock(&app, &app.base, "half", half).await;
    assert_eq!(
        (refused.status, &refused.body()["errors"][0]["field"]),
        (422, &json!("/items/1/item_id"))
    );
    assert_eq!(app.available().await, 10);
    let twice = json!([{"item_id": "ps5", "quantity": 2}, {"item_id": "ps5", "quantity": 3}]);
    let added = restock(&app, &app.base, "k", twice.clone()).await;
    assert_eq!((added.status, &added.body()["restocked"]), (200, &json!(1)));
    assert_eq!(app.available().await, 15);
    let replayed = restock(&app, &app.base, "k", twice).await;
    assert_eq!(
        (&replayed.text, &replayed.headers["idempotent-replayed"]),
        (&added.text, &"true".parse().unwrap())
    );
    assert_eq!(app.available().await, 15);
    for (items, field) in [
        (json!([]), "/items"),
        (json!([{"item_id": "ps5", "quantity": 0}]), "/items/0/quantity"),
        (json!([{"item_id": "ps5"}]), "/items/0/quantity"),
        (json!([{"item_id": "ps5", "quantity": 1}, ["ps5", 5]]), "/items/1"),
    ] {
        let refused = restock(&app, &app.base, "bad", items).await;
        assert_eq!(
            (refused.status, &refused.body()["errors"][0]["field"]),
            (422, &json!(field)),
            "{refused:?}"
        );
    }
    app.assert_stock_adds_up().await;
}

/// Ids and numbers as long as they may be.
#[tokio::test]
async fn the_largest_bulk_restock_is_answered_and_replayed() {
    let app = App::spawn(10).await;
    let ids: Vec<String> = (0..1_000).map(|number| format!("{number:064}")).collect();
    sqlx::query(
        "INSERT INTO items (item_id, initial, available, unit_price_minor, currency) \
         SELECT item_id, 0, 0, 9000000000000000, 'EUR' FROM unnest($1::text[]) AS item_id",
    )
    .bind(&ids)
    .execute(&app.pool)
    .await
    .unwrap();
    let items: Vec<Value> = ids
        .iter()
        .map(|id| json!({"item_id": id, "quantity": 1_000_000}))
        .collect();
    let added = restock(&app, &app.base, "k", json!(items)).await;
    assert_eq!(
        (added.status, &added.body()["restocked"]),
        (200, &json!(1_000)),
        "{added:?}"
    );
    let replayed = restock(&app, &app.base, "k", json!(items)).await;
    assert_eq!((replayed.status, &replayed.text), (200, &added.text));
    let supplied: Vec<i64> = sqlx::query_scalar("SELECT DISTINCT available FROM items WHERE item_id <> 'ps5'")
        .fetch_all(&app.pool)
        .await
        .unwrap();
    assert_eq!(supplied, [1_000_000]);
    let more = [items, vec![json!({"item_id": "ps5", "quantity": 1})]].concat();
    let refused = restock(&app, &app.base, "more", json!(more)).await;
    assert_eq!(
        (refused.status, &refused.body()["errors"][0]["field"]),
        (422, &json!("/items"))
    );
}

#[tokio::test]
async fn without_redis_nobody_recounts_and_orders_are_decided_all_the_same() {
    let app = App::spawn(10).await;
    let alone = BusArgs {
        redis_url: "redis://127.0.0.1:1/".to_owned().into(),
        ..bus_args()
    };
    let base = app.replica_on(10, &alone).await;
    for answer in [
        recount(&app, &base, "").await,
        restock(&app, &base, "k", json!([{"item_id": "ps5", "quantity": 1}])).await,
    ] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    }
    let order = json!({"order_id": Uuid::new_v4(), "item_id": "ps5", "quantity": 1});
    assert_eq!(app.deduct_at(&base, &order).await.1["outcome"], "RESERVED");
    assert_eq!(app.available().await, 9);
}

#[tokio::test]
async fn a_hold_has_bounds() {
    let app = App::spawn(10).await;
    for hold in ["11s", "x", "-1s", ""] {
        let refused = recount(&app, &app.base, &format!("?hold={hold}")).await;
        assert_eq!(
            (refused.status, &refused.body()["errors"][0]["field"]),
            (400, &json!("hold")),
            "{hold}"
        );
    }
    assert!(recount(&app, &app.base, "?hold=1ms").await.took < Duration::from_secs(5));
}
