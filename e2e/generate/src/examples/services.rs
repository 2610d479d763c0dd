//! Services: what a team writes for a program of its own or of others.

use super::{duration, resources, service};
use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use valerix_crds::{
    Autoscaling, Bulkhead, Chaos, ChaosAdmission, CircuitBreaker, Concurrency, ConcurrencyType, ContainerPort,
    Disruption, EnvFrom, Guard, GuardMode, Idempotency, Inbound, LimitKey, LimitKeyType, LimitScope, LocalReference,
    NetworkPolicy, NetworkPolicyMode, Priorities, Priority, ProbeSpec, ProbeType, Probes, RateLimit, RateLimitRule,
    ReportProtocol, Resilience, ResilientService, ResilientServiceSpec, RoutePriority, SecurityContext, Target,
    Timeouts, Verbatim, VolumeMount,
};

pub fn any_image() -> ResilientService {
    ResilientService::new(
        "cache",
        ResilientServiceSpec {
            command: ["redis-server", "--save", "", "--dir", "/tmp"].map(Into::into).to_vec(),
            ports: vec![ContainerPort {
                name: "redis".into(),
                container_port: 6379,
                service_port: None,
            }],
            resilience: Some(Resilience {
                protocol: Some(ReportProtocol::None),
                ..Default::default()
            }),
            ..service("docker.io/library/redis:7.0-bookworm")
        },
    )
}

pub fn guarded() -> Result<ResilientService> {
    let ledger = CircuitBreaker {
        consecutive_failures: Some(3),
        open_duration: Some(duration("10s")?),
        ..Default::default()
    };
    let connections = Bulkhead {
        max_concurrent: Some(50),
        max_wait: None,
    };
    Ok(ResilientService::new(
        "tickets",
        ResilientServiceSpec {
            replicas: 2,
            ports: vec![ContainerPort {
                name: "http".into(),
                container_port: 8080,
                service_port: Some(80),
            }],
            probes: Some(Probes {
                startup: None,
                readiness: Some(ProbeSpec {
                    path: Some("/health".into()),
                    ..Default::default()
                }),
                liveness: None,
            }),
            chaos: Some(Chaos {
                admission: ChaosAdmission::Allowed,
            }),
            guard: Some(Guard {
                mode: Some(GuardMode::Sidecar),
                ..Default::default()
            }),
            resilience: Some(Resilience {
                targets: vec![
                    Target {
                        circuit_breaker: Some(ledger),
                        ..target("ledger", "http://ledger")
                    },
                    Target {
                        bulkhead: Some(connections),
                        ..target("cache", "tcp://cache:6379")
                    },
                ],
                ..Default::default()
            }),
            ..service("ghcr.io/acme/tickets:1.0.0")
        },
    ))
}

pub fn with_breaker() -> Result<ResilientService> {
    let probe = |path: &str| {
        Some(ProbeSpec {
            path: Some(path.into()),
            ..Default::default()
        })
    };
    Ok(ResilientService::new(
        "storefront",
        ResilientServiceSpec {
            replicas: 2,
            ports: vec![ContainerPort {
                name: "http".into(),
                container_port: 8080,
                service_port: Some(80),
            }],
            probes: Some(Probes {
                startup: probe("/health"),
                readiness: probe("/ready"),
                liveness: probe("/health"),
            }),
            chaos: Some(Chaos {
                admission: ChaosAdmission::Allowed,
            }),
            resilience: Some(Resilience {
                targets: vec![Target {
                    timeout: Some(Timeouts {
                        request: Some(duration("1s")?),
                        attempt: Some(duration("500ms")?),
                        connect: None,
                    }),
                    circuit_breaker: Some(CircuitBreaker {
                        consecutive_failures: Some(3),
                        open_duration: Some(duration("10s")?),
                        ..Default::default()
                    }),
                    idempotent_routes: vec!["POST /api/inventory/deduct".into()],
                    ..target("inventory", "http://inventory.shop.svc")
                }],
                ..Default::default()
            }),
            ..service("ghcr.io/acme/storefront:1.4.2")
        },
    ))
}

