//! The shop's own experiments, ready to apply: one fault each, all judged by the shop's promise that an order is accepted
//! whatever stands behind it.

use super::{duration, experiment, experiments::orders_accepted};
use anyhow::Result;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use valerix_crds::{
    ChaosExperiment, ChaosExperimentSpec, ChaosTarget, CrashFault, ErrorsFault, Expectation, HttpMethod, HttpProbe,
    KillMethod, LatencyFault, PartitionDirection, PartitionFault, PodKillFault, Probe, ProbeMode, RefuseFault, Safety,
};

/// Each with the name of its file and what a reader learns from it.
pub fn experiments() -> Result<Vec<(&'static str, &'static str, ChaosExperiment)>> {
    Ok(vec![
        (
            "chaos/auth-latency",
            "Every pod of `auth` takes two seconds longer for a minute. Teaches that whoever is signed in does not notice: tokens are\nverified with keys that are known already. The shop passes.",
            {
                let mut experiment = of(
                    "auth-latency",
                    "auth",
                    ChaosExperimentSpec {
                        latency: Some(LatencyFault {
                            delay: duration("2s")?,
                            jitter: None,
                            percent: 100,
                            routes: vec![],
                        }),
                        duration: Some(duration("60s")?),
                        ..everywhere()
                    },
                );
                // A fault that nobody meets proves nothing: this probe is who meets it.
                if let Some(steady_state) = &mut experiment.spec.steady_state {
                    steady_state.probes.push(keys_are_published());
                }
                experiment
            },
        ),
        (
            "chaos/zone-loss",
            "Deletes every pod of `inventory` in zone-a at once, as the loss of a zone would. Name a zone of your cluster: `kubectl get\nnodes -L topology.kubernetes.io/zone`. Teaches whether replicas are spread. The shop passes where they are; where all are\nin that zone the run is skipped, as nobody would be left.",
            {
                let mut experiment = of(
                    "zone-loss",
                    "inventory",
                    ChaosExperimentSpec {
                        pod_kill: Some(PodKillFault {
                            method: KillMethod::Delete,
                            grace_period_seconds: Some(0),
                        }),
                        ..everywhere()
                    },
                );
                experiment.spec.target.zone = Some("zone-a".into());
                experiment
            },
        ),
        (
            "chaos/inventory-gremlin",
            "Every pod of `inventory` takes five seconds longer for a minute. Teaches that a slow dependency costs a deadline and then\nan open circuit, not the order: it is accepted as QUEUED and confirmed afterwards. The shop passes.",
            of(
                "inventory-gremlin",
                "inventory",
                ChaosExperimentSpec {
                    latency: Some(LatencyFault {
                        delay: duration("5s")?,
                        jitter: None,
                        percent: 100,
                        routes: vec![],
                    }),
                    duration: Some(duration("60s")?),
                    ..everywhere()
                },
            ),
        ),
        (
            "chaos/payment-errors",
            "Seven of ten payments fail with 503 for a minute. Teaches that a payment is tried again under its own key and charged once:\nthe order waits and is confirmed. The shop passes.",
            of(
                "payment-errors",
                "payment",
                ChaosExperimentSpec {
                    errors: Some(ErrorsFault {
                        percent: 70,
                        status: 503,
                        routes: vec!["POST /payments".into()],
                    }),
                    duration: Some(duration("60s")?),
                    ..everywhere()
                },
            ),
        ),
        (
            "chaos/payment-crash",
            "The process of one pod of `payment` ends without a shutdown, once. Teaches that what was under way is found again in the\ndatabase; the verdict says how long until the pod is ready. The shop passes.",
            of(
                "payment-crash",
                "payment",
                ChaosExperimentSpec {
                    crash: Some(CrashFault { times: 1 }),
                    duration: Some(duration("30s")?),
                    safety: nobody_need_be_left(),
                    ..experiment()
                },
            ),
        ),
        (
            "chaos/inventory-pod-kill",
            "Evicts one pod of `inventory`. Teaches that orders are accepted while nobody is there to reserve, as may be with one replica,\nand that none is reserved twice afterwards. The shop passes.",
            of(
                "inventory-pod-kill",
                "inventory",
                ChaosExperimentSpec {
                    pod_kill: Some(PodKillFault::default()),
                    safety: nobody_need_be_left(),
                    ..experiment()
                },
            ),
        ),
        (
            "chaos/processor-refuse",
            "Every pod of `processor` resets each connection for thirty seconds, as if the card processor were down. Teaches that somebody\nelse's outage holds up the charge and not the customer. The shop passes.",
            of(
                "processor-refuse",
                "processor",
                ChaosExperimentSpec {
                    refuse: Some(RefuseFault {}),
                    duration: Some(duration("30s")?),
                    safety: nobody_need_be_left(),
                    ..everywhere()
                },
            ),
        ),
        (
            "chaos/order-partition",
            "No pod of `order` reaches `payment` for thirty seconds. Teaches that a cut in the network is no answer: what was sent may have\narrived, and is asked about again instead of repeated. The shop passes.",
            of(
                "order-partition",
                "order",
                ChaosExperimentSpec {
                    partition: Some(PartitionFault {
                        direction: PartitionDirection::Egress,
                        peer: "payment".into(),
                    }),
                    duration: Some(duration("30s")?),
                    safety: nobody_need_be_left(),
                    ..everywhere()
                },
            ),
        ),
        (
            "chaos/redis-gone",
            "Redis resets each connection for twenty seconds, open ones too. Teaches that an order needs no event to be accepted: what is\nto be told waits in each service's own database and is told afterwards. The shop is to pass. Needs the chart's `redis.guarded:\ntrue`: an experiment has ResilientServices for targets, and it is the guard before Redis that obeys.",
            of("redis-gone", "redis", gone()?),
        ),
        (
            "chaos/postgres-gone",
            "PostgreSQL resets each connection for twenty seconds, open ones too. Teaches that without its database a service accepts\nnothing and says so, that no process ends of it, and that orders are accepted again afterwards without anybody's help. The\nshop is to pass. Needs the chart's `postgres.guarded: true`, as redis-gone needs that of Redis.",
            {
                let mut experiment = of("postgres-gone", "postgres", gone()?);
                if let Some(steady_state) = &mut experiment.spec.steady_state {
                    // Nobody can accept an order meanwhile: that they are accepted is asked for before and afterwards.
                    for probe in &mut steady_state.probes {
                        probe.mode = ProbeMode::Edge;
                    }
                    steady_state.probes.push(get("orders-live", "order", "/health", None));
                }
                experiment
            },
        ),
    ])
}

