//! The inventory service: configuration, build, run.

use clap::Parser;
use valerix_inventory::config::Config;
use valerix_inventory::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(valerix_kit::service::launch(&config.service.clone(), || build(config))?)
}
