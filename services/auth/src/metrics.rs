//! What auth counts, beside what every service counts.

use chrono::Utc;
use http::StatusCode;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounterVec, Opts};
use valerix_kit::problem::Problem;

use crate::keys::Keyring;

/// The counters; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    logins: IntCounterVec,
    refreshes: IntCounterVec,
}

impl Metrics {
    /// Registers the counters, and the age of the key by which `keyring` signs.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &valerix_kit::metrics::Metrics, keyring: &Keyring) -> Result<Self, prometheus::Error> {
        let counter = |name, help, outcomes: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
            for outcome in outcomes {
                counter.with_label_values(&[*outcome]);
            }
            registry.register(counter.clone())?;
            Ok::<_, prometheus::Error>(counter)
        };
        let metrics = Self {
            logins: counter(
                "auth_logins_total",
                "Attempts to log in by outcome: succeeded, wrong (no such user or password), locked (too many failures), failed",
                &["succeeded", "wrong", "locked", "failed"],
            )?,
            refreshes: counter(
                "auth_refreshes_total",
                "Refresh tokens by outcome: exchanged, invalid, reused (shown twice, which ends the session), failed",
                &["exchanged", "invalid", "reused", "failed"],
            )?,
        };
        registry.register(KeyAge {
            keyring: keyring.clone(),
            gauge: Gauge::new(
                "auth_signing_key_age_seconds",
                "How long the key that signs tokens has been signing; -1 while there is none",
            )?,
        })?;
        Ok(metrics)
    }

    /// Somebody tried to log in.
    pub fn login<T>(&self, answer: &Result<T, Problem>) {
        let outcome = match answer.as_ref().map_err(Problem::status) {
            Ok(_) => "succeeded",
            Err(StatusCode::UNAUTHORIZED) => "wrong",
            Err(StatusCode::TOO_MANY_REQUESTS) => "locked",
            Err(_) => "failed",
        };
        self.logins.with_label_values(&[outcome]).inc();
    }

    /// Somebody showed a refresh token.
    pub fn refresh<T>(&self, answer: &Result<T, Problem>) {
        let outcome = match answer.as_ref().map_err(|problem| (problem.status(), problem.name())) {
            Ok(_) => "exchanged",
            Err((_, "refresh-token-reused")) => "reused",
            Err((StatusCode::UNAUTHORIZED, _)) => "invalid",
            Err(_) => "failed",
        };
        self.refreshes.with_label_values(&[outcome]).inc();
    }
}

/// Read when somebody scrapes.
struct KeyAge {
    keyring: Keyring,
    gauge: Gauge,
}

impl Collector for KeyAge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let age = self
            .keyring
            .signs_since()
            .map(|since| (Utc::now() - since).as_seconds_f64());
        self.gauge.set(age.unwrap_or(-1.0));
        self.gauge.collect()
    }
}
