//! The auth service's process: configuration, build, run.

use clap::Parser;
use valerix_auth::config::Config;
use valerix_auth::startup::build;
use valerix_kit::service::launch;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(launch(&config.service.clone(), || build(config))?)
}
