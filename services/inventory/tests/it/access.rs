//! Who may do what.

use clap::Parser;
use serde_json::json;
use valerix_inventory::config::Config;
use valerix_inventory::startup::build;
use valerix_kit::testing::access::{TestAuth, every_route};
use valerix_kit::testing::{TestDatabase, TestServer, bus_args, service_args};

#[tokio::test]
async fn every_route_lets_in_whom_it_declares() {
    let (database, auth) = (TestDatabase::create().await, TestAuth::start().await);
    let mut config = Config::parse_from([
        "inventory",
        "--database-url",
        &database.url(),
        "--redis-url",
        "redis://unused",
    ]);
    config.service = service_args("inventory");
    config.bus = bus_args();
    auth.close(&mut config.service);
    let server = TestServer::start(build(config).await.unwrap()).await;
    let routes = every_route(&server, "inventory", |user, roles| auth.bearer(user, roles)).await;
    let expected = [
        ("GET /api/admin/chaos", json!("admin")),
        ("GET /api/inventory", json!("public")),
        ("GET /api/inventory/{item_id}", json!("public")),
        ("POST /api/admin/chaos", json!("admin")),
        ("POST /api/admin/dead-letters/replay", json!("admin")),
        ("POST /api/inventory/deduct", json!({"services": ["order"]})),
        ("POST /api/inventory/recount", json!("admin")),
        ("POST /api/inventory/restock", json!("admin")),
        ("POST /api/inventory/restock/bulk", json!("admin")),
    ];
    assert_eq!(routes, expected.map(|(route, access)| (route.to_owned(), access)));
}
