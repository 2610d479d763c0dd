//! What payment counts, beside what every service counts.

use prometheus::{IntCounterVec, Opts};

use crate::saga::state::State;
use crate::store::Applied;

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    payments: IntCounterVec,
    settled: IntCounterVec,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &valerix_kit::metrics::Metrics) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            payments: IntCounterVec::new(
                Opts::new("payments_total", "Payments by the state they reached"),
                &["state"],
            )?,
            settled: IntCounterVec::new(
                Opts::new(
                    "payments_charged_minor_total",
                    "Amounts charged in minor units, by currency",
                ),
                &["currency"],
            )?,
        };
        registry.register(metrics.payments.clone())?;
        registry.register(metrics.settled.clone())?;
        Ok(metrics)
    }

    /// An input was taken in; counts if the payment reached another state by it.
    pub fn moved(&self, applied: &Applied) {
        let (payment, before) = (&applied.payment, applied.before);
        if before.map(State::name) == Some(payment.state.name()) {
            return;
        }
        self.payments.with_label_values(&[payment.state.name()]).inc();
        if let (State::Charged, Some(money)) = (payment.state, &payment.amount) {
            let amount = u64::try_from(money.amount_minor).unwrap_or_default();
            self.settled
                .with_label_values(&[money.currency.as_str()])
                .inc_by(amount);
        }
    }
}
