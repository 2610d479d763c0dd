//! Conditions: set in place, with a transition time that moves only when the status moves. Pure.

use super::clock;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use valerix_crds::ConditionStatus;

/// The API server refuses longer messages.
const MESSAGE_LIMIT: usize = 4096;

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate<'a> {
    /// Type of the condition, from `valerix_crds::names::condition`.
    pub kind: &'a str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word on why.
    pub reason: &'a str,
    /// A sentence on why, with the remedy where there is one.
    pub message: String,
}

/// Sets one condition; a new one is added at the end.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    update: ConditionUpdate<'_>,
    generation: i64,
    now: DateTime<Utc>,
) {
    let status = update.status.as_str();
    let mut message = update.message;
    if message.len() > MESSAGE_LIMIT {
        message = message.chars().take(MESSAGE_LIMIT / 4).collect();
    }
    if let Some(condition) = conditions.iter_mut().find(|condition| condition.type_ == update.kind) {
        if condition.status != status {
            condition.last_transition_time = clock::time(now);
        }
        condition.status = status.to_owned();
        condition.reason = update.reason.to_owned();
        condition.message = message;
        condition.observed_generation = Some(generation);
        return;
    }
    conditions.push(Condition {
        type_: update.kind.to_owned(),
        status: status.to_owned(),
        reason: update.reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: clock::time(now),
    });
}

/// Removes a condition that is only shown while it holds.
pub fn remove_condition(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}

/// The condition of a type, if it stands.
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition stands and is `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find_condition(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(status: ConditionStatus, reason: &'static str) -> ConditionUpdate<'static> {
        ConditionUpdate {
            kind: "Ready",
            status,
            reason,
            message: "text".into(),
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        set_condition(&mut conditions, update(ConditionStatus::False, "A"), 1, at(10));
        set_condition(&mut conditions, update(ConditionStatus::False, "B"), 2, at(20));
        assert_eq!(conditions[0].last_transition_time, clock::time(at(10)));
        assert_eq!(
            (conditions[0].reason.as_str(), conditions[0].observed_generation),
            ("B", Some(2))
        );
        set_condition(&mut conditions, update(ConditionStatus::True, "C"), 2, at(30));
        assert_eq!(conditions[0].last_transition_time, clock::time(at(30)));
        assert!(is_true(&conditions, "Ready"));
        remove_condition(&mut conditions, "Ready");
        assert!(conditions.is_empty());
    }

    #[test]
    fn a_message_is_never_longer_than_the_api_server_takes() {
        let mut conditions = Vec::new();
        let message = "\u{1F418}".repeat(MESSAGE_LIMIT);
        let long = ConditionUpdate {
            message,
            ..update(ConditionStatus::False, "A")
        };
        set_condition(&mut conditions, long, 1, DateTime::UNIX_EPOCH);
        assert_eq!(conditions[0].message.len(), MESSAGE_LIMIT);
    }
}
