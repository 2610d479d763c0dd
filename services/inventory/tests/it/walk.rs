//! The service keeps to its OpenAPI document, whatever it is asked.

use serde_json::json;
use valerix_kit::testing::walker::{Headers, never_well, walk_at};

use crate::app::App;

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let app = App::spawn(1_000_000).await;
    let known = [
        ("item_id", json!("ps5")),
        ("topic", json!("inventory.commands")),
        // What was never begun is ended.
        ("duration", json!("0s")),
        // It would wait for five seconds.
        ("gremlin", json!(false)),
    ];
    let seen = walk_at(&app.base, 400, &known, |_| Headers::new()).await;
    assert_eq!(never_well(&seen), [""; 0]);
    app.assert_stock_adds_up().await;
}
