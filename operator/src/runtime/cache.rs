//! Caches: what the watches have told, always at hand without a request.
//!
//! What goes in: watches, one per scope. What comes out: lookups by name and by owner, a callback on every change, and
//! triggers for the kind's own controller. An object that cannot be read is one log line and a metric; the last good
//! version of it stays.

use super::{Runtime, Scope, controller::Triggers};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

/// A watch is opened anew after this, so that a connection that died silently is noticed within five seconds more.
/// Unit: seconds.
const WATCH_SECONDS: u32 = 30;

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

type Hook<K> = Arc<dyn Fn(Change<'_, K>) + Send + Sync>;
type Index = Arc<RwLock<HashMap<(String, String), BTreeSet<String>>>>;

/// What to watch and what to do with it.
pub struct WatchOptions<K> {
    name: &'static str,
    labels: Option<String>,
    fields: Option<String>,
    index_label: Option<&'static str>,
    trim: fn(&mut K),
    hook: Hook<K>,
}

impl<K> WatchOptions<K> {
    /// Watches all objects; `name` appears in logs, metrics and `/readyz`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            labels: None,
            fields: None,
            index_label: None,
            trim: |_| {},
            hook: Arc::new(|_| {}),
        }
    }

    /// Watches only objects with these labels, as a label selector.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// Watches only objects with these fields, as a field selector.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = Some(selector.to_owned());
        self
    }

    /// Makes objects findable by the value of this label with [`Cache::of`].
    #[must_use]
    pub fn indexed_by(mut self, label: &'static str) -> Self {
        self.index_label = Some(label);
        self
    }

    /// Removes from each object what nobody reads, before it is kept. `managedFields` always go.
    #[must_use]
    pub fn trim(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// Called on every change, after the cache has it. Must be quick and must not block.
    #[must_use]
    pub fn on_change(mut self, hook: impl Fn(Change<'_, K>) + Send + Sync + 'static) -> Self {
        self.hook = Arc::new(hook);
        self
    }
}

/// All objects of one kind in all scopes.
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    parts: Vec<(Scope, Store<K>)>,
    index: Index,
    index_label: Option<&'static str>,
    triggers: Triggers<K>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            index: self.index.clone(),
            index_label: self.index_label,
            triggers: self.triggers.clone(),
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

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.parts.iter().flat_map(|(_, part)| part.state()).collect()
    }

    /// Whether `namespace` is watched at all.
    pub fn covers(&self, namespace: &str) -> bool {
        self.part(namespace).is_some()
    }

    /// The handle that asks the kind's controller to look at an object.
    pub fn triggers(&self) -> &Triggers<K> {
        &self.triggers
    }

    /// Tells the kind's controller, once it runs, of objects that are gone, by namespace and name. The first caller
    /// is told.
    pub fn on_gone(&self, forget: impl Fn(&str, &str) + Send + Sync + 'static) {
        self.triggers.on_gone(forget);
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
        let options = Arc::new(options);
        let mut parts = Vec::new();
        for scope in &self.scopes {
            let (reader, mut writer) = store::<K>();
            let watch = Watch {
                runtime: self.clone(),
                options: options.clone(),
                index: index.clone(),
                triggers: triggers.clone(),
                reader: reader.clone(),
                awaited: match scope {
                    Scope::Cluster => options.name.to_owned(),
                    Scope::Namespace(namespace) => format!("{} in {namespace}", options.name),
                },
            };
            self.readiness.expect(&watch.awaited);
            let api = scope.api::<DeserializeGuard<K>>(self.clients.read.clone());
            let config = watcher::Config {
                label_selector: options.labels.clone(),
                field_selector: options.fields.clone(),
                timeout: Some(WATCH_SECONDS),
                ..watcher::Config::default()
            };
            let shutdown = self.shutdown.clone();
            tokio::spawn(async move {
                let events = watcher::watcher(api, config)
                    .default_backoff()
                    .inspect_err(|error| watch.failed(error))
                    .filter_map(|event| std::future::ready(event.ok()))
                    .take_until(shutdown.cancelled_owned());
                let mut events = std::pin::pin!(events);
                while let Some(event) = events.next().await {
                    if let Some(event) = watch.readable(event) {
                        writer.apply_watcher_event(&event);
                        watch.changed(&event);
                    }
                }
            });
            parts.push((scope.clone(), reader));
        }
        Cache {
            parts,
            index,
            index_label: options.index_label,
            triggers,
        }
    }
}

