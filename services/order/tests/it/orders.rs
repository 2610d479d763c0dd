//! Orders when everything works: answers, replays, the ends that are not sales, duplicated and reordered events.

use std::collections::BTreeSet;

use redis::AsyncCommands;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{PRICE, Shop, Told};

#[tokio::test]
async fn an_order_is_confirmed_within_the_budget_and_can_be_read() {
    let shop = Shop::start(10, &[]).await;
    let key = Uuid::now_v7().to_string();
    let body = json!({"item_id": "ps5", "quantity": 3});
    let answer = shop.try_place(&key, &body).await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    let order = answer.order();
    assert_eq!(
        answer.body(),
        json!({"order_id": order, "item_id": "ps5", "quantity": 3, "status": "CONFIRMED", "reason": null,
               "amount_minor": 3 * PRICE, "currency": "EUR"})
    );
    assert_eq!(answer.headers["location"], format!("/api/orders/{order}"));

    let replay = shop.try_place(&key, &body).await.unwrap();
    assert_eq!((replay.status, &replay.text), (201, &answer.text));
    assert_eq!(replay.headers["location"], answer.headers["location"]);
    assert_eq!(replay.headers["content-type"], answer.headers["content-type"]);
    assert_eq!(replay.headers["idempotent-replayed"], "true");
    assert!(!answer.headers.contains_key("idempotent-replayed"));

    let other = shop
        .try_place(&key, &json!({"item_id": "ps5", "quantity": 4}))
        .await
        .unwrap();
    assert_eq!(other.status, 422, "{other:?}");

    assert_eq!(
        shop.get("order", &format!("/api/orders/{order}")).await.body(),
        answer.body()
    );
    assert_eq!(shop.available("ps5").await, 7);
    shop.adds_up(10).await;
}

#[tokio::test]
async fn orders_are_listed_page_by_page_newest_first() {
    let shop = Shop::start(10, &[]).await;
    let mut placed = vec![];
    for _ in 0..5 {
        placed.insert(0, shop.place("ps5", 1).await.order().to_string());
    }
    let mut listed = vec![];
    let mut path = "/api/orders?limit=2".to_owned();
    loop {
        let page = shop.get("order", &path).await.body();
        let ids = page["orders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|order| order["order_id"].as_str().unwrap().to_owned());
        listed.extend(ids);
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/orders?limit=2&cursor={next}");
    }
    assert_eq!(listed, placed);
}

#[tokio::test]
async fn what_can_not_be_sold_is_cancelled_and_holds_nothing() {
    let shop = Shop::start(2, &[]).await;
    let answer = shop.place("ps5", 3).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(
        (&answer.body()["status"], &answer.body()["reason"]),
        (&json!("CANCELLED"), &json!("OUT_OF_STOCK"))
    );
    let answer = shop.place("ps6", 1).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.body()["errors"][0]["field"], "/item_id");
    shop.adds_up(2).await;
}

#[tokio::test]
async fn a_declined_order_is_cancelled_within_the_budget_and_its_stock_returned() {
    let shop = Shop::start(2, &[("processor", "DECLINE_PERCENT", "100")]).await;
    let answer = shop.place("ps5", 2).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(
        (&answer.body()["status"], &answer.body()["reason"]),
        (&json!("CANCELLED"), &json!("PAYMENT_DECLINED"))
    );
    assert_eq!(shop.available("ps5").await, 2);
    shop.adds_up(2).await;
}

