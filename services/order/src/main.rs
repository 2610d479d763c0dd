//! The order service's process: configuration, build, run.

use clap::Parser;
use valerix_kit::service::launch;
use valerix_order::config::Config;
use valerix_order::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(launch(&config.service.clone(), || build(config))?)
}
