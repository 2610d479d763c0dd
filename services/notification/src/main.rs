//! The notification service: configuration, build, run.

use clap::Parser;
use valerix_notification::config::Config;
use valerix_notification::startup::build;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(valerix_kit::service::launch(&config.service.clone(), || build(config))?)
}
