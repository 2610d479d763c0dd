//! The objects, their versions and what happened to them.

mod event;
mod list;
mod object;

pub use event::Event;

use super::{
    apply,
    path::{self, ResourcePath},
    stored,
};
use http::Method;
use object::{check_uid, check_version, handed_to, has_finalizers, keep_identity, set_version, text};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// apiVersion, plural, namespace, name.
type Key = (String, String, String, String);

/// Why a request is refused.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

/// A refusal.
pub fn refuse<T>(code: u16, reason: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        reason,
        message: message.into(),
    })
}

/// Everything.
#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Key, Value>,
    /// What each field manager applied last, per object.
    applied: HashMap<(Key, String), Value>,
    version: u64,
    /// Versions before this one are too old to watch from.
    horizon: u64,
    log: Vec<Arc<Event>>,
    fresh: Vec<Arc<Event>>,
    /// Whether objects are kept in another form than that in which they were sent.
    pub has_forms: bool,
}

impl Store {
    pub fn get(&self, target: &ResourcePath) -> Option<&Value> {
        self.objects.get(&key(target)?)
    }

    pub fn take_events(&mut self) -> Vec<Arc<Event>> {
        std::mem::take(&mut self.fresh)
    }

    /// From now on no watch can go on from a version that was handed out before.
    pub fn forget_history(&mut self) {
        self.version += 1;
        self.horizon = self.version;
    }

    pub fn has_forgotten(&self, version: u64) -> bool {
        version < self.horizon
    }

    pub fn events_after(&self, version: u64) -> Vec<Arc<Event>> {
        self.log_after(version).to_vec()
    }

    /// Versions only grow.
    fn log_after(&self, version: u64) -> &[Arc<Event>] {
        let begin = self.log.partition_point(|event| event.version <= version);
        self.log.get(begin..).unwrap_or_default()
    }

    pub fn act(
        &mut self,
        method: &Method,
        target: &ResourcePath,
        content_type: &str,
        query: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        self.known(target)?;
        match (method, &target.name) {
            (&Method::GET, None) => self.list(target, query),
            (&Method::GET, Some(_)) => self.existing(target).map(|(_, object)| object),
            (&Method::POST, None) => self.create(target, body),
            (&Method::POST, Some(_)) if target.subresource.as_deref() == Some("eviction") => self.evict(target, body),
            (&Method::PUT, Some(_)) => self.replace(target, body),
            (&Method::PATCH, Some(_)) if content_type.contains("apply-patch") => self.apply(target, query, body),
            (&Method::PATCH, Some(_)) if target.subresource.as_deref() == Some("scale") => self.scale(target, body),
            (&Method::PATCH, Some(_)) => self.merge(target, body),
            (&Method::DELETE, Some(_)) => self.delete(target, body),
            _ => refuse(405, "MethodNotAllowed", format!("{method} on {target:?}")),
        }
    }

