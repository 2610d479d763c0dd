//! Which requests are refused first when a service is full. Pure.

use serde::{Deserialize, Serialize};

/// How much it matters that a request is served, from the most to the least.
///
/// ```
/// use valerix_policy::Priority;
///
/// assert_eq!(Priority::from_name("bestEffort"), Some(Priority::BestEffort));
/// assert!(Priority::Critical < Priority::Sheddable, "the more important one comes first");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Priority {
    /// A user waits for it and notices when it fails: may take every place, and is the first to be given a free one.
    Critical,
    /// What nothing is said about: leaves the last places to critical requests.
    #[default]
    Default,
    /// May fail now and then and will be tried again, such as a refresh in the background. Never waits in the queue.
    Sheddable,
    /// Nobody misses it for a while, such as prefetching or a report. Never waits in the queue.
    BestEffort,
}

impl Priority {
    /// Every priority, the most important one first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::Default, Self::Sheddable, Self::BestEffort];

    /// The name in documents, headers and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "Critical",
            Self::Default => "Default",
            Self::Sheddable => "Sheddable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The priority of that name in any case; none for other texts, such as a priority of a newer version.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str().eq_ignore_ascii_case(name.trim()))
    }

    /// Whether a request may wait for a place instead of being refused at once.
    #[must_use]
    pub const fn may_wait(self) -> bool {
        matches!(self, Self::Critical | Self::Default)
    }
}

/// Which requests are refused first as a concurrency limit fills.
///
/// A request is let in while fewer places than its priority's share of the limit are taken, by whomever. Critical
/// requests may take all of them. Shares are rounded up, so that each is at least one place.
///
/// ```
/// use valerix_policy::{Priorities, Priority, PriorityHeader, RoutePriority};
///
/// let priorities = Priorities {
///     header: PriorityHeader::Lower,
///     routes: vec![RoutePriority { route: "GET /api/suggestions".into(), priority: Priority::BestEffort }],
///     ..Priorities::default()
/// };
/// assert_eq!(Priority::ALL.map(|priority| priorities.percent(priority)), [100, 90, 75, 50]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Priorities {
    /// What the header `Valerix-Priority` of a request does. Default `Ignore`.
    pub header: PriorityHeader,
    /// The priorities of routes, at most 64; a route that is not named here is `Default`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RoutePriority>,
    /// The share of the limit up to which `Default` requests are let in, in percent. Default 90.
    pub default_percent: u32,
    /// The same for `Sheddable` requests; at most `defaultPercent`. Default 75.
    pub sheddable_percent: u32,
    /// The same for `BestEffort` requests; at most `sheddablePercent`. Default 50.
    pub best_effort_percent: u32,
}

impl Default for Priorities {
    fn default() -> Self {
        Self {
            header: PriorityHeader::default(),
            routes: Vec::new(),
            default_percent: 90,
            sheddable_percent: 75,
            best_effort_percent: 50,
        }
    }
}

impl Priorities {
    /// The share of the limit up to which requests of `priority` are let in, in percent.
    #[must_use]
    pub const fn percent(&self, priority: Priority) -> u32 {
        match priority {
            Priority::Critical => 100,
            Priority::Default => self.default_percent,
            Priority::Sheddable => self.sheddable_percent,
            Priority::BestEffort => self.best_effort_percent,
        }
    }
}

/// The priority of one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoutePriority {
    /// The route, as `METHOD /path`.
    pub route: String,
    /// Its priority.
    pub priority: Priority,
}

/// How far a caller's `Valerix-Priority` is believed. Who can reach the service can send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PriorityHeader {
    /// It does nothing.
    #[default]
    Ignore,
    /// It may lower the priority of its route and never raise it; safe towards strangers.
    Lower,
    /// It counts before the route's; only behind something that removes it from requests of strangers.
    Trust,
}

impl PriorityHeader {
    /// The priority of a request whose route has `route` and that says `claimed` of itself.
    #[must_use]
    pub fn decide(self, route: Priority, claimed: Option<Priority>) -> Priority {
        match (self, claimed) {
            (Self::Ignore, _) | (_, None) => route,
            (Self::Lower, Some(claimed)) => route.max(claimed),
            (Self::Trust, Some(claimed)) => claimed,
        }
    }
}
