//! Fourth step: the children written, the workload last, and what is not wanted any more removed. The only step that
//! changes children.

use super::{
    build::{Resources, fit_selector},
    dereference::{Children, Observed, named},
};
use crate::runtime::{
    Category,
    apply::{Applied, Applier, Error, Handover, Written, may_prune},
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc};
use valerix_crds::ResilientService;

/// What became of the children.
#[derive(Debug, Default)]
pub struct ChildResults {
    /// One entry per child that was tried, in order.
    pub children: Vec<ChildResult>,
    /// The Deployment was left as it is until it is this service's turn to roll.
    pub awaits_turn: bool,
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

    /// Whether a child of this kind was written, or is as desired.
    pub fn stands(&self, kind: &str) -> bool {
        self.children
            .iter()
            .any(|child| child.kind == kind && child.result.is_ok())
    }

    /// Children with this outcome.
    pub fn with(&self, outcome: Applied) -> impl Iterator<Item = &ChildResult> {
        self.children
            .iter()
            .filter(move |child| matches!(child.result, Ok(found) if found == outcome))
    }
}

/// What is not to be done before its time.
#[derive(Clone, Copy, Debug)]
pub struct Gates {
    /// A Service that is handed over leads to the pods of before until ours serve.
    pub may_switch: bool,
    /// After an upgrade of the operator not all services roll at once.
    pub may_roll: bool,
}

/// Applies everything of one service. The Deployment waits until everything that its pods need stands.
pub async fn apply(
    resources: Resources,
    observed: &Observed,
    owner: &ResilientService,
    gates: Gates,
    applier: &Applier,
) -> ChildResults {
    let Resources {
        service_account,
        config_map,
        service,
        pods_service,
        network_policy,
        disruption_budget,
        deployment,
        autoscaler,
        service_monitor,
    } = resources;
    let Children {
        service_accounts,
        config_maps,
        services,
        network_policies,
        disruption_budgets,
        deployments,
        autoscalers,
        service_monitors,
    } = &observed.children;
    let mut applied = ChildResults {
        awaits_turn: !gates.may_roll,
        ..ChildResults::default()
    };
    let mut removal = Removal {
        applier,
        owner,
        uid: owner.uid().unwrap_or_default(),
        is_current: None,
    };
    // Two that write the same replicas would undo each other's work for a round.
    applied.prune(&mut removal, autoscalers, &names(&autoscaler)).await;
    if let Some(service_account) = &service_account {
        applied.child(applier, service_account, service_accounts).await;
    }
    applied.child(applier, &config_map, config_maps).await;
    if let Some(service) = &service {
        let handover = Handover {
            is_due: gates.may_switch,
            ..Handover::default()
        };
        applied.child_with(applier, service, services, &handover).await;
    }
    applied.child(applier, &pods_service, services).await;
    if let Some(network_policy) = &network_policy {
        applied.child(applier, network_policy, network_policies).await;
    }
    if let Some(disruption_budget) = &disruption_budget {
        applied.child(applier, disruption_budget, disruption_budgets).await;
    }
    if applied.first_error().is_none() {
        match autoscaler.as_ref().and_then(|autoscaler| autoscaler.spec.as_ref()) {
            _ if !gates.may_roll => {}
            None => applied.child_with(applier, &deployment, deployments, &standing()).await,
            Some(scaling) => {
                let live = named(deployments, &deployment.name_any());
                let least = scaling.min_replicas.unwrap_or(1);
                let handover = standing();
                let scaled = applier.apply_scaled(&deployment, live, least, &handover);
                // Boxed, because every reconcile would carry its room, and few services are scaled so.
                let result = Box::pin(scaled).await;
                applied.note(&deployment, result);
            }
        }
        // It measures the Deployment, which must be there.
        if let Some(autoscaler) = &autoscaler {
            applied.child(applier, autoscaler, autoscalers).await;
        }
    }
    // Nothing waits for it, and it waits for nothing but the way to the API server.
    if let Some(service_monitor) = &service_monitor {
        applied.child(applier, service_monitor, service_monitors).await;
    }
    let wanted_services = [names(&service), vec![pods_service.name_any()]].concat();
    applied.prune(&mut removal, services, &wanted_services).await;
    applied
        .prune(&mut removal, service_accounts, &names(&service_account))
        .await;
    applied.prune(&mut removal, config_maps, &[config_map.name_any()]).await;
    applied
        .prune(&mut removal, network_policies, &names(&network_policy))
        .await;
    applied
        .prune(&mut removal, disruption_budgets, &names(&disruption_budget))
        .await;
    applied
        .prune(&mut removal, service_monitors, &names(&service_monitor))
        .await;
    applied.prune(&mut removal, deployments, &[deployment.name_any()]).await;
    applied
}

/// A Deployment that is handed over goes on selecting its pods as it does.
fn standing() -> Handover<Deployment> {
    Handover {
        fit: |desired, live| {
            if let Some(spec) = &live.spec {
                fit_selector(desired, &spec.selector);
            }
        },
        is_due: true,
    }
}

/// The name of an object that may not be wanted, as what is not to be removed.
fn names<K: ResourceExt>(object: &Option<K>) -> Vec<String> {
    object.iter().map(ResourceExt::name_any).collect()
}

impl ChildResults {
    async fn child<K: Written>(&mut self, applier: &Applier, desired: &K, cached: &[Arc<K>]) {
        self.child_with(applier, desired, cached, &Handover::default()).await;
    }

    async fn child_with<K: Written>(
        &mut self,
        applier: &Applier,
        desired: &K,
        cached: &[Arc<K>],
        handover: &Handover<K>,
    ) {
        if self.is_cut_off() {
            return;
        }
        let cached = named(cached, &desired.name_any());
        let result = applier.apply_with(desired, cached, handover).await;
        self.note(desired, result);
    }

    fn note<K: Resource<DynamicType = ()>>(&mut self, desired: &K, result: Result<Applied, Error>) {
        self.children.push(ChildResult {
            kind: K::kind(&()).into_owned(),
            name: desired.name_any(),
            result,
        });
    }

    /// Removes what carries our label and our owner's UID and is not wanted: the rest belongs to somebody else.
    async fn prune<K>(&mut self, removal: &mut Removal<'_>, found: &[Arc<K>], wanted: &[String])
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        for object in found {
            let name = object.name_any();
            let is_left = !wanted.contains(&name) && may_prune(&**object, &removal.uid);
            if !is_left || self.is_cut_off() {
                continue;
            }
            match removal.remove(&**object).await {
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

/// Who removes what one reconcile does not want.
struct Removal<'a> {
    applier: &'a Applier,
    owner: &'a ResilientService,
    uid: String,
    /// Whether the specification is the newest; none before it was asked.
    is_current: Option<bool>,
}

impl Removal<'_> {
    /// Leaves everything as it is where a newer specification waits: what it wants is not known yet.
    async fn remove<K>(&mut self, object: &K) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let is_current = match self.is_current {
            Some(is_current) => is_current,
            None => *self.is_current.insert(self.applier.is_current(self.owner).await?),
        };
        match is_current {
            true => self.applier.prune(object, &self.uid).await,
            false => Ok(false),
        }
    }
}
