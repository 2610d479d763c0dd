//! Step 1: what is seen at this moment: the cluster, the reports, what the probes saw and what was answered to evictions.
//! Writes nothing.
//!
//! Only called while a run is under way. What is only waited for is read from caches; whatever changes something is
//! decided on what the API server says at that moment, so that no decision about a victim rests on a cache that may lag.

use super::after::preceding;
use super::error::Error;
use super::identity::EntryName;
use super::memory::Memory;
use super::observed::{
    Document, FaultView, GuardView, Observed, PodView, Removal, ReportView, ServiceView, WorkloadView,
};
use super::probes::Probes;
use super::safety::Safety;
use super::validate::spec_hash;
use crate::resilient_service::{ReportStore, Stores, inbound_ports, is_guarded};
use crate::runtime::conditions::find_condition;
use crate::runtime::{Cache, Clients, clock};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use valerix_crds::names::condition::CONFIG_APPLIED;
use valerix_crds::names::{FAULTS_KEY, SERVICE_LABEL, policy_config_map};
use valerix_crds::{
    ChaosAdmission, ChaosExperiment, ChaosExperimentStatus, ChaosPhase, GuardProtocol, LastExperiment, PastRun,
    ReportProtocol, ResilientService,
};

/// Where things are read.
pub struct Sources<'a> {
    /// The API server.
    pub clients: &'a Clients,
    /// The stop order of the whole cluster.
    pub safety: &'a Safety,
    /// The caches of services and of what belongs to them.
    pub stores: &'a Stores,
    /// What the pods reported.
    pub reports: &'a ReportStore,
    /// Every experiment: for the cooldown, and to know who else is under way.
    pub experiments: &'a Cache<ChaosExperiment>,
    /// What the probes saw.
    pub probes: &'a Probes,
    /// What this process was answered to its evictions.
    pub memory: &'a Memory,
}

/// The target as it is found.
struct Found {
    service: Option<ServiceView>,
    /// What hurt it last, as its status says.
    last_experiment: Option<LastExperiment>,
    workload: Option<WorkloadView>,
    document: Option<Document>,
    pods: Vec<PodView>,
}

/// Everything that one decision may depend on; `fresh` asks the API server for all of it.
///
/// # Errors
/// When anything could not be read: a run that cannot see does not act.
pub async fn observe(
    sources: &Sources<'_>,
    experiment: &ChaosExperiment,
    name: &EntryName,
    fresh: bool,
) -> Result<Observed, Error> {
    let namespace = experiment.namespace().unwrap_or_default();
    let service = experiment.spec.target.service.as_str();
    let (found, stop_order) = if fresh {
        let (found, stop) = tokio::join!(read(sources, &namespace, service), sources.safety.now());
        (found?, stop?)
    } else {
        let stop = sources.safety.lately().await?;
        (cached(sources.stores, &namespace, service), stop)
    };
    let reports = found
        .pods
        .iter()
        .filter_map(|pod| Some((pod.uid.clone(), report_view(sources.reports, &pod.uid, name)?)));
    let all = sources.experiments.list(&namespace);
    let preceding = preceding(experiment, &all);
    let of_another = found
        .last_experiment
        .as_ref()
        .and_then(|last| last_run_of_one_gone(last, &all));
    let others = on_same_target(all, experiment);
    let key = (namespace, experiment.name_any());
    Ok(Observed {
        now: Utc::now(),
        reports: reports.collect(),
        service: found.service,
        workload: found.workload,
        pods: found.pods,
        document: found.document,
        stop_order,
        last_fault_ended_at: last_fault(&others, experiment).max(of_another),
        busy: under_way(&others),
        unjudged: unjudged(&others),
        preceding,
        samples: sources.probes.samples(&key, name, &spec_hash(&experiment.spec)),
        evictions: sources.memory.evictions(&key, name),
    })
}

fn cached(stores: &Stores, namespace: &str, service: &str) -> Found {
    let document = stores.config_maps.get(namespace, &policy_config_map(service));
    let found = stores.services.get(namespace, service);
    Found {
        service: found.as_deref().map(service_view),
        last_experiment: found.as_deref().and_then(last_experiment),
        workload: stores
            .deployments
            .get(namespace, service)
            .map(|found| workload_view(&found)),
        document: document.map(|map| document_view((*map).clone())),
        pods: in_zones(
            stores.pods.of(namespace, service).iter().map(|pod| pod_view(pod)),
            stores.endpoint_slices.of(namespace, service).iter().map(AsRef::as_ref),
        ),
    }
}

/// The pods with the zones that their EndpointSlices name. A zone is where a pod was placed and never changes, so it is
/// read from the cache also where the rest is asked for anew: a pod whose zone is not known yet is not chosen by zone.
fn in_zones<'a>(pods: impl Iterator<Item = PodView>, slices: impl Iterator<Item = &'a EndpointSlice>) -> Vec<PodView> {
    let zones: HashMap<_, _> = slices
        .flat_map(|slice| &slice.endpoints)
        .filter_map(|endpoint| Some((endpoint.target_ref.as_ref()?.uid.clone()?, endpoint.zone.clone()?)))
        .collect();
    pods.map(|pod| PodView {
        zone: zones.get(&pod.uid).cloned(),
        ..pod
    })
    .collect()
}

