//! Whether this process is ready: every cache has had its first full list, which also proves that the kind exists.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The caches that are still awaited.
#[derive(Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Set once no further cache will be announced.
    complete: bool,
    waiting: BTreeSet<String>,
}

impl Readiness {
    /// Announces something that must be there before the process is ready.
    pub fn expect(&self, name: &str) {
        self.lock().waiting.insert(name.to_owned());
    }

    /// It is there.
    pub fn reached(&self, name: &str) {
        self.lock().waiting.remove(name);
    }

    /// Says that everything has been announced: before that, nothing is ready.
    pub fn complete(&self) {
        self.lock().complete = true;
    }

    /// What is still awaited; empty means ready.
    pub fn waiting(&self) -> Vec<String> {
        let state = self.lock();
        if !state.complete {
            return vec!["start".to_owned()];
        }
        state.waiting.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_announced_and_reached() {
        let readiness = Readiness::default();
        assert_eq!(readiness.waiting(), ["start"]);
        readiness.expect("pods");
        readiness.complete();
        assert_eq!(readiness.waiting(), ["pods"]);
        readiness.reached("pods");
        assert!(readiness.waiting().is_empty());
    }
}
