//! `faults.json`: what a running experiment asks of the pods that it names. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

pub(crate) const FAULTS_VERSION: u32 = 1;

/// The faults document. One writer: the operator's chaos controller.
///
/// ```
/// use valerix_policy::{
///     AbortFault, CpuStressFault, CrashFault, ErrorsFault, Fault, FaultEntry, FaultType, Faults, LatencyFault,
///     MemoryStressFault, PartitionDirection, PartitionFault, PodKillFault, RefuseFault,
/// };
///
/// let text = br#"{"version": 1, "faults": [{
///     "run": "r-1", "podUIDs": ["uid"], "duration": "60s",
///     "notAfter": "2026-11-21T10:01:45Z", "intentAt": "2026-11-21T10:00:00Z",
///     "fault": {"partition": {"peer": "shop/inventory"}}}]}"#;
/// let faults = Faults::parse(text)?.document;
/// let FaultEntry { fault, .. } = &faults.faults[0];
/// let Some(PartitionFault { direction, .. }) = &fault.partition else { panic!() };
/// assert_eq!((fault.fault_type(), *direction), (FaultType::Partition, PartitionDirection::Both));
///
/// let every_kind = Fault {
///     latency: Some(LatencyFault { delay: "2s".parse()?, jitter: "500ms".parse()?, percent: 100, routes: vec![] }),
///     errors: Some(ErrorsFault { percent: 70, status: 503, routes: vec![] }),
///     abort: Some(AbortFault { percent: 10, routes: vec!["GET /items".into()] }),
///     refuse: Some(RefuseFault {}),
///     crash: Some(CrashFault { times: 1 }),
///     cpu_stress: Some(CpuStressFault { load_percent: 80, workers: 2 }),
///     memory_stress: Some(MemoryStressFault { size: "256Mi".into() }),
///     pod_kill: Some(PodKillFault {}),
///     partition: None,
/// };
/// assert_eq!(every_kind.fault_type(), FaultType::Unknown, "an entry has exactly one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Faults {
    /// Always 1.
    pub version: u32,
    /// At most one entry; it is also the lock of the target.
    #[serde(default)]
    pub faults: Vec<FaultEntry>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            version: FAULTS_VERSION,
            faults: Vec::new(),
        }
    }
}

/// One run of one experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FaultEntry {
    /// The run's id; a pod obeys each id at most once.
    pub run: String,
    /// What to do: exactly one field.
    pub fault: Fault,
    /// The pods that are meant.
    #[serde(rename = "podUIDs")]
    pub pod_uids: Vec<String>,
    /// How long, on each pod's own monotonic clock.
    pub duration: Duration,
    /// Never later than this by the pod's wall clock, read once.
    pub not_after: DateTime<Utc>,
    /// When the experiment decided.
    pub intent_at: DateTime<Utc>,
    /// Paths that the fault never touches, on any port and by any method: those of the kubelet's probes, or a fault
    /// would have the pods taken out of service or restarted, which nobody asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spared_paths: Vec<String>,
}

/// Exactly one fault. A pod that finds none that it knows reports the entry as refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// Delay requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyFault>,
    /// Answer requests with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorsFault>,
    /// Close requests without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortFault>,
    /// Reset every connection of the main port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<RefuseFault>,
    /// Cut the pod from a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionFault>,
    /// End the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashFault>,
    /// Use up processor time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_stress: Option<CpuStressFault>,
    /// Use up memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_stress: Option<MemoryStressFault>,
    /// Evict the pod: done by the operator, ignored by services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_kill: Option<PodKillFault>,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FaultType {
    /// [`LatencyFault`].
    Latency,
    /// [`ErrorsFault`].
    Errors,
    /// [`AbortFault`].
    Abort,
    /// [`RefuseFault`].
    Refuse,
    /// [`PartitionFault`].
    Partition,
    /// [`CrashFault`].
    Crash,
    /// [`CpuStressFault`].
    CpuStress,
    /// [`MemoryStressFault`].
    MemoryStress,
    /// [`PodKillFault`].
    PodKill,
    /// A kind that this reader does not know.
    #[serde(other)]
    Unknown,
}

