//! Caches: what the watches have told, always at hand without a request.
//!
//! What goes in: watches, one per scope. What comes out: lookups by name and by owner, a callback on every change, and
//! triggers for the kind's own controller. An object that cannot be read is one log line, an event on it and a metric;
//! the last good version of it stays.

pub(super) mod watch;

use super::{Presence, Runtime, Scope, triggers::Triggers};
use kube::{
    Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        reflector::{ObjectRef, Store, store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};
use tokio::sync::watch::Receiver;
use watch::Watch;

/// A watch is opened anew after this, so that a connection that died silently is noticed within five seconds more.
/// Unit: seconds.
const WATCH_SECONDS: u32 = 30;

/// Where `kubectl apply` keeps a whole copy of what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What happened to an object, or to all of them.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// It is new or has changed.
    Applied(&'a K),
    /// It is gone; this was its last state.
    Deleted(&'a K),
    /// The watch began anew: changes may have been missed, so look at everything.
    Relisted,
}

// Written out, since a derive would ask the same of the object.
impl<K> Clone for Change<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Change<'_, K> {}

type Hook<K> = Arc<dyn Fn(Change<'_, K>) + Send + Sync>;
type Index = Arc<RwLock<HashMap<(String, String), BTreeSet<String>>>>;

/// What to watch and what to do with it.
pub struct WatchOptions<K> {
    name: &'static str,
    labels: Option<String>,
    index_label: Option<&'static str>,
    trim: fn(&mut K),
    hook: Hook<K>,
    presence: Option<Receiver<Presence>>,
}

impl<K> WatchOptions<K> {
    /// Watches all objects; `name` appears in logs, metrics and `/readyz`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            labels: None,
            index_label: None,
            trim: |_| {},
            hook: Arc::new(|_| {}),
            presence: None,
        }
    }

    /// Watches only objects with these labels, as a label selector.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// Makes objects findable by the value of this label with [`Cache::of`].
    #[must_use]
    pub fn indexed_by(mut self, label: &'static str) -> Self {
        self.index_label = Some(label);
        self
    }

    /// Removes from each object what nobody reads, before it is kept. `managedFields`, and the copy of the object that
    /// `kubectl apply` leaves in an annotation, always go.
    #[must_use]
    pub fn trim(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// Watches only while the kind is there, see [`Runtime::watch_definition`]; the cache is empty meanwhile and holds
    /// nobody up.
    #[must_use]
    pub fn only_while(mut self, presence: Receiver<Presence>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Called on every change, after the cache has it and whoever asked for it before was called. Must be quick and must
    /// not block.
    #[must_use]
    pub fn on_change(mut self, hook: impl Fn(Change<'_, K>) + Send + Sync + 'static) -> Self
    where
        K: 'static,
    {
        let before = self.hook;
        self.hook = Arc::new(move |change| {
            before(change);
            hook(change);
        });
        self
    }
}

impl<K: Resource<DynamicType = ()>> WatchOptions<K> {
    /// Takes from an object what nobody reads.
    pub(super) fn slim(&self, object: &mut K) {
        // Emptied, a list would keep the room that it took.
        object.meta_mut().managed_fields = None;
        if let Some(annotations) = &mut object.meta_mut().annotations {
            annotations.remove(LAST_APPLIED);
        }
        (self.trim)(object);
    }

    /// Watches what `selector` selects and finds it by the owner that its `label` names. A change of it asks for a look
    /// at that owner, and at the one that controls it: a label that somebody changed names another.
    pub fn children_of<O>(name: &'static str, selector: &str, label: &'static str, owners: &Triggers<O>) -> Self
    where
        O: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let owners = owners.clone();
        let hook = move |change: Change<'_, K>| match change {
            Change::Applied(object) | Change::Deleted(object) => {
                let controller = object
                    .owner_references()
                    .iter()
                    .find(|owner| owner.controller == Some(true) && owner.kind == O::kind(&()));
                let names: BTreeSet<&String> = object
                    .labels()
                    .get(label)
                    .into_iter()
                    .chain(controller.map(|owner| &owner.name))
                    .collect();
                for name in names {
                    owners.trigger(&object.namespace().unwrap_or_default(), name);
                }
            }
            Change::Relisted => owners.trigger_all(),
        };
        Self {
            hook: Arc::new(hook),
            ..Self::new(name).labels(selector).indexed_by(label)
        }
    }
}

/// All objects of one kind in all scopes.
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    parts: Vec<(Scope, Store<K>)>,
    index: Index,
    index_label: Option<&'static str>,
    triggers: Triggers<K>,
    is_served: Arc<AtomicBool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            index: self.index.clone(),
            index_label: self.index_label,
            triggers: self.triggers.clone(),
            is_served: self.is_served.clone(),
        }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    /// The object of this name, as the watch last told it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let reference = ObjectRef::new(name).within(namespace);
        self.part(namespace)?.get(&reference)
    }

    /// The objects whose index label has the value `owner`, by name; see [`WatchOptions::indexed_by`].
    pub fn of(&self, namespace: &str, owner: &str) -> Vec<Arc<K>> {
        let key = (namespace.to_owned(), owner.to_owned());
        let names = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            index.get(&key).cloned().unwrap_or_default()
        };
        let label = self.index_label.unwrap_or_default();
        // The index may still name an object that is gone or has changed its label while the watch was down.
        names
            .iter()
            .filter_map(|name| self.get(namespace, name))
            .filter(|object| object.labels().get(label).is_some_and(|value| value == owner))
            .collect()
    }

    /// Every object of one namespace.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let Some(part) = self.part(namespace) else {
            return Vec::new();
        };
        let mut objects = part.state_filter(|object| object.namespace().as_deref() == Some(namespace));
        objects.sort_by_key(|object| object.name_any());
        objects
    }

    /// Every object of every scope, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.parts.iter().flat_map(|(_, part)| part.state()).collect()
    }

    /// Every object of one scope.
    pub fn of_scope(&self, scope: &Scope) -> Vec<Arc<K>> {
        let part = self.parts.iter().find(|(own, _)| own == scope);
        part.map(|(_, part)| part.state()).unwrap_or_default()
    }

    /// Whether the kind is there and was listed, for one that may be absent; see [`WatchOptions::only_while`].
    pub fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Acquire)
    }

    /// The handle that asks the kind's controller to look at an object.
    pub fn triggers(&self) -> &Triggers<K> {
        &self.triggers
    }

    pub(super) fn parts(&self) -> &[(Scope, Store<K>)] {
        &self.parts
    }

    fn part(&self, namespace: &str) -> Option<&Store<K>> {
        self.parts
            .iter()
            .find(|(scope, _)| scope.contains(namespace))
            .map(|(_, part)| part)
    }
}

