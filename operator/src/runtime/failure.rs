//! Failures: a sentence for people and one word for machines.

use std::{error::Error, time::Duration};

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

    /// When to look again for another reason than to try again; the earlier of the two counts.
    fn look_again(&self) -> Option<Duration> {
        None
    }
}

/// An error, and when to look again whatever becomes of it: an object that cannot be brought into its desired state is
/// still judged in time.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Failed<E: Error + 'static> {
    /// What went wrong.
    pub source: E,
    /// When to look again for other reasons.
    pub look_again: Option<Duration>,
}

impl<E: Error + Category + 'static> Category for Failed<E> {
    fn category(&self) -> &'static str {
        self.source.category()
    }

    fn is_retryable(&self) -> bool {
        self.source.is_retryable()
    }

    fn look_again(&self) -> Option<Duration> {
        self.look_again
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
    /// When to look again for another reason.
    pub look_again: Option<Duration>,
    /// How long the API server asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure from an error, with the whole chain of its causes.
    pub fn new<E: Error + Category + 'static>(error: &E) -> Self {
        Self {
            category: error.category(),
            message: chain(error),
            retryable: error.is_retryable(),
            look_again: error.look_again(),
            retry_after: retry_after(error),
        }
    }
}

/// What the API server says of when to come back, in the error or one of its causes.
fn retry_after(error: &(dyn Error + 'static)) -> Option<Duration> {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.find_map(|cause| match as_api_error(cause)? {
        kube::Error::Api(status) => {
            let seconds = status.details.as_ref()?.retry_after_seconds;
            (seconds > 0).then(|| Duration::from_secs(seconds.into()))
        }
        _ => None,
    })
}

/// The error and its causes in one line, with an error of the API server as its [`sentence`].
pub fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = as_api_error(error) {
        return sentence(error);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Wrapping errors often repeat their cause; saying it once is enough.
        if let Some(api) = as_api_error(cause) {
            let said = sentence(api);
            text = text.replace(&cause.to_string(), &said);
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            return text;
        }
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// What the API server, or the way to it, answered, for people: its own words without the types of this program.
pub fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server answered with status {} {}", status.code, status.reason)
            .trim_end()
            .to_owned(),
        kube::Error::Service(source) => format!("the API server cannot be reached: {}", chain(&**source)),
        kube::Error::HyperError(source) => format!("the API server cannot be reached: {}", chain(source)),
        kube::Error::ReadEvents(source) => format!("the connection to the API server broke: {}", chain(source)),
        kube::Error::SerdeError(source) => format!("the API server's answer cannot be read: {source}"),
        other => other.to_string(),
    }
}

fn as_api_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::Error> {
    error
        .downcast_ref::<kube::Error>()
        .or_else(|| error.downcast_ref::<Box<kube::Error>>().map(|error| &**error))
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

/// Whether the API server refuses to make an object because its namespace is being deleted.
pub fn is_of_a_going_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403
        && (causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
            || status.message.contains("because it is being terminated"))
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

    #[derive(Debug, thiserror::Error)]
    #[error("failed to apply Deployment order: {source}")]
    struct Refused {
        source: Box<kube::Error>,
    }

    #[test]
    fn the_api_server_is_quoted_in_its_own_words_and_without_our_types() {
        let words = "Deployment \"order\" is invalid: spec.x";
        let refused = || {
            let status = kube::core::Status::failure(words, "Invalid");
            kube::Error::Api(status.with_code(422).boxed())
        };
        assert_eq!(sentence(&refused()), words);
        assert_eq!(chain(&refused()), words);
        let source = Box::new(refused());
        assert_eq!(
            chain(&Refused { source }),
            format!("failed to apply Deployment order: {words}")
        );
        let list = kube::runtime::watcher::Error::InitialListFailed(refused());
        assert_eq!(chain(&list), format!("failed to perform initial object list: {words}"));
        let silent = kube::Error::Api(kube::core::Status::failure("", "Timeout").with_code(504).boxed());
        assert_eq!(sentence(&silent), "the API server answered with status 504 Timeout");
        let lost = kube::Error::Service("connection reset".into());
        assert_eq!(sentence(&lost), "the API server cannot be reached: connection reset");
    }
}