/// One running watch.
struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    runtime: Runtime,
    options: Arc<WatchOptions<K>>,
    index: Index,
    triggers: Triggers<K>,
    reader: Store<K>,
    awaited: String,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    fn failed(&self, error: &watcher::Error) {
        self.runtime
            .metrics
            .watch_errors
            .with_label_values(&[self.options.name])
            .inc();
        tracing::warn!(
            watch = self.awaited,
            error = super::failure::chain(error),
            "watch failed; it is opened again"
        );
    }

    /// The event without the guard; none if the object cannot be read.
    fn readable(&self, event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
        Some(match event {
            Event::Apply(object) => Event::Apply(self.unwrap(object)?),
            Event::InitApply(object) => Event::InitApply(self.unwrap(object)?),
            Event::Delete(object) => {
                let metadata = object.meta().clone();
                match object.0 {
                    Ok(object) => Event::Delete(object),
                    // It is gone all the same: delete what the cache still has of it.
                    Err(_) => {
                        let namespace = metadata.namespace.unwrap_or_default();
                        let name = metadata.name.unwrap_or_default();
                        let last = self.reader.get(&ObjectRef::new(&name).within(&namespace))?;
                        Event::Delete(K::clone(&last))
                    }
                }
            }
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    }

    fn unwrap(&self, object: DeserializeGuard<K>) -> Option<K> {
        match object.0 {
            Ok(mut object) => {
                object.managed_fields_mut().clear();
                (self.options.trim)(&mut object);
                Some(object)
            }
            Err(invalid) => {
                self.runtime
                    .metrics
                    .invalid_objects
                    .with_label_values(&[self.options.name])
                    .inc();
                tracing::error!(
                    kind = self.options.name,
                    namespace = invalid.metadata.namespace.as_deref().unwrap_or_default(),
                    name = invalid.metadata.name.as_deref().unwrap_or_default(),
                    error = invalid.error,
                    "an object cannot be read and is left alone; correct or delete it"
                );
                None
            }
        }
    }

    fn changed(&self, event: &Event<K>) {
        match event {
            Event::Apply(object) => {
                self.remember(object);
                (self.options.hook)(Change::Applied(object));
                self.triggers.trigger_object(object);
            }
            Event::Delete(object) => {
                self.forget(object);
                (self.options.hook)(Change::Deleted(object));
                self.triggers.trigger_object(object);
            }
            Event::InitApply(object) => self.remember(object),
            Event::Init => {}
            Event::InitDone => {
                (self.options.hook)(Change::Relisted);
                self.triggers.trigger_all();
                self.runtime.readiness.reached(&self.awaited);
            }
        }
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            let count = i64::try_from(self.reader.len()).unwrap_or(i64::MAX);
            self.runtime
                .metrics
                .cached_objects
                .with_label_values(&[self.options.name])
                .set(count);
        }
    }

    fn remember(&self, object: &K) {
        let Some(key) = self.index_key(object) else { return };
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.entry(key).or_default().insert(object.name_any());
    }

    fn forget(&self, object: &K) {
        let Some(key) = self.index_key(object) else { return };
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = index.get_mut(&key) {
            names.remove(&object.name_any());
            if names.is_empty() {
                index.remove(&key);
            }
        }
    }

    fn index_key(&self, object: &K) -> Option<(String, String)> {
        let owner = object.labels().get(self.options.index_label?)?;
        Some((object.namespace().unwrap_or_default(), owner.clone()))
    }
}
