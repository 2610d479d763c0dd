//! Compares when it is asked for, and when it was not done for a while. One replica does it at a time; one that dies over
//! it is followed by another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::walk::{WalkError, walk};
use crate::books::Found;
use crate::metrics::Metrics;
use crate::processor::Processor;
use crate::store::{Store, StoreError};

/// Pause between two looks at whether a comparison was asked for at another replica.
const LOOK: Duration = Duration::from_secs(1);

/// The worker of one replica.
#[derive(Clone)]
pub struct Worker {
    /// Where payments and comparisons are.
    pub store: Store,
    /// Whose ledger is compared.
    pub processor: Arc<dyn Processor>,
    /// Shows what the last comparison has found.
    pub metrics: Metrics,
    /// Time after which a comparison is due.
    pub interval: Duration,
    /// Rung when one is asked for.
    pub wake: Arc<Notify>,
}

impl Worker {
    /// Works until `stop`; a comparison under way is left to others.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.round() => if let Err(error) = done {
                    tracing::warn!(category = error.category(), error = &error as &dyn std::error::Error, "no reconciliation");
                },
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// One look: compares if that is asked for or due, and shows what is known.
    async fn round(&self) -> Result<(), StoreError> {
        self.store.schedule_reconciliation(self.interval).await?;
        if let Some(id) = self.store.begin_reconciliation().await? {
            let compared = walk(&self.store, self.processor.as_ref(), id).await;
            tell(&compared);
            let outcome = compared.as_ref().map_or_else(WalkError::category, |_| "compared");
            self.metrics.ended(outcome);
            let ended = compared.as_ref().map_err(ToString::to_string);
            self.store.finish_reconciliation(id, ended).await?;
        }
        if let Some(last) = self.store.last_reconciliation().await? {
            self.metrics.reconciled(&last.differences, last.total);
        }
        Ok(())
    }
}

fn tell(compared: &Result<Found, WalkError>) {
    match compared {
        Ok(Found { charges, total: 0, .. }) => tracing::info!(charges, "the books agree with the processor's ledger"),
        Ok(Found { charges, total, .. }) => {
            tracing::error!(
                charges,
                differences = total,
                "the books differ from the processor's ledger"
            );
        }
        Err(error) => tracing::warn!(
            category = error.category(),
            error = error as &dyn std::error::Error,
            "the books could not be compared"
        ),
    }
}