impl Runtime {
    /// Starts watching and returns the cache at once; it fills in the background, on the leader and on a standby.
    ///
    /// Every change of an object also triggers the kind's own controller, if it has one.
    pub fn watch<K>(&self, options: WatchOptions<K>) -> Cache<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let index = Index::default();
        let triggers = Triggers::default();
        let is_served = Arc::new(AtomicBool::new(false));
        let options = Arc::new(options);
        let mut parts = Vec::new();
        for scope in &self.scopes {
            let (reader, writer) = store::<K>();
            let watch = Watch {
                runtime: self.clone(),
                options: options.clone(),
                index: index.clone(),
                triggers: triggers.clone(),
                reader: reader.clone(),
                scope: scope.clone(),
                events: self.events("cache"),
                counted: AtomicI64::new(0),
                is_served: is_served.clone(),
                untold: watch::Untold::default(),
            };
            self.readiness.expect(scope, options.name);
            let api = scope.api::<DeserializeGuard<K>>(self.clients.read.clone());
            let config = watch_config(options.labels.clone());
            self.spawn(options.name, watch.run(api, config, writer));
            parts.push((scope.clone(), reader));
        }
        Cache {
            parts,
            index,
            index_label: options.index_label,
            triggers,
            is_served,
        }
    }
}

/// How everything is watched.
pub(super) fn watch_config(labels: Option<String>) -> watcher::Config {
    watcher::Config {
        label_selector: labels,
        timeout: Some(WATCH_SECONDS),
        ..watcher::Config::default()
    }
}

#[cfg(test)]
mod tests;
