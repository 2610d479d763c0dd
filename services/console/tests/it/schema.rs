//! The types of the page are made from the document in `web/openapi.json`, which is compared here with what is served.

use super::cluster::Cluster;
use super::support::Console;

#[tokio::test]
async fn the_document_that_the_page_is_made_from_is_the_one_that_is_served() {
    let console = Console::start(Cluster::new()).await;
    let served = console.server.get("/openapi.json").await.body();
    let served = format!("{}\n", serde_json::to_string_pretty(&served).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/web/openapi.json");
    if std::env::var_os("VALERIX_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == served,
        "web/openapi.json is not current: VALERIX_WRITE_SCHEMA=1 cargo test -p valerix-console schema, then npm run types"
    );
}
