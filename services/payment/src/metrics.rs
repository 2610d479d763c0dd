//! What payment counts, beside what every service counts; and what is open, which it asks the store now and then.

use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGaugeVec, Opts};
use tokio_util::sync::CancellationToken;

use crate::books::{Difference, Kind};
use crate::payment::Applied;
use crate::saga::state::State;
use crate::store::{Open, Store};

/// Pause between two looks at what is open.
const LOOK: Duration = Duration::from_secs(10);
/// The states of payments whose processor has to be asked.
const OPEN_STATES: [&str; 2] = ["PROCESSING", "REFUNDING"];

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    payments: IntCounterVec,
    settled: IntCounterVec,
    passed_over: IntCounter,
    differences: IntGaugeVec,
    comparisons: IntCounterVec,
    compared_seconds: Gauge,
    open: IntGaugeVec,
    oldest_seconds: Gauge,
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
            comparisons: IntCounterVec::new(
                Opts::new(
                    "payment_reconciliations_total",
                    "Comparisons with the processor's ledger: compared, or why they came to no end",
                ),
                &["outcome"],
            )?,
            compared_seconds: Gauge::new(
                "payment_reconciliation_age_seconds",
                "Time since the last comparison that came to an end",
            )?,
            open: IntGaugeVec::new(
                Opts::new("payments_open", "Payments whose processor has to be asked, by state"),
                &["state"],
            )?,
            oldest_seconds: Gauge::new(
                "payments_open_oldest_seconds",
                "How long the payment that has been open longest has waited for the processor's word, else 0",
            )?,
        };
        registry.register(metrics.payments.clone())?;
        registry.register(metrics.settled.clone())?;
        registry.register(metrics.passed_over.clone())?;
        registry.register(metrics.differences.clone())?;
        registry.register(metrics.comparisons.clone())?;
        registry.register(metrics.compared_seconds.clone())?;
        registry.register(metrics.open.clone())?;
        registry.register(metrics.oldest_seconds.clone())?;
        Ok(metrics)
    }

    /// Counts what is open every ten seconds, until `stop`.
    pub async fn follow(self, store: Store, stop: CancellationToken) {
        loop {
            match store.open().await {
                Ok(open) => self.show(&open),
                Err(error) => tracing::debug!(category = error.category(), "what is open was not counted"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn show(&self, open: &Open) {
        for state in OPEN_STATES {
            let found = open.payments.iter().find(|(found, _)| found == state);
            let number = found.map_or(0, |(_, number)| *number);
            self.open.with_label_values(&[state]).set(number);
        }
        self.oldest_seconds.set(open.oldest_seconds);
        self.compared_seconds.set(open.compared_seconds);
    }

    /// A comparison has ended: `compared`, or the category of the error.
    pub fn ended(&self, outcome: &str) {
        self.comparisons.with_label_values(&[outcome]).inc();
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
