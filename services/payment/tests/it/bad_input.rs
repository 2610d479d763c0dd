//! Requests that are wrong are told so, with the field, and charge nothing.

use serde_json::Value;

use crate::desk::Desk;

#[tokio::test]
async fn a_malformed_request_is_told_which_field_and_charges_nothing() {
    let desk = Desk::open(&[]).await;
    let order = r#""order_id": "0198c1a0-0000-7000-8000-000000000000""#;
    let cases: [(String, Option<&str>, u16, Option<&str>); 9] = [
        (
            format!(r#"{{{order}, "amount_minor": 5, "currency": "EUR"}}"#),
            None,
            400,
            Some("Idempotency-Key"),
        ),
        ("{".to_owned(), Some("a"), 400, None),
        (
            r#"{"order_id": "7", "amount_minor": 5, "currency": "EUR"}"#.to_owned(),
            Some("a"),
            422,
            Some("/order_id"),
        ),
        (
            format!(r#"{{{order}, "currency": "EUR"}}"#),
            Some("a"),
            422,
            Some("/amount_minor"),
        ),
        (
            format!(r#"{{{order}, "amount_minor": 5.5, "currency": "EUR"}}"#),
            Some("a"),
            422,
            Some("/amount_minor"),
        ),
        (
            format!(r#"{{{order}, "amount_minor": 0, "currency": "EUR"}}"#),
            Some("a"),
            422,
            Some("/amount_minor"),
        ),
        (
            format!(r#"{{{order}, "amount_minor": 5, "currency": "euro"}}"#),
            Some("a"),
            422,
            Some("/currency"),
        ),
        (
            format!(r#"{{{order}, "amount_minor": 5, "currency": null}}"#),
            Some("a"),
            422,
            Some("/currency"),
        ),
        (
            format!(r#"{{{order}, "amount_minor": 5, "currency": "EUR", "x": 1}}"#),
            Some("a"),
            422,
            Some("/x"),
        ),
    ];
    for (body, key, status, field) in cases {
        let mut request = desk
            .http
            .post(format!("{}/payments", desk.url))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        if let Some(field) = field {
            assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
        }
    }
    assert_eq!(desk.get("/payments/7").await.status, 400);
    assert_eq!(
        desk.get("/payments/00000000-0000-0000-0000-000000000000").await.status,
        404
    );
    assert_eq!(desk.ledger().await.len(), 0);
}
