//! Fourth step: the children written, the workload last, and what is not wanted any more removed. The only step that
//! changes children.

use super::{
    build::Resources,
    dereference::{Children, Observed, named},
};
use crate::runtime::{
    Category,
    apply::{Applied, Applier, Error},
};
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, sync::Arc};

/// What became of the children.
#[derive(Debug, Default)]
pub struct ChildResults {
    /// One entry per child that was tried, in order.
    pub children: Vec<ChildResult>,
}

/// What became of one child.
#[derive(Debug)]
pub struct ChildResult {
    /// Kind of the child.
    pub kind: String,
    /// Name of the child.
    pub name: String,
    /// What happened.
    pub result: Result<Applied, Error>,
}

impl ChildResults {
    /// The first child that does not stand as desired, and why.
    pub fn first_error(&self) -> Option<&Error> {
        self.children.iter().find_map(|child| child.result.as_ref().err())
    }

    /// The same, taken out.
    pub fn into_error(self) -> Option<Error> {
        self.children.into_iter().find_map(|child| child.result.err())
    }

    /// Whether the API server, or a webhook behind it, does not answer: the next child would only wait as long again.
    fn is_cut_off(&self) -> bool {
        self.first_error()
            .is_some_and(|error| matches!(error.category(), "ApiUnreachable" | "ApiServerError" | "Throttled"))
    }

    /// Children with this outcome.
    pub fn with(&self, outcome: Applied) -> impl Iterator<Item = &ChildResult> {
        self.children
            .iter()
            .filter(move |child| matches!(child.result, Ok(found) if found == outcome))
    }
}

/// Applies everything of one service. The Deployment waits until everything that its pods need stands.
pub async fn apply(resources: Resources, observed: &Observed, owner: &str, applier: &Applier) -> ChildResults {
    let Resources {
        service_account,
        config_map,
        service,
        pods_service,
        deployment,
    } = resources;
    let Children {
        service_accounts,
        config_maps,
        services,
        deployments,
    } = &observed.children;
    let mut applied = ChildResults::default();
    applied.child(applier, &service_account, service_accounts).await;
    applied.child(applier, &config_map, config_maps).await;
    if let Some(service) = &service {
        applied.child(applier, service, services).await;
    }
    applied.child(applier, &pods_service, services).await;
    if applied.first_error().is_none() {
        applied.child(applier, &deployment, deployments).await;
    }
    let wanted_services = service
        .iter()
        .chain([&pods_service])
        .map(ResourceExt::name_any)
        .collect::<Vec<_>>();
    applied.prune(applier, services, &wanted_services, owner).await;
    applied
        .prune(applier, service_accounts, &[service_account.name_any()], owner)
        .await;
    applied
        .prune(applier, config_maps, &[config_map.name_any()], owner)
        .await;
    applied
        .prune(applier, deployments, &[deployment.name_any()], owner)
        .await;
    applied
}

impl ChildResults {
    async fn child<K>(&mut self, applier: &Applier, desired: &K, cached: &[Arc<K>])
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize
            + Send
            + Sync,
    {
        if self.is_cut_off() {
            return;
        }
        let name = desired.name_any();
        let result = applier.apply(desired, named(cached, &name)).await;
        self.children.push(ChildResult {
            kind: K::kind(&()).into_owned(),
            name,
            result,
        });
    }

    /// Removes what carries our label and our owner's UID and is not wanted: the rest belongs to somebody else.
    async fn prune<K>(&mut self, applier: &Applier, found: &[Arc<K>], wanted: &[String], owner: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        for object in found {
            let name = object.name_any();
            if wanted.contains(&name) || self.is_cut_off() {
                continue;
            }
            match applier.prune(&**object, owner).await {
                Ok(true) => tracing::info!(kind = %K::kind(&()), name, "removed a child that is not wanted any more"),
                Ok(false) => {}
                Err(error) => self.children.push(ChildResult {
                    kind: K::kind(&()).into_owned(),
                    name,
                    result: Err(error),
                }),
            }
        }
    }
}
