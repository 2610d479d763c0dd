//! The examples, built from the types so that they cannot drift from the API.

use crate::Files;
use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use valerix_crds::{
    Autoscaling, BackupDatabase, BackupDestination, BackupPolicy, BackupPolicySpec, BackupRetention, BackupSchedule,
    BackupVerification, Bulkhead, Chaos, ChaosAdmission, ChaosExperiment, ChaosExperimentSpec, ChaosTarget,
    CircuitBreaker, Concurrency, ConcurrencyPolicy, ConcurrencyType, ContainerPort, DesiredState, Disruption, Duration,
    EnvFrom, ErrorsFault, ExcludedWindow, Expectation, Guard, GuardMode, HttpMethod, HttpProbe, Idempotency, Inbound,
    LatencyFault, LimitKey, LimitKeyType, LimitScope, LocalReference, NetworkPolicy, NetworkPolicyMode, PodKillFault,
    PolicyName, Priorities, Priority, Probe, ProbeMode, ProbeSpec, ProbeType, Probes, RateLimit, RateLimitRule,
    Replace, ReportProtocol, Resilience, ResilientService, ResilientServiceSpec, ResourceRequirements, Restore,
    RestoreDatabase, RestoreMode, RestoreRoles, RestoreSelect, RestoreSource, RestoreSpec, RestoreTarget,
    RoutePriority, S3Destination, Safety, SecretReference, SecurityContext, SteadyState, StoredArchive, Target,
    Timeouts, TrialRestore, Verbatim, VolumeClaimDestination, VolumeMount, Weekday,
};

mod shop;

/// One file: its name, what a reader learns from it, and the objects.
struct Example {
    name: &'static str,
    about: &'static str,
    objects: Vec<Value>,
}

pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for example in examples()? {
        let mut text =
            String::from("# Generated from e2e/generate/src/examples.rs; change that and run `make generate`.\n");
        for line in example.about.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        for object in &example.objects {
            text.push_str("---\n");
            text.push_str(&crate::yaml::write(object).context("failed to write an example as YAML")?);
        }
        files.insert(Path::new("examples").join(format!("{}.yaml", example.name)), text);
    }
    Ok(files)
}

fn examples() -> Result<Vec<Example>> {
    let mut all = vec![
        Example {
            name: "service-any-image",
            about: "A service of an image that knows nothing of Valerix: deployed, kept true, never asked for a report.",
            objects: vec![object(&any_image())?],
        },
        Example {
            name: "service-guarded",
            about: "A service of an image that knows nothing of Valerix, with a guard beside it that obeys the policy in its place: a breaker,\ndeadlines and retries towards the ledger, whose address the program finds in VALERIX_TARGET_LEDGER_URL, and a bound on\nconnections to Redis (VALERIX_TARGET_CACHE_ADDR). It consents to experiments.",
            objects: vec![object(&guarded()?)?],
        },
        Example {
            name: "service-with-breaker",
            about: "A service that calls another one: deadlines, a breaker that opens after three failures, consent to experiments.\nIts image links the resilience library (or speaks its report protocol).",
            objects: vec![object(&with_breaker()?)?],
        },
        Example {
            name: "service-with-limits",
            about: "A service that many call: five orders in ten seconds for each customer, counted once for all replicas; a limit of\nrequests at a time that measures itself and lets suggestions go first; orders only with an Idempotency-Key.",
            objects: vec![object(&with_limits()?)?],
        },
        Example {
            name: "service-of-a-manifest",
            about: "What a Deployment, a Service, a HorizontalPodAutoscaler, a PodDisruptionBudget and a NetworkPolicy of a public chart say,\nas one service: podinfo, with a volume, a user of its own, a probe by command and room to grow.",
            objects: vec![object(&of_a_manifest()?)?],
        },
        Example {
            name: "chaos-pod-kill",
            about: "Evicts one pod of `inventory` and judges whether orders are still accepted meanwhile.",
            objects: vec![object(&pod_kill())?],
        },
        Example {
            name: "chaos-latency",
            about: "Delays every request to `inventory` by three seconds for twenty seconds.",
            objects: vec![object(&latency()?)?],
        },
        Example {
            name: "chaos-errors-on-schedule",
            about: "Every working day but Friday at ten, Berlin time, seven of ten stock deductions fail for one minute.",
            objects: vec![object(&errors_on_schedule()?)?],
        },
        Example {
            name: "backup-daily",
            about: "Two databases, one checked archive a day on a claim. Needs the Secrets and the claim that it names.",
            objects: vec![object(&backup())?],
        },
        Example {
            name: "backup-s3",
            about: "The same into a bucket of an S3-compatible store: one conditional PutObject a day. Needs the bucket and the Secrets.",
            objects: vec![object(&backup_into_bucket())?],
        },
        Example {
            name: "restore-new-database",
            about: "Gives one database of the newest archive back under a name of its own. Nothing that is there is touched.",
            objects: vec![object(&restore_new())?],
        },
        Example {
            name: "restore-replace",
            about: "Puts the database of one day in the place of the living one, which is kept aside, closed, for three days.",
            objects: vec![object(&restore_replacing()?)?],
        },
        Example {
            name: "restore-lost-cluster",
            about: "The cluster is gone, its bucket is not: everything of one archive, with the roles that the new server lacks.",
            objects: vec![object(&restore_lost())?],
        },
    ];
    for (name, about, experiment) in shop::experiments()? {
        all.push(Example {
            name,
            about,
            objects: vec![object(&experiment)?],
        });
    }
    Ok(all)
}

