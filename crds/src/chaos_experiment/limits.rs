//! Who may be hurt, and what must be left.

use crate::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The service that is hurt: always one of the experiment's own namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChaosTarget {
    /// Name of a ResilientService of the same namespace with `chaos.admission: Allowed`. Required.
    #[schemars(length(min = 1, max = 53), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: String,
    /// Only pods in this zone, as their EndpointSlices name it. Default: every zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub zone: Option<String>,
    /// Only pods with these labels. Default: every pod of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<PodSelector>,
}

/// Labels that pods must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels with their values; a pod must have all of them. Default: none, which every pod has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "label_map")]
    pub match_labels: BTreeMap<String, String>,
}

/// Limits that a run must keep, checked when it fires.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Safety {
    /// Ready pods that must be left when pods are taken away. Unit: pods. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_available: Option<u32>,
    /// Age that a pod must have before it is hurt. Unit: duration. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_pod_age: Option<Duration>,
    /// Pause after the last fault on the same target. Unit: duration. Default: 0s for a run by hand, 5m for a scheduled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
}

fn label_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}
