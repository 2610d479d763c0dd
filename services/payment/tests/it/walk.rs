//! The service keeps to its OpenAPI document, whatever it is asked.

use serde_json::json;
use valerix_kit::testing::walker::{Headers, never_well, walk_at};

use crate::desk::Desk;

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let desk = Desk::open(&[]).await;
    let known = [("topic", json!("payment.commands"))];
    let seen = walk_at(&desk.url, 400, &known, |_| Headers::new()).await;
    assert_eq!(never_well(&seen), [""; 0]);
    let seen = walk_at(&desk.processor, 200, &[], |_| Headers::new()).await;
    assert_eq!(never_well(&seen), [""; 0], "the processor");
}
