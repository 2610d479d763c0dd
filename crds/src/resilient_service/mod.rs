//! ResilientService: deploys a service and says how it must survive.

mod concurrency;
mod guard;
mod inbound;
mod maps;
mod monitoring;
mod pod;
mod policy;
mod probes;
mod resources;
mod spec;
mod status;
mod verbatim;
mod workload;

pub use concurrency::{Concurrency, ConcurrencyType, Priorities, Priority, PriorityHeader, RoutePriority};
pub use guard::{Guard, GuardInbound, GuardMode, GuardOutbound, GuardPort, GuardProtocol, GuardTargets, UnknownHosts};
pub use inbound::{Idempotency, Inbound, LimitAlgorithm, LimitKey, LimitKeyType, LimitScope, RateLimit, RateLimitRule};
pub use monitoring::{Monitoring, MonitoringMode};
pub use pod::{
    Capabilities, SeccompProfile, SeccompProfileType, SecurityContext, TaintEffect, Toleration, TolerationOperator,
    VolumeMount,
};
pub use policy::{
    Backoff, Balancing, BalancingType, BreakerScope, Bulkhead, CaBundleRef, CircuitBreaker, Hedge, HedgeType, Mode,
    OverrideState, ReportProtocol, Resilience, Retry, RetryBudget, Target, TargetDefaults, TargetOverride, TargetTls,
    Timeouts, Window, WindowType,
};
pub use probes::{HttpHeader, ProbeScheme, ProbeSpec, ProbeType, Probes};
pub use resources::ResourceRequirements;
pub use spec::{
    Chaos, ChaosAdmission, ContainerPort, EnvFrom, EnvVar, EnvVarSource, FieldReference, ImagePullPolicy, KeyReference,
    Lifecycle, LocalReference, ResilientService, ResilientServiceSpec,
};
pub use status::{
    ActiveFault, CircuitBreakerStatus, ConfigStatus, LastExperiment, ResilientServiceStatus, ServiceSummary,
};
pub use verbatim::Verbatim;
pub use workload::{
    Autoscaling, ConfigReload, Disruption, NetworkPolicy, NetworkPolicyMode, ReloadStrategy, ServiceExposure,
    ServiceType, TopologySpread, TopologySpreadMode, UpdateStrategy, UpdateStrategyType,
};
