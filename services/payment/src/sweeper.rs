//! Asks the processor about every payment that is due: charges commanded by event, charges whose first caller was not
//! heard of again, refunds. Several replicas may sweep at once; each takes other payments.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::saga::settle::Settlement;
use crate::store::StoreError;

/// Payments taken up at once, and requests to the processor under way at once.
const BATCH: usize = 16;

/// The sweeper of one replica.
#[derive(Clone)]
pub struct Sweeper {
    /// Asks the processor and writes down what it said.
    pub settlement: Settlement,
    /// Rung when there is something to ask at once.
    pub wake: Arc<Notify>,
    /// Pause between two looks when nobody rings.
    pub pause: Duration,
}

impl Sweeper {
    /// Sweeps until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(BATCH) => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        category = error.category(),
                        error = &error as &dyn std::error::Error,
                        "a sweep failed"
                    );
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    /// One look: takes what is due up, asks the processor about each, and says how many there were.
    ///
    /// # Errors
    /// When the database did not answer; the next round tries again.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let due = self
            .settlement
            .store
            .take_due(i64::try_from(BATCH).unwrap_or(1))
            .await?;
        let taken = due.len();
        let outcomes = futures::stream::iter(due.into_iter().map(|payment| async move {
            let id = payment.id;
            (id, self.settlement.settle(payment).await)
        }))
        .buffer_unordered(BATCH)
        .collect::<Vec<_>>()
        .await;
        for (payment, outcome) in outcomes {
            if let Err(error) = outcome {
                tracing::warn!(%payment, category = error.category(), error = &error as &dyn std::error::Error, "a payment was not settled");
            }
        }
        Ok(taken)
    }
}
