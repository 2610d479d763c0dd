//! The gateway: configuration, build, run.

use clap::Parser;
use valerix_gateway::config::Config;
use valerix_gateway::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(valerix_kit::service::launch(&config.service.clone(), || build(config))?)
}
