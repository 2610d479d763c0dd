//! Something in a specification that cannot be, and what to write instead. Pure.

use super::Category;
use std::fmt;

/// Violations that are told at once; the rest are counted.
const TOLD: usize = 5;

/// One field of a specification that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}; {remedy}")]
pub struct Violation {
    /// Path of the field, for example `spec.ports[1].name`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// What to write or do instead.
    pub remedy: String,
}

impl Violation {
    /// A violation of the rule that `message` names.
    pub fn new(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// Everything that is wrong with a specification: never empty, or it would be none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().take(TOLD).enumerate() {
            let separator = if index == 0 { "" } else { "; and " };
            write!(formatter, "{separator}{violation}")?;
        }
        if self.0.len() > TOLD {
            write!(formatter, "; and {} more", self.0.len() - TOLD)?;
        }
        Ok(())
    }
}

impl Category for Violations {
    fn category(&self) -> &'static str {
        "InvalidSpec"
    }

    fn is_retryable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_names_field_and_remedy_and_their_number_is_bounded() {
        let one = Violation::new("spec.a", "is wrong", "write b");
        assert_eq!(one.to_string(), "spec.a: is wrong; write b");
        let text = Violations(vec![one; 7]).to_string();
        assert_eq!(text.matches("spec.a").count(), TOLD);
        assert!(text.ends_with("write b; and 2 more"), "{text}");
    }
}
