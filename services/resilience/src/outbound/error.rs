//! Why a call came to nothing.

use std::time::Duration;

use http::StatusCode;

use super::sent::Sent;
use crate::problem::Problem;

/// A call that was refused here, or that no answer came to. An answer of any status is no error of this type.
///
/// ```no_run
/// # async fn example(inventory: valerix_resilience::ResilientClient) -> Result<(), valerix_resilience::Problem> {
/// use valerix_resilience::CallError;
///
/// match inventory.get("/api/items").send().await {
///     Ok(answer) => println!("{}", answer.status()),
///     Err(CallError::CircuitOpen { retry_after, .. }) => println!("not asked, come back in {retry_after:?}"),
///     // Whoever must know what became of the request asks, or sends it again with the same key.
///     Err(error) if error.may_have_acted() => println!("{}: {error}", error.category()),
///     // What to answer to one's own caller.
///     Err(error) => return Err(error.problem()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The target's circuit is open: nothing was sent by the attempt that found it so.
    #[error("circuit of target {target} is open, next probe in {} ms", retry_after.as_millis())]
    CircuitOpen {
        /// The target.
        target: String,
        /// Time until the next probe.
        retry_after: Duration,
        /// What earlier attempts left behind.
        sent: Sent,
    },
    /// The deadline of the call or of the request it serves passed.
    #[error("deadline of the call to target {target} passed after {} ms and {attempts} attempts", elapsed.as_millis())]
    DeadlineExceeded {
        /// The target.
        target: String,
        /// Time since the call began.
        elapsed: Duration,
        /// Attempts begun.
        attempts: u32,
        /// What they left behind.
        sent: Sent,
    },
    /// The target did not answer the last attempt in its time.
    #[error("target {target} did not answer within {} ms ({attempts} attempts)", timeout.as_millis())]
    AttemptTimeout {
        /// The target.
        target: String,
        /// The time it had.
        timeout: Duration,
        /// Attempts begun.
        attempts: u32,
    },
    /// The attempt brought no answer, could be repeated, and too many were lately. An answer that could be repeated is
    /// handed on instead, marked `Valerix-Retry: no`.
    #[error("retry budget of target {target} is spent: {cause}")]
    BudgetExhausted {
        /// The target.
        target: String,
        /// What the attempts left behind.
        sent: Sent,
        /// What the last attempt failed of.
        cause: String,
    },
    /// As many calls as allowed are under way.
    #[error("all {limit} places of target {target} are taken")]
    Overloaded {
        /// The target.
        target: String,
        /// The places there are.
        limit: usize,
        /// What earlier attempts left behind.
        sent: Sent,
    },
    /// No connection came about: nothing was sent by the last attempt.
    #[error("failed to connect to target {target} ({attempts} attempts): {cause}")]
    Connect {
        /// The target.
        target: String,
        /// Attempts begun.
        attempts: u32,
        /// What earlier attempts left behind.
        sent: Sent,
        /// In words.
        cause: String,
    },
    /// The connection broke before the head of an answer; the target may have acted.
    #[error("connection to target {target} broke ({attempts} attempts): {cause}")]
    Reset {
        /// The target.
        target: String,
        /// Attempts begun.
        attempts: u32,
        /// In words.
        cause: String,
    },
    /// The body of the answer broke off or did not go on.
    #[error("failed to read the answer of target {target}: {cause}")]
    Body {
        /// The target.
        target: String,
        /// In words.
        cause: String,
    },
    /// The request could not be built, a mistake in the calling code, or its own body broke off: nothing that says
    /// anything about the target.
    #[error("failed to build the request to target {target}: {cause}")]
    Request {
        /// The target.
        target: String,
        /// What this attempt and those before it left behind: a body that broke off may have begun to arrive.
        sent: Sent,
        /// In words.
        cause: String,
    },
}

impl CallError {
    /// A short word for metrics, logs and conditions.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::CircuitOpen { .. } => "CircuitOpen",
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::AttemptTimeout { .. } => "AttemptTimeout",
            Self::BudgetExhausted { .. } => "BudgetExhausted",
            Self::Overloaded { .. } => "Overloaded",
            Self::Connect { .. } => "Connect",
            Self::Reset { .. } => "Reset",
            Self::Body { .. } => "Body",
            Self::Request { .. } => "Request",
        }
    }

    /// What all attempts of the call left behind.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        match self {
            Self::CircuitOpen { sent, .. }
            | Self::DeadlineExceeded { sent, .. }
            | Self::BudgetExhausted { sent, .. }
            | Self::Overloaded { sent, .. }
            | Self::Connect { sent, .. }
            | Self::Request { sent, .. } => *sent,
            Self::AttemptTimeout { .. } | Self::Reset { .. } | Self::Body { .. } => Sent::Perhaps,
        }
    }

    /// The same of a call whose other attempts left `others` behind.
    pub(super) fn after(mut self, others: Sent) -> Self {
        match &mut self {
            Self::CircuitOpen { sent, .. }
            | Self::DeadlineExceeded { sent, .. }
            | Self::BudgetExhausted { sent, .. }
            | Self::Overloaded { sent, .. }
            | Self::Connect { sent, .. }
            | Self::Request { sent, .. } => *sent = others.max(*sent),
            Self::AttemptTimeout { .. } | Self::Reset { .. } | Self::Body { .. } => {}
        }
        self
    }

    /// Whether the target may have acted on the request although no answer arrived.
    #[must_use]
    pub const fn may_have_acted(&self) -> bool {
        self.sent().may_have_acted()
    }

    /// The answer to give when a request fails for this call, as the table of outcomes has it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::CircuitOpen {
                target, retry_after, ..
            } => Problem::new(unavailable, "circuit-open", "a service needed for this does not answer")
                .with("target", target.as_str())
                .retry_after(*retry_after)
                .never_retry(),
            Self::DeadlineExceeded { .. } => Problem::deadline_exceeded("call"),
            Self::AttemptTimeout { target, .. } => {
                Problem::deadline_exceeded("attempt").with("target", target.as_str())
            }
            Self::BudgetExhausted { target, .. } => {
                let detail = "too many requests to a service needed for this had to be repeated";
                Problem::new(unavailable, "retry-budget-exhausted", detail)
                    .with("target", target.as_str())
                    .retry_after(Duration::from_secs(1))
                    .never_retry()
            }
            Self::Overloaded { target, .. } => {
                Problem::overloaded("too many calls to a service needed for this are under way")
                    .with("target", target.as_str())
            }
            Self::Connect { target, .. } | Self::Reset { target, .. } | Self::Body { target, .. } => {
                let detail = "a service needed for this could not be reached";
                Problem::new(StatusCode::BAD_GATEWAY, "unreachable", detail).with("target", target.as_str())
            }
            Self::Request { .. } => {
                let detail = "a request to another service could not be built";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for CallError {
    fn into_response(self) -> axum::response::Response {
        self.problem().into_response()
    }
}
