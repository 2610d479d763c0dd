//! Who may do what.

use clap::Parser;
use serde_json::json;
use valerix_kit::testing::access::{TestAuth, every_route};
use valerix_kit::testing::{TestDatabase, TestServer, bus_args, service_args};
use valerix_payment::config::Config;
use valerix_payment::startup::build;

#[tokio::test]
async fn every_route_lets_in_whom_it_declares() {
    let (database, auth) = (TestDatabase::create().await, TestAuth::start().await);
    let mut config = Config::parse_from([
        "payment",
        "--database-url",
        &database.url(),
        "--redis-url",
        "redis://unused",
    ]);
    config.service = service_args("payment");
    config.bus = bus_args();
    auth.close(&mut config.service);
    let server = TestServer::start(build(config).await.unwrap()).await;
    let routes = every_route(&server, "payment", |user, roles| auth.bearer(user, roles)).await;
    let expected = [
        ("GET /api/admin/reconciliation", json!("admin")),
        ("GET /payments", json!("admin")),
        ("GET /payments/{id}", json!("admin")),
        ("POST /api/admin/dead-letters/replay", json!("admin")),
        ("POST /api/admin/reconciliation", json!("admin")),
        ("POST /payments", json!({"services": ["order"]})),
        ("POST /payments/void", json!({"services": ["order"]})),
        ("POST /payments/{id}/refund", json!({"services": ["order"]})),
    ];
    assert_eq!(routes, expected.map(|(route, access)| (route.to_owned(), access)));
}
