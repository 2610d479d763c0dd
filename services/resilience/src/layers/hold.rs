//! How long a place is held: until the answer is there, or until its body has been sent.

use std::fmt::Debug;

use crate::held::HeldBody;

/// What becomes of an answer that holds a place of type `T`.
///
/// ```
/// use http::Response;
/// use valerix_resilience::layers::{HeldBody, Hold, UntilBody, UntilResponse};
/// use valerix_resilience::{Bulkhead, BulkheadFull};
///
/// let bulkhead = Bulkhead::new(1);
/// let answer: Response<HeldBody<String, _>> = UntilBody::hold(Response::new("text".to_owned()), bulkhead.try_acquire()?);
/// assert_eq!(bulkhead.in_flight(), 1);
/// drop(answer);
/// let _answer = UntilResponse::hold("any answer", bulkhead.try_acquire()?);
/// assert_eq!(bulkhead.in_flight(), 0);
/// # Ok::<(), BulkheadFull>(())
/// ```
pub trait Hold<A, T>: Debug + Clone + Send + Sync + 'static {
    /// The answer that callers get.
    type Answer;

    /// Ties the place to the answer, or gives it back.
    fn hold(answer: A, place: T) -> Self::Answer;
}

/// A place is given back when the answer is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilResponse;

impl<A, T> Hold<A, T> for UntilResponse {
    type Answer = A;

    fn hold(answer: A, _place: T) -> A {
        answer
    }
}

/// A place is given back when the answer's body has been read to its end, failed, or was dropped. An answer that is
/// streamed for a minute takes its place for a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilBody;

impl<B, T> Hold<http::Response<B>, T> for UntilBody {
    type Answer = http::Response<HeldBody<B, T>>;

    fn hold(answer: http::Response<B>, place: T) -> Self::Answer {
        answer.map(|body| HeldBody::new(body, place))
    }
}
