//! ChaosExperiment: injects one fault into one service, within limits, and returns a verdict.

mod probes;
mod spec;
mod status;

pub use probes::{
    ConditionKind, ConditionProbe, Expectation, HttpMethod, HttpProbe, JsonExpectation, Probe, ProbeHeader, ProbeMode,
    SteadyState,
};
pub use spec::{
    AbortFault, CHAOS_FAULTS, ChaosExperiment, ChaosExperimentSpec, ChaosTarget, ConcurrencyPolicy, CpuStressFault,
    CrashFault, DesiredState, ErrorsFault, ExcludedWindow, KillMethod, LatencyFault, MemoryStressFault,
    PartitionDirection, PartitionFault, PodKillFault, PodSelector, RefuseFault, Safety, Weekday,
};
pub use status::{
    ChaosExperimentStatus, ChaosPhase, ChaosSummary, PastRun, ProbeStatus, RefusedBy, SparedPod, TargetState,
    TargetStatus, Verdict,
};
