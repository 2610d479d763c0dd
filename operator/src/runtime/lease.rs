//! Who may lead, decided from a Lease as it was seen and a monotonic clock. Pure.

use std::time::Duration;

/// A holder that has not renewed for this long, by the observer's own clock, has lost the Lease.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops, before anyone else may begin.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a failed renewal.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Pause between renewals that succeed: twelve requests a minute at rest.
pub const RENEW_PERIOD: Duration = Duration::from_secs(5);

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was given back.
    pub holder: String,
    /// How often the holder changed.
    pub transitions: i32,
    /// Changes with every renewal; compared, never read as a time, since clocks differ.
    pub renewed: Option<String>,
    /// How long the holder asked for.
    pub duration: Option<Duration>,
}

/// What to do about a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is none: create it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// Nobody holds it any more: take it with this count of transitions.
    Take {
        /// The new count.
        transitions: i32,
    },
    /// Somebody else holds it: look again after this time at the latest.
    Wait(Duration),
}

/// Decides for `identity` about the Lease as last seen, unchanged for `unchanged`.
pub fn evaluate_lease(record: Option<&Record>, identity: &str, unchanged: Duration) -> Decision {
    let Some(record) = record else {
        return Decision::Create;
    };
    if record.holder == identity {
        return Decision::Renew;
    }
    let held_for = record.duration.unwrap_or(LEASE_DURATION);
    if record.holder.is_empty() || unchanged >= held_for {
        return Decision::Take {
            transitions: record.transitions.saturating_add(1),
        };
    }
    Decision::Wait(held_for.saturating_sub(unchanged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str) -> Record {
        Record {
            holder: holder.into(),
            transitions: 3,
            renewed: Some("x".into()),
            duration: Some(LEASE_DURATION),
        }
    }

    #[test]
    fn every_case_has_one_answer() {
        let seconds = Duration::from_secs;
        let cases = [
            (None, seconds(0), Decision::Create),
            (Some(record("me")), seconds(0), Decision::Renew),
            (Some(record("me")), seconds(99), Decision::Renew),
            (Some(record("")), seconds(0), Decision::Take { transitions: 4 }),
            (Some(record("other")), seconds(0), Decision::Wait(seconds(15))),
            (Some(record("other")), seconds(14), Decision::Wait(seconds(1))),
            (Some(record("other")), seconds(15), Decision::Take { transitions: 4 }),
        ];
        for (record, unchanged, expected) in cases {
            assert_eq!(
                evaluate_lease(record.as_ref(), "me", unchanged),
                expected,
                "{record:?} {unchanged:?}"
            );
        }
    }

    #[test]
    fn a_leader_stops_before_another_may_begin() {
        assert!(RENEW_DEADLINE + RETRY_PERIOD < LEASE_DURATION);
        assert!(RENEW_PERIOD < RENEW_DEADLINE);
    }
}
