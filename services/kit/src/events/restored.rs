//! Notices that a group's database has gone back, by an archive or by a Postgres that has lost its last transactions: what the
//! group has handled since is undone with it, and no stream holds it any more, as the bus knows it handled.
//!
//! The database keeps a random value, a mark, and the bus is told of it once it is committed. A database that does not know
//! the mark of the bus is older than the look that wrote it: everything that outboxes keep is asked for, and the inbox passes
//! over what it still knows. The bus then has a mark that was made after the archive, so that going back once more shows again.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{BusError, EventBus, LastFailure, Subscription, marks};

/// How often the bus and the database are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches over the database of one group.
#[derive(Clone)]
pub struct Watch {
    pool: PgPool,
    bus: Arc<dyn EventBus>,
    subscription: Subscription,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Postgres did not do it.
    #[error("failed to read or keep a mark: {0}")]
    Database(#[source] sqlx::Error),
    /// The bus did not do it.
    #[error("failed to compare the mark of the bus: {0}")]
    Bus(#[source] BusError),
}

impl Watch {
    /// Watches over the database in `pool` of who reads `subscription` from `bus`.
    pub const fn new(pool: PgPool, bus: Arc<dyn EventBus>, subscription: Subscription) -> Self {
        Self {
            pool,
            bus,
            subscription,
        }
    }

    /// Looks every second, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut last = LastFailure::default();
        while !stop.is_cancelled() {
            match self.look().await {
                Ok(false) => last.clear(),
                Ok(true) => {
                    last.clear();
                    tracing::warn!(
                        group = self.subscription.group,
                        "the database was restored from an archive or has lost its last transactions, what was handled since is asked for again"
                    );
                }
                Err(error) if last.is_new(&error) => {
                    tracing::warn!(%error, "it is not known whether the database was restored");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Finds out whether the database has forgotten what it knew, and asks for it; of several replicas one does.
    ///
    /// # Errors
    /// When Postgres or the bus did not answer.
    pub async fn look(&self) -> Result<bool, WatchError> {
        let group = self.subscription.group.as_str();
        // Asked first: what the bus has from a replica was committed before.
        let seen = self.bus.mark(group).await.map_err(WatchError::Bus)?;
        let kept = marks::keep(&self.pool, group, seen).await;
        let marks::Kept { known, mark } = kept.map_err(WatchError::Database)?;
        let Some(mark) = mark else { return Ok(false) };
        if let Some(seen) = seen.filter(|_| !known) {
            let asked = self.bus.forgotten(&self.subscription, seen, mark).await;
            return asked.map_err(WatchError::Bus);
        }
        if seen != Some(mark) {
            // Of another replica there is a newer one, if not of this.
            let told = self.bus.set_mark(group, seen, mark).await;
            told.map_err(WatchError::Bus)?;
        }
        Ok(false)
    }
}
