//! What can be wrong with a document, in words that name the place, the value and the remedy. Pure.

use std::fmt;

/// A value in a message: never longer than 64 characters.
pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= 64 {
        text.to_owned()
    } else {
        text.chars().take(63).chain(['…']).collect()
    }
}

/// One value that a document must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where, as in `targets[0].retry.maxAttempts`.
    pub path: String,
    /// The value found, cut to 64 characters.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl Violation {
    /// `value` at `path` must not be; `remedy` says what to write instead.
    #[must_use]
    pub fn new(path: impl Into<String>, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: cut(&value.to_string()),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}: {}", self.path, self.value, self.remedy)
    }
}

/// Why a document was not accepted. The text is fit for a condition message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// More bytes than any document may have.
    #[error("the document has {size} bytes: at most {limit} are read; remove targets or rules")]
    TooLarge {
        /// Bytes found.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not JSON.
    #[error(
        "not valid JSON at line {line}, column {column}: {message}; restore the document or let the operator write it"
    )]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// A version that this reader does not know.
    #[error("version is {found}: this service reads version {supported}; write that version beside the newer one")]
    Version {
        /// The version found.
        found: String,
        /// The version that is read.
        supported: u32,
    },
    /// JSON of another shape: a wrong type, a missing field or an unknown choice.
    #[error("{path}: {message}")]
    Shape {
        /// Where.
        path: String,
        /// Value and expectation in words.
        message: String,
    },
    /// Values outside their bounds, all of them.
    #[error("{}", Violations(.violations))]
    Invalid {
        /// At least one.
        violations: Vec<Violation>,
    },
}

impl PolicyError {
    /// A short word for metrics and condition reasons.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::Syntax { .. } => "Syntax",
            Self::Version { .. } => "Version",
            Self::Shape { .. } => "Shape",
            Self::Invalid { .. } => "Invalid",
        }
    }
}

struct Violations<'a>(&'a [Violation]);

impl fmt::Display for Violations<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().take(5).enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            write!(formatter, "{violation}")?;
        }
        if self.0.len() > 5 {
            write!(formatter, "; and {} more", self.0.len() - 5)?;
        }
        Ok(())
    }
}
