//! Figures as an answer: totals, and the minutes in which something happened. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::latency;
use crate::store::Figure;

/// What happened from `from` until before `to`.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// The first minute.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub from: DateTime<Utc>,
    /// The minute after the last.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub to: DateTime<Utc>,
    /// All of it together.
    pub total: Period,
    /// Of the orders that ended, the part that was confirmed, 0 to 1; null when none ended.
    pub conversion: Option<f64>,
    /// By minute; minutes in which nothing happened are left out.
    pub minutes: Vec<Minute>,
}

/// What happened in one minute.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Minute {
    /// When it began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub minute: DateTime<Utc>,
    /// What happened in it.
    #[serde(flatten)]
    pub period: Period,
}

/// What happened in some time. An order counts in the minute of each of its steps.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Period {
    /// Orders placed.
    pub created: u64,
    /// Orders sold.
    pub confirmed: u64,
    /// Orders that came to nothing.
    pub cancelled: u64,
    /// Orders whose money was given back.
    pub refunded: u64,
    /// How many were cancelled for which reason.
    pub cancelled_by_reason: BTreeMap<String, u64>,
    /// Money by currency.
    pub revenue: BTreeMap<String, Revenue>,
    /// How long orders took from placed to confirmed or cancelled; null when none ended.
    pub latency: Option<Latency>,
}

/// Money of one currency, in its smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Revenue {
    /// Taken for confirmed orders.
    pub taken_minor: i64,
    /// Given back for refunded ones.
    pub refunded_minor: i64,
}

/// How long orders took, in milliseconds. The quantiles are at most an eighth too long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Latency {
    /// Orders that were measured.
    pub count: u64,
    /// All their times together.
    pub sum_ms: i64,
    /// Half took at most this.
    pub p50_ms: u64,
    /// 95 of 100 took at most this.
    pub p95_ms: u64,
    /// 99 of 100 took at most this.
    pub p99_ms: u64,
}

impl Summary {
    /// The answer for `figures`, which are sorted by minute.
    #[must_use]
    pub fn of(from: DateTime<Utc>, to: DateTime<Utc>, figures: &[Figure]) -> Self {
        let minutes = figures
            .chunk_by(|left, right| left.minute == right.minute)
            .filter_map(|minute| {
                Some(Minute {
                    minute: minute.first()?.minute,
                    period: Period::of(minute),
                })
            })
            .collect();
        let total = Period::of(figures);
        let ended = total.confirmed + total.cancelled;
        Self {
            from,
            to,
            conversion: (ended > 0).then(|| total.confirmed as f64 / ended as f64),
            total,
            minutes,
        }
    }
}

impl Period {
    fn of(figures: &[Figure]) -> Self {
        let mut period = Self::default();
        let (mut classes, mut sum_ms) = (BTreeMap::<u64, u64>::new(), 0_i64);
        for figure in figures {
            let count = u64::try_from(figure.count).unwrap_or(0);
            let add = |sum: &mut i64| *sum = sum.saturating_add(figure.total);
            match figure.name.as_str() {
                "created" => period.created += count,
                "confirmed" => {
                    period.confirmed += count;
                    add(&mut period.revenue.entry(figure.label.clone()).or_default().taken_minor);
                }
                "cancelled" => {
                    period.cancelled += count;
                    *period.cancelled_by_reason.entry(figure.label.clone()).or_default() += count;
                }
                "refunded" => {
                    period.refunded += count;
                    add(&mut period.revenue.entry(figure.label.clone()).or_default().refunded_minor);
                }
                // Of a version that counts more than this one.
                name if name != "latency" => {}
                _ => {
                    if let Ok(bound) = figure.label.parse() {
                        *classes.entry(bound).or_default() += count;
                        add(&mut sum_ms);
                    }
                }
            }
        }
        let classes: Vec<(u64, u64)> = classes.into_iter().collect();
        let at = |share| latency::quantile(&classes, share);
        period.latency = match (at(0.5), at(0.95), at(0.99)) {
            (Some(p50_ms), Some(p95_ms), Some(p99_ms)) => Some(Latency {
                count: classes.iter().map(|(_, count)| count).sum(),
                sum_ms,
                p50_ms,
                p95_ms,
                p99_ms,
            }),
            _ => None,
        };
        period
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn minutes_add_up_to_the_total() {
        let (first, end) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::minutes(3));
        let figure = |minute: i64, name: &str, label: &str, count, total| Figure {
            minute: first + TimeDelta::minutes(minute),
            name: name.into(),
            label: label.into(),
            count,
            total,
        };
        let figures = [
            figure(0, "cancelled", "OUT_OF_STOCK", 1, 0),
            figure(0, "confirmed", "EUR", 2, 300),
            figure(0, "created", "", 4, 0),
            figure(0, "latency", "20", 3, 55),
            figure(2, "cancelled", "EXPIRED", 1, 0),
            figure(2, "from the future", "", 9, 9),
            figure(2, "latency", "1024", 1, 1000),
            figure(2, "refunded", "EUR", 1, 100),
        ];
        let summary = Summary::of(first, end, &figures);
        assert_eq!(summary.conversion, Some(0.5));
        let minutes: Vec<_> = summary
            .minutes
            .iter()
            .map(|minute| (minute.minute, minute.period.created))
            .collect();
        assert_eq!(minutes, [(first, 4), (first + TimeDelta::minutes(2), 0)]);
        let total = &summary.total;
        assert_eq!(
            [total.created, total.confirmed, total.cancelled, total.refunded],
            [4, 2, 2, 1]
        );
        assert_eq!(
            total.revenue["EUR"],
            Revenue {
                taken_minor: 300,
                refunded_minor: 100
            }
        );
        let latency = total.latency.unwrap();
        assert_eq!(
            (latency.count, latency.sum_ms, latency.p50_ms, latency.p95_ms),
            (4, 1055, 20, 1024)
        );
        assert_eq!(Summary::of(first, end, &[]).conversion, None);
    }
}
