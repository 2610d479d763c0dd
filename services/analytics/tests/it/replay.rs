//! What could not be counted is counted once its cause is mended.

use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;
use valerix_kit::testing::eventually;

use crate::service::App;

const REPLAY: &str = "/api/admin/dead-letters/replay";

#[tokio::test]
async fn dead_letters_are_replayed_once_and_not_when_they_are_too_old() {
    let app = App::spawn(1).await;
    let server = &app.servers[0];
    let none = server.post(REPLAY, &json!({"topic": "order.events"})).await;
    assert_eq!(
        (none.status, none.body()),
        (200, json!({"replayed": 0, "refused": [], "last": null}))
    );
    let run = async |statement: &'static str| sqlx::raw_sql(statement).execute(&app.pool).await.unwrap();
    run("ALTER TABLE figures RENAME TO away").await;
    let order = Uuid::now_v7();
    app.announce(order, 1, "OrderCreated", json!({"order_id": order})).await;
    let old = Uuid::now_v7();
    let long_ago = chrono::Utc::now() - TimeDelta::days(15);
    app.announce_at(long_ago, old, 1, "OrderCreated", json!({"order_id": old}))
        .await;
    // Dead letters are acknowledged.
    app.caught_up().await;
    run("ALTER TABLE away RENAME TO figures").await;

    let replayed = server
        .post(REPLAY, &json!({"topic": "order.events", "limit": 10}))
        .await;
    assert_eq!(replayed.status, 200, "{replayed:?}");
    let body = replayed.body();
    assert_eq!(
        (&body["replayed"], body["refused"].as_array().unwrap().len()),
        (&json!(1), 1),
        "{body}"
    );
    assert!(
        body["refused"][0]["reason"].as_str().unwrap().contains("14 days"),
        "{body}"
    );
    eventually("the order is counted", || async {
        let created = server.get("/analytics/summary").await.body()["total"]["created"].clone();
        (created == 1).then_some(())
    })
    .await;
    let again = server
        .post(REPLAY, &json!({"topic": "order.events", "after": body["last"]}))
        .await;
    assert_eq!(again.body()["replayed"], 0, "there is nothing behind the last");
    let again = server.post(REPLAY, &json!({"topic": "order.events"})).await.body();
    assert_eq!(
        (&again["replayed"], again["refused"].as_array().unwrap().len()),
        (&json!(0), 1)
    );
}

#[tokio::test]
async fn a_wrong_replay_names_the_field() {
    let app = App::spawn(1).await;
    for (body, field) in [
        (json!({"topic": "inventory.commands"}), "/topic"),
        (json!({}), "/topic"),
        (json!({"topic": "order.events", "limit": 0}), "/limit"),
        (json!({"topic": "order.events", "limit": 1001}), "/limit"),
        (json!({"topic": "order.events", "after": "+"}), "/after"),
        (json!({"topic": "order.events", "entry": "1-0"}), "/entry"),
    ] {
        let answer = app.servers[0].post(REPLAY, &body).await;
        let named = answer.body()["errors"][0]["field"].clone();
        assert_eq!((answer.status, named), (422, json!(field)), "{body}");
    }
    let document = app.servers[0].get("/openapi.json").await.body();
    let operation = &document["paths"][REPLAY]["post"];
    assert_eq!(operation["x-valerix-access"], "admin", "{operation}");
}
