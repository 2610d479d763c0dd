//! One condition before it is written, and what the parts of a status share.

use super::reason::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use valerix_crds::{ConditionStatus, ResilientServiceStatus};

/// One condition's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionDraft {
    pub status: ConditionStatus,
    pub reason: &'static str,
    pub message: String,
}

impl ConditionDraft {
    pub fn new(status: ConditionStatus, reason: impl Into<&'static str>, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            message: message.into(),
        }
    }

    pub fn holds(&self) -> bool {
        self.status == ConditionStatus::True
    }

    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason.as_str()
    }
}

/// The old condition of a type.
pub fn before<'a>(old: &'a ResilientServiceStatus, kind: &str) -> Option<&'a Condition> {
    crate::runtime::conditions::find_condition(&old.conditions, kind)
}

pub fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