async fn read(sources: &Sources<'_>, namespace: &str, service: &str) -> Result<Found, Error> {
    let clients = sources.clients;
    let services: Api<ResilientService> = clients.api(namespace);
    let deployments: Api<Deployment> = clients.api(namespace);
    let config_maps: Api<ConfigMap> = clients.api(namespace);
    let pods: Api<Pod> = clients.api(namespace);
    let selector = ListParams::default().labels(&format!("{SERVICE_LABEL}={service}"));
    let document = policy_config_map(service);
    let (found, workload, map, pods) = tokio::join!(
        services.get_opt(service),
        deployments.get_opt(service),
        config_maps.get_opt(&document),
        pods.list(&selector),
    );
    let found = found.map_err(|source| Error::read(format!("ResilientService {service}"), source))?;
    let workload = workload.map_err(|source| Error::read(format!("Deployment {service}"), source))?;
    let map = map.map_err(|source| Error::read(format!("ConfigMap {document}"), source))?;
    let pods = pods.map_err(|source| Error::read(format!("pods of {service}"), source))?;
    Ok(Found {
        service: found.as_ref().map(service_view),
        last_experiment: found.as_ref().and_then(last_experiment),
        workload: workload.as_ref().map(workload_view),
        document: map.map(document_view),
        pods: in_zones(
            pods.items.iter().map(pod_view),
            sources
                .stores
                .endpoint_slices
                .of(namespace, service)
                .iter()
                .map(AsRef::as_ref),
        ),
    })
}

fn last_experiment(service: &ResilientService) -> Option<LastExperiment> {
    service.status.as_ref()?.last_experiment.clone()
}

fn service_view(service: &ResilientService) -> ServiceView {
    let spec = &service.spec;
    let protocol = spec.resilience.as_ref().and_then(|resilience| resilience.protocol);
    ServiceView {
        admitted: spec
            .chaos
            .as_ref()
            .is_some_and(|chaos| chaos.admission == ChaosAdmission::Allowed),
        paused: spec.paused,
        reports: protocol.is_none_or(|protocol| protocol == ReportProtocol::Report),
        guard: is_guarded(spec).then(|| guard_view(service)),
        config_applied: config_applied(service),
        probe_paths: probe_paths(service),
    }
}

fn guard_view(service: &ResilientService) -> GuardView {
    let inbound = inbound_ports(&service.spec);
    GuardView {
        sees_requests: inbound.iter().any(|(_, _, protocol)| *protocol != GuardProtocol::TCP),
    }
}

/// Whether every ready pod runs what the spec says at this moment.
fn config_applied(service: &ResilientService) -> bool {
    let conditions = service.status.as_ref().map(|status| &status.conditions[..]);
    find_condition(conditions.unwrap_or_default(), CONFIG_APPLIED).is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == service.metadata.generation
    })
}

/// The paths that the kubelet asks where faults are obeyed: of a guarded service it asks the container.
fn probe_paths(service: &ResilientService) -> Vec<String> {
    let Some(probes) = service.spec.probes.as_ref().filter(|_| !is_guarded(&service.spec)) else {
        return Vec::new();
    };
    let paths: BTreeSet<_> = [&probes.startup, &probes.readiness, &probes.liveness]
        .into_iter()
        .flatten()
        .filter_map(|probe| probe.path.as_ref())
        .map(|path| path.split(['?', '#']).next().unwrap_or_default().to_owned())
        .collect();
    paths.into_iter().collect()
}

fn workload_view(deployment: &Deployment) -> WorkloadView {
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let seen = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or_default();
    let old_ones = status.replicas.unwrap_or_default() > updated;
    WorkloadView {
        desired: u32::try_from(desired).unwrap_or_default(),
        progressing: !seen || updated < desired || old_ones,
    }
}

fn document_view(map: ConfigMap) -> Document {
    Document {
        uid: map.uid().unwrap_or_default(),
        resource_version: map.resource_version().unwrap_or_default(),
        faults: map.data.and_then(|mut data| data.remove(FAULTS_KEY)),
    }
}

