//! What the user writes about CPU and memory of a container.

use super::maps::quantity_map;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// CPU and memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceRequirements {
    /// What the scheduler sets aside, by resource name. Unit: Kubernetes quantity, for example 100m or 64Mi. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), schema_with = "quantity_map")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most, by resource name. Unit: Kubernetes quantity. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), schema_with = "quantity_map")]
    pub limits: BTreeMap<String, Quantity>,
}