#[tokio::test]
async fn fifty_clients_with_one_key_make_one_order() {
    let shop = Shop::start(100, &[]).await;
    let body = json!({"item_id": "ps5", "quantity": 1});
    let clients = (0..50).map(|_| async {
        loop {
            let answer = shop.try_place("one-key", &body).await.unwrap();
            match answer.status {
                201 | 202 => return answer.text,
                409 => assert_eq!(answer.headers["retry-after"], "1"),
                503 | 504 => {}
                _ => panic!("{answer:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let answers: BTreeSet<String> = futures::future::join_all(clients).await.into_iter().collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    shop.adds_up(100).await;
    assert_eq!(shop.available("ps5").await, 99);
}

#[tokio::test]
async fn one_instance_and_three_give_the_same_results() {
    let alone = Shop::start(6, &[]).await;
    let mut several = Shop::closed(6, &[]).await;
    for (service, name) in [
        ("order", "order-2"),
        ("order", "order-3"),
        ("inventory", "inventory-2"),
        ("inventory", "inventory-3"),
        ("payment", "payment-2"),
        ("payment", "payment-3"),
    ] {
        several.replica(service, name);
    }
    several.open().await;
    let one = results(&alone, &["order"]).await;
    let three = results(&several, &["order", "order-2", "order-3"]).await;
    let statuses: Vec<u16> = one.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [201, 201, 201, 422, 422, 422, 422, 201, 201, 202, 200, 201]);
    assert_eq!(one, three);
    for shop in [alone, several] {
        shop.adds_up(6).await;
        assert_eq!(shop.available("ps5").await, 1);
    }
}

/// What the same requests are answered, each asked of the next replica. Ids, which differ, are left out.
async fn results(shop: &Shop, replicas: &[&str]) -> Vec<(u16, Value)> {
    let mut turns = replicas.iter().cycle();
    let mut results = vec![];
    let mut keep = |status, mut body: Value| {
        for name in ["order_id", "request_id", "instance", "resource", "detail"] {
            body.as_object_mut().unwrap().remove(name);
        }
        results.push((status, body));
    };
    let order = |item: &str, quantity: i64| json!({"item_id": item, "quantity": quantity});
    let mut first = None;
    for (key, body) in [
        ("a", order("ps5", 3)),
        ("a", order("ps5", 3)),
        ("b", order("ps5", 1)),
        ("b", order("ps5", 2)),
        ("c", order("ps5", 0)),
        ("d", json!({"item_id": "ps5", "quantity": 1, "color": "red"})),
        ("e", order("nothing", 1)),
        ("f", order("ps5", 4)),
        ("g", order("ps5", 1)),
    ] {
        let answer = shop.try_place_at(turns.next().unwrap(), key, &body).await.unwrap();
        if first.is_none() {
            first = Some(answer.order());
        }
        keep(answer.status, answer.body());
    }
    let first = first.unwrap();
    let refund = shop.try_undo_at(turns.next().unwrap(), first, "refund").await.unwrap();
    keep(refund.status, refund.body());
    shop.reaches(first, "REFUNDED").await;
    shop.comes_to_rest().await;
    let told = shop.get(turns.next().unwrap(), &format!("/api/orders/{first}")).await;
    keep(told.status, told.body());
    let last = shop
        .try_place_at(turns.next().unwrap(), "h", &order("ps5", 3))
        .await
        .unwrap();
    keep(last.status, last.body());
    results
}

#[tokio::test]
async fn ten_orders_for_the_last_piece_confirm_one() {
    let shop = Shop::start(1, &[]).await;
    let answers = futures::future::join_all((0..10).map(|_| shop.place("ps5", 1))).await;
    shop.comes_to_rest().await;
    let mut confirmed = 0;
    for answer in answers {
        let order = shop
            .get("order", &format!("/api/orders/{}", answer.order()))
            .await
            .body();
        match order["status"].as_str().unwrap() {
            "CONFIRMED" => confirmed += 1,
            status => assert_eq!((status, &order["reason"]), ("CANCELLED", &json!("OUT_OF_STOCK"))),
        }
    }
    assert_eq!(confirmed, 1);
    shop.adds_up(1).await;
}

#[tokio::test]
async fn duplicated_and_reordered_events_change_nothing() {
    let shop = Shop::start(50, &[]).await;
    for quantity in 1..=5 {
        assert_eq!(shop.place("ps5", quantity).await.status, 201);
    }
    assert_eq!(shop.place("ps5", 100).await.status, 201);
    shop.adds_up(50).await;
    let before: Vec<(Uuid, String)> = states(&shop).await;

    // Every event again, newest first: as it was (the inbox knows it) and under a new id (the tables must).
    let mut redis = valerix_kit::testing::redis().await;
    for topic in [
        "inventory.commands",
        "payment.commands",
        "inventory.events",
        "payment.events",
    ] {
        let stream = shop.stream(topic);
        let entries: redis::streams::StreamRangeReply = redis.xrevrange_all(&stream).await.unwrap();
        for entry in entries.ids {
            let mut fields: Vec<(String, String)> = entry
                .map
                .iter()
                .map(|(name, value)| (name.clone(), redis::from_redis_value_ref::<String>(value).unwrap()))
                .collect();
            let _: String = redis.xadd(&stream, "*", &fields).await.unwrap();
            for (name, value) in &mut fields {
                if name == "id" {
                    *value = Uuid::new_v4().to_string();
                }
            }
            let _: String = redis.xadd(&stream, "*", &fields).await.unwrap();
        }
    }
    shop.until("every event is handled", || async {
        let mut redis = valerix_kit::testing::redis().await;
        for topic in [
            "inventory.commands",
            "payment.commands",
            "inventory.events",
            "payment.events",
        ] {
            let groups: redis::streams::StreamInfoGroupsReply = redis.xinfo_groups(shop.stream(topic)).await.unwrap();
            if groups
                .groups
                .iter()
                .any(|group| group.pending > 0 || group.lag != Some(0))
            {
                return None;
            }
        }
        Some(())
    })
    .await;
    shop.adds_up(50).await;
    assert_eq!(states(&shop).await, before);
}

async fn states(shop: &Shop) -> Vec<(Uuid, String)> {
    sqlx::query_as("SELECT id, state FROM orders ORDER BY id")
        .fetch_all(&shop.pool("order").await)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_transition_is_in_the_history_and_announced_once() {
    let shop = Shop::start(5, &[]).await;
    let order = shop.place("ps5", 1).await.order();
    shop.adds_up(5).await;
    let pool = shop.pool("order").await;
    let moved: Vec<(String, String)> = sqlx::query_as(
        "SELECT input, to_state FROM order_history WHERE order_id = $1 AND from_state <> to_state ORDER BY id",
    )
    .bind(order)
    .fetch_all(&pool)
    .await
    .unwrap();
    let moved: Vec<(&str, &str)> = moved.iter().map(|(input, to)| (input.as_str(), to.as_str())).collect();
    assert_eq!(moved, [("Reserved", "RESERVED"), ("Charged", "CONFIRMED")]);
    let announced: Vec<(String, Value)> =
        sqlx::query_as("SELECT type, payload FROM outbox WHERE topic = 'order.events' ORDER BY version")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(
        announced.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(),
        ["OrderCreated", "OrderConfirmed"]
    );
    assert_eq!(
        announced[1].1,
        json!({"order_id": order, "user_id": null, "item_id": "ps5", "quantity": 1, "amount_minor": PRICE,
               "currency": "EUR"})
    );
}

#[tokio::test]
async fn the_same_order_written_in_another_way_is_replayed_and_another_is_refused_without_a_word_of_it() {
    let shop = Shop::start(10, &[]).await;
    let send = |path: &str, body: &'static str| {
        let request = shop.http.post(format!("{}{path}", shop.url("order")));
        let request = request.header("idempotency-key", "rewritten").body(body);
        request.header("content-type", "application/json").send()
    };
    let body = r#"{"item_id": "ps5", "quantity": 1}"#;
    let first: Value = send("/api/orders", body).await.unwrap().json().await.unwrap();
    for same in [
        r#"{"quantity": 1, "item_id": "ps5"}"#,
        r#"{"item_id":"ps5","quantity":1}"#,
    ] {
        let replayed = send("/api/orders", same).await.unwrap();
        assert_eq!(replayed.headers()["idempotent-replayed"], "true", "{same}");
        assert_eq!(replayed.json::<Value>().await.unwrap(), first);
    }
    for (path, body) in [
        ("/api/orders", r#"{"quantity": 2, "item_id": "ps5"}"#),
        ("/api/orders?source=app", body),
    ] {
        let refused = send(path, body).await.unwrap();
        assert_eq!(refused.status().as_u16(), 422, "{path} {body}");
        assert_eq!(refused.headers()["valerix-problem"], "idempotency-key-reused");
        let problem: Value = refused.json().await.unwrap();
        // Another guest's key, perhaps: whoever knows a guest's order can cancel it.
        assert_eq!(problem.get("resource"), None, "{problem}");
    }
    let again: Value = send("/api/orders", body).await.unwrap().json().await.unwrap();
    assert_eq!(again, first);
    shop.adds_up(10).await;
    assert_eq!(shop.available("ps5").await, 9);
}
