//! Errors of the HTTP API as problem+json (RFC 9457): the library's type, and what failures of Postgres mean to a caller.

use valerix_resilience::idempotency::{IdempotencyError, refusals};
pub use valerix_resilience::{FieldError, PROBLEM_HEADER, PROBLEM_TYPE_BASE, Problem};

use crate::postgres::{Failure, classify};

/// What a failed statement means to the caller: 503 when Postgres is away, busy or being restarted, 422 for text that
/// Postgres cannot hold (a NUL character), else 500.
pub fn from_sqlx(error: &sqlx::Error) -> Problem {
    match classify(error) {
        Failure::Unavailable => {
            tracing::warn!(%error, "the database did not answer");
            Problem::unavailable("the database does not answer at the moment; nothing is known about the request")
        }
        Failure::BadText => Problem::invalid_field("", "a text holds a character that can not be stored"),
        Failure::Other => Problem::internal(error),
    }
}

/// What a failure to look an idempotency key up, or to keep its answer, means to the caller. What the request began goes
/// on.
pub fn from_idempotency(error: &IdempotencyError) -> Problem {
    match error {
        IdempotencyError::Database { source, .. } => from_sqlx(source),
        IdempotencyError::Superseded { .. } => refusals::in_progress(),
        other => Problem::internal(other),
    }
}
