//! Children: written by server-side apply when they differ, never taken from a stranger, never left behind.
//!
//! At rest this makes no request: an object is compared with the cache first. What the API server writes differently
//! from us (quantities, for example) is remembered from its answer, so that it is not taken for drift.

mod replicas;

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
use valerix_crds::names::{APPLIED_ANNOTATION, MANAGED_BY_LABEL};

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
        way_out(kind, name)
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
fn way_out(kind: &str, name: &str) -> &'static str {
    match (kind, name) {
        // Every namespace has it and every pod may run as it: handed over, it would go with what it belongs to.
        ("ServiceAccount", "default") => "give the resource another name: that one is the namespace's own",
        _ => "rename one of the two, or give it our labels and no controller to hand it over",
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
    pub async fn apply<K>(&self, desired: &K, cached: Option<&K>) -> Result<Applied, Error>
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
            self.send(&api, &child, None).await?;
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
            // Of an earlier owner of the name: the garbage collector is on its way.
            Possession::Past => return Ok(Applied::Terminating),
            Possession::Stranger(owner) => {
                let (kind, name) = child.key;
                return Err(Error::NotOwned { kind, name, owner });
            }
        }
        let was_desired = live.annotations().get(APPLIED_ANNOTATION) == Some(&child.hash);
        let version = self.send(&api, &child, live.uid()).await?;
        Ok(if Some(version) == live.resource_version() {
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
        let is_owned = controller_of(live).is_some_and(|reference| reference.uid == owner);
        if !is_owned || live.meta().deletion_timestamp.is_some() {
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

    /// The version that the API server has now.
    async fn send<K>(&self, api: &Api<K>, child: &Child, uid: Option<String>) -> Result<String, Error>
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
        Ok(stored.resource_version().unwrap_or_default())
    }

    /// Forgets what is known of the children of an owner that is gone.
    pub fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<ChildKey, ApplyMemo>>> {
        self.memos.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// The owner reference that says who manages an object.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true))
}

/// Whose an object of a child's name is.
enum Possession {
    Ours,
    /// It carries our labels and nobody controls it.
    Orphan,
    /// It belongs to an earlier object of its owner's kind and name.
    Past,
    /// Kind and name of who controls it, if anybody does.
    Stranger(Option<String>),
}

fn possession<K: Resource>(desired: &K, live: &K) -> Possession {
    let Some(wanted) = controller_of(desired) else {
        return Possession::Stranger(None);
    };
    let Some(found) = controller_of(live) else {
        let labels = desired.meta().labels.as_ref();
        let is_labelled = labels.is_some_and(|labels| {
            labels.contains_key(MANAGED_BY_LABEL)
                && labels.iter().all(|(key, value)| live.labels().get(key) == Some(value))
        });
        return if is_labelled {
            Possession::Orphan
        } else {
            Possession::Stranger(None)
        };
    };
    if found.uid == wanted.uid {
        Possession::Ours
    } else if found.kind == wanted.kind && found.name == wanted.name {
        Possession::Past
    } else {
        Possession::Stranger(Some(format!("{} {}", found.kind, found.name)))
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
        let labels = json!({"app.kubernetes.io/managed-by": "valerix", "owner": "order"});
        let metadata = json!({"name": "order", "namespace": "shop", "labels": labels, "ownerReferences": [owner]});
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
        assert_eq!(applier.apply(&both, None).await.unwrap(), Applied::Created);
        let write = last_write(&api);
        assert!(
            !write.query.contains("force=true"),
            "a stranger may come first: {write:?}"
        );
        assert_eq!(
            applier.apply(&both, Some(&live(&api))).await.unwrap(),
            Applied::Unchanged
        );
        // What is not wanted any more is no part of the comparison; the annotation tells.
        assert_eq!(applier.apply(&one, Some(&live(&api))).await.unwrap(), Applied::Updated);
        let write = last_write(&api);
        assert!(write.query.contains("force=true"), "{write:?}");
        assert_eq!(write.body["metadata"]["uid"], json!(live(&api).metadata.uid));
        api.merge(MAP, json!({"data": {"a": "changed"}}));
        assert_eq!(applier.apply(&one, Some(&live(&api))).await.unwrap(), Applied::Repaired);
    }

    #[tokio::test]
    async fn what_the_api_server_writes_in_another_form_was_changed_by_nobody() {
        let api = FakeApi::default();
        let wanted = desired(json!({"a": "1"}));
        applier(&api).apply(&wanted, None).await.unwrap();
        let mut read = live(&api);
        // As a quantity or a webhook's image would be: the comparison sees another text, the API server does not.
        read.data = Some([("a".to_owned(), "1000m".to_owned())].into());
        let restarted = applier(&api);
        assert_eq!(restarted.apply(&wanted, Some(&read)).await.unwrap(), Applied::Unchanged);
        // From now on the form is known.
        let before = api.requests().len();
        assert_eq!(
            restarted.apply(&wanted, Some(&live(&api))).await.unwrap(),
            Applied::Unchanged
        );
        assert_eq!(api.requests().len(), before);
    }

    #[tokio::test]
    async fn an_orphan_with_our_labels_is_taken_back_and_a_stranger_is_named() {
        let api = FakeApi::default();
        let wanted = desired(json!({"a": "1"}));
        applier(&api).apply(&wanted, None).await.unwrap();
        let uid = live(&api).metadata.uid;
        api.merge(
            MAP,
            json!({"metadata": {"ownerReferences": null}, "data": {"a": "old"}}),
        );
        let taken = applier(&api).apply(&wanted, Some(&live(&api))).await.unwrap();
        assert_eq!(taken, Applied::Repaired);
        let back = live(&api);
        assert_eq!(controller_of(&back).unwrap().uid, "owner");
        assert_eq!(
            (back.metadata.uid, &back.data),
            (uid, &wanted.data),
            "the same object as before"
        );

        let owned_by = |owner: Value| {
            let mut other = live(&api);
            other.metadata.owner_references = serde_json::from_value(json!([owner])).unwrap();
            other
        };
        let owner = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "another", "controller": true});
        let account = Error::NotOwned {
            kind: "ServiceAccount".into(),
            name: "default".into(),
            owner: None,
        };
        assert!(
            !account.to_string().contains("hand it over"),
            "it would go with the resource: {account}"
        );
        let before = api.requests().len();
        let refused = applier(&api)
            .apply(&wanted, Some(&owned_by(owner("Owner", "pay"))))
            .await;
        let text = refused.unwrap_err().to_string();
        assert!(
            text.starts_with("ConfigMap order exists and belongs to Owner pay; rename"),
            "{text}"
        );
        // An earlier owner of the same name: the garbage collector has not come yet.
        let past = owned_by(owner("Owner", "order"));
        assert_eq!(
            applier(&api).apply(&wanted, Some(&past)).await.unwrap(),
            Applied::Terminating
        );
        let mut unlabelled = live(&api);
        unlabelled.metadata.owner_references = None;
        unlabelled.metadata.labels = None;
        let refused = applier(&api).apply(&wanted, Some(&unlabelled)).await;
        assert!(
            matches!(refused, Err(Error::NotOwned { owner: None, .. })),
            "{refused:?}"
        );
        assert_eq!(api.requests().len(), before, "a stranger was written");
    }

    #[tokio::test]
    async fn a_cache_that_has_not_seen_our_writing_shows_no_drift_but_of_that_writing_alone() {
        let api = FakeApi::default();
        let applier = applier(&api);
        let numbered = |number: &str| desired(json!({"a": number}));
        applier.apply(&numbered("1"), None).await.unwrap();
        let stale = live(&api);
        for (number, expected) in [
            ("2", Applied::Updated),
            ("2", Applied::Unchanged),
            ("3", Applied::Updated),
            ("3", Applied::Unchanged),
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
            Applied::Terminating
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