    /// Kinds of others are there while their definition is, as in Kubernetes.
    pub fn known(&self, target: &ResourcePath) -> Result<(), Refusal> {
        let is_other = !path::is_taken_as_there(&target.api_version);
        let group = target.api_version.split('/').next().unwrap_or_default();
        let definition = format!("{}.{group}", target.plural);
        if is_other && !self.objects.keys().any(|(_, _, _, name)| *name == definition) {
            return refuse(404, "NotFound", "the server could not find the requested resource");
        }
        Ok(())
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// Removes what names an owner that is not there.
    pub fn collect_garbage(&mut self) {
        let there: Vec<Value> = self
            .objects
            .values()
            .map(|object| object["metadata"]["uid"].clone())
            .collect();
        let is_left = |object: &Value| {
            let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.is_some_and(|owners| !owners.is_empty() && owners.iter().all(|owner| !there.contains(&owner["uid"])))
        };
        let left: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, object)| is_left(object))
            .map(|(key, _)| key.clone())
            .collect();
        for key in left {
            self.remove(&key);
        }
    }

    fn existing(&self, target: &ResourcePath) -> Result<(Key, Value), Refusal> {
        let Some(key) = key(target) else {
            return refuse(400, "BadRequest", "no name");
        };
        match self.objects.get(&key) {
            Some(object) => Ok((key, object.clone())),
            None => refuse(404, "NotFound", format!("{} {} not found", key.1, key.3)),
        }
    }

    fn create(&mut self, target: &ResourcePath, body: &Value) -> Result<Value, Refusal> {
        let name = text(body, "/metadata/name");
        let target = ResourcePath {
            name: Some(name.clone()),
            ..target.clone()
        };
        let Some(key) = key(&target) else {
            return refuse(400, "BadRequest", "no namespace");
        };
        if self.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists", format!("{} {name} already exists", key.1));
        }
        Ok(self.insert(key, body.clone()))
    }

    fn insert(&mut self, key: Key, mut object: Value) -> Value {
        let uid = format!("uid-{}", self.version + 1);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            if !key.2.is_empty() {
                metadata.insert("namespace".into(), json!(key.2));
            }
            metadata.entry("uid").or_insert(json!(uid));
            metadata.insert("creationTimestamp".into(), json!("2026-01-01T00:00:00Z"));
            metadata.insert("generation".into(), json!(1));
        }
        if self.has_forms {
            stored::store(&key.1, &mut object);
        }
        self.store(key, object, "ADDED")
    }

    fn replace(&mut self, target: &ResourcePath, body: &Value) -> Result<Value, Refusal> {
        let (key, old) = self.existing(target)?;
        check_version(&old, body)?;
        let mut object = body.clone();
        keep_identity(&old, &mut object);
        Ok(self.update(key, &old, object))
    }

    fn merge(&mut self, target: &ResourcePath, body: &Value) -> Result<Value, Refusal> {
        let (key, old) = self.existing(target)?;
        check_version(&old, body)?;
        check_uid(&old, body)?;
        let mut object = old.clone();
        json_patch::merge(&mut object, body);
        keep_identity(&old, &mut object);
        if object.pointer("/metadata/deletionTimestamp").is_some() && has_finalizers(&old) && !has_finalizers(&object) {
            self.remove(&key);
            return Ok(object);
        }
        Ok(self.update(key, &old, object))
    }

    fn scale(&mut self, target: &ResourcePath, body: &Value) -> Result<Value, Refusal> {
        let object = self.merge(target, &json!({"spec": {"replicas": body["spec"]["replicas"]}}))?;
        Ok(json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": object["metadata"]["name"]}, "spec": {"replicas": object["spec"]["replicas"]},
        }))
    }

    fn apply(&mut self, target: &ResourcePath, query: &str, body: &Value) -> Result<Value, Refusal> {
        let Some(key) = key(target) else {
            return refuse(400, "BadRequest", "no name");
        };
        let manager = path::parameter(query, "fieldManager").unwrap_or_default();
        let manager_key = (
            key.clone(),
            format!("{manager}{}", target.subresource.clone().unwrap_or_default()),
        );
        let wants_uid = body.pointer("/metadata/uid").is_some_and(|uid| !uid.is_null());
        let Some(old) = self.objects.get(&key).cloned() else {
            if target.subresource.is_some() {
                return refuse(404, "NotFound", format!("{} not found", key.3));
            }
            if wants_uid {
                return refuse(409, "Conflict", "uid mismatch: there is no object of this name");
            }
            self.applied.insert(manager_key, body.clone());
            return Ok(self.insert(key, body.clone()));
        };
        check_version(&old, body)?;
        if wants_uid && old.pointer("/metadata/uid") != body.pointer("/metadata/uid") {
            return refuse(422, "Invalid", "metadata.uid: field is immutable");
        }
        let mine = self.applied.get(&manager_key).cloned();
        let mine = mine.unwrap_or_else(|| handed_to(&manager, &old));
        if !query.contains("force=true")
            && let Some(field) = apply::conflict(&old, &mine, body)
        {
            return refuse(409, "Conflict", format!("conflict with another manager: {field}"));
        }
        let others: Vec<&Value> = self
            .applied
            .iter()
            .filter(|((of, by), _)| *of == key && *by != manager_key.1)
            .map(|(_, value)| value)
            .collect();
        let mut object = apply::merge(&old, &mine, body, &others);
        keep_identity(&old, &mut object);
        if key.1 == "deployments" && old.pointer("/spec/selector") != object.pointer("/spec/selector") {
            return refuse(422, "Invalid", "spec.selector: Invalid value: field is immutable");
        }
        self.applied.insert(manager_key, body.clone());
        Ok(self.update(key, &old, object))
    }

    fn delete(&mut self, target: &ResourcePath, body: &Value) -> Result<Value, Refusal> {
        let (key, old) = self.existing(target)?;
        if let Some(uid) = body.pointer("/preconditions/uid")
            && old.pointer("/metadata/uid") != Some(uid)
        {
            return refuse(409, "Conflict", "the UID in the precondition does not match");
        }
        if has_finalizers(&old) {
            let mut going = old.clone();
            json_patch::merge(
                &mut going,
                &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            );
            return Ok(self.update(key, &old, going));
        }
        self.remove(&key);
        Ok(old)
    }

    /// Marks the pod as the API server does, under the precondition; it stays until somebody deletes it.
    fn evict(&mut self, target: &ResourcePath, body: &Value) -> Result<Value, Refusal> {
        let (key, old) = self.existing(target)?;
        if let Some(uid) = body.pointer("/deleteOptions/preconditions/uid")
            && old.pointer("/metadata/uid") != Some(uid)
        {
            return refuse(
                409,
                "Conflict",
                format!("Precondition failed: UID in precondition: {uid}"),
            );
        }
        let mut pod = old.clone();
        json_patch::merge(
            &mut pod,
            &json!({
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30},
                "status": {"conditions": [{
                    "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"
                }]}
            }),
        );
        self.update(key, &old, pod);
        Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    /// Removes an object and everything that it owns.
    fn remove(&mut self, key: &Key) {
        let Some(object) = self.objects.remove(key) else { return };
        self.applied.retain(|(of, _), _| of != key);
        self.version += 1;
        let mut last = object.clone();
        set_version(&mut last, self.version);
        self.tell(key.clone(), "DELETED", last, Some(object.clone()));
        let uid = object.pointer("/metadata/uid").cloned();
        let owned: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, child)| {
                let owners = child.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                owners.is_some_and(|owners| owners.iter().any(|owner| owner.get("uid") == uid.as_ref()))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for child in owned {
            self.remove(&child);
        }
    }

    /// A change that changes nothing keeps the version, as in Kubernetes.
    fn update(&mut self, key: Key, old: &Value, mut object: Value) -> Value {
        if self.has_forms {
            stored::store(&key.1, &mut object);
        }
        if object == *old {
            return object;
        }
        if object.get("spec") != old.get("spec") {
            let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("generation".into(), json!(generation + 1));
            }
        }
        self.store(key, object, "MODIFIED")
    }

    fn store(&mut self, key: Key, mut object: Value, kind: &'static str) -> Value {
        self.version += 1;
        set_version(&mut object, self.version);
        let before = self.objects.insert(key.clone(), object.clone());
        self.tell(key, kind, object.clone(), before);
        object
    }

    fn tell(&mut self, key: Key, kind: &'static str, object: Value, before: Option<Value>) {
        let event = Arc::new(Event {
            version: self.version,
            key,
            kind,
            object,
            before,
        });
        self.log.push(event.clone());
        self.fresh.push(event);
    }
}

fn key(target: &ResourcePath) -> Option<Key> {
    Some((
        target.api_version.clone(),
        target.plural.clone(),
        // Of a kind without namespaces.
        target.namespace.clone().unwrap_or_default(),
        target.name.clone()?,
    ))
}
