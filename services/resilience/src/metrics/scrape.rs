//! Gauges that show a state, read from that state when the registry is scraped, so that none is stale.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

/// One gauge sample read at scrape time.
pub(crate) struct Sample {
    pub(crate) labels: Vec<String>,
    pub(crate) value: f64,
}

/// A gauge and how to read it.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
    pub(crate) samples: Vec<Sample>,
}

/// Reads gauges when scraped.
pub(crate) struct Scraped<F> {
    desc: Vec<Desc>,
    read: F,
}

impl<F: Fn() -> Vec<Gauge> + Send + Sync> Scraped<F> {
    pub(crate) fn new(read: F) -> Self {
        let desc = read()
            .iter()
            .filter_map(|gauge| vector(gauge).map(|vector| vector.desc().into_iter().cloned().collect::<Vec<_>>()))
            .flatten()
            .collect();
        Self { desc, read }
    }
}

fn vector(gauge: &Gauge) -> Option<GaugeVec> {
    GaugeVec::new(Opts::new(gauge.name, gauge.help), gauge.labels).ok()
}

impl<F: Fn() -> Vec<Gauge> + Send + Sync> Collector for Scraped<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for gauge in (self.read)() {
            let Some(vector) = vector(&gauge) else { continue };
            for sample in &gauge.samples {
                let labels: Vec<&str> = sample.labels.iter().map(String::as_str).collect();
                vector.with_label_values(&labels).set(sample.value);
            }
            families.extend(
                vector
                    .collect()
                    .into_iter()
                    .filter(|family| !family.get_metric().is_empty()),
            );
        }
        families
    }
}
