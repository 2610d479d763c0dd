//! Requests that are wrong are told so, with the field, and make nothing.

use serde_json::{Value, json};

use crate::shop::{Shop, Told};

/// Body, key, content type; status and field of the answer.
type Case = (
    &'static str,
    Option<&'static str>,
    &'static str,
    u16,
    Option<&'static str>,
);

#[tokio::test]
async fn a_malformed_request_is_told_which_field_and_makes_nothing() {
    let shop = Shop::start(5, &[]).await;
    let url = format!("{}/api/orders", shop.url("order"));
    let good = r#"{"item_id": "ps5", "quantity": 1}"#;
    let cases: [Case; 18] = [
        (good, None, "application/json", 400, Some("Idempotency-Key")),
        (good, Some(""), "application/json", 400, Some("Idempotency-Key")),
        (good, Some("a b"), "application/json", 400, Some("Idempotency-Key")),
        (good, Some("a"), "text/plain", 415, None),
        ("", Some("a"), "application/json", 400, None),
        ("{", Some("a"), "application/json", 400, None),
        ("[]", Some("a"), "application/json", 422, None),
        ("null", Some("a"), "application/json", 422, None),
        (
            r#"{"quantity": 1}"#,
            Some("a"),
            "application/json",
            422,
            Some("/item_id"),
        ),
        (
            r#"{"item_id": "ps5"}"#,
            Some("a"),
            "application/json",
            422,
            Some("/quantity"),
        ),
        (
            r#"{"item_id": 5, "quantity": 1}"#,
            Some("a"),
            "application/json",
            422,
            Some("/item_id"),
        ),
        (
            r#"{"item_id": "ps5", "quantity": "1"}"#,
            Some("a"),
            "application/json",
            422,
            Some("/quantity"),
        ),
        (
            r#"{"item_id": "ps5", "quantity": 1.5}"#,
            Some("a"),
            "application/json",
            422,
            Some("/quantity"),
        ),
        (
            r#"{"item_id": "ps5", "quantity": 1.0}"#,
            Some("a"),
            "application/json",
            422,
            Some("/quantity"),
        ),
        (
            r#"{"item_id": "ps5", "quantity": 99999999999999999999}"#,
            Some("a"),
            "application/json",
            422,
            Some("/quantity"),
        ),
        (
            r#"{"item_id": "ps5", "quantity": 0}"#,
            Some("a"),
            "application/json",
            422,
            Some("/quantity"),
        ),
        (
            r#"{"item_id": "p\u0000", "quantity": 1}"#,
            Some("a"),
            "application/json",
            422,
            Some("/item_id"),
        ),
        (
            r#"{"item_id": "ps5", "quantity": 1, "colour": "red"}"#,
            Some("a"),
            "application/json",
            422,
            Some("/colour"),
        ),
    ];
    for (body, key, content_type, status, field) in cases {
        let mut request = shop.http.post(&url).header("content-type", content_type).body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body} with {key:?}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{body}");
        let problem: Value = answer.json().await.unwrap();
        if let Some(field) = field {
            assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
        }
    }
    let large = json!({"item_id": "x".repeat(2 << 20), "quantity": 1}).to_string();
    let answer = shop
        .http
        .post(&url)
        .header("content-type", "application/json")
        .header("idempotency-key", "a")
        .body(large)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 413);
    for path in [
        "/api/orders/7",
        "/api/orders?cursor=7",
        "/api/orders?limit=0",
        "/api/orders?limit=x",
    ] {
        let answer = shop.get("order", path).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    let unknown = shop
        .get("order", "/api/orders/00000000-0000-0000-0000-000000000000")
        .await;
    assert_eq!(unknown.status, 404);

    assert_eq!(shop.get("order", "/api/orders").await.body()["orders"], json!([]));
    // A refused request has not used its key up.
    let answer = shop
        .try_place("a", &json!({"item_id": "ps5", "quantity": 1}))
        .await
        .unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn a_gremlin_needs_consent_and_then_is_finished_by_event() {
    let shop = Shop::start(5, &[]).await;
    let body = json!({"item_id": "ps5", "quantity": 1, "gremlin": true});
    let answer = shop.try_place("bitten", &body).await.unwrap();
    assert_eq!((answer.status, &answer.body()["status"]), (202, &json!("QUEUED")));
    shop.reaches(answer.order(), "CONFIRMED").await;
    shop.adds_up(5).await;

    let mut denied = crate::shop::order_policy();
    denied["chaos"]["admission"] = json!("Denied");
    shop.policy("order", &denied);
    shop.until("the new policy is in force", || async {
        let answer = shop.try_place(&uuid::Uuid::now_v7().to_string(), &body).await.unwrap();
        (answer.status == 422).then(|| assert_eq!(answer.body()["errors"][0]["field"], "/gremlin"))
    })
    .await;
    shop.adds_up(5).await;
}
