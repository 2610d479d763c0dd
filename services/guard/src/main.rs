//! The guard: configuration, build, run.

use clap::Parser;
use valerix_guard::config::Config;
use valerix_guard::startup::launch;

/// A request passes through many small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    launch(Config::parse())
}
