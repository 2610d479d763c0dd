//! The analytics service: configuration, build, run.

use clap::Parser;
use valerix_analytics::config::Config;
use valerix_analytics::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(valerix_kit::service::launch(&config.service.clone(), || build(config))?)
}
