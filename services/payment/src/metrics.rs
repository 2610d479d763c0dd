//! What payment counts, beside what every service counts.

use prometheus::{IntCounter, IntCounterVec, Opts};

use crate::payment::Applied;
use crate::saga::state::State;

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    payments: IntCounterVec,
    settled: IntCounterVec,
    passed_over: IntCounter,
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
            passed_over: IntCounter::new(
                "payments_passed_over_total",
                "Due payments that this version could not read",
            )?,
        };
        registry.register(metrics.payments.clone())?;
        registry.register(metrics.settled.clone())?;
        registry.register(metrics.passed_over.clone())?;
        Ok(metrics)
    }

    /// A due payment could not be read.
    pub fn passed_over(&self) {
        self.passed_over.inc();
    }

    /// An input was taken in; counts if the payment reached another state by it.
    pub fn moved(&self, applied: &Applied) {
        let (payment, before) = (&applied.payment, applied.before);
        if before.map(State::name) == Some(payment.state.name()) {
            return;
        }
        self.payments.with_label_values(&[payment.state.name()]).inc();
        if let (State::Charged, Some(money)) = (payment.state, &payment.amount) {
            let amount = u64::try_from(money.amount_minor()).unwrap_or_default();
            self.settled.with_label_values(&[money.currency()]).inc_by(amount);
        }
    }
}
