//! Whether a call that has no answer may have had an effect.

/// What left this process for a call that came to nothing: the one answer of [`CallError`](crate::CallError) and
/// [`LayerError`](crate::layers::LayerError) to whether the work may have been done.
///
/// It is about the whole call with all its attempts: a circuit that refuses the second attempt changes nothing about the
/// first, which was sent.
///
/// ```
/// use valerix_resilience::{CallError, Sent};
///
/// /// Whether an order may be given to another supplier.
/// fn may_go_elsewhere(error: &CallError) -> bool {
///     error.sent() == Sent::Nothing
/// }
/// let error = CallError::Overloaded { target: "supplier".to_owned(), limit: 100, sent: Sent::Nothing };
/// assert!(may_go_elsewhere(&error));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sent {
    /// Nothing: the call can be made elsewhere, or again, without any risk.
    #[default]
    Nothing,
    /// Something, or that is not known. Who must know what became of it asks, or repeats it with the same key.
    Perhaps,
}

impl Sent {
    /// Whether who was called may have acted.
    #[must_use]
    pub const fn may_have_acted(self) -> bool {
        matches!(self, Self::Perhaps)
    }
}
