//! ChaosExperiment: injects one fault into one service, within limits, and returns a verdict.

mod probes;
mod spec;
mod status;

pub use probes::{ConditionKind, ConditionProbe, Expectation, HttpMethod, HttpProbe, Probe, ProbeMode, SteadyState};
pub use spec::{
    AbortFault, ChaosExperiment, ChaosExperimentSpec, ChaosTarget, CpuStressFault, CrashFault, DesiredState,
    ErrorsFault, LatencyFault, MemoryStressFault, PartitionDirection, PartitionFault, PodKillFault, RefuseFault,
    Safety,
};
pub use status::{
    ChaosExperimentStatus, ChaosPhase, ChaosSummary, ProbeStatus, RefusedBy, TargetState, TargetStatus, Verdict,
};
