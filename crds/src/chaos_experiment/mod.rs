//! ChaosExperiment: injects one fault into one service, within limits, and returns a verdict.

mod faults;
mod limits;
mod occasion;
mod probes;
mod spec;
mod status;

pub use faults::{
    AbortFault, CpuStressFault, CrashFault, ErrorsFault, KillMethod, LatencyFault, MemoryStressFault,
    PartitionDirection, PartitionFault, PodKillFault, RefuseFault,
};
pub use limits::{ChaosTarget, PodSelector, Safety};
pub use occasion::{After, ConcurrencyPolicy, ExcludedWindow, RequiredVerdict, Weekday};
pub use probes::{
    Comparator, ConditionKind, ConditionProbe, Expectation, GrpcProbe, HttpMethod, HttpProbe, JsonExpectation,
    LatencyPercentile, Probe, ProbeHeader, ProbeMode, PrometheusProbe, SteadyState,
};
pub use spec::{CHAOS_FAULTS, ChaosExperiment, ChaosExperimentSpec, DesiredState};
pub use status::{
    AskedBy, ChaosExperimentStatus, ChaosPhase, ChaosSummary, PastRun, ProbeStatus, RefusedBy, SparedPod, TargetState,
    TargetStatus, Verdict,
};
