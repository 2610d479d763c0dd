//! The service keeps to its OpenAPI document, whatever it is asked.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::json;
use valerix_kit::identity::SERVICE_TOKEN;
use valerix_kit::testing::access::proof;
use valerix_kit::testing::walker::{Headers, never_well, walk};

use crate::app::{ADMIN, App, PASSWORD, bearer};

#[tokio::test]
async fn every_answer_is_one_that_the_document_declares() {
    let app = App::spawn().await;
    let (mut known, mut users) = (
        vec![("password", json!(PASSWORD)), ("current_password", json!(PASSWORD))],
        vec![],
    );
    for number in 0..12 {
        let email = format!("user-{number}@example.com");
        let user = app.register(&email).await;
        let tokens = app.login(&email).await;
        users.push(HeaderValue::try_from(bearer(&tokens)).unwrap());
        known.extend([
            ("email", json!(email)),
            ("user_id", user["id"].clone()),
            ("refresh_token", tokens["refresh_token"].clone()),
        ]);
    }
    let admin = HeaderValue::try_from(bearer(&app.login(ADMIN).await)).unwrap();
    let mut turn = 0;
    let callers = |access: &serde_json::Value| -> Headers {
        turn += 1;
        match access.as_str() {
            // Each in turn, as some of them delete themselves.
            Some("user") => vec![(AUTHORIZATION, users[turn % users.len()].clone())],
            Some("admin") => vec![(AUTHORIZATION, admin.clone())],
            Some(_) => Headers::new(),
            None => vec![(SERVICE_TOKEN, proof("notification", "auth"))],
        }
    };
    let seen = walk(&app.server, 400, &known, callers).await;
    assert_eq!(never_well(&seen), [""; 0]);
}
