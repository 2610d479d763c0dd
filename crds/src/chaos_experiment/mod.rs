//! ChaosExperiment: injects one fault into one service, within limits, and returns a verdict.

mod probes;
mod spec;
mod status;

pub use probes::{
    Comparator, ConditionKind, ConditionProbe, Expectation, HttpMethod, HttpProbe, JsonExpectation, LatencyPercentile,
    Probe, ProbeHeader, ProbeMode, PrometheusProbe, SteadyState,
};
pub use spec::{
    AbortFault, After, CHAOS_FAULTS, ChaosExperiment, ChaosExperimentSpec, ChaosTarget, ConcurrencyPolicy,
    CpuStressFault, CrashFault, DesiredState, ErrorsFault, ExcludedWindow, KillMethod, LatencyFault, MemoryStressFault,
    PartitionDirection, PartitionFault, PodKillFault, PodSelector, RefuseFault, RequiredVerdict, Safety, Weekday,
};
pub use status::{
    AskedBy, ChaosExperimentStatus, ChaosPhase, ChaosSummary, PastRun, ProbeStatus, RefusedBy, SparedPod, TargetState,
    TargetStatus, Verdict,
};
