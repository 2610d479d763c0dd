//! Keeps orders moving whatever was lost: sends due commands as events, cancels orders that have expired, refunds those
//! that a probe has placed, and undoes those that its database has forgotten. Reads the clock of Postgres alone; writes
//! through `store`. Several replicas may sweep at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::moves::Moves;
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

    /// One look, by Postgres' clock, which may have been set: cancels everything that has expired, refunds what probes have
    /// bought, sends everything that is due. A row that cannot be dealt with is counted and passed over, so that it holds
    /// nobody else up.
    ///
    /// # Errors
    /// When Postgres is away; the next round tries again.
    pub async fn round(&self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let expired = self.store.expired(last, BATCH).await?;
            for (_, order) in &expired {
                self.take_in(*order, Input::Expired, "expire").await?;
            }
            last = expired.last().copied();
            if expired.len() < FULL {
                break;
            }
        }
        let mut last = None;
        loop {
            let probes = self.store.confirmed_probes(last, BATCH).await?;
            for order in &probes {
                self.take_in(*order, Input::RefundAsked, "refund").await?;
            }
            last = probes.last().copied();
            if probes.len() < FULL {
                break;
            }
        }
        self.store.recall_postponed().await?;
        loop {
            let sent = self.store.send_due(BATCH).await?;
            for error in &sent.failed {
                self.pass_over("send", error);
            }
            if sent.due > 0 {
                self.moves.relay.wake();
            }
            if sent.due < FULL {
                break;
            }
        }
        // Last: what cannot be taken in, as with an archive of an earlier schema, holds up no order that is known.
        loop {
            let strangers = self.store.take_in_strangers(BATCH).await?;
            for order in &strangers {
                tracing::warn!(order = %order.id, "an order that this database has forgotten is taken in to be undone");
            }
            if strangers.len() < FULL {
                return Ok(());
            }
        }
    }

    async fn take_in(&self, order: Uuid, input: Input, step: &'static str) -> Result<(), StoreError> {
        match self.store.apply(order, input, None).await {
            Ok(applied) => self.moves.committed(&applied),
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) => self.pass_over(step, &error),
        }
        Ok(())
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
