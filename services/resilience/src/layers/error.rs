//! Why a layer did not let a request pass, or what the service inside said.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tower::BoxError;
use valerix_policy::Priority;

use crate::breaker::Outcome;
use crate::outbound::{CallError, Sent};
use crate::problem::Problem;

/// The error of every layer. `name` is what the layer was given to name what it protects.
///
/// ```
/// use std::io;
/// use valerix_resilience::layers::LayerError;
///
/// let inner = LayerError::from_inner(io::Error::other("broken pipe"));
/// assert_eq!(inner.inner::<io::Error>().unwrap().to_string(), "broken pipe");
/// assert!(!inner.is_refusal());
/// // Layers around layers do not nest it.
/// assert!(LayerError::from_inner(inner).inner::<io::Error>().is_some());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The circuit is open.
    #[error("circuit of {name} is open, next probe in {} ms", retry_after.as_millis())]
    CircuitOpen {
        /// What is protected.
        name: Arc<str>,
        /// Time until the next probe; zero while probes are under way.
        retry_after: Duration,
        /// What earlier attempts left behind.
        sent: Sent,
    },
    /// No answer came in time; the service inside may go on if it spawned its work.
    #[error("{name} did not answer within {} ms{}", timeout.as_millis(), if *.inherited { ", all the time its caller gave" } else { "" })]
    Timeout {
        /// What is protected.
        name: Arc<str>,
        /// The time there was.
        timeout: Duration,
        /// Whether it was the caller's deadline, which says nothing about the service inside.
        inherited: bool,
        /// What was sent before; nothing where there was no time at all.
        sent: Sent,
    },
    /// The caller's `Valerix-Timeout-Ms` is no number of milliseconds.
    #[error("{source}")]
    InvalidDeadline {
        /// What is wrong with it.
        source: crate::deadline::InvalidTimeout,
    },
    /// All places are taken.
    #[error("all {limit} places of {name} are taken")]
    BulkheadFull {
        /// What is protected.
        name: Arc<str>,
        /// The places there are.
        limit: usize,
        /// What earlier attempts left behind.
        sent: Sent,
    },
    /// The service takes no more requests of this priority at the moment.
    #[error("{name} is overloaded: {reason}")]
    Overloaded {
        /// What is protected.
        name: Arc<str>,
        /// The priority of the request.
        priority: Priority,
        /// In words.
        reason: &'static str,
        /// What earlier attempts left behind.
        sent: Sent,
    },
    /// The quota is used up.
    #[error("limit {name} is used up, one more in {} ms", retry_after.as_millis())]
    RateLimited {
        /// The limit's name.
        name: Arc<str>,
        /// Time until one may pass.
        retry_after: Duration,
        /// What earlier attempts left behind.
        sent: Sent,
    },
    /// An attempt failed, could be repeated, and too many were lately. An answer that could be repeated is handed on
    /// instead.
    #[error("retry budget of {name} is spent: {cause}")]
    BudgetExhausted {
        /// What is protected.
        name: Arc<str>,
        /// What the attempts left behind.
        sent: Sent,
        /// What the last attempt failed of.
        cause: String,
    },
    /// What the service inside said.
    #[error(transparent)]
    Inner(BoxError),
}

impl LayerError {
    /// Wraps the error of the service inside. An error of another layer, however wrapped, is taken as it is.
    pub fn from_inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(foreign) => Self::Inner(foreign),
        }
    }

    /// The error of the service inside, if it is or was caused by an `E`.
    #[must_use]
    pub fn inner<E: Error + 'static>(&self) -> Option<&E> {
        let Self::Inner(error) = self else { return None };
        let mut next: Option<&(dyn Error + 'static)> = Some(error.as_ref());
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// What all attempts of the request left behind.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        match self {
            Self::CircuitOpen { sent, .. }
            | Self::Timeout { sent, .. }
            | Self::BulkheadFull { sent, .. }
            | Self::Overloaded { sent, .. }
            | Self::RateLimited { sent, .. }
            | Self::BudgetExhausted { sent, .. } => *sent,
            Self::InvalidDeadline { .. } => Sent::Nothing,
            Self::Inner(_) => Sent::Perhaps,
        }
    }

    /// Whether the service inside was never called, by no attempt.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !self.sent().may_have_acted()
    }

    /// The same error of a request of which `before` was sent by earlier attempts.
    pub(super) fn after(mut self, before: Sent) -> Self {
        match &mut self {
            Self::CircuitOpen { sent, .. }
            | Self::Timeout { sent, .. }
            | Self::BulkheadFull { sent, .. }
            | Self::Overloaded { sent, .. }
            | Self::RateLimited { sent, .. }
            | Self::BudgetExhausted { sent, .. } => *sent = before.max(*sent),
            Self::InvalidDeadline { .. } | Self::Inner(_) => {}
        }
        self
    }

    /// A short word for metrics and logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::CircuitOpen { .. } => "CircuitOpen",
            Self::Timeout { .. } => "Timeout",
            Self::InvalidDeadline { .. } => "InvalidDeadline",
            Self::BulkheadFull { .. } => "BulkheadFull",
            Self::Overloaded { .. } => "Overloaded",
            Self::RateLimited { .. } => "RateLimited",
            Self::BudgetExhausted { .. } => "BudgetExhausted",
            Self::Inner(_) => "Inner",
        }
    }

    /// What it says about the health of the service inside.
    pub(super) const fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout { inherited: false, .. } | Self::Inner(_) => Outcome::Failure,
            // Never sent, or cut short by whoever asked.
            _ => Outcome::Neutral,
        }
    }

    /// The answer to give for it: 503, 504, 429 or 400 as the reason has it, 502 for an error of the service inside.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::CircuitOpen {
                name,
                retry_after,
                sent,
            } => CallError::CircuitOpen {
                target: name.to_string(),
                retry_after: *retry_after,
                sent: *sent,
            }
            .problem(),
            Self::BudgetExhausted { name, sent, .. } => CallError::BudgetExhausted {
                target: name.to_string(),
                sent: *sent,
                cause: String::new(),
            }
            .problem(),
            Self::Timeout { name, .. } => Problem::deadline_exceeded("call").with("target", &**name),
            Self::InvalidDeadline { source } => {
                Problem::invalid_header(crate::deadline::TIMEOUT_HEADER.as_str(), source.to_string())
            }
            Self::BulkheadFull { .. } => Problem::overloaded("all places are taken"),
            Self::Overloaded { reason, priority, .. } => {
                Problem::overloaded(*reason).with("priority", priority.as_str())
            }
            Self::RateLimited { name, retry_after, .. } => Problem::quota_exceeded(name, *retry_after),
            Self::Inner(_) => {
                let detail = "a service needed for this failed";
                Problem::new(StatusCode::BAD_GATEWAY, "unreachable", detail)
            }
        }
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for LayerError {
    fn into_response(self) -> axum::response::Response {
        self.problem().into_response()
    }
}
