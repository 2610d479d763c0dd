//! The spec's durations, read with their field's name, and as the pods' documents write them. Pure.

use crate::runtime::Violation;
use std::time::Duration;

/// Reads a duration and names its field when it is none.
///
/// # Errors
/// When the text is not a duration.
pub fn optional(field: &str, duration: Option<&valerix_crds::Duration>) -> Result<Option<Duration>, Violation> {
    duration
        .map(valerix_crds::Duration::value)
        .transpose()
        .map_err(|error| {
            Violation::new(
                field,
                format!("is `{}`, which is not a duration", error.value),
                "write whole numbers with h, m, s or ms, for example 1m30s or 500ms",
            )
        })
}

/// A duration as the pods' documents write it.
pub fn milliseconds(duration: Duration) -> valerix_policy::Duration {
    valerix_policy::Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
