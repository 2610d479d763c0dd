//! `GET /notifications`.

use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::testing::Answer;

use crate::app::App;

async fn ids(app: &App, query: &str) -> (Vec<String>, Value) {
    let answer = app.servers[0].get(&format!("/notifications{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.body();
    let ids = body["notifications"].as_array().unwrap().iter();
    let ids = ids
        .map(|one| one["notification_id"].as_str().unwrap().to_owned())
        .collect();
    (ids, body["next_cursor"].clone())
}

#[tokio::test]
async fn pages_are_newest_first_and_end() {
    let app = App::spawn_with(|config, _| config.service.identity.auth_url = None).await;
    for _ in 0..3 {
        app.confirm(None, 1).await;
    }
    app.caught_up().await;
    let (all, end) = ids(&app, "").await;
    assert_eq!((all.len(), &end), (6, &json!(null)));
    let (first, cursor) = ids(&app, "?limit=4").await;
    let (second, end) = ids(&app, &format!("?limit=4&cursor={}", cursor.as_str().unwrap())).await;
    assert_eq!(end, json!(null));
    assert_eq!([first, second].concat(), all);
    assert!(all.is_sorted_by(|newer, older| newer > older));
    for (query, field) in [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?cursor=7", "cursor"),
    ] {
        let answer = app.servers[0].get(&format!("/notifications{query}")).await;
        assert_eq!(
            (answer.status, answer.body()["errors"][0]["field"].clone()),
            (400, json!(field)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn users_see_their_own() {
    let app = App::spawn().await;
    assert_eq!(app.servers[0].get("/notifications").await.status, 401);
    let (own, others) = (Uuid::now_v7(), Uuid::now_v7());
    for user in [own, others] {
        app.confirm(Some(user), 1).await;
    }
    app.caught_up().await;
    let rows = valerix_notification::store::page(&app.pool, Some(own), None, 10)
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.user_id).collect::<Vec<_>>(), [Some(own); 2]);
    let forged = app.servers[0].request("/notifications").bearer_auth("x.y.z");
    assert_eq!(Answer::of(forged).await.status, 405, "there is nothing to POST");
}