pub fn with_limits() -> Result<ResilientService> {
    let per_customer = RateLimitRule {
        name: "orders".into(),
        scope: Some(LimitScope::Distributed),
        routes: vec!["POST /api/orders".into()],
        requests: 5,
        window: duration("10s")?,
        burst: None,
        algorithm: None,
        key: Some(LimitKey {
            kind: LimitKeyType::Claim,
            name: Some("sub".into()),
        }),
    };
    let suggestions = RoutePriority {
        route: "GET /api/suggestions".into(),
        priority: Priority::BestEffort,
    };
    Ok(ResilientService::new(
        "checkout",
        ResilientServiceSpec {
            replicas: 3,
            ports: vec![ContainerPort {
                name: "http".into(),
                container_port: 8080,
                service_port: Some(80),
            }],
            // The Redis that the replicas share their limits through.
            env_from: vec![EnvFrom {
                config_map_ref: None,
                secret_ref: Some(LocalReference {
                    name: "checkout-redis".into(),
                }),
                prefix: None,
            }],
            resilience: Some(Resilience {
                inbound: Some(Inbound {
                    timeout: Some(duration("10s")?),
                    rate_limit: Some(RateLimit {
                        rules: vec![per_customer],
                    }),
                    concurrency: Some(Concurrency {
                        kind: Some(ConcurrencyType::Adaptive),
                        priorities: Some(Priorities {
                            routes: vec![suggestions],
                            ..Default::default()
                        }),
                        ..Default::default()
                    }),
                    idempotency: Some(Idempotency {
                        required_routes: vec!["POST /api/orders".into()],
                        ..Default::default()
                    }),
                }),
                ..Default::default()
            }),
            ..service("ghcr.io/acme/checkout:2.0.1")
        },
    ))
}

/// What podinfo's own chart deploys when its values for volumes, scaling and disruption are turned on.
pub fn of_a_manifest() -> Result<ResilientService> {
    let probe = |path: &str| {
        Some(ProbeSpec {
            command: ["podcli", "check", "http", path].map(Into::into).to_vec(),
            kind: Some(ProbeType::Exec),
            initial_delay_seconds: Some(1),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            ..Default::default()
        })
    };
    Ok(ResilientService::new(
        "podinfo",
        ResilientServiceSpec {
            command: ["./podinfo", "--port=9898", "--level=info"].map(Into::into).to_vec(),
            ports: vec![ContainerPort {
                name: "http".into(),
                container_port: 9898,
                service_port: None,
            }],
            volumes: vec![verbatim(json!({"name": "data", "emptyDir": {"sizeLimit": "64Mi"}}))?],
            volume_mounts: vec![VolumeMount {
                name: "data".into(),
                mount_path: "/data".into(),
                sub_path: None,
                read_only: None,
            }],
            security_context: Some(SecurityContext {
                run_as_user: Some(100),
                run_as_group: Some(101),
                ..Default::default()
            }),
            node_selector: [("kubernetes.io/os".to_owned(), "linux".to_owned())].into(),
            pod_overrides: Some(verbatim(
                json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
            )?),
            resources: Some(resources(("100m", "64Mi"), ("1", "128Mi"))),
            probes: Some(Probes {
                startup: None,
                readiness: probe("localhost:9898/readyz"),
                liveness: probe("localhost:9898/healthz"),
            }),
            autoscaling: Some(Autoscaling {
                min_replicas: Some(2),
                max_replicas: 10,
                target_cpu_utilization_percentage: Some(70),
                target_memory_utilization_percentage: None,
                metrics: vec![],
                behavior: Some(verbatim(json!({"scaleDown": {"stabilizationWindowSeconds": 120}}))?),
            }),
            disruption: Some(Disruption {
                max_unavailable: Some(IntOrString::Int(1)),
                min_available: None,
            }),
            network_policy: Some(NetworkPolicy {
                mode: Some(NetworkPolicyMode::Managed),
                ingress_from: Some(vec![verbatim(json!({"namespaceSelector": {}}))?]),
                egress_to: None,
            }),
            resilience: Some(Resilience {
                protocol: Some(ReportProtocol::None),
                ..Default::default()
            }),
            ..service("ghcr.io/stefanprodan/podinfo:6.9.2")
        },
    ))
}

/// A part that is written as in Kubernetes.
pub fn verbatim(part: Value) -> Result<Verbatim> {
    serde_json::from_value(part).context("failed to read a part of an example")
}

/// A target of which only the address is said.
fn target(name: &str, url: &str) -> Target {
    Target {
        name: name.into(),
        url: Some(url.into()),
        tls: None,
        timeout: None,
        retry: None,
        circuit_breaker: None,
        bulkhead: None,
        idempotent_routes: vec![],
        hedge: None,
        balancing: None,
        manual_override: None,
    }
}
