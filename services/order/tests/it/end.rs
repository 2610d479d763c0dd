//! The end of the service, alone.

use std::time::Duration;

use clap::Parser;
use tokio_util::sync::CancellationToken;
use valerix_kit::testing::service_args;
use valerix_order::config::Config;
use valerix_order::startup::build;

#[tokio::test]
async fn a_service_whose_database_never_came_up_ends_when_it_is_told_to() {
    let nowhere = [
        "--database-url",
        "postgres://nobody@127.0.0.1:1/none",
        "--redis-url",
        "redis://127.0.0.1:1/",
    ];
    let mut config = Config::parse_from(["order"].into_iter().chain(nowhere));
    config.service = service_args("order");
    let server = build(config).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    stop.cancel();
    // Tasks that do not listen are given up after 15 s.
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
    ended.expect("it ends soon").unwrap();
}
