//! Whether a kind is there that somebody else defines.

/// Whether a kind can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The API server has not said yet.
    Unknown,
    /// It is not defined, or no longer for long.
    Absent,
    /// It is defined.
    Present,
}
