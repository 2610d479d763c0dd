//! Reads into the consumer's channel, and says that the consumer lives.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_resilience::Backoff;

use super::{Consumer, MAX_WAITING};
use crate::events::{BusError, Delivery, EventSource, LastFailure};

impl Consumer {
    /// Says again and again that this consumer lives, for as long as it handles events.
    pub(super) async fn hold(self: Arc<Self>) {
        loop {
            self.hold_once().await;
            tokio::time::sleep(self.options.lease_interval).await;
        }
    }

    /// A Redis that is full takes no lease and is read from all the same: a peer that handles an event, too, finds it in the
    /// inbox.
    async fn hold_once(&self) {
        if let Err(error) = self.bus.hold(&self.subscription).await {
            tracing::debug!(%error, "the consumer's lease was not renewed");
        }
    }

    /// Reads into the channel. A task of its own, because a read that is dropped would leave its events unseen.
    pub(super) async fn read(self: Arc<Self>, sender: mpsc::Sender<Vec<Delivery>>, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut last = LastFailure::default();
        while !stop.is_cancelled() && !sender.is_closed() {
            if let Err(error) = self.read_connection(&sender, &stop, &mut backoff, &mut last).await {
                let delay = backoff.next_delay();
                if last.is_new(&error) {
                    tracing::warn!(%error, "the event bus was lost, connecting again until it answers");
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
    }

    async fn read_connection(
        &self,
        sender: &mpsc::Sender<Vec<Delivery>>,
        stop: &CancellationToken,
        backoff: &mut Backoff,
        last: &mut LastFailure,
    ) -> Result<(), BusError> {
        let mut source: Box<dyn EventSource> = self.bus.subscribe(&self.subscription).await?;
        // Before anything is read that would be taken from a consumer without a lease.
        self.hold_once().await;
        // What this consumer got and did not finish comes before anything new.
        let pending = source.pending().await?;
        backoff.reset();
        if !pending.is_empty() && sender.send(pending).await.is_err() {
            return Ok(());
        }
        let (mut claimed, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        while !stop.is_cancelled() {
            if looked.is_none_or(|last| last.elapsed() >= self.options.lease_interval) {
                looked = Some(Instant::now());
                let left = source.claim_gone(self.options.remembered, MAX_WAITING).await?;
                if !left.is_empty() && sender.send(left).await.is_err() {
                    return Ok(());
                }
            }
            if claimed.is_none_or(|last| last.elapsed() >= self.options.claim_interval) {
                claimed = Some(Instant::now());
                let stale = source.claim_stale(self.options.claim_idle, MAX_WAITING).await?;
                if !stale.is_empty() && sender.send(stale).await.is_err() {
                    return Ok(());
                }
            }
            // Room first: what is read belongs to this consumer, and nobody else takes it for a while.
            let Ok(permit) = sender.reserve().await else {
                return Ok(());
            };
            if stop.is_cancelled() {
                break;
            }
            let wait = self.options.read_wait.min(self.options.lease_interval);
            let deliveries = source.next(self.options.concurrency * 4, wait).await?;
            last.clear();
            if !deliveries.is_empty() {
                permit.send(deliveries);
            }
        }
        Ok(())
    }
}
