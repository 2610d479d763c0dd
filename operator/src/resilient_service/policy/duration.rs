//! Durations of the specification as the policy's. Pure.

use valerix_crds as api;
use valerix_policy::Duration;

/// The given duration, or the default. The API server has checked the form, and both types read the same one.
pub fn duration(given: Option<&api::Duration>, default: Duration) -> Duration {
    given.and_then(|given| given.as_str().parse().ok()).unwrap_or(default)
}
