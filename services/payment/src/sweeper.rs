//! Asks the processor about every payment that is due: charges commanded by event, charges whose first caller was not
//! heard of again, cancellations, refunds. Several replicas may sweep at once; each takes other payments.
//!
//! Payments are settled side by side and a place that becomes free is filled at once: a slow one holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::telemetry::traced;
use valerix_resilience::{Deadline, Resilience};

use crate::processor::Repetition;
use crate::settle::Settlement;
use crate::store::{Due, Store, StoreError};

/// How long settlements under way may go on when the service ends. Another replica goes on with those that are dropped.
const STOPPING: Duration = Duration::from_secs(5);
/// Pause between two tries to give a payment back.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// The sweeper of one replica.
#[derive(Clone)]
pub struct Sweeper {
    /// Asks the processor and writes down what it said.
    pub settlement: Settlement,
    /// Rung when there is something to ask at once.
    pub wake: Arc<Notify>,
    /// Pause between two looks when nobody rings.
    pub pause: Duration,
    /// The policy in force.
    pub resilience: Resilience,
}

impl Sweeper {
    /// Sweeps until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            while let Some(ended) = running.try_join_next() {
                report(ended);
            }
            let free = self.places().saturating_sub(running.len());
            let full = self.take_up(&mut running, free).await.unwrap_or_else(|error| {
                tracing::warn!(
                    category = error.category(),
                    error = &error as &dyn std::error::Error,
                    "a sweep failed"
                );
                false
            });
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = running.join_next(), if full => report(ended),
                () = self.wake.notified(), if !full => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
        let rest = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOPPING, rest).await.is_err() {
            tracing::info!(payments = running.len(), "settlements are left to others");
        }
    }

    /// Payments that are settled side by side: as many as the policy lets call the processor, but for a part that is left
    /// to callers who wait for their answer.
    fn places(&self) -> usize {
        let policy = self.resilience.policy();
        let bulkhead = policy
            .target("processor")
            .map(|target| target.bulkhead)
            .unwrap_or_default();
        let most = usize::try_from(bulkhead.max_concurrent).unwrap_or(usize::MAX);
        (most - most / 4).max(1)
    }

    /// Takes up to `free` due payments up. Says whether all places are taken and more may be due.
    async fn take_up(&self, running: &mut JoinSet<()>, free: usize) -> Result<bool, StoreError> {
        if free == 0 {
            return Ok(true);
        }
        let store = &self.settlement.store;
        store.recall_postponed().await?;
        let taken = store.take_due(i64::try_from(free).unwrap_or(i64::MAX)).await?;
        let full = taken.len() == free;
        for due in taken {
            match due {
                Ok(due) => drop(running.spawn(settle(self.settlement.clone(), due))),
                Err(error) => {
                    self.settlement.metrics.passed_over();
                    tracing::error!(%error, category = error.category(), "a payment was passed over");
                }
            }
        }
        Ok(full)
    }
}

async fn settle(settlement: Settlement, due: Due) {
    let (payment, asked) = (due.payment.id, due.payment.state.open_request());
    let deadline = Deadline::after(due.patience);
    let span = tracing::info_span!(parent: None, "settle payment", trace_id = tracing::field::Empty, %payment);
    let traceparent = due.payment.traceparent.clone();
    let settling = traced(
        span,
        &traceparent,
        settlement.settle(due.payment, Repetition::Again, deadline),
    );
    match settling.await {
        Ok(settled) if settled.state.open_request() == asked => {}
        Ok(_) => return,
        Err(error) => warn(payment, &error, "a payment was not settled"),
    }
    give_back(&settlement.store, payment, due.attempt, deadline).await;
}

/// Gives a payment back, again and again while the database does not answer: nobody would take it up for the rest of its
/// lease, long after database and processor are back.
async fn give_back(store: &Store, payment: Uuid, attempt: i32, lease: Deadline) {
    while let Err(error) = store.pause(payment, attempt).await {
        warn(payment, &error, "a payment was not given back");
        if lease.is_past() {
            return;
        }
        tokio::time::sleep(GIVING_BACK.min(lease.remaining())).await;
    }
}

fn warn(payment: Uuid, error: &StoreError, message: &'static str) {
    tracing::warn!(%payment, category = error.category(), error = error as &dyn std::error::Error, "{message}");
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a settlement panicked, its payment falls due again");
    }
}
