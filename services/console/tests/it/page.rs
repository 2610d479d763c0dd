//! The page and what every answer tells the browser.

use super::cluster::Cluster;
use super::support::Console;

#[tokio::test]
async fn every_answer_forbids_foreign_code_and_frames() {
    let console = Console::start(Cluster::new()).await;
    for path in [
        "/",
        "/services/shop/order",
        "/api/session",
        "/api/happened",
        "/api/none",
        "/assets/none.js",
    ] {
        let answer = console.server.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
    }
}

#[tokio::test]
async fn links_into_the_page_survive_a_reload_and_the_api_has_none() {
    let console = Console::start(Cluster::new()).await;
    let page = console.server.get("/").await;
    assert!(
        page.status == 200 || (page.status == 501 && page.text.contains("npm ci && npm run build")),
        "{page:?}"
    );
    for path in ["/services/shop/order", "/chaos", "/a/b/c"] {
        let deep = console.server.get(path).await;
        assert_eq!((deep.status, &deep.text), (page.status, &page.text), "{path}");
    }
    assert_eq!(console.server.get("/api/none").await.problem(), "not-found");
    assert_eq!(console.server.get("/assets/none.js").await.status, 404);
    for path in [
        "/..%2f..%2fCargo.toml",
        "/assets/..%2f..%2f..%2fCargo.toml",
        "//etc/passwd",
    ] {
        assert!(!console.server.get(path).await.text.contains("[package]"), "{path}");
    }
}
