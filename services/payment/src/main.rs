//! The payment service's process: configuration, build, run.

use clap::Parser;
use valerix_kit::service::launch;
use valerix_payment::config::Config;
use valerix_payment::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(launch(&config.service.clone(), || build(config))?)
}
