//! Status: written only when it changed, by server-side apply, and never judged by an older copy than our own writing.

use super::{FIELD_MANAGER, Runtime, apply::version};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Writes the status of one kind and remembers what it wrote last, until the cache has caught up.
pub struct Publisher<K> {
    runtime: Runtime,
    controller: &'static str,
    left_out: &'static [&'static str],
    written: Arc<Mutex<HashMap<String, Arc<K>>>>,
}

impl<K> Clone for Publisher<K> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            controller: self.controller,
            left_out: self.left_out,
            written: self.written.clone(),
        }
    }
}

/// How a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The object must be the same one (UID); its version does not matter, because we are its status' only writer.
    SameObject,
    /// The object must be exactly the version that was read: a claim that two writers must not both make. The API
    /// server answers 409 otherwise.
    SameVersion,
}

impl<K> Publisher<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static,
    K::Status: Serialize + PartialEq + Clone,
{
    /// A publisher for the controller of this name.
    pub fn new(runtime: &Runtime, controller: &'static str) -> Self {
        Self {
            runtime: runtime.clone(),
            controller,
            left_out: &[],
            written: Arc::default(),
        }
    }

    /// Never sends these fields of the status: they belong to another writer.
    #[must_use]
    pub fn leaving_out(mut self, fields: &'static [&'static str]) -> Self {
        self.left_out = fields;
        self
    }

    /// The newer of the cache's copy and our own last writing: read this before you compute a status.
    pub fn newest(&self, cached: &Arc<K>) -> Arc<K> {
        let uid = cached.uid().unwrap_or_default();
        let mut written = self.lock();
        match written.get(&uid) {
            Some(own) if version(&**own) > version(&**cached) => own.clone(),
            Some(_) => {
                written.remove(&uid);
                cached.clone()
            }
            None => cached.clone(),
        }
    }

    /// Writes `status` if it differs from that of `object`; says whether it was written.
    ///
    /// # Errors
    /// What the API server answered: 409 if the precondition does not hold, 404 if the object is gone.
    pub async fn publish(
        &self,
        object: &K,
        status: &K::Status,
        precondition: Precondition,
    ) -> Result<bool, kube::Error> {
        if object.status() == Some(status) {
            return Ok(false);
        }
        self.write(object, status, precondition).await?;
        Ok(true)
    }

    /// Writes `status` whether it differs or not, and returns the object as the API server has it now.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn write(
        &self,
        object: &K,
        status: &K::Status,
        precondition: Precondition,
    ) -> Result<Arc<K>, kube::Error> {
        let mut metadata = json!({"name": object.name_any(), "uid": object.uid()});
        if precondition == Precondition::SameVersion
            && let Some(metadata) = metadata.as_object_mut()
        {
            metadata.insert("resourceVersion".into(), json!(object.resource_version()));
        }
        let mut status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        if let Some(status) = status.as_object_mut() {
            status.retain(|field, _| !self.left_out.contains(&field.as_str()));
        }
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        let api: Api<K> = self.runtime.clients.api(&object.namespace().unwrap_or_default());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.runtime
            .metrics
            .writes
            .with_label_values(&[self.controller, "status"])
            .inc();
        let stored = Arc::new(
            api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&body))
                .await?,
        );
        self.lock().insert(stored.uid().unwrap_or_default(), stored.clone());
        Ok(stored)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<K>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::FakeApi,
        runtime::{Clients, Identity, Scope},
    };
    use valerix_crds::{BackupPolicy, BackupPolicyStatus};

    const POLICIES: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backuppolicies";
    const POLICY: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/backuppolicies/shop";

    #[tokio::test]
    async fn a_status_is_sent_once_and_judged_by_the_newest_copy() {
        let api = FakeApi::default();
        api.create(
            POLICIES,
            json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "shop"},
                "spec": {"databases": [], "destination": {"volumeClaim": {"claimName": "backups"}}},
            }),
        );
        let cached = || Arc::new(serde_json::from_value::<BackupPolicy>(api.get(POLICY).unwrap()).unwrap());
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        let publisher = Publisher::new(&runtime, "test");
        let status = |observed_generation| BackupPolicyStatus {
            observed_generation,
            ..BackupPolicyStatus::default()
        };
        let stale = cached();
        let publish = async |policy: &BackupPolicy| {
            let wanted = status(7);
            let published = publisher.publish(policy, &wanted, Precondition::SameObject);
            published.await.unwrap()
        };
        assert!(publish(&stale).await);
        let newest = publisher.newest(&stale);
        assert_eq!(newest.status, Some(status(7)));
        assert!(!publish(&newest).await);
        assert_eq!(api.writes().len(), 1);
        // Somebody else has written since: the cache is the newest.
        api.merge(POLICY, json!({"metadata": {"labels": {"team": "shop"}}}));
        assert!(publisher.newest(&cached()).metadata.labels.is_some());
    }
}
