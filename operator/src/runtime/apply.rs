//! Children: written by server-side apply when they differ, never taken from a stranger, never left behind.
//!
//! At rest this makes no request: an object is compared with the cache first. What the API server writes differently
//! from us (quantities, for example) is remembered from its answer, so that it is not taken for drift.

mod adopt;
mod possession;
mod replicas;
#[cfg(test)]
mod tests;

pub use adopt::Handover;
pub use possession::controller_of;

use super::{Clients, FIELD_MANAGER, Runtime, drift, failure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::NamespaceResourceScope,
};
use possession::{Possession, may_be_handed_over, possession};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use valerix_crds::names::{ADOPT_ANNOTATION, APPLIED_ANNOTATION};

/// A kind of object that is written in namespaces.
pub trait Written:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync
{
}

impl<K> Written for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
{
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It stood as desired; nothing was sent.
    Unchanged,
    /// It was created.
    Created,
    /// It was changed, because something else is desired now.
    Updated,
    /// It was put back, because somebody else had changed it.
    Repaired,
    /// It was somebody else's, who had handed it over, and is ours now.
    Adopted,
    /// It is handed over to us and serves as it is until the time has come.
    Waiting,
    /// It is being deleted; it is created again when it is gone.
    Terminating,
}

/// Why a child does not stand as desired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of this name belongs to somebody else.
    #[error(
        "{kind} {name} exists and belongs to {}; {}",
        owner.as_deref().unwrap_or("somebody else"),
        way_out(kind, name, owner.as_deref())
    )]
    NotOwned {
        /// Kind of the child.
        kind: String,
        /// Name of the child.
        name: String,
        /// Kind and name of the object that controls it, if one does.
        owner: Option<String>,
    },
    /// The API server refused.
    #[error("failed to {action} {kind} {name}: {}", failure::sentence(source))]
    Api {
        /// What was tried.
        action: &'static str,
        /// Kind of the child.
        kind: String,
        /// Name of the child.
        name: String,
        /// What the API server or the way to it answered.
        source: Box<kube::Error>,
    },
    /// A bug: the desired object is no JSON object.
    #[error("failed to serialize {kind} {name}: {source}")]
    Serialize {
        /// Kind of the child.
        kind: String,
        /// Name of the child.
        name: String,
        /// What the serializer said.
        source: serde_json::Error,
    },
}

/// What to do about a name that is taken.
fn way_out(kind: &str, name: &str, owner: Option<&str>) -> String {
    if !may_be_handed_over(kind, name) {
        return "give the resource another name: that one is Kubernetes' own".to_owned();
    }
    match owner {
        Some(_) => "rename one of the two".to_owned(),
        None => format!("rename one of the two, or hand it over with the annotation {ADOPT_ANNOTATION}: \"true\""),
    }
}

impl super::Category for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::NotOwned { .. } => "NotOwned",
            Self::Api { source, .. } => failure::api_category(source),
            Self::Serialize { .. } => "Serialize",
        }
    }
}

/// What is known of a child beyond the cache, from the API server's last answer to us.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ApplyMemo {
    uid: String,
    version: u64,
    desired: String,
    /// Hash of the part of the live object that the desired one speaks of.
    projection: String,
}

/// Applies the children of one controller.
#[derive(Clone)]
pub struct Applier {
    clients: Clients,
    writes: prometheus::IntCounterVec,
    controller: &'static str,
    /// By UID of the owner, then by kind and name of the child.
    memos: Arc<Mutex<HashMap<String, HashMap<ChildKey, ApplyMemo>>>>,
}

/// Kind and name.
type ChildKey = (String, String);

impl Applier {
    /// An applier for the controller of this name.
    pub fn new(runtime: &Runtime, controller: &'static str) -> Self {
        Self {
            clients: runtime.clients.clone(),
            writes: runtime.metrics.writes.clone(),
            controller,
            memos: Arc::default(),
        }
    }

    /// Makes `desired` stand. It must carry its namespace, its labels and the owner's reference, which decides what is
    /// ours; `cached` is what the cache has under its name.
    ///
    /// # Errors
    /// [`Error::NotOwned`] if the name is taken, else what the API server answered.
    pub async fn apply<K: Written>(&self, desired: &K, cached: Option<&K>) -> Result<Applied, Error> {
        self.apply_with(desired, cached, &Handover::default()).await
    }

