//! One running watch: what it tells goes into the cache, the index and to whoever listens; what cannot be read is told.

use super::{Change, Index, WatchOptions};
use crate::runtime::{Events, Presence, Runtime, Scope, failure, triggers::Triggers};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        events::EventType,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

/// Waits longer with each failure in a row. A watch that begins says so before it has asked for anything, which would be
/// taken for a success: every list of an API server that is gone would be asked for again at once, for as long as it is.
pub fn patient<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Send,
{
    let mut begins = false;
    let answered = events.flat_map(move |event| {
        let told = match event {
            Ok(Event::Init) => {
                begins = true;
                Vec::new()
            }
            Ok(event) if std::mem::take(&mut begins) => vec![Ok(Event::Init), Ok(event)],
            other => vec![other],
        };
        stream::iter(told)
    });
    answered.default_backoff()
}

/// One running watch.
pub struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub runtime: Runtime,
    pub options: Arc<WatchOptions<K>>,
    pub index: Index,
    pub triggers: Triggers<K>,
    pub reader: Store<K>,
    pub scope: Scope,
    pub events: Events,
    /// What this watch adds to the gauge.
    pub counted: AtomicI64,
    pub is_served: Arc<AtomicBool>,
    /// What could not be read while another process led, and why.
    pub untold: Untold,
}

/// By namespace and name: the object as an event names it, and what is to be said.
pub type Untold = Arc<Mutex<HashMap<(String, String), (ObjectReference, String)>>>;

impl<K> Watch<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    /// Watches until the process ends; a kind that may be absent only while it is there.
    pub async fn run(self, api: Api<DeserializeGuard<K>>, config: watcher::Config, mut writer: Writer<K>)
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
                    self.take(&mut writer, &event);
                }
                // Nobody follows the definition any more: the process ends, and asking again would never rest.
                if presence.wait_for(|found| *found == Presence::Present).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn follow(&self, api: &Api<DeserializeGuard<K>>, config: &watcher::Config, writer: &mut Writer<K>)
    where
        K: DeserializeOwned,
    {
        let events = patient(watcher::watcher(api.clone(), config.clone()))
            .inspect_err(|error| self.failed(error))
            .filter_map(|event| std::future::ready(event.ok()))
            .take_until(self.runtime.shutdown.clone().cancelled_owned());
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if let Some(event) = self.readable(event) {
                if matches!(event, Event::InitDone) {
                    self.is_served.store(true, Ordering::Release);
                }
                self.take(writer, &event);
            }
        }
    }

    /// Into the cache, and then to whoever listens.
    fn take(&self, writer: &mut Writer<K>, event: &Event<K>) {
        // What a list does not show any more went while no watch told of it.
        let before = match event {
            Event::InitDone => self.reader.state(),
            _ => Vec::new(),
        };
        writer.apply_watcher_event(event);
        self.changed(event);
        self.hasten(&before);
        let is_gone = |object: &&Arc<K>| self.reader.get(&ObjectRef::from_obj(&***object)).is_none();
        for object in before.iter().filter(is_gone) {
            self.triggers.trigger_object(object);
        }
    }

    /// A list that is not the first asks for everything; what it shows for the first time is asked for by name.
    fn hasten(&self, before: &[Arc<K>]) {
        if before.is_empty() {
            return;
        }
        let known: HashSet<_> = before.iter().map(|object| version(&**object)).collect();
        for object in self.reader.state() {
            if !known.contains(&version(&*object)) {
                self.triggers.trigger_object(&*object);
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
        // A kind that may be absent holds nobody up either where it is there and cannot be listed. It is not served then.
        if self.options.presence.is_some() {
            self.runtime.readiness.reached(&self.scope, self.options.name);
        }
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
                self.untold().remove(&key(&metadata));
                // It is gone all the same: delete what the cache still has of it.
                Event::Delete(object.0.ok().or_else(|| self.last_good(metadata))?)
            }
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    }

    fn last_good(&self, metadata: ObjectMeta) -> Option<K> {
        let (namespace, name) = key(&metadata);
        let last = self.reader.get(&ObjectRef::new(&name).within(&namespace))?;
        Some(K::clone(&last))
    }

    fn unwrap(&self, object: DeserializeGuard<K>) -> Result<K, Box<ObjectMeta>> {
        object
            .0
            .map(|mut object| {
                self.untold().remove(&key(object.meta()));
                self.options.slim(&mut object);
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
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let note = format!("the object cannot be read and is left as it was; correct or delete it: {error}");
        let key = key(metadata);
        let is_waiting = self.untold().insert(key.clone(), (reference, note)).is_some();
        if is_waiting {
            return;
        }
        let (events, untold, runtime) = (self.events.clone(), self.untold.clone(), self.runtime.clone());
        tokio::spawn(async move {
            // Caches fill before this process leads, and no watch tells it again then.
            tokio::select! {
                () = runtime.leadership.acquired() => {}
                () = runtime.shutdown.cancelled() => return,
            }
            let told = untold.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            if let Some((reference, note)) = told {
                events
                    .publish(&reference, EventType::Warning, "Unreadable", "Read", &note)
                    .await;
            }
        });
    }

    fn untold(&self) -> MutexGuard<'_, HashMap<(String, String), (ObjectReference, String)>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
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

/// UID and resourceVersion: no two states of any objects have both.
fn version<K: ResourceExt>(object: &K) -> (Option<String>, Option<String>) {
    (object.uid(), object.resource_version())
}

/// Namespace and name.
fn key(metadata: &ObjectMeta) -> (String, String) {
    let ObjectMeta { namespace, name, .. } = metadata;
    (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
}
