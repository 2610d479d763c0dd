//! What payment counts, beside what every service counts.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts};

use crate::payment::Applied;
use crate::reconciliation::books::{Difference, Kind};
use crate::saga::state::State;

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    payments: IntCounterVec,
    settled: IntCounterVec,
    passed_over: IntCounter,
    differences: IntGaugeVec,
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
            differences: IntGaugeVec::new(
                Opts::new(
                    "payment_reconciliation_differences",
                    "Charges on which the last comparison found payment and the processor to differ, by how",
                ),
                &["kind"],
            )?,
        };
        registry.register(metrics.payments.clone())?;
        registry.register(metrics.settled.clone())?;
        registry.register(metrics.passed_over.clone())?;
        registry.register(metrics.differences.clone())?;
        Ok(metrics)
    }

    /// The last comparison found `total` differences, of which these are named; the others count as `unnamed`.
    pub fn reconciled(&self, named: &[Difference], total: i64) {
        let mut unnamed = total;
        for kind in Kind::ALL {
            let count = named.iter().filter(|difference| difference.kind == kind).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.differences.with_label_values(&[kind.name()]).set(count);
            unnamed -= count;
        }
        self.differences.with_label_values(&["unnamed"]).set(unnamed);
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
