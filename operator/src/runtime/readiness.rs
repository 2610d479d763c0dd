//! Whether this process is ready: every cache has had its first full list, which also proves that the kind exists.
//!
//! Counted by scope: a namespace that is gone, or in which this process has lost its rights, holds up nobody else.

use super::Scope;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::watch;

/// The caches that are still awaited.
#[derive(Clone)]
pub struct Readiness {
    state: Arc<watch::Sender<State>>,
}

#[derive(Default)]
struct State {
    /// Set once no further cache will be announced.
    complete: bool,
    /// Every scope that was announced, with the caches that are awaited in it.
    scopes: HashMap<Scope, HashMap<&'static str, Awaited>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Listing,
    Forbidden,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }
}

impl Readiness {
    /// Announces a cache that must be full before the process is ready.
    pub fn expect(&self, scope: &Scope, name: &'static str) {
        self.update(scope, |awaited| {
            awaited.insert(name, Awaited::Listing);
        });
    }

    /// It is full.
    pub fn reached(&self, scope: &Scope, name: &'static str) {
        self.update(scope, |awaited| {
            awaited.remove(name);
        });
    }

    /// It may not be listed: its namespace is gone, or the rights there are. Until it is reached after all, the process
    /// counts as ready without this scope, unless no other is left.
    pub fn forbidden(&self, scope: &Scope, name: &'static str) {
        self.update(scope, |awaited| {
            if let Some(state) = awaited.get_mut(name) {
                *state = Awaited::Forbidden;
            }
        });
    }

    /// Says that everything has been announced: before that, nothing is ready.
    pub fn complete(&self) {
        self.state.send_modify(|state| state.complete = true);
    }

    /// What is still awaited; empty means ready.
    pub fn waiting(&self) -> Vec<String> {
        let state = self.state.borrow();
        if !state.complete {
            return vec!["start".to_owned()];
        }
        let is_lost = |awaited: &HashMap<_, Awaited>| awaited.values().any(|state| *state == Awaited::Forbidden);
        let all_lost = state.scopes.values().all(is_lost);
        let mut names: Vec<String> = state
            .scopes
            .iter()
            .filter(|(_, awaited)| all_lost || !is_lost(awaited))
            .flat_map(|(scope, awaited)| {
                awaited.keys().map(move |name| match scope {
                    Scope::Cluster => (*name).to_owned(),
                    Scope::Namespace(namespace) => format!("{name} in {namespace}"),
                })
            })
            .collect();
        names.sort();
        names
    }

    /// Waits until every cache that was announced for this scope is full.
    pub async fn full(&self, scope: &Scope) {
        let mut state = self.state.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = state
            .wait_for(|state| state.scopes.get(scope).is_none_or(HashMap::is_empty))
            .await;
    }

    fn update(&self, scope: &Scope, change: impl FnOnce(&mut HashMap<&'static str, Awaited>)) {
        self.state
            .send_modify(|state| change(state.scopes.entry(scope.clone()).or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn ready_means_announced_and_reached() {
        let readiness = Readiness::default();
        assert_eq!(readiness.waiting(), ["start"]);
        readiness.expect(&Scope::Cluster, "pods");
        readiness.complete();
        assert_eq!(readiness.waiting(), ["pods"]);
        readiness.reached(&Scope::Cluster, "pods");
        assert!(readiness.waiting().is_empty());
    }

    #[test]
    fn a_lost_namespace_holds_up_nobody_but_itself_unless_it_is_the_last() {
        let readiness = Readiness::default();
        let [one, two] = ["one", "two"].map(|name| Scope::Namespace(name.into()));
        for scope in [&one, &two] {
            readiness.expect(scope, "pods");
        }
        readiness.complete();
        readiness.forbidden(&two, "pods");
        assert_eq!(readiness.waiting(), ["pods in one"]);
        readiness.reached(&one, "pods");
        assert!(readiness.waiting().is_empty());
        assert!(readiness.full(&one).now_or_never().is_some());
        assert!(
            readiness.full(&two).now_or_never().is_none(),
            "nothing was listed there"
        );
        // The rights come back.
        readiness.reached(&two, "pods");
        assert!(readiness.full(&two).now_or_never().is_some());

        let alone = Readiness::default();
        alone.expect(&two, "pods");
        alone.complete();
        alone.forbidden(&two, "pods");
        assert_eq!(
            alone.waiting(),
            ["pods in two"],
            "a process that sees nothing is not ready"
        );
    }
}
