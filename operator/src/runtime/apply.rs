//! Children: written by server-side apply when they differ, never taken from a stranger, never left behind.
//!
//! At rest this makes no request: an object is compared with the cache first. What the API server writes differently
//! from us (quantities, for example) is remembered from its answer, so that it is not taken for drift.

use super::{Clients, FIELD_MANAGER, Runtime, drift, failure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use valerix_crds::names::APPLIED_ANNOTATION;

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stood as desired; nothing was sent.
    Unchanged,
    /// It was created.
    Created,
    /// It was changed, because something else is desired now.
    Updated,
    /// It was put back, because somebody else had changed it.
    Repaired,
    /// It is being deleted; it is created again when it is gone.
    Terminating,
}

/// Why a child does not stand as desired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of this name belongs to somebody else.
    #[error(
        "{kind} {name} exists and belongs to somebody else; rename one of the two, or delete it if nobody needs it"
    )]
    NotOwned {
        /// Kind of the child.
        kind: String,
        /// Name of the child.
        name: String,
    },
    /// The API server refused.
    #[error("failed to {action} {kind} {name}: {source}")]
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
struct Answer {
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
    answers: Arc<Mutex<HashMap<Key, Answer>>>,
}

type Key = (String, String, String);

impl Applier {
    /// An applier for the controller of this name.
    pub fn new(runtime: &Runtime, controller: &'static str) -> Self {
        Self {
            clients: runtime.clients.clone(),
            writes: runtime.metrics.writes.clone(),
            controller,
            answers: Arc::default(),
        }
    }

