//! Limits that replicas share through a real Redis, which is stopped, emptied, slow, hanging, or demoted. Three real
//! processes where the bound is at stake.

mod faults;
mod flood;
mod http;
mod processes;
mod redis_server;

use std::time::Duration;

use valerix_resilience::Quota;
use valerix_resilience::policy::LimitAlgorithm;

/// How long these tests let Redis take where only the bound is tested: the machine may stand still for a moment.
const PATIENT: Duration = Duration::from_secs(5);

fn quota(requests: u32, window: Duration, burst: u32, algorithm: LimitAlgorithm) -> Quota {
    Quota {
        requests,
        window,
        burst,
        algorithm,
    }
}

/// A name that no other test uses.
fn owner() -> String {
    format!("test/{}", uuid::Uuid::new_v4())
}