/// An object as JSON without its empty status.
fn object<K: Serialize>(resource: &K) -> Result<Value> {
    let mut value = serde_json::to_value(resource).context("failed to write an example as JSON")?;
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    Ok(value)
}

fn any_image() -> ResilientService {
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

fn guarded() -> Result<ResilientService> {
    let target = |name: &str, url: &str, circuit_breaker: Option<CircuitBreaker>, bulkhead: Option<Bulkhead>| Target {
        name: name.into(),
        url: Some(url.into()),
        tls: None,
        timeout: None,
        retry: None,
        circuit_breaker,
        bulkhead,
        idempotent_routes: vec![],
        hedge: None,
        balancing: None,
        manual_override: None,
    };
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
                    target("ledger", "http://ledger", Some(ledger), None),
                    target("cache", "tcp://cache:6379", None, Some(connections)),
                ],
                ..Default::default()
            }),
            ..service("ghcr.io/acme/tickets:1.0.0")
        },
    ))
}

fn with_breaker() -> Result<ResilientService> {
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
                    name: "inventory".into(),
                    url: Some("http://inventory.shop.svc".into()),
                    tls: None,
                    timeout: Some(Timeouts {
                        request: Some(duration("1s")?),
                        attempt: Some(duration("500ms")?),
                        connect: None,
                    }),
                    retry: None,
                    circuit_breaker: Some(CircuitBreaker {
                        consecutive_failures: Some(3),
                        open_duration: Some(duration("10s")?),
                        ..Default::default()
                    }),
                    bulkhead: None,
                    idempotent_routes: vec!["POST /api/inventory/deduct".into()],
                    hedge: None,
                    balancing: None,
                    manual_override: None,
                }],
                ..Default::default()
            }),
            ..service("ghcr.io/acme/storefront:1.4.2")
        },
    ))
}

