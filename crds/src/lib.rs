//! The custom resources of Valerix as Rust types.
//!
//! What goes in: nothing. What comes out: the kinds, their schemas and the names that every part of the product
//! shares. This crate holds no client and starts no task; the YAML beside it is generated from these types.
//!
//! The field documentation is the user's reference: `kubectl explain` prints it.

// The derive takes one attribute a column, and columns share keys.
#![allow(clippy::duplicated_attributes)]

mod backup;
mod backup_policy;
pub mod backup_runner;
mod chaos_experiment;
mod condition;
mod duration;
pub mod names;
mod resilient_service;
mod restore;
pub mod restore_runner;
#[cfg(any(test, feature = "testing"))]
pub mod rules;
pub mod schema;

pub use backup::{
    Backup, BackupDatabaseStatus, BackupPhase, BackupPolicyReference, BackupSpec, BackupStatus, ConditionalWrites,
    FoundArchive, FoundArchives, OpenUpload, RetentionStatus, TrialRestoreState, TrialRestoreStatus, Upload,
    UploadState,
};
pub use backup_policy::{
    BackupDatabase, BackupDestination, BackupEncryption, BackupGlobals, BackupJob, BackupPolicy, BackupPolicySpec,
    BackupPolicyStatus, BackupRetention, BackupSchedule, BackupScratch, BackupSummary, BackupVerification,
    ChecksumMode, Compression, DeletionPolicy, DestinationChoice, LastRun, LastRunResult, LastSuccess, LastUpload,
    Minimum, S3Destination, SecretReference, TrialRestore, VerificationQuery, VolumeClaimDestination,
};
pub use chaos_experiment::{
    AbortFault, After, AskedBy, CHAOS_FAULTS, ChaosExperiment, ChaosExperimentSpec, ChaosExperimentStatus, ChaosPhase,
    ChaosSummary, ChaosTarget, Comparator, ConcurrencyPolicy, ConditionKind, ConditionProbe, CpuStressFault,
    CrashFault, DesiredState, ErrorsFault, ExcludedWindow, Expectation, GrpcProbe, HttpMethod, HttpProbe,
    JsonExpectation, KillMethod, LatencyFault, LatencyPercentile, MemoryStressFault, PartitionDirection,
    PartitionFault, PastRun, PodKillFault, PodSelector, Probe, ProbeHeader, ProbeMode, ProbeStatus, PrometheusProbe,
    RefuseFault, RefusedBy, RequiredVerdict, Safety, SparedPod, SteadyState, TargetState, TargetStatus, Verdict,
    Weekday,
};
pub use condition::{ConditionStatus, conditions_schema};
pub use duration::{DURATION_PATTERN, Duration, InvalidDuration};
pub use resilient_service::{
    ActiveFault, Autoscaling, Backoff, Balancing, BalancingType, BreakerScope, Bulkhead, CaBundleRef, Capabilities,
    Chaos, ChaosAdmission, CircuitBreaker, CircuitBreakerStatus, Concurrency, ConcurrencyType, ConfigReload,
    ConfigStatus, ContainerPort, Disruption, EnvFrom, EnvVar, EnvVarSource, FieldReference, Guard, GuardInbound,
    GuardMode, GuardOutbound, GuardPort, GuardProtocol, GuardTargets, Hedge, HedgeType, HttpHeader, Idempotency,
    ImagePullPolicy, Inbound, KeyReference, LastExperiment, Lifecycle, LimitAlgorithm, LimitKey, LimitKeyType,
    LimitScope, LocalReference, Mode, Monitoring, MonitoringMode, NetworkPolicy, NetworkPolicyMode, OverrideState,
    Priorities, Priority, PriorityHeader, ProbeScheme, ProbeSpec, ProbeType, Probes, RateLimit, RateLimitRule,
    ReloadStrategy, ReportProtocol, Resilience, ResilientService, ResilientServiceSpec, ResilientServiceStatus,
    ResourceRequirements, Retry, RetryBudget, RoutePriority, SeccompProfile, SeccompProfileType, SecurityContext,
    ServiceExposure, ServiceSummary, ServiceType, TaintEffect, Target, TargetDefaults, TargetOverride, TargetTls,
    Timeouts, Toleration, TolerationOperator, TopologySpread, TopologySpreadMode, UnknownHosts, UpdateStrategy,
    UpdateStrategyType, Verbatim, VolumeMount, Window, WindowType,
};
pub use restore::{
    PolicyName, Replace, Restore, RestoreDatabase, RestoreDatabasePhase, RestoreDatabaseStatus, RestoreJob,
    RestoreJobStatus, RestoreMode, RestorePhase, RestoreRoles, RestoreSelect, RestoreSource, RestoreSourceStatus,
    RestoreSpec, RestoreStatus, RestoreTarget, StoredArchive,
};

/// The API group of every kind.
pub const GROUP: &str = "resilience.valerix.io";
/// The only version that is served.
pub const VERSION: &str = "v1alpha1";
