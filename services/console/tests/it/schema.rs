//! What the page is made from and tested with is what is served: the document, and the schema that its form follows.

use super::cluster::Cluster;
use super::support::Console;

/// Compares a file below `web/` with what is served at `path`, or writes it where that is asked for.
async fn is_current(file: &str, path: &str) {
    let console = Console::with(Cluster::new(), |config| config.anonymous_read = true).await;
    let served = console.server.get(path).await.body();
    let served = format!("{}\n", serde_json::to_string_pretty(&served).unwrap());
    let kept_at = format!("{}/web/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("VALERIX_WRITE_SCHEMA").is_some() {
        std::fs::write(&kept_at, &served).unwrap();
    }
    let kept = std::fs::read_to_string(kept_at).unwrap_or_default();
    assert!(
        kept == served,
        "web/{file} is not current: VALERIX_WRITE_SCHEMA=1 cargo test -p valerix-console schema, then npm run types"
    );
}

#[tokio::test]
async fn the_document_that_the_page_is_made_from_is_the_one_that_is_served() {
    is_current("openapi.json", "/openapi.json").await;
}

#[tokio::test]
async fn the_schema_that_the_page_is_tested_with_is_the_one_that_is_served() {
    is_current("scripts/chaos-schema.json", "/api/schemas/ChaosExperiment").await;
}
