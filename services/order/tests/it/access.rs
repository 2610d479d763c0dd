//! Who may do what.

use clap::Parser;
use serde_json::json;
use valerix_kit::testing::access::{TestAuth, every_route};
use valerix_kit::testing::{TestDatabase, TestServer, bus_args, service_args};
use valerix_order::config::Config;
use valerix_order::startup::build;

#[tokio::test]
async fn every_route_lets_in_whom_it_declares() {
    let (database, auth) = (TestDatabase::create().await, TestAuth::start().await);
    let mut config = Config::parse_from([
        "order",
        "--database-url",
        &database.url(),
        "--redis-url",
        "redis://unused",
    ]);
    config.service = service_args("order");
    config.bus = bus_args();
    auth.close(&mut config.service);
    let server = TestServer::start(build(config).await.unwrap()).await;
    let routes = every_route(&server, "order", |user, roles| auth.bearer(user, roles)).await;
    let expected = [
        ("GET /api/orders", json!("user")),
        ("GET /api/orders/{id}", json!("public")),
        ("GET /api/orders/{id}/events", json!("public")),
        ("GET /api/orders/{id}/history", json!("public")),
        ("POST /api/admin/dead-letters/replay", json!("admin")),
        ("POST /api/orders", json!("public")),
        ("POST /api/orders/{id}/cancel", json!("public")),
        ("POST /api/orders/{id}/refund", json!("admin")),
    ];
    assert_eq!(routes, expected.map(|(route, access)| (route.to_owned(), access)));
}
