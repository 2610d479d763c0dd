//! By what an answer is known in metrics, where a service has routes that are not the router's. What it counts by is looked up
//! once for each kind of answer, and not with each.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;

use crate::metrics::{Metrics, RouteMetrics};

/// Kinds of answers of one route that are known at a time: of most there are a few.
const KNOWN: usize = 16;

/// The route of an answer for metrics, as what answers names it, or as an extension of the answer. It must be one of few, never a caller's invention. Clones are one.
#[derive(Clone)]
pub struct RouteName(Arc<Inner>);

struct Inner {
    name: Box<str>,
    known: RwLock<Vec<(&'static str, StatusCode, RouteMetrics)>>,
}

impl RouteName {
    /// Of that name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            known: RwLock::default(),
        }))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.name
    }

    /// Counts and measures an answer.
    pub(crate) fn answered(&self, metrics: &Metrics, method: &'static str, status: StatusCode, elapsed: Duration) {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut alike = known.iter().filter(|known| (known.0, known.1) == (method, status));
        if let Some((.., answered)) = alike.next() {
            answered.answered(elapsed);
            return;
        }
        drop(known);
        let answered = metrics.answered(method, &self.0.name, status);
        answered.answered(elapsed);
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KNOWN {
            known.push((method, status, answered));
        }
    }
}

impl std::fmt::Display for RouteName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_answer_is_counted_by_itself_whether_it_is_known_or_not() {
        let (metrics, name) = (Metrics::new().unwrap(), RouteName::new("orders"));
        let statuses = || (200..240).map(|status| StatusCode::from_u16(status).unwrap());
        for _ in 0..3 {
            for status in statuses() {
                name.answered(&metrics, "GET", status, Duration::from_millis(1));
                name.answered(&metrics, "POST", status, Duration::from_millis(1));
            }
        }
        for method in ["GET", "POST"] {
            for status in statuses() {
                let counted = metrics.requests.with_label_values(&[method, "orders", status.as_str()]);
                assert_eq!(counted.get(), 3, "{method} {status}");
            }
            let measured = metrics.request_seconds.with_label_values(&[method, "orders"]);
            assert_eq!(measured.get_sample_count(), 3 * 40, "{method}");
        }
    }
}
