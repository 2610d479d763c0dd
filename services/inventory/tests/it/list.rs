//! `GET /api/inventory`.

use serde_json::{Value, json};
use valerix_kit::testing::Answer;

use crate::app::App;

async fn list(app: &App, query: &str) -> Answer {
    Answer::of(app.client.get(format!("{}/api/inventory{query}", app.base))).await
}

#[tokio::test]
async fn items_are_listed_page_by_page_by_their_id() {
    let app = App::spawn(5).await;
    // Not in the order of their ids, and enough to end with a full page.
    for item in ["ps9", "ps1", "ps7"] {
        sqlx::query("INSERT INTO items VALUES ($1, 8, 3, 100, 'EUR')")
            .bind(item)
            .execute(&app.pool)
            .await
            .unwrap();
    }
    let mut listed: Vec<Value> = vec![];
    let mut pages = 0;
    let mut query = "?limit=2".to_owned();
    loop {
        let page = list(&app, &query).await.body();
        listed.extend(page["items"].as_array().unwrap().iter().cloned());
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("?limit=2&cursor={next}");
    }
    let other =
        |item: &str| json!({"item_id": item, "available": 3, "initial": 8, "unit_price_minor": 100, "currency": "EUR"});
    let ps5 = json!({"item_id": "ps5", "available": 5, "initial": 5, "unit_price_minor": 49900, "currency": "EUR"});
    let expected = [other("ps1"), ps5, other("ps7"), other("ps9")];
    assert_eq!((listed.as_slice(), pages), (expected.as_slice(), 2));
    assert_eq!(
        list(&app, "").await.body(),
        json!({"items": expected, "next_cursor": null})
    );
}

#[tokio::test]
async fn a_cursor_or_limit_that_is_none_is_named() {
    let app = App::spawn(1).await;
    for (query, field) in [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?cursor=a%20b", "cursor"),
        ("?cursor=%00", "cursor"),
        ("?cursor=", "cursor"),
    ] {
        let answer = list(&app, query).await;
        assert_eq!(
            (answer.status, &answer.body()["errors"][0]["field"]),
            (400, &json!(field)),
            "{query}"
        );
    }
}
