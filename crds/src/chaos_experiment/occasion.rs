//! When a run begins, and what it waits for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a time of the day looks like.
const CLOCK: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

/// What happens to a scheduled time that comes while a run is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It is skipped.
    #[default]
    Forbid,
    /// The run under way is stopped for it.
    Replace,
    /// A value of a newer version; treated as Forbid.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Hours of the day in which no scheduled run starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExcludedWindow {
    /// Weekdays on which the window begins. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,
    /// When it begins. Unit: hour and minute of the day, for example `09:00`. Required.
    #[schemars(length(max = 5), regex(pattern = CLOCK))]
    pub from: String,
    /// When it ends, itself not excluded; at or before `from` it ends the next day. Unit: hour and minute of the day. Required.
    #[schemars(length(max = 5), regex(pattern = CLOCK))]
    pub to: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
    /// A value of a newer version; the experiment cannot run.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// An experiment that must have ended before a run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct After {
    /// Name of a ChaosExperiment of the same namespace. Its last run counts, of the spec that it has now; one that is under way or asked for is awaited. Required.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub experiment: String,
    /// The verdict that it must have ended with; Any is every one of them. Default: Pass.
    #[serde(default)]
    pub verdict: RequiredVerdict,
}

/// A verdict that another experiment must have ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequiredVerdict {
    /// The system withstood the fault.
    #[default]
    Pass,
    /// It did not.
    Fail,
    /// The run was stopped.
    Stopped,
    /// The run could not be judged.
    Error,
    /// The run did not begin.
    Skipped,
    /// There was nothing to judge by.
    NotEvaluated,
    /// However it ended.
    Any,
    /// A value of a newer version; treated as Pass.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