/// What the shop stands on, taken away altogether.
fn gone() -> Result<ChaosExperimentSpec> {
    Ok(ChaosExperimentSpec {
        refuse: Some(RefuseFault {}),
        duration: Some(duration("20s")?),
        safety: nobody_need_be_left(),
        ..everywhere()
    })
}

fn of(name: &str, service: &str, spec: ChaosExperimentSpec) -> ChaosExperiment {
    ChaosExperiment::new(
        name,
        ChaosExperimentSpec {
            target: ChaosTarget {
                service: service.into(),
                ..spec.target
            },
            steady_state: Some(orders_accepted()),
            ..spec
        },
    )
}

/// The keys of tokens, which every service reads from `auth` once in a while.
fn keys_are_published() -> Probe {
    get("keys-are-published", "auth", "/.well-known/jwks.json", Some("keys"))
}

/// A service answers a GET as it should.
fn get(name: &str, service: &str, path: &str, contains: Option<&str>) -> Probe {
    let expect = contains.map(|text| Expectation {
        body_contains: Some(text.into()),
        ..Expectation::default()
    });
    Probe {
        name: name.into(),
        http: Some(HttpProbe {
            service: service.into(),
            port: 80,
            path: path.into(),
            method: HttpMethod::Get,
            headers: vec![],
            body: None,
            expect,
        }),
        grpc: None,
        condition: None,
        prometheus: None,
        mode: ProbeMode::Continuous,
        interval: None,
        failure_threshold: None,
    }
}

fn everywhere() -> ChaosExperimentSpec {
    ChaosExperimentSpec {
        count: IntOrString::String("100%".into()),
        ..experiment()
    }
}

/// What is taken away may be all that there is: that is what the experiment is about.
fn nobody_need_be_left() -> Option<Safety> {
    Some(Safety {
        min_available: Some(0),
        min_pod_age: None,
        cooldown: None,
    })
}
