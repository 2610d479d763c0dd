//! Latency: the service itself holds requests back.
//!
//! Pure. In: the spec's fault. Out: the fault as the service's library reads it.

use crate::chaos_experiment::validate::{InvalidSpec, optional_duration};
use valerix_policy::{Duration, Fault};

/// Translates the fault.
///
/// # Errors
/// When a duration cannot be read.
pub fn fault(latency: &valerix_crds::LatencyFault) -> Result<Fault, InvalidSpec> {
    let delay = optional_duration("spec.latency.delay", Some(&latency.delay))?;
    let jitter = optional_duration("spec.latency.jitter", latency.jitter.as_ref())?;
    Ok(Fault {
        latency: Some(valerix_policy::LatencyFault {
            delay: milliseconds(delay),
            jitter: milliseconds(jitter),
            percent: latency.percent,
            routes: latency.routes.clone(),
        }),
        ..Fault::default()
    })
}

fn milliseconds(duration: Option<std::time::Duration>) -> Duration {
    let duration = duration.unwrap_or_default();
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
