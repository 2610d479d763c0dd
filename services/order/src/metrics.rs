//! What order counts, beside what every service counts. Pure but for the counters.

use chrono::Utc;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};

use crate::order::Applied;
use crate::saga::state::{Reason, State};

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    orders: IntCounterVec,
    revenue: IntCounterVec,
    processing: Histogram,
    passed_over: IntCounterVec,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &valerix_kit::metrics::Metrics) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            orders: IntCounterVec::new(
                Opts::new(
                    "orders_total",
                    "Orders by the status they reached and, where they were cancelled, why",
                ),
                &["status", "reason"],
            )?,
            revenue: IntCounterVec::new(
                Opts::new(
                    "revenue_minor_total",
                    "Amounts of confirmed orders in minor units, by currency",
                ),
                &["currency"],
            )?,
            processing: Histogram::with_opts(
                HistogramOpts::new(
                    "order_processing_duration_seconds",
                    "Time from taking an order in to its first final status",
                )
                .buckets(vec![
                    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
                ]),
            )?,
            passed_over: IntCounterVec::new(
                Opts::new(
                    "orders_passed_over_total",
                    "Rows that the sweeper could not deal with, by what it was about to do",
                ),
                &["step"],
            )?,
        };
        registry.register(metrics.orders.clone())?;
        registry.register(metrics.revenue.clone())?;
        registry.register(metrics.processing.clone())?;
        registry.register(metrics.passed_over.clone())?;
        Ok(metrics)
    }

    /// An order was taken in.
    pub fn created(&self) {
        self.orders.with_label_values(&["CREATED", ""]).inc();
    }

    /// The sweeper went on without doing `step` for a row.
    pub fn passed_over(&self, step: &str) {
        self.passed_over.with_label_values(&[step]).inc();
    }

    /// An input was taken in; counts if the order became terminal by it.
    pub fn moved(&self, applied: &Applied) {
        let order = &applied.order;
        if applied.before.is_terminal() || !order.state.is_terminal() {
            return;
        }
        let reason = order.state.reason().map_or("", Reason::name);
        self.orders.with_label_values(&[order.state.name(), reason]).inc();
        if applied.before != State::Refunding {
            let seconds = (Utc::now() - order.created_at).as_seconds_f64();
            self.processing.observe(seconds.max(0.0));
        }
        if let (State::Confirmed, Some(money)) = (order.state, &order.amount) {
            let amount = u64::try_from(money.amount_minor()).unwrap_or_default();
            self.revenue.with_label_values(&[money.currency()]).inc_by(amount);
        }
    }
}
