//! How old the evidence is on which statuses rest, read when somebody scrapes: a service that is gone is gone here.

use super::ReportStore;
use crate::runtime::metrics::Metrics;
use chrono::Utc;
use prometheus::{GaugeVec, Opts, core::Collector, core::Desc, proto::MetricFamily};

/// Shows the age of every followed service's evidence as `valerix_evidence_age_seconds`.
pub fn expose_evidence(metrics: &Metrics, reports: &ReportStore) {
    match gauges() {
        Ok(described) => metrics.add(EvidenceAge {
            reports: reports.clone(),
            described,
        }),
        Err(error) => tracing::warn!(%error, "failed to describe the evidence's metric"),
    }
}

struct EvidenceAge {
    reports: ReportStore,
    /// Never filled: what describes the gauges.
    described: GaugeVec,
}

fn gauges() -> prometheus::Result<GaugeVec> {
    let what = "Time since that pod of a service answered the operator that has been silent longest; a pod with nothing new answers every 120 seconds.";
    GaugeVec::new(Opts::new("valerix_evidence_age_seconds", what), &["namespace", "name"])
}

impl Collector for EvidenceAge {
    fn desc(&self) -> Vec<&Desc> {
        self.described.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(gauges) = gauges() else {
            return Vec::new();
        };
        let now = Utc::now();
        for ((namespace, service), at) in self.reports.oldest_answers() {
            let age = (now - at).as_seconds_f64().max(0.0);
            gauges.with_label_values(&[&namespace, &service]).set(age);
        }
        gauges.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilient_service::PodReport;
    use chrono::TimeDelta;
    use serde_json::json;

    #[test]
    fn the_age_is_that_of_the_pod_that_has_been_silent_longest() {
        let reports = ReportStore::default();
        let answer = |pod: &str, seconds| {
            let report = json!({"podUID": pod, "service": "order", "now": Utc::now(), "policy": {"versions": [1]}});
            let report = PodReport {
                namespace: "shop".into(),
                service: "order".into(),
                pod: pod.into(),
                report: serde_json::from_value(report).unwrap(),
                received_at: Utc::now() - TimeDelta::seconds(seconds),
            };
            reports.put(pod, report);
        };
        answer("old", 300);
        answer("new", 1);
        let metrics = Metrics::default();
        expose_evidence(&metrics, &reports);
        let shown = || {
            let text = String::from_utf8(metrics.render()).unwrap();
            let lines = text
                .lines()
                .filter(|line| line.starts_with("valerix_evidence_age_seconds{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let [age] = &shown()[..] else {
            panic!("one service: {:?}", shown());
        };
        assert!(
            age.starts_with(r#"valerix_evidence_age_seconds{name="order",namespace="shop"} 300"#),
            "{age}"
        );
        reports.remove("old");
        assert!(!shown()[0].contains("} 300"), "it is not followed any more");
        reports.remove("new");
        assert!(shown().is_empty());
    }
}
