//! How anything asks a controller to look at an object.

use super::{Scope, lanes::Asked};
use kube::{
    Resource,
    runtime::reflector::{ObjectRef, Store},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// Asks a controller to look at objects; does nothing while the controller does not run, since it looks at every
/// object when it begins.
pub struct Triggers<K: Resource<DynamicType = ()> + 'static> {
    attached: Arc<Mutex<Vec<Attached<K>>>>,
}

/// The queue of a controller for one scope.
pub(super) struct Attached<K: Resource<DynamicType = ()> + 'static> {
    pub store: Store<K>,
    pub scope: Scope,
    pub queue: UnboundedSender<ObjectRef<K>>,
    /// What was asked for by name goes before what was not.
    pub asked: Arc<Asked<ObjectRef<K>>>,
}

impl<K: Resource<DynamicType = ()> + 'static> Clone for Triggers<K> {
    fn clone(&self) -> Self {
        Self {
            attached: self.attached.clone(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Triggers<K> {
    fn default() -> Self {
        Self {
            attached: Arc::default(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Triggers<K> {
    /// Asks for a look at the object of this name, before all that are merely looked at again.
    pub fn trigger(&self, namespace: &str, name: &str) {
        for attached in self.lock().iter().filter(|attached| attached.scope.contains(namespace)) {
            let reference = ObjectRef::new(name).within(namespace);
            attached.asked.ask(reference.clone());
            // A closed queue means that the controller is ending.
            let _ = attached.queue.send(reference);
        }
    }

    /// Asks for a look at this object.
    pub fn trigger_object(&self, object: &K) {
        let meta = object.meta();
        self.trigger(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
    }

    /// Asks for a look at every object.
    pub fn trigger_all(&self) {
        for attached in self.lock().iter() {
            attached.trigger_all();
        }
    }

    /// Asks for a look at every object of one scope.
    pub(super) fn trigger_scope(&self, scope: &Scope) {
        for attached in self.lock().iter().filter(|attached| attached.scope == *scope) {
            attached.trigger_all();
        }
    }

    /// From now on, what is asked for in this scope goes into this queue; every object of it is asked for once.
    pub(super) fn attach(&self, attached: Attached<K>) {
        let mut all = self.lock();
        attached.trigger_all();
        all.push(attached);
    }

    /// The controller has ended.
    pub(super) fn detach(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attached<K>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Attached<K> {
    fn trigger_all(&self) {
        for object in self.store.state() {
            let _ = self.queue.send(ObjectRef::from_obj(&*object));
        }
    }
}
