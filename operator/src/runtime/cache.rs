//! Caches: what the watches have told, always at hand without a request.
//!
//! What goes in: watches, one per scope. What comes out: lookups by name and by owner, a callback on every change, and
//! triggers for the kind's own controller. An object that cannot be read is one log line, an event on it and a metric;
//! the last good version of it stays.

use super::{Events, Presence, Runtime, Scope, failure, triggers::Triggers};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        events::EventType,
        reflector::{ObjectRef, Store, store, store::Writer},
        watcher::{self, Event},
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
use tokio::sync::watch;

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
    index_label: Option<&'static str>,
    trim: fn(&mut K),
    hook: Hook<K>,
    presence: Option<watch::Receiver<Presence>>,
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

    /// Removes from each object what nobody reads, before it is kept. `managedFields` always go.
    #[must_use]
    pub fn trim(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// Watches only while the kind is there, see [`Runtime::watch_definition`]; the cache is empty meanwhile and holds
    /// nobody up.
    #[must_use]
    pub fn only_while(mut self, presence: watch::Receiver<Presence>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Called on every change, after the cache has it. Must be quick and must not block.
    #[must_use]
    pub fn on_change(mut self, hook: impl Fn(Change<'_, K>) + Send + Sync + 'static) -> Self {
        self.hook = Arc::new(hook);
        self
    }
}

impl<K: Resource<DynamicType = ()>> WatchOptions<K> {
    /// Watches what `selector` selects and finds it by the owner that its `label` names. A change of it asks for a look
    /// at that owner, and at the one that controls it: a label that somebody changed names another.
    pub fn children_of<O>(name: &'static str, selector: &str, label: &'static str, owners: &Triggers<O>) -> Self
    where
        O: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let owners = owners.clone();
        Self::new(name)
            .labels(selector)
            .indexed_by(label)
            .on_change(move |change: Change<'_, K>| match change {
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
            })
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

/// One running watch.
struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    runtime: Runtime,
    options: Arc<WatchOptions<K>>,
    index: Index,
    triggers: Triggers<K>,
    reader: Store<K>,
    scope: Scope,
    events: Events,
    /// What this watch adds to the gauge.
    counted: AtomicI64,
    is_served: Arc<AtomicBool>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    /// Watches until the process ends; a kind that may be absent only while it is there.
    async fn run(self, api: Api<DeserializeGuard<K>>, config: watcher::Config, mut writer: Writer<K>)
    where
        K: DeserializeOwned,
    {
        let Some(mut presence) = self.options.presence.clone() else {
            return self.follow(&api, &config, &mut writer).await;
        };
        // Whoever follows the definition ends with the process alone.
        while let Ok(found) = presence
            .wait_for(|found| *found != Presence::Unknown)
            .await
            .map(|found| *found)
        {
            if found == Presence::Present {
                tokio::select! {
                    () = self.follow(&api, &config, &mut writer) => return,
                    _ = presence.wait_for(|found| *found != Presence::Present) => {}
                }
            } else {
                self.is_served.store(false, Ordering::Release);
                for event in [Event::Init, Event::InitDone] {
                    writer.apply_watcher_event(&event);
                    self.changed(&event);
                }
                let _ = presence.wait_for(|found| *found == Presence::Present).await;
            }
        }
    }

    async fn follow(&self, api: &Api<DeserializeGuard<K>>, config: &watcher::Config, writer: &mut Writer<K>)
    where
        K: DeserializeOwned,
    {
        let events = watcher::watcher(api.clone(), config.clone())
            .default_backoff()
            .inspect_err(|error| self.failed(error))
            .filter_map(|event| std::future::ready(event.ok()))
            .take_until(self.runtime.shutdown.clone().cancelled_owned());
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if let Some(event) = self.readable(event) {
                writer.apply_watcher_event(&event);
                if matches!(event, Event::InitDone) {
                    self.is_served.store(true, Ordering::Release);
                }
                self.changed(&event);
            }
        }
    }

    fn failed(&self, error: &watcher::Error) {
        self.runtime
            .metrics
            .watch_errors
            .with_label_values(&[self.options.name])
            .inc();
        tracing::warn!(
            watch = self.options.name,
            scope = ?self.scope,
            error = failure::chain(error),
            "watch failed; it is opened again"
        );
        // Of the whole cluster it would be a wrong installation; a namespace comes and goes with its rights.
        let is_forbidden =
            matches!(error, watcher::Error::InitialListFailed(source) if failure::is_status(source, 403));
        if is_forbidden && self.scope != Scope::Cluster {
            self.runtime.readiness.forbidden(&self.scope, self.options.name);
        }
    }

    /// The event without the guard; none if the object cannot be read and never could.
    fn readable(&self, event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
        Some(match event {
            Event::Apply(object) => Event::Apply(self.unwrap(object).ok()?),
            Event::InitApply(object) => Event::InitApply(
                // A list replaces everything: the last good version must be in it.
                self.unwrap(object)
                    .or_else(|metadata| self.last_good(*metadata).ok_or(()))
                    .ok()?,
            ),
            Event::Delete(object) => {
                let metadata = object.meta().clone();
                // It is gone all the same: delete what the cache still has of it.
                Event::Delete(object.0.ok().or_else(|| self.last_good(metadata))?)
            }
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    }

    fn last_good(&self, metadata: ObjectMeta) -> Option<K> {
        let namespace = metadata.namespace.unwrap_or_default();
        let name = metadata.name.unwrap_or_default();
        let last = self.reader.get(&ObjectRef::new(&name).within(&namespace))?;
        Some(K::clone(&last))
    }

    fn unwrap(&self, object: DeserializeGuard<K>) -> Result<K, Box<ObjectMeta>> {
        object
            .0
            .map(|mut object| {
                object.managed_fields_mut().clear();
                (self.options.trim)(&mut object);
                object
            })
            .map_err(|invalid| {
                self.tell_unreadable(&invalid.metadata, &invalid.error);
                Box::new(invalid.metadata)
            })
    }

    /// Who wrote the object sees it there: no status can be written for what cannot be read.
    fn tell_unreadable(&self, metadata: &ObjectMeta, error: &str) {
        self.runtime
            .metrics
            .invalid_objects
            .with_label_values(&[self.options.name])
            .inc();
        tracing::error!(
            kind = self.options.name,
            namespace = metadata.namespace.as_deref().unwrap_or_default(),
            name = metadata.name.as_deref().unwrap_or_default(),
            error,
            "an object cannot be read and is left alone; correct or delete it"
        );
        if self.runtime.leadership.fence().is_none() {
            return;
        }
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let note = format!("the object cannot be read and is left as it was; correct or delete it: {error}");
        let events = self.events.clone();
        tokio::spawn(async move {
            events
                .publish(&reference, EventType::Warning, "Unreadable", "Read", &note)
                .await;
        });
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
                self.forget_missed();
                (self.options.hook)(Change::Relisted);
                self.triggers.trigger_scope(&self.scope);
                self.runtime.readiness.reached(&self.scope, self.options.name);
            }
        }
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            let count = i64::try_from(self.reader.len()).unwrap_or(i64::MAX);
            let before = self.counted.swap(count, Ordering::Relaxed);
            let gauge = &self.runtime.metrics.cached_objects;
            // One gauge for all scopes of the kind.
            gauge.with_label_values(&[self.options.name]).add(count - before);
        }
    }

    /// Takes names out of the index whose deletion fell into a list.
    fn forget_missed(&self) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.retain(|(namespace, _), names| {
            if self.scope.contains(namespace) {
                names.retain(|name| self.reader.get(&ObjectRef::new(name).within(namespace)).is_some());
            }
            !names.is_empty()
        });
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

#[cfg(test)]
mod tests;
