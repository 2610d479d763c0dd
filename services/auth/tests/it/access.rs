//! Who may do what.

use serde_json::json;
use valerix_kit::testing::access::every_route;

use crate::app::{ADMIN, App, bearer};

#[tokio::test]
async fn every_route_lets_in_whom_it_declares() {
    let app = App::spawn().await;
    app.register("ada@example.com").await;
    let (user, admin) = (
        bearer(&app.login("ada@example.com").await),
        bearer(&app.login(ADMIN).await),
    );
    let sign_in = |_, roles: &[&str]| {
        if roles.contains(&"admin") {
            admin.clone()
        } else {
            user.clone()
        }
    };
    let routes = every_route(&app.server, "auth", sign_in).await;
    let expected = [
        ("DELETE /auth/me", json!("user")),
        ("GET /.well-known/jwks.json", json!("open")),
        ("GET /auth/me", json!("user")),
        ("GET /auth/users/{id}/contact", json!({"services": ["notification"]})),
        ("PATCH /auth/me", json!("user")),
        ("POST /auth/keys/rotate", json!("admin")),
        ("POST /auth/login", json!("open")),
        ("POST /auth/logout", json!("open")),
        ("POST /auth/refresh", json!("open")),
        ("POST /auth/register", json!("open")),
    ];
    assert_eq!(routes, expected.map(|(route, access)| (route.to_owned(), access)));
}
