//! Failures: a sentence for people and one word for machines.

use std::error::Error;

/// One word for an error: the metric's label, the condition's reason and the event's reason.
///
/// A word is CamelCase and comes from a closed set: never put a name or a number into it.
pub trait Category {
    /// The word.
    fn category(&self) -> &'static str;

    /// Whether trying again by itself can help. When not, the object waits for a change.
    fn is_retryable(&self) -> bool {
        true
    }
}

/// What a controller reports of a reconcile that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One word.
    pub category: &'static str,
    /// A sentence, with its causes.
    pub message: String,
    /// Whether trying again can help.
    pub retryable: bool,
}

impl Failure {
    /// A failure from an error, with the whole chain of its causes.
    pub fn new<E: Error + Category>(error: &E) -> Self {
        Self {
            category: error.category(),
            message: chain(error),
            retryable: error.is_retryable(),
        }
    }
}

/// The error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Wrapping errors often repeat their cause; saying it once is enough.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The word for an error of the API server or of the way to it.
pub fn api_category(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            422 => "Invalid",
            429 => "Throttled",
            500..=599 => "ApiServerError",
            _ => "ApiError",
        },
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => "ApiUnreachable",
        _ => "ApiError",
    }
}

/// Whether the API server answered with this HTTP status.
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to apply: {source}")]
    struct Outer {
        source: Inner,
    }
    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct Inner;

    #[test]
    fn a_cause_is_named_once() {
        assert_eq!(chain(&Outer { source: Inner }), "failed to apply: no answer");
    }
}