fn pod_view(pod: &Pod) -> PodView {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let condition = |kind: &str| {
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == kind && condition.status == "True")
    };
    // The API server marks an evicted pod before it deletes it, so even after a crash it is known whose deed it was.
    let evicted =
        condition("DisruptionTarget").filter(|condition| condition.reason.as_deref() == Some("EvictionByEvictionAPI"));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let removal = match (&pod.metadata.deletion_timestamp, evicted) {
        (None, _) if matches!(phase, Some("Failed" | "Succeeded")) => {
            Removal::Deleted(finished_at(pod).unwrap_or_default())
        }
        (None, _) => Removal::None,
        (Some(deleted), Some(condition)) => Removal::Evicted(
            condition
                .last_transition_time
                .as_ref()
                .map_or_else(|| clock::from_time(deleted), clock::from_time),
        ),
        (Some(deleted), None) => {
            // The timestamp is that of the end of the grace period.
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
            Removal::Deleted(clock::from_time(deleted) - TimeDelta::seconds(grace))
        }
    };
    PodView {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ready: condition("Ready").is_some(),
        ready_since: condition("Ready")
            .and_then(|ready| ready.last_transition_time.as_ref())
            .map(clock::from_time),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        zone: None,
        process_ended_at: process_ended_at(pod),
        created_at: pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map(clock::from_time)
            .unwrap_or_default(),
        removal,
    }
}

/// When the last container of a pod that runs no more ended.
fn finished_at(pod: &Pod) -> Option<DateTime<Utc>> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = containers.iter().filter_map(|container| {
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(clock::from_time)
    });
    ended.max()
}

/// When a container ended last, as the kubelet says once it has started it again: of one that has ended and waits it still
/// says when it ended the time before.
fn process_ended_at(pod: &Pod) -> Option<DateTime<Utc>> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let runs = |container: &&ContainerStatus| {
        let state = container.state.as_ref();
        state.is_none_or(|state| state.waiting.is_none() && state.terminated.is_none())
    };
    let ended = containers.iter().filter(runs).filter_map(|container| {
        let terminated = container.last_state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(clock::from_time)
    });
    ended.max()
}

fn report_view(reports: &ReportStore, uid: &str, name: &EntryName) -> Option<ReportView> {
    let found = reports.get(uid)?;
    let run = name.text();
    let fault = found.report.faults.iter().find(|fault| fault.run == run);
    Some(ReportView {
        received_at: found.received_at,
        skew: found.report.now - found.received_at,
        faults_hash: found.report.faults_hash.clone(),
        fault: fault.map(|fault| FaultView {
            state: fault.state,
            reason: fault.reason.clone(),
            remaining: (fault.remaining_ms > 0).then(|| Duration::from_millis(fault.remaining_ms)),
            hits: fault.hits,
        }),
    })
}

/// Those of the experiments that have the same target, without this one.
fn on_same_target(mut all: Vec<Arc<ChaosExperiment>>, own: &ChaosExperiment) -> Vec<Arc<ChaosExperiment>> {
    all.retain(|other| other.spec.target.service == own.spec.target.service && other.uid() != own.uid());
    all
}

/// When the last fault on the target ended, this experiment's own earlier ones included. A run that hurt nobody says
/// nothing of the one before it: then it is the end of the newest run that did, which is not earlier than its fault's.
fn last_fault(others: &[Arc<ChaosExperiment>], own: &ChaosExperiment) -> Option<DateTime<Utc>> {
    let hurt = |past: &&PastRun| past.targets.iter().any(|target| target.active_at.is_some());
    let ended = |experiment: &ChaosExperiment| {
        let status = experiment.status.as_ref()?;
        let before = || status.history.iter().find(hurt).map(|past| past.at);
        status.fault_ended_at.or_else(before)
    };
    others.iter().filter_map(|other| ended(other)).chain(ended(own)).max()
}

/// When the last experiment on the target ended, if it is gone and another may have its name: a target has to cool down also
/// where whoever hurt it is made anew each time.
fn last_run_of_one_gone(last: &LastExperiment, all: &[Arc<ChaosExperiment>]) -> Option<DateTime<Utc>> {
    let tells_itself = |experiment: &Arc<ChaosExperiment>| {
        let created = experiment.metadata.creation_timestamp.as_ref().map(clock::from_time);
        experiment.name_any() == last.name && created.is_none_or(|created| created <= last.time)
    };
    (!all.iter().any(tells_itself)).then_some(last.time)
}

/// The other experiment whose run on the target is not judged yet: one would be judged by the other's fault.
fn under_way(others: &[Arc<ChaosExperiment>]) -> Option<String> {
    let phase = |experiment: &ChaosExperiment| experiment.status.as_ref().and_then(|status| status.phase);
    others
        .iter()
        .find(|other| matches!(phase(other), Some(ChaosPhase::Running | ChaosPhase::Recovering)))
        .map(|other| other.name_any())
}

/// The other experiment that has hurt the target and lets it recover: its lock may be gone, and its verdict is not there.
fn unjudged(others: &[Arc<ChaosExperiment>]) -> Option<String> {
    let hurt = |status: &ChaosExperimentStatus| {
        status.phase == Some(ChaosPhase::Recovering) && status.targets.iter().any(|target| target.active_at.is_some())
    };
    let found = others.iter().find(|other| other.status.as_ref().is_some_and(hurt));
    found.map(|other| other.name_any())
}

#[cfg(test)]
mod tests;
