//! What a pod answers on `GET :9090/resilience`: the proof of what it runs. Pure.

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::FaultType;
use crate::target::OverrideState;

/// The answer of one pod about itself.
///
/// ```
/// use valerix_policy::{
///     CircuitBreakerReport, CircuitState, FaultReport, FaultState, LimitKind, LimitReport, PolicyReport, PolicySource,
///     Report,
/// };
///
/// let report: Report = serde_json::from_str(r#"{
///     "podUID": "uid", "service": "order", "now": "2026-11-21T10:00:00Z",
///     "policy": {"versions": [1], "hash": "9f2c", "loadedAt": "2026-11-21T09:00:00Z"},
///     "circuitBreakers": [{"target": "inventory", "state": "Open", "nextProbeAt": "2026-11-21T10:00:07Z"}],
///     "limits": [{"name": "inventory", "kind": "Bulkhead", "limit": 100}],
///     "faults": [{"run": "r-1", "type": "Latency", "state": "Active", "remainingMs": 1500}]}"#)?;
/// let PolicyReport { source, error, .. } = &report.policy;
/// assert_eq!((*source, error), (PolicySource::Document, &None));
/// let CircuitBreakerReport { state, .. } = &report.circuit_breakers[0];
/// let LimitReport { kind, .. } = &report.limits[0];
/// let FaultReport { state: fault, .. } = &report.faults[0];
/// assert_eq!((*state, *kind, *fault), (CircuitState::Open, LimitKind::Bulkhead, FaultState::Active));
/// let known = report.etag();
/// assert_eq!(Report { now: chrono::Utc::now(), ..report }.etag(), known, "the clock is no change");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod's UID, empty outside of Kubernetes.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The service's name.
    pub service: String,
    /// The pod's wall clock, for measuring skew.
    pub now: DateTime<Utc>,
    /// Which policy is in force.
    pub policy: PolicyReport,
    /// Hash of `faults.json` as read, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults_hash: Option<String>,
    /// Breakers by target.
    #[serde(default, deserialize_with = "circuits")]
    pub circuit_breakers: Vec<CircuitBreakerReport>,
    /// Limits by name.
    #[serde(default, deserialize_with = "known")]
    pub limits: Vec<LimitReport>,
    /// Faults that name this pod.
    #[serde(default, deserialize_with = "known")]
    pub faults: Vec<FaultReport>,
}

/// The entries that this reader knows. One of a newer writer (a limit of another kind, a fault that is new) is passed
/// over like a field that is not known: it says nothing about the others.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry<T> {
        Known(T),
        New(IgnoredAny),
    }
    let entries = Vec::<Entry<T>>::deserialize(deserializer)?.into_iter();
    Ok(entries
        .filter_map(|entry| match entry {
            Entry::Known(entry) => Some(entry),
            Entry::New(IgnoredAny) => None,
        })
        .collect())
}

/// The circuits, each in a state that this reader knows or in [`CircuitState::Unknown`]: one that is left out would read
/// as one that is closed. What a newer writer calls an override is left out, since the state is what callers meet.
fn circuits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CircuitBreakerReport>, D::Error> {
    let rows = Vec::<Value>::deserialize(deserializer)?.into_iter();
    Ok(rows.filter_map(circuit).collect())
}

fn circuit(mut row: Value) -> Option<CircuitBreakerReport> {
    if row
        .get("override")
        .is_some_and(|mask| OverrideState::deserialize(mask).is_err())
    {
        row.as_object_mut()?.remove("override");
    }
    let state = row.get_mut("state")?;
    let new = match CircuitState::deserialize(&*state) {
        Ok(CircuitState::Unknown) | Err(_) => Some(std::mem::replace(state, CircuitState::Unknown.as_str().into())),
        Ok(_) => None,
    };
    let new_state = new.map(|new| {
        let word = new.as_str().map_or_else(|| new.to_string(), str::to_owned);
        word.chars().take(MAX_NEW_STATE).collect()
    });
    let row = CircuitBreakerReport::deserialize(row).ok()?;
    Some(CircuitBreakerReport { new_state, ..row })
}

