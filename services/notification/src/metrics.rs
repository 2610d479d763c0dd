//! What notification counts, beside what every service counts.

use prometheus::{IntCounterVec, Opts};

use crate::message::Channel;

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    notifications: IntCounterVec,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &valerix_kit::metrics::Metrics) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            notifications: IntCounterVec::new(
                Opts::new(
                    "notifications_total",
                    "Attempts to deliver a message by outcome: sent, recorded, skipped, failed, postponed",
                ),
                &["channel", "outcome"],
            )?,
        };
        registry.register(metrics.notifications.clone())?;
        Ok(metrics)
    }

    /// An attempt ended.
    pub fn ended(&self, channel: Channel, outcome: &str) {
        self.notifications.with_label_values(&[channel.name(), outcome]).inc();
    }
}
