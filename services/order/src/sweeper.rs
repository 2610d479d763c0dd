//! Keeps orders moving whatever was lost: sends due commands as events and cancels orders that have expired. Reads the
//! clock of Postgres alone; writes through `store`. Several replicas may sweep at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use valerix_kit::events::relay::Relay;

use crate::metrics::Metrics;
use crate::saga::state::Input;
use crate::store::{Store, StoreError};

const BATCH: i64 = 100;

/// The sweeper of one replica.
#[derive(Clone)]
pub struct Sweeper {
    /// Where orders and their commands are.
    pub store: Store,
    /// Publishes what a round wrote.
    pub relay: Relay,
    /// Counts orders that became terminal.
    pub metrics: Metrics,
    /// Pause between two looks. A command that falls due waits at most this long.
    pub pause: Duration,
}

impl Sweeper {
    /// Sweeps until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(
                    category = error.category(),
                    error = &error as &dyn std::error::Error,
                    "a sweep failed"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    /// One look: sends everything that is due, cancels everything that has expired.
    ///
    /// # Errors
    /// When the database did not do it; the next round tries again.
    pub async fn round(&self) -> Result<(), StoreError> {
        for order in self.store.expired(BATCH).await? {
            match self.store.apply(order, Input::Expired, None).await {
                Ok(applied) => self.metrics.moved(&applied),
                Err(error @ StoreError::Row { .. }) => tracing::error!(%error, "an order was not expired"),
                Err(error) => return Err(error),
            }
            self.relay.wake();
        }
        loop {
            let sent = self.store.send_due(BATCH).await?;
            if sent > 0 {
                self.relay.wake();
            }
            if sent < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }
}
