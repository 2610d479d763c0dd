//! Notices that a group's database has come back from an archive: what the group has handled since is undone with it, and no
//! stream holds it any more, as the bus knows it handled. The bus keeps one event that the inbox knew; where the inbox knows
//! it no more, everything that outboxes keep is asked for, and the inbox passes over what it still knows.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{BusError, EventBus, LastFailure, Subscription, inbox};

/// How often the bus and the inbox are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches over the inbox of one group.
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
    #[error("failed to read the inbox: {0}")]
    Database(#[source] sqlx::Error),
    /// The bus did not do it.
    #[error("failed to remember what was handled: {0}")]
    Bus(#[source] BusError),
}

impl Watch {
    /// Watches over the inbox in `pool` of who reads `subscription` from `bus`.
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
                        "the database was restored from an archive, what was handled since is asked for again"
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

    /// Finds out whether the inbox has forgotten what it knew, and asks for it; of several replicas one does.
    ///
    /// # Errors
    /// When Postgres or the bus did not answer.
    pub async fn look(&self) -> Result<bool, WatchError> {
        let group = self.subscription.group.as_str();
        // Asked first: what the bus has from a replica was committed before.
        let seen = self.bus.handled(group).await.map_err(WatchError::Bus)?;
        if let Some(seen) = seen {
            let known = inbox::knows(&self.pool, group, seen).await;
            if !known.map_err(WatchError::Database)? {
                let asked = self.bus.forgotten(&self.subscription, seen).await;
                return asked.map_err(WatchError::Bus);
            }
        }
        let newest = inbox::newest(&self.pool, group).await.map_err(WatchError::Database)?;
        if let Some(newest) = newest.filter(|newest| seen != Some(*newest)) {
            let noted = self.bus.note_handled(group, newest).await;
            noted.map_err(WatchError::Bus)?;
        }
        Ok(false)
    }
}