fn with_limits() -> Result<ResilientService> {
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
fn of_a_manifest() -> Result<ResilientService> {
    let quantities = |cpu: &str, memory: &str| {
        [("cpu", cpu), ("memory", memory)]
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .into()
    };
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
            resources: Some(ResourceRequirements {
                requests: quantities("100m", "64Mi"),
                limits: quantities("1", "128Mi"),
            }),
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
fn verbatim(part: Value) -> Result<Verbatim> {
    serde_json::from_value(part).context("failed to read a part of an example")
}

fn service(image: &str) -> ResilientServiceSpec {
    ResilientServiceSpec {
        image: image.into(),
        image_pull_policy: None,
        image_pull_secrets: vec![],
        replicas: 1,
        command: vec![],
        args: vec![],
        env: vec![],
        env_from: vec![],
        ports: vec![],
        service: None,
        volumes: vec![],
        volume_mounts: vec![],
        init_containers: vec![],
        security_context: None,
        service_account_name: None,
        node_selector: Default::default(),
        tolerations: vec![],
        affinity: None,
        priority_class_name: None,
        pod_overrides: None,
        resources: None,
        probes: None,
        pod_labels: Default::default(),
        pod_annotations: Default::default(),
        termination_grace_period_seconds: 45,
        lifecycle: None,
        strategy: None,
        min_ready_seconds: None,
        progress_deadline_seconds: None,
        autoscaling: None,
        disruption: None,
        topology_spread: None,
        network_policy: None,
        monitoring: None,
        config_reload: None,
        chaos: None,
        resilience: None,
        guard: None,
        paused: false,
    }
}

fn pod_kill() -> ChaosExperiment {
    ChaosExperiment::new(
        "inventory-loses-a-pod",
        ChaosExperimentSpec {
            pod_kill: Some(PodKillFault::default()),
            steady_state: Some(orders_accepted()),
            ..experiment()
        },
    )
}

fn latency() -> Result<ChaosExperiment> {
    Ok(ChaosExperiment::new(
        "inventory-slow",
        ChaosExperimentSpec {
            latency: Some(LatencyFault {
                delay: duration("3s")?,
                jitter: None,
                percent: 100,
                routes: vec![],
            }),
            count: IntOrString::String("100%".into()),
            duration: Some(duration("20s")?),
            steady_state: Some(orders_accepted()),
            ..experiment()
        },
    ))
}

fn errors_on_schedule() -> Result<ChaosExperiment> {
    Ok(ChaosExperiment::new(
        "inventory-errors",
        ChaosExperimentSpec {
            errors: Some(ErrorsFault {
                percent: 70,
                status: 503,
                routes: vec!["POST /api/inventory/deduct".into()],
            }),
            duration: Some(duration("60s")?),
            schedule: Some("0 10 * * 1-5".into()),
            time_zone: Some("Europe/Berlin".into()),
            excluded_windows: vec![ExcludedWindow {
                days: vec![Weekday::Fri],
                from: "00:00".into(),
                to: "00:00".into(),
            }],
            safety: Some(Safety {
                min_available: Some(1),
                min_pod_age: None,
                cooldown: Some(duration("5m")?),
            }),
            ..experiment()
        },
    ))
}

fn experiment() -> ChaosExperimentSpec {
    ChaosExperimentSpec {
        desired: DesiredState::Run,
        target: ChaosTarget {
            service: "inventory".into(),
            zone: None,
            pod_selector: None,
        },
        pod_kill: None,
        latency: None,
        errors: None,
        abort: None,
        refuse: None,
        partition: None,
        crash: None,
        cpu_stress: None,
        memory_stress: None,
        count: IntOrString::Int(1),
        duration: None,
        schedule: None,
        time_zone: None,
        starting_deadline_seconds: None,
        concurrency_policy: ConcurrencyPolicy::Forbid,
        excluded_windows: vec![],
        suspend: false,
        dry_run: false,
        after: None,
        safety: None,
        steady_state: None,
    }
}

/// The order API answers at once whether or not inventory does: that is the shop's promise.
fn orders_accepted() -> SteadyState {
    SteadyState {
        probes: vec![Probe {
            name: "orders-accepted".into(),
            http: Some(HttpProbe {
                service: "order".into(),
                port: 80,
                path: "/api/orders".into(),
                method: HttpMethod::Post,
                headers: vec![],
                body: Some(r#"{"item_id":"ps5","quantity":1}"#.into()),
                expect: Some(Expectation {
                    status: None,
                    body_contains: Some("order_id".into()),
                    json: vec![],
                    max_latency: None,
                    latency_percentile: None,
                }),
            }),
            grpc: None,
            condition: None,
            prometheus: None,
            mode: ProbeMode::Continuous,
            interval: None,
            failure_threshold: None,
        }],
        stop_on_failure: true,
        recovery_timeout: None,
    }
}

fn backup() -> BackupPolicy {
    let database = |name: &str| BackupDatabase {
        name: name.into(),
        connection_secret_ref: SecretReference {
            name: format!("{name}-database"),
        },
        minimum: None,
    };
    BackupPolicy::new(
        "nightly",
        BackupPolicySpec {
            schedule: BackupSchedule {
                time_of_day: "03:15".into(),
                time_zone: "Europe/Berlin".into(),
                catch_up_window: None,
            },
            databases: vec![database("orders"), database("inventory")],
            globals: None,
            compression: None,
            retention: Some(BackupRetention::default()),
            verification: Some(BackupVerification {
                restore: TrialRestore::Weekly,
                ..BackupVerification::default()
            }),
            destination: BackupDestination {
                s3: None,
                volume_claim: Some(VolumeClaimDestination {
                    claim_name: "backups".into(),
                    path: None,
                }),
            },
            scratch: None,
            job: None,
            suspend: false,
        },
    )
}

/// A bucket, and how it is reached.
fn bucket() -> BackupDestination {
    let secret = |name: &str| SecretReference { name: name.into() };
    BackupDestination {
        s3: Some(S3Destination {
            bucket: "archives".into(),
            prefix: Some("pg".into()),
            endpoint: Some("https://minio.storage.svc:9000".into()),
            region: None,
            path_style: None,
            credentials_secret_ref: secret("store"),
            ca_secret_ref: Some(secret("store-authority")),
            checksum_mode: None,
        }),
        volume_claim: None,
    }
}

fn backup_into_bucket() -> BackupPolicy {
    let mut policy = backup();
    policy.metadata.name = Some("nightly-bucket".into());
    policy.spec.destination = bucket();
    policy.spec.verification = Some(BackupVerification {
        restore: TrialRestore::EveryRun,
        ..BackupVerification::default()
    });
    policy
}

fn restore_lost() -> Restore {
    let mut restore = restore_new();
    restore.metadata.name = Some("everything".into());
    let spec = &mut restore.spec;
    spec.source = RestoreSource {
        archive: Some(StoredArchive {
            destination: bucket(),
            key: "pg/shop/nightly-bucket/20260821.tar.zst".into(),
            sha256: None,
        }),
        ..RestoreSource::default()
    };
    spec.databases = Vec::new();
    spec.roles = Some(RestoreRoles::Create);
    restore
}

fn duration(text: &str) -> Result<Duration> {
    text.parse()
        .with_context(|| format!("failed to read the duration {text}"))
}

fn restore_new() -> Restore {
    Restore::new(
        "orders-look",
        RestoreSpec {
            source: RestoreSource {
                policy_ref: Some(PolicyName { name: "nightly".into() }),
                select: None,
                slot: None,
                archive: None,
            },
            target: RestoreTarget {
                connection_secret_ref: SecretReference {
                    name: "postgres-admin".into(),
                },
                admin_secret_ref: None,
            },
            databases: vec![RestoreDatabase {
                name: "orders".into(),
                target: Some("orders_look".into()),
            }],
            roles: None,
            mode: RestoreMode::NewDatabase,
            replace: None,
            scratch: None,
            job: None,
        },
    )
}

fn restore_replacing() -> Result<Restore> {
    let mut restore = restore_new();
    restore.metadata.name = Some("orders-back".into());
    let spec = &mut restore.spec;
    spec.source.select = Some(RestoreSelect::Slot);
    spec.source.slot = Some("2026-08-21".into());
    spec.target = RestoreTarget {
        connection_secret_ref: SecretReference {
            name: "orders-database".into(),
        },
        admin_secret_ref: Some(SecretReference {
            name: "postgres-admin".into(),
        }),
    };
    spec.databases = vec![RestoreDatabase {
        name: "orders".into(),
        target: None,
    }];
    spec.mode = RestoreMode::ReplaceDatabase;
    spec.replace = Some(Replace {
        confirm: "orders".into(),
        keep_previous: Some("72h".parse()?),
    });
    Ok(restore)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_of_them_can_be_applied_to_one_namespace() {
        let mut seen = BTreeSet::new();
        for example in examples().unwrap() {
            for object in &example.objects {
                let named = (object["kind"].to_string(), object["metadata"]["name"].to_string());
                assert!(seen.insert(named.clone()), "{named:?} is there twice: {}", example.name);
            }
        }
    }
}
