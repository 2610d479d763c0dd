//! The gateway: configuration, build, run.

use clap::Parser;
use valerix_gateway::config::Config;
use valerix_gateway::startup::build;

/// A request passes through many small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    Ok(valerix_kit::service::launch(&config.service.clone(), || build(config))?)
}
