//! What counts and what measures: prometheus' own with the feature `metrics`, else the least that the report needs.

#[cfg(feature = "metrics")]
mod with {
    use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
    use prometheus::{HistogramOpts, Opts};

    pub(crate) use prometheus::{Histogram, HistogramVec, IntCounter as Counter, IntCounterVec as CounterVec};

    /// From a millisecond to ten seconds: a request beyond that is late whatever it is.
    const SECONDS: [f64; 13] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];

    #[expect(
        clippy::expect_used,
        reason = "all names, labels and buckets are constants, and tests build each"
    )]
    fn valid<T>(built: prometheus::Result<T>) -> T {
        built.expect("constants are valid")
    }

    pub(in crate::metrics) fn counter(name: &str, help: &str, labels: &[&str]) -> CounterVec {
        valid(CounterVec::new(Opts::new(name, help), labels))
    }

    pub(in crate::metrics) fn histogram(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        valid(HistogramVec::new(options, labels))
    }

    /// Removes what a family shows of a target, whatever its other labels say.
    pub(in crate::metrics) fn forget<T: MetricVecBuilder>(family: &MetricVec<T>, target: &str) {
        for shown in family.collect() {
            for metric in shown.get_metric() {
                let labels = metric.get_label().iter().map(|label| (label.name(), label.value()));
                let labels: std::collections::HashMap<_, _> = labels.collect();
                if labels.get("target") == Some(&target) {
                    // Who removed it meanwhile has done the same.
                    let _ = family.remove(&labels);
                }
            }
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[allow(dead_code, reason = "who counts is a feature of its own")]
mod without {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts for whoever holds it, and tells no one else.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Counter(Arc<AtomicU64>);

    impl Counter {
        pub(crate) fn inc(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        pub(crate) fn get(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[derive(Debug)]
    pub(crate) struct CounterVec;

    impl CounterVec {
        #[expect(clippy::unused_self, reason = "as prometheus has it")]
        pub(crate) fn with_label_values(&self, _: &[&str]) -> Counter {
            Counter::default()
        }
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Histogram;

    impl Histogram {
        #[expect(clippy::unused_self, reason = "as prometheus has it")]
        pub(crate) const fn observe(&self, _: f64) {}
    }

    #[derive(Debug)]
    pub(crate) struct HistogramVec;

    impl HistogramVec {
        #[expect(clippy::unused_self, reason = "as prometheus has it")]
        pub(crate) const fn with_label_values(&self, _: &[&str]) -> Histogram {
            Histogram
        }
    }

    pub(in crate::metrics) const fn counter(_: &str, _: &str, _: &[&str]) -> CounterVec {
        CounterVec
    }

    pub(in crate::metrics) const fn histogram(_: &str, _: &str, _: &[&str]) -> HistogramVec {
        HistogramVec
    }

    pub(in crate::metrics) const fn forget<T>(_: &T, _: &str) {}
}

#[cfg(feature = "metrics")]
pub(crate) use self::with::{Counter, Histogram};
#[cfg(feature = "metrics")]
pub(super) use self::with::{CounterVec, HistogramVec, counter, forget, histogram};
#[cfg(not(feature = "metrics"))]
pub(crate) use self::without::{Counter, Histogram};
#[cfg(not(feature = "metrics"))]
pub(super) use self::without::{CounterVec, HistogramVec, counter, forget, histogram};
