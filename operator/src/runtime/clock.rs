//! The one place where the project's time type meets that of the Kubernetes types.

use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

/// A `metav1.Time`, which has whole seconds.
pub fn time(at: DateTime<Utc>) -> Time {
    Time(Timestamp::from_second(at.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A `metav1.MicroTime`.
pub fn micro_time(at: DateTime<Utc>) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.timestamp_micros()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// From a `metav1.Time`.
pub fn from_time(time: &Time) -> DateTime<Utc> {
    DateTime::from_timestamp(time.0.as_second(), 0).unwrap_or_default()
}

/// `at` without its fraction of a second: what a status field of type `date-time` keeps.
pub fn whole_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_round_trip() {
        let at = DateTime::parse_from_rfc3339("2026-03-04T05:06:07.891Z")
            .unwrap()
            .to_utc();
        assert_eq!(from_time(&time(at)), whole_seconds(at));
        assert_eq!(micro_time(at).0.as_microsecond(), at.timestamp_micros());
    }
}
