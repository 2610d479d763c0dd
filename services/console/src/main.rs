//! The console: configuration, build, run.

use anyhow::Context;
use clap::Parser;
use valerix_console::config::Config;
use valerix_console::startup::{build, clients};

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    valerix_kit::service::launch(&config.service.clone(), || async {
        let clients = clients().await?;
        build(config, clients).await
    })
    .context("failed to run the console")
}
