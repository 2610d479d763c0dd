//! The service keeps to its OpenAPI document, whatever it is asked.

use serde_json::json;
use valerix_kit::testing::walker::{Headers, never_well, walk_at};

use crate::app::App;

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let app = App::spawn(1_000_000).await;
    let known = [("item_id", json!("ps5")), ("topic", json!("inventory.commands"))];
    let seen = walk_at(&app.base, 400, &known, |_| Headers::new()).await;
    // Faults have to be admitted first.
    assert_eq!(never_well(&seen), ["POST /api/admin/chaos"]);
    app.assert_stock_adds_up().await;
}
