//! The processor: configuration, build, run.

use clap::Parser;
use valerix_processor::config::Config;
use valerix_processor::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(valerix_kit::service::launch(&config.service.clone(), || build(config))?)
}
