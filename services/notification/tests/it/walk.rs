//! The service keeps to its OpenAPI document, whatever it is asked.

use serde_json::json;
use valerix_kit::testing::walker::{Headers, never_well, walk};

use crate::app::App;

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let app = App::spawn_with(|config, _| config.service.identity.auth_url = None).await;
    for _ in 0..10 {
        app.confirm(None, 1).await;
    }
    app.caught_up().await;
    let known = [("topic", json!("order.events"))];
    let seen = walk(&app.servers[0], 200, &known, |_| Headers::new()).await;
    assert_eq!(never_well(&seen), [""; 0]);
}
