//! What the user writes about requests at a time and which of them are refused first.

use crate::Duration;
use crate::duration::is_duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limit of requests at a time, per replica; beyond it a caller gets 503 at once or after a short wait.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
        .message("min must not exceed max"),
    validation = Rule::new("!has(self.initial) || !has(self.max) || self.initial <= self.max")
        .message("initial must not exceed max"),
    validation = Rule::new("!has(self.initial) || !has(self.min) || self.min <= self.initial")
        .message("initial must not be less than min")
)]
pub struct Concurrency {
    /// Fixed is always `max`; Adaptive finds a limit between `min` and `max` by measuring. Default: Fixed.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ConcurrencyType>,
    /// Requests at a time, at most. Unit: requests. Default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: Option<u32>,
    /// Adaptive only: the limit never falls below it. Unit: requests. Default: 20, at most `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min: Option<u32>,
    /// Adaptive only: the limit that a replica starts with. Unit: requests. Default: 20, between `min` and `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub initial: Option<u32>,
    /// Requests that may wait for a place. Unit: requests. Default: 0, all beyond the limit are refused at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_queue: Option<u32>,
    /// How long a request may wait; a queue that stands is given 5ms only. Unit: duration, at most 60s. Default: 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(concat!(is_duration!("self"), " && duration(self) <= duration('60s')")).message("queueTimeout must be at most 60s"))]
    pub queue_timeout: Option<Duration>,
    /// Which requests are refused first as the limit fills. Default: all are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priorities: Option<Priorities>,
}

/// Who sets the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// An optional field would otherwise show this type's text instead of its own.
#[schemars(description = "")]
pub enum ConcurrencyType {
    /// Always `max`.
    #[default]
    Fixed,
    /// Found by measuring.
    Adaptive,
    /// A value of a newer version; treated as Fixed.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Shares of the limit up to which requests of each priority are let in. Critical requests may take all of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.sheddablePercent) ? self.sheddablePercent : 75) <= (has(self.defaultPercent) ? self.defaultPercent : 90)")
        .message("sheddablePercent (75 unless set) must not exceed defaultPercent (90 unless set)"),
    validation = Rule::new("(has(self.bestEffortPercent) ? self.bestEffortPercent : 50) <= (has(self.sheddablePercent) ? self.sheddablePercent : 75)")
        .message("bestEffortPercent (50 unless set) must not exceed sheddablePercent (75 unless set)")
)]
pub struct Priorities {
    /// What a request's own Valerix-Priority does: Ignore, Lower (it may lower the route's priority) or Trust (it counts before the route's; only where strangers cannot send it). Default: Ignore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<PriorityHeader>,
    /// Priorities of routes; every other route is Default. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["route"]))]
    pub routes: Vec<RoutePriority>,
    /// Share of the limit up to which Default requests are let in. Unit: percent. Default: 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub default_percent: Option<u32>,
    /// Share of the limit up to which Sheddable requests are let in. Unit: percent. Default: 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub sheddable_percent: Option<u32>,
    /// Share of the limit up to which BestEffort requests are let in. Unit: percent. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub best_effort_percent: Option<u32>,
}

/// The priority of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoutePriority {
    /// The route, as `METHOD /path`; a segment `{x}` stands for any one. Required.
    #[schemars(length(max = 273), regex(pattern = r"^[A-Z]{1,16} /[^ ?#]*$"))]
    pub route: String,
    /// Critical, Default, Sheddable or BestEffort. Required.
    pub priority: Priority,
}

/// How much it matters that a request is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum Priority {
    /// May take every place, and is given a free one first.
    Critical,
    /// What nothing is said about.
    #[default]
    Default,
    /// May fail now and then and never waits.
    Sheddable,
    /// Nobody misses it for a while; never waits.
    BestEffort,
    /// A value of a newer version; treated as Default.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How far a request's own priority is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum PriorityHeader {
    /// Not at all.
    #[default]
    Ignore,
    /// It may lower the route's.
    Lower,
    /// It counts before the route's.
    Trust,
    /// A value of a newer version; treated as Ignore.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
