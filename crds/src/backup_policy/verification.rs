//! Whether stored archives are restored on trial, and what must hold of what comes out.

use crate::duration::is_duration;
use crate::{Duration, NetworkPolicyMode};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A trial restore of a stored archive into a throwaway server of the Job's own.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerification {
    /// Which archives are restored; "Off" in quotes, which YAML would take for false. Default: Off.
    #[serde(default)]
    pub restore: TrialRestore,
    /// Questions to the restored databases whose answers are compared with a number. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub queries: Vec<VerificationQuery>,
    /// How long fetching and restoring may take before the archive counts as not restorable in time. Unit: duration. Default: job.deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) > duration('0s')")).message("budget must be more than 0s: no restore takes less"))]
    pub budget: Option<Duration>,
    /// Managed makes a NetworkPolicy that holds the pods of trial restores back, None makes none. Default: Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyMode>,
}

/// Which archives are restored on trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrialRestore {
    /// None.
    #[default]
    Off,
    /// The newest one, once seven days have passed since the last.
    Weekly,
    /// Each one, after it was stored.
    EveryRun,
}

/// A question and its answer.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.equals), has(self.atLeast) || has(self.atMost)].exists_one(set, set)").message("a query must have equals, or atLeast, atMost or both: the answer is compared with a number"), validation = Rule::new("!has(self.atLeast) || !has(self.atMost) || self.atLeast <= self.atMost").message("atLeast must not be more than atMost: no answer is both"))]
pub struct VerificationQuery {
    /// Name of the query in messages. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Name of the database in the policy. Required.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// One SELECT with one row and one number; it runs read-only. Required.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("!self.contains(';')").message("query must be one SELECT without ';'"))]
    pub query: String,
    /// What the answer must be. Unit: as the query answers. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<i64>,
    /// The smallest answer. Unit: as the query answers. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<i64>,
    /// The largest answer. Unit: as the query answers. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<i64>,
}
