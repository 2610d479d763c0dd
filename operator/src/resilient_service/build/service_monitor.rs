//! The ServiceMonitor. Pure.

use super::{
    super::{
        service_monitor::{Endpoint, Relabeling, ServiceMonitor, ServiceMonitorSpec},
        validate::{Plan, REPORT_PORT_NAME},
    },
    metadata::{labels, metadata, selector},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::time::Duration;
use valerix_crds::{
    MonitoringMode,
    names::{HEADLESS_LABEL, NAME_LABEL},
};

/// Our label of a pod that says which service it is, as Prometheus writes it.
const NAME_OF_POD: &str = "__meta_kubernetes_pod_label_resilience_valerix_io_service";
const DEFAULT_PATH: &str = "/metrics";
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// None where the cluster does not know the kind, where it is not wanted, and where no port is known to serve metrics.
pub fn build_service_monitor(plan: &Plan) -> Option<ServiceMonitor> {
    let monitoring = plan.service.spec.monitoring.clone().unwrap_or_default();
    if !plan.knows_monitors || monitoring.mode == Some(MonitoringMode::None) {
        return None;
    }
    let of_report = plan.report_port.map(|_| REPORT_PORT_NAME.to_owned());
    let port = monitoring.port.or(of_report)?;
    // What the user writes has been checked against the schema.
    let interval = monitoring.interval.and_then(|interval| interval.value().ok());
    let mut all_labels = monitoring.labels;
    all_labels.extend(labels(plan));
    // The headless Service alone: the other one has ports of the same names, and each pod would be asked twice.
    let mut services = selector(&plan.name);
    services.insert(HEADLESS_LABEL.to_owned(), "true".to_owned());

    Some(ServiceMonitor {
        metadata: ObjectMeta {
            labels: Some(all_labels),
            ..metadata(plan, plan.name.clone())
        },
        spec: ServiceMonitorSpec {
            job_label: Some(NAME_LABEL.to_owned()),
            selector: LabelSelector {
                match_labels: Some(services),
                ..LabelSelector::default()
            },
            endpoints: vec![Endpoint {
                port: Some(port),
                path: Some(monitoring.path.unwrap_or_else(|| DEFAULT_PATH.to_owned())),
                interval: Some(in_prometheus_form(interval.unwrap_or(DEFAULT_INTERVAL))),
                honor_labels: Some(true),
                // By this the alerts group; it would be the name of the headless Service.
                relabelings: vec![Relabeling {
                    source_labels: vec![NAME_OF_POD.to_owned()],
                    target_label: Some("service".to_owned()),
                }],
            }],
        },
        status: None,
    })
}

/// Prometheus knows no `5s1m`.
fn in_prometheus_form(interval: Duration) -> String {
    match interval.subsec_millis() {
        0 => format!("{}s", interval.as_secs()),
        _ => format!("{}ms", interval.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{fixtures, validate::validate};
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn built(spec: Value) -> Value {
        let mut plan = validate(&Arc::new(fixtures::service("order", spec)), 1, "guard:1").unwrap();
        plan.knows_monitors = true;
        json!(build_service_monitor(&plan))
    }

    /// What is asked, and how often.
    fn asked(built: &Value) -> Value {
        let endpoint = &built["spec"]["endpoints"][0];
        json!([endpoint["port"], endpoint["path"], endpoint["interval"]])
    }

    #[test]
    fn who_serves_no_metrics_is_not_asked_for_them() {
        let ports = json!([{"name": "http", "containerPort": 80}]);
        let none = json!({"protocol": "None"});
        assert_eq!(
            built(json!({"image": "a", "monitoring": {"mode": "None"}})),
            Value::Null
        );
        assert_eq!(
            built(json!({"image": "a", "ports": ports, "resilience": none})),
            Value::Null
        );
        let own = json!({"image": "a", "ports": ports, "resilience": none, "monitoring": {"port": "http", "interval": "5s1m"}});
        assert_eq!(asked(&built(own)), json!(["http", "/metrics", "65s"]));
    }

    #[test]
    fn labels_of_the_user_never_replace_those_that_make_it_ours() {
        let labels = json!({"release": "prometheus", "resilience.valerix.io/service": "payment"});
        let built = built(json!({"image": "a", "monitoring": {"labels": labels, "interval": "1500ms"}}));
        assert_eq!(built["metadata"]["labels"]["release"], "prometheus");
        assert_eq!(built["metadata"]["labels"]["resilience.valerix.io/service"], "order");
        assert_eq!(asked(&built), json!(["report", "/metrics", "1500ms"]));
    }
}
