//! The guard: configuration, build, run.

use clap::Parser;
use valerix_guard::config::Config;
use valerix_guard::startup::launch;

fn main() -> anyhow::Result<()> {
    launch(Config::parse())
}
