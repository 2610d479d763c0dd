//! How important the request is that a task serves, handed on to the calls it makes. In: what the server layer, or the
//! caller of [`CurrentPriority::scope`], decided. Out: the header `Valerix-Priority` of outgoing requests.

use std::future::Future;

use http::{HeaderMap, HeaderValue};
use valerix_policy::Priority;

use crate::problem::PRIORITY_HEADER;

tokio::task_local! {
    static CURRENT: Priority;
}

/// The priority of the request that this task serves.
///
/// Calls hand it on, so that a service further down refuses the same requests first; it believes that as far as its
/// own policy says (`priorities.header`).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use valerix_resilience::CurrentPriority;
/// use valerix_resilience::policy::Priority;
///
/// let work = async { assert_eq!(CurrentPriority::get(), Some(Priority::BestEffort)) };
/// CurrentPriority::scope(Priority::BestEffort, work).await;
/// assert_eq!(CurrentPriority::get(), None);
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CurrentPriority;

impl CurrentPriority {
    /// The priority, if the server layer or [`scope`](Self::scope) set one.
    #[must_use]
    pub fn get() -> Option<Priority> {
        CURRENT.try_with(|priority| *priority).ok()
    }

    /// Runs `future` with this priority: a refill of a cache, say, that nobody waits for. A task that it spawns does
    /// not inherit it.
    pub async fn scope<F: Future>(priority: Priority, future: F) -> F::Output {
        CURRENT.scope(priority, future).await
    }
}

/// Writes what was decided, in place of what a header may say that came from elsewhere. Where nothing was decided the
/// headers stay as they are.
pub(crate) fn stamp(headers: &mut HeaderMap, decided: Option<Priority>) {
    match decided {
        None => {}
        // What a request without the header has.
        Some(Priority::Default) => {
            headers.remove(PRIORITY_HEADER);
        }
        Some(priority) => {
            headers.insert(PRIORITY_HEADER, HeaderValue::from_static(priority.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_replaces_what_was_claimed() {
        let claimed = || HeaderMap::from_iter([(PRIORITY_HEADER, HeaderValue::from_static("Critical"))]);
        for (decided, expected) in [
            (None, Some("Critical")),
            (Some(Priority::Default), None),
            (Some(Priority::Sheddable), Some("Sheddable")),
        ] {
            let mut headers = claimed();
            stamp(&mut headers, decided);
            let found = headers.get(PRIORITY_HEADER).map(|value| value.to_str().unwrap());
            assert_eq!(found, expected, "{decided:?}");
        }
    }
}
