//! Keeps ResilientServices true. Reads stores only; writes children in `apply`, status in `publish`, nothing else.

mod reports;
mod stores;

pub use reports::{PodReport, ReportStore};
pub use stores::Stores;

use crate::Context;
use std::sync::Arc;

/// Reconciles every ResilientService until the process ends.
pub async fn run(ctx: Arc<Context>) {
    ctx.runtime.shutdown.cancelled().await;
}
