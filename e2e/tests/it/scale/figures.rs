//! What the operator says of itself, and what is told of it.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use valerix_e2e::world::{OPERATOR_NAMESPACE, World};

/// How a line begins that is for a person to see.
pub const MARK: &str = "scale:";

/// What one thing costs.
#[derive(Debug)]
pub struct Figure {
    row: &'static str,
    value: f64,
    /// At most.
    bound: Option<f64>,
    /// Whether the machine hardly matters.
    is_counted: bool,
}

impl Figure {
    fn told(self, unit: &str) -> Self {
        let bound = match self.bound {
            Some(most) if self.value <= most => format!(" (at most {most:.1}: kept)"),
            Some(most) => format!(" (at most {most:.1}: MISSED)"),
            None => String::new(),
        };
        eprintln!("{MARK} {:<58} {:>10.2} {unit}{bound}", self.row, self.value);
        self
    }

    /// Whether more was counted than there may be.
    pub fn is_broken(&self) -> bool {
        self.is_counted && self.bound.is_some_and(|most| self.value > most)
    }
}

/// What hardly depends on the machine.
pub fn counted(row: &'static str, unit: &str, value: f64, bound: f64) -> Figure {
    let figure = timed(row, unit, value, Some(bound));
    Figure {
        is_counted: true,
        ..figure
    }
}

/// What depends on it.
pub fn timed(row: &'static str, unit: &str, value: f64, bound: Option<f64>) -> Figure {
    let is_counted = false;
    Figure {
        row,
        value,
        bound,
        is_counted,
    }
    .told(unit)
}

pub fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

pub fn quantile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// The metrics of the operator that leads.
pub struct Metrics(String);

impl Metrics {
    pub async fn read(world: &World) -> Result<Self> {
        let selector = ListParams::default().labels("app.kubernetes.io/name=valerix-operator");
        for pod in world.api::<Pod>(OPERATOR_NAMESPACE).list(&selector).await? {
            let path = format!(
                "/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{}:8080/proxy/metrics",
                pod.name_any()
            );
            let request = http::Request::get(path)
                .body(Vec::new())
                .context("failed to build a request")?;
            // One that starts or ends has none.
            if let Ok(text) = world.client.request_text(request).await
                && text.lines().any(|line| line == "valerix_leader 1")
            {
                return Ok(Self(text));
            }
        }
        bail!("no operator leads")
    }

    /// All series of a metric together that have `label`.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        };
        let lines = self.0.lines().filter(of_name);
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Seconds of a processor.
    pub fn cpu(&self) -> f64 {
        self.sum("process_cpu_seconds_total", "")
    }

    /// Bytes of memory.
    pub fn memory(&self) -> f64 {
        self.sum("process_resident_memory_bytes", "")
    }

    /// Objects in the caches.
    pub fn objects(&self) -> f64 {
        self.sum("valerix_cached_objects", "")
    }

    /// How often an object was looked at, however that went.
    pub fn looks(&self) -> f64 {
        self.sum("valerix_reconciles_total", "")
    }

    /// Children that were written, however often.
    pub fn applies(&self) -> f64 {
        self.sum("valerix_api_writes_total", "write=\"apply\"")
    }

    /// Requests that may change something, but for the Lease's renewals, which alone are a PUT.
    pub fn writes(&self) -> f64 {
        let changes = ["POST", "PATCH", "DELETE"].map(|method| format!("method=\"{method}\""));
        changes
            .iter()
            .map(|method| self.sum("valerix_api_requests_total", method))
            .sum()
    }
}

#[test]
fn figures_are_summed_over_their_series() {
    let metrics = Metrics(
        "# TYPE valerix_reconciles_total counter\nvalerix_reconciles_total{controller=\"a\"} 2\nvalerix_reconciles_total{controller=\"b\"} 3\n\
         valerix_reconciles_total_of_another 7\nvalerix_api_requests_total{method=\"GET\",status=\"200\"} 9\n\
         valerix_api_requests_total{method=\"PATCH\",status=\"200\"} 4\nvalerix_api_requests_total{method=\"PUT\",status=\"200\"} 8\n\
         process_cpu_seconds_total 1.5\n"
            .to_owned(),
    );
    let within = |found: f64, wanted: f64| (found - wanted).abs() < 1e-9;
    assert!(within(metrics.looks(), 5.0) && within(metrics.writes(), 4.0) && within(metrics.cpu(), 1.5));
    assert!(within(quantile(&mut [3.0, 1.0, 2.0], 50), 2.0) && within(quantile(&mut [1.0, 2.0], 99), 2.0));
}
