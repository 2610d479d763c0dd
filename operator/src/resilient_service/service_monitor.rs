//! The ServiceMonitor of the Prometheus operator, as far as this operator writes and reads it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Name of the definition without which there are no ServiceMonitors.
pub const DEFINITION: &str = "servicemonitors.monitoring.coreos.com";

/// What is scraped. Somebody else's may say more, and may leave out what ours says.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "ServiceMonitor",
    plural = "servicemonitors",
    namespaced,
    schema = "disabled",
    status = "ServiceMonitorStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitorSpec {
    /// Label of the Service whose value becomes the job of every series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_label: Option<String>,
    /// Services of the same namespace.
    #[serde(default)]
    pub selector: LabelSelector,
    /// Ports of these Services.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// One port, asked for one path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name of the Service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How often, in Prometheus' form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Whether a label of a metric counts for more than that of its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub honor_labels: Option<bool>,
    /// Labels of every series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relabelings: Vec<Relabeling>,
}

/// A label of every series, taken from what is known of its target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relabeling {
    /// Where its value comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_label: Option<String>,
}

/// Who took it up. Versions of the Prometheus operator that write no status leave it out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceMonitorStatus {
    /// One for each Prometheus that chose it.
    #[serde(default)]
    pub bindings: Vec<Binding>,
}

/// What one Prometheus made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// Name of the Prometheus.
    #[serde(default)]
    pub name: String,
    /// Namespace of the Prometheus.
    #[serde(default)]
    pub namespace: String,
    /// Whether it took it.
    #[serde(default)]
    pub conditions: Vec<BindingCondition>,
}

/// One statement of a Prometheus about a ServiceMonitor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BindingCondition {
    /// `Accepted`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// Why, in the Prometheus operator's words.
    #[serde(default)]
    pub message: String,
}

impl ServiceMonitor {
    /// The first Prometheus that chose it and cannot use it: its name, and why.
    pub fn rejection(&self) -> Option<(String, &str)> {
        let bindings = &self.status.as_ref()?.bindings;
        bindings.iter().find_map(|binding| {
            let refused = |condition: &&BindingCondition| condition.kind == "Accepted" && condition.status == "False";
            let condition = binding.conditions.iter().find(refused)?;
            Some((
                format!("{}/{}", binding.namespace, binding.name),
                condition.message.as_str(),
            ))
        })
    }
}
