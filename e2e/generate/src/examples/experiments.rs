//! Experiments on any service; those of the shop lie beside.

use super::{duration, experiment};
use anyhow::Result;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use valerix_crds::{
    ChaosExperiment, ChaosExperimentSpec, ErrorsFault, ExcludedWindow, Expectation, HttpMethod, HttpProbe,
    LatencyFault, PodKillFault, Probe, ProbeMode, Safety, SteadyState, Weekday,
};

pub fn pod_kill() -> ChaosExperiment {
    ChaosExperiment::new(
        "inventory-loses-a-pod",
        ChaosExperimentSpec {
            pod_kill: Some(PodKillFault::default()),
            steady_state: Some(orders_accepted()),
            ..experiment()
        },
    )
}

pub fn latency() -> Result<ChaosExperiment> {
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

pub fn errors_on_schedule() -> Result<ChaosExperiment> {
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

/// The order API answers at once whether or not inventory does: that is the shop's promise.
pub fn orders_accepted() -> SteadyState {
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
