//! The service keeps to its OpenAPI document, whatever it is asked.

use serde_json::json;
use valerix_kit::testing::walker::{Headers, never_well, walk_at};

use crate::shop::Shop;

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let shop = Shop::start(1_000_000, &[]).await;
    let known = [
        ("item_id", json!("ps5")),
        ("topic", json!("inventory.events")),
        // It would keep its order for the whole budget.
        ("gremlin", json!(false)),
    ];
    let seen = walk_at(&shop.url("order"), 400, &known, |_| Headers::new()).await;
    // An order is at its end before anybody thinks better of it.
    assert_eq!(never_well(&seen), ["POST /api/orders/{id}/cancel"]);
    shop.adds_up(1_000_000).await;
}
