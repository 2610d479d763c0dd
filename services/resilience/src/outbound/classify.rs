//! What an answer says about the health of who gave it.

use http::{HeaderMap, StatusCode};

use super::grpc;
use crate::breaker::Outcome;
use crate::problem::PROBLEM_HEADER;

/// The head of an answer, as a [`Classify`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'answer> {
    /// Its status; for an answer of gRPC whose head tells how it ended, the kin in HTTP of what it says: 503 for
    /// UNAVAILABLE, 504 for DEADLINE_EXCEEDED, 429 for RESOURCE_EXHAUSTED, 500 for UNKNOWN, INTERNAL and DATA_LOSS.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'answer HeaderMap,
}

impl Head<'_> {
    /// The last part of the problem's type, where the answer's headers tell it.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.headers.get(PROBLEM_HEADER)?.to_str().ok()
    }
}

/// An answer whose status and headers can be looked at.
///
/// ```
/// use valerix_resilience::layers::HttpHead;
///
/// let answer = http::Response::builder().status(503).header("valerix-problem", "draining").body(()).unwrap();
/// assert_eq!(answer.head().problem(), Some("draining"));
/// ```
pub trait HttpHead {
    /// Status and headers.
    fn head(&self) -> Head<'_>;

    /// The headers, to mark it.
    fn headers_mut(&mut self) -> &mut HeaderMap;
}

impl<B> HttpHead for http::Response<B> {
    fn head(&self) -> Head<'_> {
        Head {
            status: grpc::effective(self.status(), self.headers(), self.extensions().get()),
            headers: self.headers(),
        }
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

#[cfg(feature = "reqwest")]
impl HttpHead for reqwest::Response {
    fn head(&self) -> Head<'_> {
        Head {
            status: grpc::effective(self.status(), self.headers(), None),
            headers: self.headers(),
        }
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

/// One's own view of what counts as a failure of a target. A function is one:
///
/// ```no_run
/// # fn example(resilience: valerix_resilience::Resilience) -> Result<(), valerix_resilience::BuildError> {
/// use valerix_resilience::{Classify, DefaultClassify, Head, Outcome};
///
/// let search = resilience
///     .client("search")
///     .url("http://search.internal")
///     // Of this one, 404 means that its index is gone.
///     .classify(|head: Head<'_>| match head.status.as_u16() {
///         404 => Outcome::Failure,
///         _ => DefaultClassify.outcome(head),
///     })
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub trait Classify: Send + Sync + 'static {
    /// The outcome that the breaker counts.
    fn outcome(&self, head: Head<'_>) -> Outcome;
}

/// 5xx is a failure; 429 and the refusals of a service that protects itself are neutral; all else is a success.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultClassify;

impl Classify for DefaultClassify {
    fn outcome(&self, head: Head<'_>) -> Outcome {
        let protecting_itself = || {
            matches!(
                head.problem(),
                Some("overloaded" | "draining" | "circuit-open" | "starting")
            )
        };
        match head.status {
            StatusCode::TOO_MANY_REQUESTS => Outcome::Neutral,
            StatusCode::SERVICE_UNAVAILABLE if protecting_itself() => Outcome::Neutral,
            status if status.is_server_error() => Outcome::Failure,
            _ => Outcome::Success,
        }
    }
}

impl<F> Classify for F
where
    F: Fn(Head<'_>) -> Outcome + Send + Sync + 'static,
{
    fn outcome(&self, head: Head<'_>) -> Outcome {
        self(head)
    }
}
