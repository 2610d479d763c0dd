//! The atomics of the breaker. `tests/loom.rs` puts loom's in their place and compiles the same source against them.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Slots of a time window; a power of two, so that a slot is found by a shift and a mask.
pub(crate) const WINDOW_SLOTS: usize = 16;

/// A lock whose holder panicked is taken all the same: what it guards is consistent between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
