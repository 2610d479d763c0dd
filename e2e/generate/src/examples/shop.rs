//! The shop's own experiments, ready to apply: one fault each, all judged by the shop's promise that an order is accepted
//! whatever stands behind it.

use super::{duration, experiment, orders_accepted};
use anyhow::Result;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use valerix_crds::{
    ChaosExperiment, ChaosExperimentSpec, ChaosTarget, CrashFault, ErrorsFault, LatencyFault, PartitionDirection,
    PartitionFault, PodKillFault, RefuseFault, Safety,
};

/// Each with the name of its file and what a reader learns from it.
pub fn experiments() -> Result<Vec<(&'static str, &'static str, ChaosExperiment)>> {
    Ok(vec![
        (
            "shop-inventory-latency",
            "Every pod of `inventory` takes five seconds longer for a minute. Orders are accepted as QUEUED meanwhile.",
            of(
                "shop-inventory-latency",
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
            "shop-payment-errors",
            "Seven of ten payments fail with 503 for a minute.",
            of(
                "shop-payment-errors",
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
            "shop-payment-crash",
            "The process of one pod of `payment` ends without a shutdown, once. The verdict says how long until it is ready again.",
            of(
                "shop-payment-crash",
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
            "shop-inventory-pod-kill",
            "Evicts one pod of `inventory`. With one replica nobody is left meanwhile, and orders are accepted all the same.",
            of(
                "shop-inventory-pod-kill",
                "inventory",
                ChaosExperimentSpec {
                    pod_kill: Some(PodKillFault::default()),
                    safety: nobody_need_be_left(),
                    ..experiment()
                },
            ),
        ),
        (
            "shop-processor-refuse",
            "Every pod of `processor` resets each connection for thirty seconds, as if the card processor were down.",
            of(
                "shop-processor-refuse",
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
            "shop-order-partition",
            "No pod of `order` reaches `payment` for thirty seconds. Orders wait for their payment and lose none.",
            of(
                "shop-order-partition",
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
    ])
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
