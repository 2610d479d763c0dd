//! Keeps orders moving whatever was lost: sends due commands as events and cancels orders that have expired. Reads the
//! clock of Postgres alone; writes through `store`. Several replicas may sweep at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::saga::moves::Moves;
use crate::saga::state::Input;
use crate::store::{Store, StoreError};

const FULL: usize = 100;
const BATCH: i64 = 100;

/// The sweeper of one replica.
#[derive(Clone)]
pub struct Sweeper {
    /// Where orders and their commands are.
    pub store: Store,
    /// Hears of every order that has expired.
    pub moves: Moves,
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

    /// One look: sends everything that is due, cancels everything that has expired. A row that cannot be dealt with is
    /// counted and passed over, so that it holds nobody else up.
    ///
    /// # Errors
    /// When Postgres is away; the next round tries again.
    pub async fn round(&self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let expired = self.store.expired(last, BATCH).await?;
            for (_, order) in &expired {
                match self.store.apply(*order, Input::Expired, None).await {
                    Ok(applied) => self.moves.committed(&applied),
                    Err(error) if error.is_unavailable() => return Err(error),
                    Err(error) => self.pass_over("expire", &error),
                }
            }
            last = expired.last().copied();
            if expired.len() < FULL {
                break;
            }
        }
        loop {
            let sent = self.store.send_due(BATCH).await?;
            for error in &sent.failed {
                self.pass_over("send", error);
            }
            if sent.due > 0 {
                self.moves.relay.wake();
            }
            if sent.due < FULL {
                return Ok(());
            }
        }
    }

    fn pass_over(&self, step: &'static str, error: &StoreError) {
        self.moves.metrics.passed_over(step);
        let category = error.category();
        tracing::error!(
            step,
            category,
            error = error as &dyn std::error::Error,
            "an order was passed over"
        );
    }
}
