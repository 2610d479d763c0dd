//! ResilientService: deploys a service and says how it must survive.

mod concurrency;
mod inbound;
mod policy;
mod spec;
mod status;

pub use concurrency::{Concurrency, ConcurrencyType, Priorities, Priority, PriorityHeader, RoutePriority};
pub use inbound::{Idempotency, Inbound, LimitAlgorithm, LimitKey, LimitKeyType, LimitScope, RateLimit, RateLimitRule};
pub use policy::{
    Backoff, Balancing, BalancingType, BreakerScope, Bulkhead, CircuitBreaker, Hedge, HedgeType, Mode, OverrideState,
    ReportProtocol, Resilience, Retry, RetryBudget, Target, TargetDefaults, TargetOverride, Timeouts, Window,
    WindowType,
};
pub use spec::{
    Chaos, ChaosAdmission, ContainerPort, EnvFrom, EnvVar, EnvVarSource, FieldReference, HttpProbeSpec,
    ImagePullPolicy, KeyReference, Lifecycle, LocalReference, Probes, ResilientService, ResilientServiceSpec,
    ResourceRequirements,
};
pub use status::{
    ActiveFault, CircuitBreakerStatus, ConfigStatus, LastExperiment, ResilientServiceStatus, ServiceSummary,
};
