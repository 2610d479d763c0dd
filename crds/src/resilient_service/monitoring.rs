//! Who scrapes the pods' metrics.

use super::maps::label_map;
use crate::Duration;
use crate::duration::is_duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the pods' metrics are found: by a ServiceMonitor, where the cluster knows that kind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.mode) || self.mode != 'None' || !(has(self.interval) || has(self.port) || has(self.path) || has(self.labels))")
    .message("interval, port, path and labels belong to mode Auto; mode None makes no ServiceMonitor"))]
pub struct Monitoring {
    /// Auto makes a ServiceMonitor where the Prometheus operator's kind is installed and the pods serve metrics, None makes none. Default: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MonitoringMode>,
    /// How often each pod is asked. Unit: duration, at least 1s. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) >= duration('1s')")).message("interval must be at least 1s: Prometheus does not keep up with less"))]
    pub interval: Option<Duration>,
    /// Name of the one of `ports` that serves metrics. Default: the report's port; without one, no ServiceMonitor is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^([0-9]+-)*[0-9]*[a-z](-?[a-z0-9])*$"))]
    pub port: Option<String>,
    /// Path of the metrics. Default: `/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^/[!-\x22$->@-~]*$"))]
    pub path: Option<String>,
    /// Labels of the ServiceMonitor, by which a Prometheus chooses it. Those of the operator stay as they are. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), schema_with = "label_map")]
    pub labels: BTreeMap<String, String>,
}

/// Whether there is a ServiceMonitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum MonitoringMode {
    /// Where the cluster knows the kind.
    Auto,
    /// There is none.
    None,
    /// A value of a newer version; treated as Auto.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