impl FaultType {
    /// The name in reports and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "Latency",
            Self::Errors => "Errors",
            Self::Abort => "Abort",
            Self::Refuse => "Refuse",
            Self::Partition => "Partition",
            Self::Crash => "Crash",
            Self::CpuStress => "CpuStress",
            Self::MemoryStress => "MemoryStress",
            Self::PodKill => "PodKill",
            Self::Unknown => "Unknown",
        }
    }
}

/// Delays requests before they are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LatencyFault {
    /// The delay.
    pub delay: Duration,
    /// Uniformly more or less than the delay by up to this. Default 0s.
    #[serde(default, skip_serializing_if = "Duration::is_zero_ref")]
    pub jitter: Duration,
    /// The share of requests. Default 100.
    #[serde(default = "hundred")]
    pub percent: u32,
    /// Only these routes, as `METHOD /path`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

/// Answers requests with an error instead of handling them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErrorsFault {
    /// The share of requests. Default 100.
    #[serde(default = "hundred")]
    pub percent: u32,
    /// The status, 400 to 599. Default 503.
    #[serde(default = "service_unavailable")]
    pub status: u16,
    /// Only these routes, as `METHOD /path`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

/// Closes the connection of a request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AbortFault {
    /// The share of requests. Default 100.
    #[serde(default = "hundred")]
    pub percent: u32,
    /// Only these routes, as `METHOD /path`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

/// Resets every connection of the main port; probes and the report port stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefuseFault {}

/// Cuts the pod from one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PartitionFault {
    /// Which way is cut. Default `Both`.
    #[serde(default)]
    pub direction: PartitionDirection,
    /// The peer's service name, `name` or `namespace/name`.
    pub peer: String,
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PartitionDirection {
    /// Requests from the peer are reset.
    Ingress,
    /// Requests to the peer are refused before they leave, and those under way are cut.
    Egress,
    /// Both.
    #[default]
    Both,
}

/// Ends the process abruptly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CrashFault {
    /// How often per pod, 1 to 3. Default 1.
    #[serde(default = "one")]
    pub times: u32,
}

/// Uses up processor time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CpuStressFault {
    /// The share of one processor that each worker uses. Default 100.
    #[serde(default = "hundred")]
    pub load_percent: u32,
    /// Threads, 1 to 64. Default 1.
    #[serde(default = "one")]
    pub workers: u32,
}

/// Uses up memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MemoryStressFault {
    /// How much, as a Kubernetes quantity such as `256Mi`.
    pub size: String,
}

impl MemoryStressFault {
    /// The size in bytes, or nothing when the text is no quantity in `Ki`, `Mi`, `Gi`, `k`, `M`, `G` or bytes.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let digits = self.size.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = self.size.split_at(digits);
        let factor: u64 = match unit {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor)
    }
}

/// Evicts the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PodKillFault {}

const fn hundred() -> u32 {
    100
}

const fn one() -> u32 {
    1
}

const fn service_unavailable() -> u16 {
    503
}

impl Duration {
    /// For serde, which hands out references.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if passes a reference"
    )]
    pub(crate) fn is_zero_ref(&self) -> bool {
        self.is_zero()
    }
}

impl Fault {
    /// The kind, or [`FaultType::Unknown`] when not exactly one known field is set.
    #[must_use]
    pub fn fault_type(&self) -> FaultType {
        let Self {
            latency,
            errors,
            abort,
            refuse,
            partition,
            crash,
            cpu_stress,
            memory_stress,
            pod_kill,
        } = self;
        let set = [
            (latency.is_some(), FaultType::Latency),
            (errors.is_some(), FaultType::Errors),
            (abort.is_some(), FaultType::Abort),
            (refuse.is_some(), FaultType::Refuse),
            (partition.is_some(), FaultType::Partition),
            (crash.is_some(), FaultType::Crash),
            (cpu_stress.is_some(), FaultType::CpuStress),
            (memory_stress.is_some(), FaultType::MemoryStress),
            (pod_kill.is_some(), FaultType::PodKill),
        ];
        let mut kinds = set.into_iter().filter(|(present, _)| *present).map(|(_, kind)| kind);
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => kind,
            _ => FaultType::Unknown,
        }
    }
}

impl Faults {
    /// The bytes that the operator writes.
    #[must_use]
    pub fn render(&self) -> String {
        crate::policy::render(self)
    }
}