    /// Makes `desired` stand. It must carry its namespace, its labels and the owner's reference, which decides what is
    /// ours; `cached` is what the cache has under its name.
    ///
    /// # Errors
    /// [`Error::NotOwned`] if the name is taken, else what the API server answered.
    pub async fn apply<K>(&self, desired: &K, cached: Option<&K>) -> Result<Outcome, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize
            + Send
            + Sync,
    {
        let child = Child::new(desired)?;
        let api: Api<K> = self.clients.api(&child.key.1);
        let found = match cached {
            Some(cached) => Some(cached.clone()),
            // The cache holds only objects with our label: a stranger, or a child that lost it, shows here.
            None => api
                .get_opt(&child.key.2)
                .await
                .map_err(|error| child.failed("read", error))?,
        };
        let Some(live) = found else {
            // Without force: if a stranger comes first in this very moment, the API server reports the conflict.
            self.send(&api, &child, None).await?;
            return Ok(Outcome::Created);
        };
        if !is_owned(&live, child.owner.as_deref()) {
            return Err(Error::NotOwned {
                kind: child.key.0,
                name: child.key.2,
            });
        }
        if live.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::Terminating);
        }
        if self.stands(&child, &live)? {
            return Ok(Outcome::Unchanged);
        }
        let was_desired = live.annotations().get(APPLIED_ANNOTATION) == Some(&child.hash);
        self.send(&api, &child, live.uid()).await?;
        Ok(if was_desired {
            Outcome::Repaired
        } else {
            Outcome::Updated
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
        if !is_owned(live, Some(owner)) || live.meta().deletion_timestamp.is_some() {
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

    fn stands<K: Resource<DynamicType = ()> + Serialize>(&self, child: &Child, live: &K) -> Result<bool, Error> {
        let answer = self.lock().get(&child.key).cloned();
        let answer = answer.filter(|answer| Some(&answer.uid) == live.uid().as_ref() && answer.desired == child.hash);
        // The cache has not seen our own writing yet: it would show drift that is none.
        if answer.as_ref().is_some_and(|answer| answer.version > version(live)) {
            return Ok(true);
        }
        if live.annotations().get(APPLIED_ANNOTATION) != Some(&child.hash) {
            return Ok(false);
        }
        let live = serde_json::to_value(live).map_err(|error| child.unserializable(error))?;
        let projection = drift::project(&child.body, &live);
        Ok(projection == child.body || answer.is_some_and(|answer| answer.projection == hash(&projection)))
    }

    async fn send<K>(&self, api: &Api<K>, child: &Child, uid: Option<String>) -> Result<(), Error>
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
            .patch(&child.key.2, &parameters, &Patch::Apply(&body))
            .await
            .map_err(|error| child.failed("apply", error))?;
        let live = serde_json::to_value(&stored).map_err(|error| child.unserializable(error))?;
        let answer = Answer {
            uid: stored.uid().unwrap_or_default(),
            version: version(&stored),
            desired: child.hash.clone(),
            projection: hash(&drift::project(&child.body, &live)),
        };
        self.lock().insert(child.key.clone(), answer);
        Ok(())
    }

    /// Forgets what is known of a child that is gone.
    pub fn forget<K: Resource<DynamicType = ()>>(&self, child: &K) {
        let meta = child.meta();
        self.lock().remove(&(
            K::kind(&()).into_owned(),
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        ));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A desired child, ready to be compared and sent.
struct Child {
    /// Kind, namespace, name.
    key: Key,
    owner: Option<String>,
    body: Value,
    hash: String,
}

impl Child {
    fn new<K: Resource<DynamicType = ()> + Serialize>(desired: &K) -> Result<Self, Error> {
        let key = (
            K::kind(&()).into_owned(),
            desired.namespace().unwrap_or_default(),
            desired.name_any(),
        );
        let body = serde_json::to_value(desired).map_err(|source| Error::Serialize {
            kind: key.0.clone(),
            name: key.2.clone(),
            source,
        })?;
        Ok(Self {
            hash: hash(&body),
            body,
            owner: controller_of(desired).map(|owner| owner.uid.clone()),
            key,
        })
    }

    fn failed(&self, action: &'static str, source: kube::Error) -> Error {
        Error::Api {
            action,
            kind: self.key.0.clone(),
            name: self.key.2.clone(),
            source: Box::new(source),
        }
    }

    fn unserializable(&self, source: serde_json::Error) -> Error {
        Error::Serialize {
            kind: self.key.0.clone(),
            name: self.key.2.clone(),
            source,
        }
    }
}

/// The owner reference that says who manages an object.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true))
}

fn is_owned<K: Resource>(object: &K, owner: Option<&str>) -> bool {
    controller_of(object).map(|reference| reference.uid.as_str()) == owner && owner.is_some()
}

fn version<K: Resource>(object: &K) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::{FakeApi, Recorded},
        runtime::{Identity, Scope},
    };
    use k8s_openapi::api::core::v1::ConfigMap;

    const MAP: &str = "/api/v1/namespaces/shop/configmaps/order";

    fn applier(api: &FakeApi) -> Applier {
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        Applier::new(&runtime, "test")
    }

    fn desired(data: Value) -> ConfigMap {
        let owner = json!({"apiVersion": "v1", "kind": "Owner", "name": "order", "uid": "owner", "controller": true});
        let metadata = json!({"name": "order", "namespace": "shop", "ownerReferences": [owner]});
        serde_json::from_value(json!({"metadata": metadata, "data": data})).unwrap()
    }

    fn live(api: &FakeApi) -> ConfigMap {
        serde_json::from_value(api.get(MAP).unwrap()).unwrap()
    }

    fn last_write(api: &FakeApi) -> Recorded {
        api.requests().into_iter().rfind(Recorded::is_write).unwrap()
    }

    #[tokio::test]
    async fn what_is_new_is_sent_without_force_and_what_is_ours_with_its_uid() {
        let api = FakeApi::default();
        let applier = applier(&api);
        let (both, one) = (desired(json!({"a": "1", "b": "2"})), desired(json!({"a": "1"})));
        assert_eq!(applier.apply(&both, None).await.unwrap(), Outcome::Created);
        let write = last_write(&api);
        assert!(
            !write.query.contains("force=true"),
            "a stranger may come first: {write:?}"
        );
        assert_eq!(
            applier.apply(&both, Some(&live(&api))).await.unwrap(),
            Outcome::Unchanged
        );
        // What is not wanted any more is no part of the comparison; the annotation tells.
        assert_eq!(applier.apply(&one, Some(&live(&api))).await.unwrap(), Outcome::Updated);
        let write = last_write(&api);
        assert!(write.query.contains("force=true"), "{write:?}");
        assert_eq!(write.body["metadata"]["uid"], json!(live(&api).metadata.uid));
        api.merge(MAP, json!({"data": {"a": "changed"}}));
        assert_eq!(applier.apply(&one, Some(&live(&api))).await.unwrap(), Outcome::Repaired);
    }

    #[tokio::test]
    async fn a_cache_that_has_not_seen_our_writing_shows_no_drift_but_of_that_writing_alone() {
        let api = FakeApi::default();
        let applier = applier(&api);
        let numbered = |number: &str| desired(json!({"a": number}));
        applier.apply(&numbered("1"), None).await.unwrap();
        let stale = live(&api);
        for (number, expected) in [
            ("2", Outcome::Updated),
            ("2", Outcome::Unchanged),
            ("3", Outcome::Updated),
            ("3", Outcome::Unchanged),
        ] {
            assert_eq!(applier.apply(&numbered(number), Some(&stale)).await.unwrap(), expected);
        }
        let mut another = stale;
        another.metadata.uid = Some("another".into());
        let before = api.requests().len();
        let _ = applier.apply(&numbered("3"), Some(&another)).await;
        assert!(
            api.requests().len() > before,
            "what is known of one object says nothing of another"
        );
    }

    #[tokio::test]
    async fn what_goes_is_left_alone_and_what_is_pruned_is_ours_and_named_by_uid() {
        let api = FakeApi::default();
        let applier = applier(&api);
        let wanted = desired(json!({"a": "1"}));
        applier.apply(&wanted, None).await.unwrap();
        let mut going = live(&api);
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-08-21T12:00:00Z")).unwrap();
        going.data = None;
        let before = api.requests().len();
        // Of an earlier life, so that nothing else is known of it.
        let restarted = self::applier(&api);
        assert_eq!(
            restarted.apply(&wanted, Some(&going)).await.unwrap(),
            Outcome::Terminating
        );
        assert!(!restarted.prune(&going, "owner").await.unwrap());
        assert!(!restarted.prune(&live(&api), "another").await.unwrap());
        assert_eq!(api.requests().len(), before);
        let uid = live(&api).metadata.uid;
        assert!(applier.prune(&live(&api), "owner").await.unwrap());
        assert_eq!(last_write(&api).body["preconditions"]["uid"], json!(uid));
        assert_eq!(api.get(MAP), None);
    }
}