    /// The same, where what is handed over is taken with care.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn apply_with<K: Written>(
        &self,
        desired: &K,
        cached: Option<&K>,
        handover: &Handover<K>,
    ) -> Result<Applied, Error> {
        let child = Child::new(desired)?;
        let api: Api<K> = self.clients.api(&desired.namespace().unwrap_or_default());
        let found = match cached {
            Some(cached) => Some(cached.clone()),
            // The cache holds only objects with our label: a stranger, or a child that lost it, shows here.
            None => api
                .get_opt(&child.key.1)
                .await
                .map_err(|error| child.failed("read", error))?,
        };
        let Some(live) = found else {
            // Without force: a stranger that comes first in this very moment keeps every field that both set.
            let stored = self.send(&api, &child, None).await?;
            if !is_made_by_us(&stored) {
                self.take_back(&api, &child, &stored).await?;
                let owner = None;
                let (kind, name) = child.key;
                return Err(Error::NotOwned { kind, name, owner });
            }
            return Ok(Applied::Created);
        };
        if live.meta().deletion_timestamp.is_some() {
            return Ok(Applied::Terminating);
        }
        match possession(desired, &live) {
            Possession::Ours => {
                if self.stands(&child, &live)? {
                    return Ok(Applied::Unchanged);
                }
            }
            // Left behind by a deletion with orphans, or brought back from a backup without its owner.
            Possession::Orphan => {}
            Possession::Offered if handover.is_due => return self.adopt(&api, desired, &live, handover).await,
            Possession::Offered => return Ok(Applied::Waiting),
            // Of an earlier owner of the name: the garbage collector is on its way.
            Possession::Past => return Ok(Applied::Terminating),
            Possession::Stranger(owner) => {
                let (kind, name) = child.key;
                return Err(Error::NotOwned { kind, name, owner });
            }
        }
        let was_desired = live.annotations().get(APPLIED_ANNOTATION) == Some(&child.hash);
        let stored = self.send(&api, &child, live.uid()).await?;
        Ok(if stored.resource_version() == live.resource_version() {
            // The API server only writes it in another form than we do: nobody had changed anything.
            Applied::Unchanged
        } else if was_desired {
            Applied::Repaired
        } else {
            Applied::Updated
        })
    }

    /// Deletes a child of ours that is not wanted any more; `live` must have been found by label. Says whether it was
    /// ours to delete.
    ///
    /// # Errors
    /// What the API server answered, except that the object is gone already.
    pub async fn prune<K>(&self, live: &K, owner: &str) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        if !may_prune(live, owner) {
            return Ok(false);
        }
        let name = live.name_any();
        let api: Api<K> = self.clients.api(&live.namespace().unwrap_or_default());
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: None,
        });
        self.writes.with_label_values(&[self.controller, "delete"]).inc();
        match api.delete(&name, &parameters).await {
            Ok(_) => Ok(true),
            Err(error) if failure::is_status(&error, 404) || failure::is_status(&error, 409) => Ok(false),
            Err(source) => Err(Error::Api {
                action: "delete",
                kind: K::kind(&()).into_owned(),
                name,
                source: Box::new(source),
            }),
        }
    }

    /// Whether an object is still the one that was reconciled, by the API server itself: a cache may lag behind those of
    /// its children, and what it does not want yet, or no longer, would be deleted for nothing.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn is_current<K: Written>(&self, object: &K) -> Result<bool, Error> {
        let name = object.name_any();
        let api: Api<K> = self.clients.api(&object.namespace().unwrap_or_default());
        let found = api.get_metadata_opt(&name).await.map_err(|source| Error::Api {
            action: "read",
            kind: K::kind(&()).into_owned(),
            name,
            source: Box::new(source),
        })?;
        Ok(found.is_some_and(|found| {
            found.metadata.uid == object.uid()
                && found.metadata.generation == object.meta().generation
                && found.metadata.deletion_timestamp.is_none()
        }))
    }

    fn stands<K: Resource<DynamicType = ()> + Serialize>(&self, child: &Child, live: &K) -> Result<bool, Error> {
        let memo = self
            .lock()
            .get(&child.owner)
            .and_then(|memos| memos.get(&child.key).cloned())
            .filter(|memo| Some(&memo.uid) == live.uid().as_ref() && memo.desired == child.hash);
        // The cache has not seen our own writing yet: it would show drift that is none.
        if memo.as_ref().is_some_and(|memo| memo.version > version(live)) {
            return Ok(true);
        }
        if live.annotations().get(APPLIED_ANNOTATION) != Some(&child.hash) {
            return Ok(false);
        }
        let live = serde_json::to_value(live).map_err(|error| child.unserializable(error))?;
        let projection = drift::project(&child.body, &live);
        Ok(projection == child.body || memo.is_some_and(|memo| memo.projection == hash(&projection)))
    }

    /// What the API server has now.
    async fn send<K>(&self, api: &Api<K>, child: &Child, uid: Option<String>) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let mut body = child.body.clone();
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            if let Some(uid) = &uid {
                metadata.insert("uid".into(), json!(uid));
            }
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(APPLIED_ANNOTATION.into(), json!(child.hash));
            }
        }
        let mut parameters = PatchParams::apply(FIELD_MANAGER);
        parameters.force = uid.is_some();
        self.writes.with_label_values(&[self.controller, "apply"]).inc();
        let stored = api
            .patch(&child.key.1, &parameters, &Patch::Apply(&body))
            .await
            .map_err(|error| child.failed("apply", error))?;
        let live = serde_json::to_value(&stored).map_err(|error| child.unserializable(error))?;
        let memo = ApplyMemo {
            uid: stored.uid().unwrap_or_default(),
            version: version(&stored),
            desired: child.hash.clone(),
            projection: hash(&drift::project(&child.body, &live)),
        };
        self.lock()
            .entry(child.owner.clone())
            .or_default()
            .insert(child.key.clone(), memo);
        Ok(stored)
    }

    /// Takes what we applied out of an object that somebody made between our look and our writing: it is his, as it was.
    async fn take_back<K>(&self, api: &Api<K>, child: &Child, stored: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        if let Some(memos) = self.lock().get_mut(&child.owner) {
            memos.remove(&child.key);
        }
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": child.key.1, "uid": stored.uid()},
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.writes.with_label_values(&[self.controller, "apply"]).inc();
        api.patch(&child.key.1, &parameters, &Patch::Apply(&body))
            .await
            .map_err(|error| child.failed("take back what was applied to", error))?;
        Ok(())
    }

    /// Forgets what is known of the children of an owner that is gone.
    pub fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<ChildKey, ApplyMemo>>> {
        self.memos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nobody else has written an object: whoever makes one by apply is alone in its record.
fn is_made_by_us<K: Resource>(stored: &K) -> bool {
    let ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
    };
    stored.meta().managed_fields.iter().flatten().all(ours)
}

