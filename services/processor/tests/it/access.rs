//! Who may do what.

use clap::Parser;
use serde_json::json;
use valerix_kit::testing::access::{TestAuth, every_route};
use valerix_kit::testing::{TestDatabase, TestServer, service_args};
use valerix_processor::config::Config;
use valerix_processor::startup::build;

#[tokio::test]
async fn payment_alone_is_let_in() {
    let (database, auth) = (TestDatabase::create().await, TestAuth::start().await);
    let mut config = Config::parse_from(["processor", "--database-url", &database.url()]);
    config.service = service_args("processor");
    auth.close(&mut config.service);
    let server = TestServer::start(build(config).await.unwrap()).await;
    let routes = every_route(&server, "processor", |user, roles| auth.bearer(user, roles)).await;
    let expected = [
        "GET /charges",
        "GET /charges/{key}",
        "POST /charges",
        "POST /charges/{key}/cancel",
        "POST /charges/{key}/refund",
    ];
    let payment = json!({"services": ["payment"]});
    assert_eq!(routes, expected.map(|route| (route.to_owned(), payment.clone())));
}
