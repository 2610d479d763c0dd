//! What order counts, beside what every service counts; and how many orders are open, which it asks the store now and then.

use std::time::Duration;

use chrono::Utc;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts};
use tokio_util::sync::CancellationToken;

use crate::order::Applied;
use crate::saga::commands::Action;
use crate::saga::state::State;
use crate::store::{Open, Store};

/// Pause between two looks at what is open.
const LOOK: Duration = Duration::from_secs(10);
/// The states of orders that have open commands.
const OPEN_STATES: [&str; 5] = ["PENDING", "RESERVED", "CONFIRMED", "CANCELLING", "REFUNDING"];

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    orders: IntCounterVec,
    revenue: IntCounterVec,
    processing: Histogram,
    passed_over: IntCounterVec,
    open_orders: IntGaugeVec,
    open_commands: IntGaugeVec,
    overdue_seconds: Gauge,
    oldest_seconds: Gauge,
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
                    "Orders by the status they reached and, where they were cancelled or of a probe, why",
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
            open_orders: IntGaugeVec::new(
                Opts::new(
                    "orders_open",
                    "Orders that inventory or payment still has to do with, by state",
                ),
                &["state"],
            )?,
            open_commands: IntGaugeVec::new(
                Opts::new(
                    "order_commands_open",
                    "Commands to inventory and payment that are not answered",
                ),
                &["action"],
            )?,
            overdue_seconds: Gauge::new(
                "order_commands_overdue_seconds",
                "How long the command that has waited longest has been due to be sent, else 0",
            )?,
            oldest_seconds: Gauge::new(
                "order_commands_oldest_seconds",
                "How long the oldest command has waited for its answer, however often it was sent, else 0",
            )?,
        };
        registry.register(metrics.orders.clone())?;
        registry.register(metrics.revenue.clone())?;
        registry.register(metrics.processing.clone())?;
        registry.register(metrics.passed_over.clone())?;
        registry.register(metrics.open_orders.clone())?;
        registry.register(metrics.open_commands.clone())?;
        registry.register(metrics.overdue_seconds.clone())?;
        registry.register(metrics.oldest_seconds.clone())?;
        Ok(metrics)
    }

    /// An order was taken in.
    pub fn created(&self) {
        self.orders.with_label_values(&["CREATED", ""]).inc();
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
        let number = |found: &[(String, i64)], name: &str| {
            let found = found.iter().find(|(found, _)| found == name);
            found.map_or(0, |(_, number)| *number)
        };
        for state in OPEN_STATES {
            self.open_orders
                .with_label_values(&[state])
                .set(number(&open.orders, state));
        }
        for action in Action::ALL {
            let name = action.name();
            self.open_commands
                .with_label_values(&[name])
                .set(number(&open.commands, name));
        }
        self.overdue_seconds.set(open.overdue_seconds);
        self.oldest_seconds.set(open.oldest_seconds);
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
        let reason = order.reason().unwrap_or_default();
        self.orders.with_label_values(&[order.state.name(), reason]).inc();
        if applied.before != State::Refunding {
            let seconds = (Utc::now() - order.created_at).as_seconds_f64();
            self.processing.observe(seconds.max(0.0));
        }
        if let (State::Confirmed, Some(money), false) = (order.state, &order.amount, order.probe) {
            let amount = u64::try_from(money.amount_minor()).unwrap_or_default();
            self.revenue.with_label_values(&[money.currency()]).inc_by(amount);
        }
    }
}