/// So much of a word that nobody here knows is kept. Unit: characters.
const MAX_NEW_STATE: usize = 64;

/// Which policy is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Versions of the policy document that this pod reads.
    pub versions: Vec<u32>,
    /// Lower-case hex sha256 of the bytes in force; left out when the compiled-in defaults are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Where they came from.
    #[serde(default)]
    pub source: PolicySource,
    /// When they came into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<DateTime<Utc>>,
    /// Why a newer document was not accepted, at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Fields of the document that this pod does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_fields: Vec<String>,
}

/// Where the policy in force came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PolicySource {
    /// The mounted folder.
    #[default]
    Document,
    /// The copy kept across a restart.
    LastGood,
    /// No document was ever seen.
    Defaults,
    /// One that a newer writer knows.
    #[serde(other)]
    Unknown,
}

/// One breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreakerReport {
    /// The target's name.
    pub target: String,
    /// The address, for breakers of scope `Host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The state that callers meet, overrides included.
    pub state: CircuitState,
    /// What the writer calls the state, at most 64 characters, where that is `Unknown`.
    #[serde(skip)]
    pub new_state: Option<String>,
    /// Calls in the window.
    #[serde(default)]
    pub calls: u64,
    /// Failed calls in the window.
    #[serde(default)]
    pub failures: u64,
    /// Slow calls in the window.
    #[serde(default)]
    pub slow: u64,
    /// When an open breaker lets the next probe pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe_at: Option<DateTime<Utc>>,
    /// The override in force.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub override_state: Option<OverrideState>,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls probe.
    HalfOpen,
    /// One that a newer writer knows.
    #[serde(other)]
    Unknown,
}

impl CircuitState {
    /// The name in reports and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Open => "Open",
            Self::HalfOpen => "HalfOpen",
            Self::Unknown => "Unknown",
        }
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// The rule's or target's name.
    pub name: String,
    /// What kind of limit it is.
    pub kind: LimitKind,
    /// The limit in force on this pod, its share where it is shared.
    pub limit: u64,
    /// Requests in flight, or keys that are live.
    #[serde(default)]
    pub in_use: u64,
    /// Requests let through since the start.
    #[serde(default)]
    pub allowed: u64,
    /// Requests refused since the start.
    #[serde(default)]
    pub refused: u64,
    /// Whether a shared limit runs on the local share because Redis does not answer.
    #[serde(default)]
    pub degraded: bool,
}

/// The kind of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitKind {
    /// Requests per time.
    RateLimit,
    /// Inbound requests at a time.
    Concurrency,
    /// Outbound calls at a time.
    Bulkhead,
}

/// One fault that names this pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// The run's id.
    pub run: String,
    /// The kind of the fault.
    #[serde(rename = "type")]
    pub fault_type: FaultType,
    /// What became of it.
    pub state: FaultState,
    /// Why it was refused or ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds until it ends; 0 once it ended.
    #[serde(default)]
    pub remaining_ms: u64,
    /// Requests that it was done to so far; left out by a reader that does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FaultState {
    /// In force.
    Active,
    /// Over.
    Ended,
    /// Never begun.
    Refused,
}

impl Report {
    /// The strong entity tag, with its quotes: changes when hash, error, breaker state, limit or fault changes, and
    /// stays when only the clock, a count or a remaining time does.
    #[must_use]
    pub fn etag(&self) -> String {
        let mut stable = self.clone();
        stable.now = DateTime::<Utc>::UNIX_EPOCH;
        for breaker in &mut stable.circuit_breakers {
            (breaker.calls, breaker.failures, breaker.slow, breaker.next_probe_at) = (0, 0, 0, None);
        }
        for limit in &mut stable.limits {
            (limit.in_use, limit.allowed, limit.refused) = (0, 0, 0);
        }
        for fault in &mut stable.faults {
            (fault.remaining_ms, fault.hits) = (0, None);
        }
        let hash = crate::parse::hash(crate::policy::render(&stable).as_bytes());
        format!("\"{}\"", &hash[..32])
    }
}
