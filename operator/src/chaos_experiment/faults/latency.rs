//! Latency: the service itself holds requests back. Pure.

use super::{Delivery, Kind, routes};
use crate::chaos_experiment::durations::{milliseconds, optional};
use crate::runtime::Violation;
use valerix_policy::Fault;

pub(super) static KIND: Kind = Kind {
    name: "Latency",
    delivery: Delivery::Obeyed,
    takes_pods_away: false,
    counts_hits: true,
    ends_the_process: false,
    hurts_the_process: false,
    read: |spec| spec.latency.as_ref().map(read),
};

fn read(latency: &valerix_crds::LatencyFault) -> Result<Fault, Violation> {
    routes("spec.latency.routes", &latency.routes)?;
    let delay = optional("spec.latency.delay", Some(&latency.delay))?;
    let jitter = optional("spec.latency.jitter", latency.jitter.as_ref())?;
    Ok(Fault {
        latency: Some(valerix_policy::LatencyFault {
            delay: milliseconds(delay.unwrap_or_default()),
            jitter: milliseconds(jitter.unwrap_or_default()),
            percent: latency.percent,
            routes: latency.routes.clone(),
        }),
        ..Fault::default()
    })
}
