//! Why there is no head of an answer.

use std::time::Duration;

use valerix_resilience::ConnectError;

use crate::BoxError;

/// Why there is no head of an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// No connection came about: the library takes it from the source that nothing was sent.
    #[error("failed to connect: {0}")]
    Connect(#[source] ConnectError),
    #[error("failed to exchange the request: {0}")]
    Exchange(#[source] BoxError),
    /// The body was sent whole, and then nothing came.
    #[error("failed to get an answer within {} ms of the end of the body", .0.as_millis())]
    NoHead(Duration),
    #[error("failed to send the body: an earlier attempt has it")]
    Taken,
    #[error("failed to find where the request goes: it names no host")]
    NoHost,
    #[error("failed to build the address: {0}")]
    Address(#[source] http::Error),
}

impl WireError {
    /// No connection came about.
    #[allow(clippy::needless_pass_by_value, reason = "what maps an error hands it over")]
    pub(crate) fn connect(cause: BoxError) -> Self {
        Self::Connect(ConnectError {
            cause: cause.to_string(),
        })
    }
}
