//! The service keeps to its OpenAPI document, whatever it is asked.

use serde_json::json;
use valerix_kit::testing::walker::{Headers, never_well, walk_at};

use crate::shop::{Shop, order_policy};

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let mut shop = Shop::closed(1_000_000, &[]).await;
    // A gremlin would keep each of its orders for the whole budget.
    let mut policy = order_policy();
    policy["chaos"]["admission"] = json!("Denied");
    shop.policy("order", &policy);
    shop.open().await;
    let known = [("item_id", json!("ps5")), ("topic", json!("inventory.events"))];
    let seen = walk_at(&shop.url("order"), 400, &known, |_| Headers::new()).await;
    // An order is at its end before anybody thinks better of it.
    assert_eq!(never_well(&seen), ["POST /api/orders/{id}/cancel"]);
    shop.adds_up(1_000_000).await;
}