/// Whether a child is ours to delete, and is not going anyway.
pub fn may_prune<K: Resource>(live: &K, owner: &str) -> bool {
    let is_owned = controller_of(live).is_some_and(|reference| reference.uid == owner);
    is_owned && live.meta().deletion_timestamp.is_none()
}

/// A desired child, ready to be compared and sent.
struct Child {
    key: ChildKey,
    /// UID of the owner.
    owner: String,
    body: Value,
    hash: String,
}

impl Child {
    fn new<K: Resource<DynamicType = ()> + Serialize>(desired: &K) -> Result<Self, Error> {
        let key = (K::kind(&()).into_owned(), desired.name_any());
        let body = serde_json::to_value(desired).map_err(|source| Error::Serialize {
            kind: key.0.clone(),
            name: key.1.clone(),
            source,
        })?;
        Ok(Self {
            hash: hash(&body),
            body,
            owner: controller_of(desired)
                .map(|owner| owner.uid.clone())
                .unwrap_or_default(),
            key,
        })
    }

    fn failed(&self, action: &'static str, source: kube::Error) -> Error {
        Error::Api {
            action,
            kind: self.key.0.clone(),
            name: self.key.1.clone(),
            source: Box::new(source),
        }
    }

    fn unserializable(&self, source: serde_json::Error) -> Error {
        Error::Serialize {
            kind: self.key.0.clone(),
            name: self.key.1.clone(),
            source,
        }
    }
}

/// The version as a number: versions of one kind grow as numbers since Kubernetes 1.35 by contract and before that in
/// practice.
pub(super) fn version<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_ref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Lower-case hex sha256 of a value: the same value always gives the same text, since our maps are sorted.
pub fn hash(value: &Value) -> String {
    hex::encode(Sha256::digest(value.to_string().as_bytes()))
}
