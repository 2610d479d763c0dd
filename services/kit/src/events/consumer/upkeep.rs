//! Cuts and measures the streams that a consumer reads.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Consumer;
use crate::events::Subscription;

impl Consumer {
    /// Cuts the streams to what some group has still to handle, and measures them.
    pub(super) async fn keep_up(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.measure().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.options.claim_interval) => {}
            }
        }
    }

    async fn measure(&self) {
        let Subscription { topics, group, .. } = &self.subscription;
        let lags = self.bus.lag(&self.subscription).await;
        self.metrics.event_bus_up.set(lags.is_ok().into());
        match lags {
            Ok(lags) => {
                for (topic, lag) in lags {
                    self.metrics.consumer_lag.with_label_values(&[&topic, group]).set(lag);
                }
            }
            // An old number would look best exactly when it is worst.
            Err(_) => {
                for topic in topics {
                    let _ = self.metrics.consumer_lag.remove_label_values(&[topic, group]);
                }
            }
        }
        match self.bus.tidy(topics).await {
            Ok(held) => {
                for held in held {
                    let number = |entries| i64::try_from(entries).unwrap_or(i64::MAX);
                    let topic = [held.topic.as_str()];
                    self.metrics
                        .stream_entries
                        .with_label_values(&topic)
                        .set(number(held.events));
                    self.metrics
                        .dead_letters
                        .with_label_values(&topic)
                        .set(number(held.dead_letters));
                }
            }
            Err(error) => tracing::debug!(%error, "the streams were not trimmed"),
        }
    }
}
