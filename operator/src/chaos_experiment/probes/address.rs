//! Where a probe's question may go: to a pod of the experiment's own namespace behind a Service of it, and nowhere that an
//! experiment must not become a way to reach.
//!
//! [`ClusterResolver`] reads the API server; everything else is pure. A Service's virtual address is never asked: what
//! is behind it may be anybody's, since whoever may write EndpointSlices can point it anywhere. The address of a pod is
//! asked only when the pod itself, as the API server has it, has that address and not its node's.

use crate::allowed_url::refusal;
use crate::runtime::{Clients, failure};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long the addresses of a Service are believed: kube-proxy is no faster.
const FRESH: Duration = Duration::from_secs(1);

/// Finds the address of a Service.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The address to connect to, already checked: another pod's each time, where there are several.
    ///
    /// # Errors
    /// Why there is none.
    async fn resolve(&self, namespace: &str, service: &str, port: u16) -> Result<SocketAddr, Unresolved>;
}

/// Why a question has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The question cannot or must not be asked; a sentence on why.
    NotAsked(String),
    /// Nobody is there to answer, which is an answer; a sentence.
    NobodyThere(String),
}

/// Finds addresses as the cluster has them.
pub struct ClusterResolver {
    clients: Clients,
    known: Mutex<HashMap<(String, u16), Known>>,
    /// Pods that were looked at, by UID, and the addresses that they may be asked at.
    pods: Mutex<HashMap<String, BTreeSet<IpAddr>>>,
}

/// The addresses of one port of a Service.
struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
    next: usize,
}

impl Known {
    fn turn(&mut self) -> Option<SocketAddr> {
        self.next = self.next.wrapping_add(1);
        let index = self.next.checked_rem(self.addresses.len())?;
        self.addresses.get(index).copied()
    }
}

impl ClusterResolver {
    /// A resolver for one run.
    pub fn new(clients: Clients) -> Self {
        Self {
            clients,
            known: Mutex::default(),
            pods: Mutex::default(),
        }
    }

    async fn find(&self, namespace: &str, service: &str, port: u16) -> Result<Vec<SocketAddr>, Unresolved> {
        let failed = |what: &str, error: &kube::Error| {
            Unresolved::NotAsked(format!(
                "failed to read {what} of Service {service}: {}",
                failure::chain(error)
            ))
        };
        let services: Api<Service> = self.clients.api(namespace);
        let slices: Api<EndpointSlice> = self.clients.api(namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let (found, slices) = tokio::join!(services.get_opt(service), slices.list(&of_service));
        let found = found.map_err(|error| failed("the object", &error))?.ok_or_else(|| {
            Unresolved::NotAsked(format!(
                "there is no Service {service} in namespace {namespace}; correct http.service"
            ))
        })?;
        let port_name = port_name(&found, port).map_err(Unresolved::NotAsked)?;
        let slices = slices.map_err(|error| failed("the EndpointSlices", &error))?;
        let mut addresses = Vec::new();
        let mut refused = None;
        for behind in slices.items.iter().flat_map(|slice| endpoints(slice, &port_name)) {
            match self.check(namespace, &behind).await {
                Ok(address) => addresses.push(address),
                Err(why) => {
                    refused = Some(format!(
                        "Service {service} leads to {}, {why}; a probe must not ask there",
                        behind.ip
                    ));
                }
            }
        }
        addresses.sort_unstable();
        match (addresses.is_empty(), refused) {
            (false, _) => Ok(addresses),
            (true, Some(why)) => Err(Unresolved::NotAsked(why)),
            (true, None) => Err(Unresolved::NobodyThere(format!("Service {service} has no ready pod"))),
        }
    }

    /// Whether the address is that of the pod which the endpoint names.
    async fn check(&self, namespace: &str, behind: &Behind) -> Result<SocketAddr, String> {
        if let Some(what) = refusal(behind.ip) {
            return Err(what.to_owned());
        }
        let Some((name, uid)) = &behind.pod else {
            return Err("which is no pod's of this namespace".to_owned());
        };
        if !self.pods().get(uid).is_some_and(|known| known.contains(&behind.ip)) {
            let pods: Api<Pod> = self.clients.api(namespace);
            let pod = pods
                .get_opt(name)
                .await
                .map_err(|error| format!("and pod {name} could not be read: {}", failure::chain(&error)))?;
            let own = pod.as_ref().map(|pod| addresses_of(pod, uid)).unwrap_or_default();
            if !own.contains(&behind.ip) {
                return Err(format!("which is not pod {name}'s own address"));
            }
            self.pods().insert(uid.clone(), own);
        }
        Ok(SocketAddr::new(behind.ip, behind.port))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(String, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, BTreeSet<IpAddr>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Resolver for ClusterResolver {
    async fn resolve(&self, namespace: &str, service: &str, port: u16) -> Result<SocketAddr, Unresolved> {
        let key = (service.to_owned(), port);
        if let Some(known) = self.known().get_mut(&key).filter(|known| known.since.elapsed() < FRESH)
            && let Some(address) = known.turn()
        {
            return Ok(address);
        }
        let addresses = self.find(namespace, service, port).await?;
        let mut known = self.known();
        let next = known.get(&key).map_or(0, |before| before.next);
        let fresh = Known {
            addresses,
            since: Instant::now(),
            next,
        };
        let address = known.entry(key).insert_entry(fresh).get_mut().turn();
        address.ok_or_else(|| Unresolved::NobodyThere(format!("Service {service} has no ready pod")))
    }
}

/// One address behind a Service, and the pod that it is said to be.
#[derive(Debug, PartialEq, Eq)]
struct Behind {
    ip: IpAddr,
    port: u16,
    /// Name and UID.
    pod: Option<(String, String)>,
}

/// The name of a Service's port, under which its EndpointSlices have it.
fn port_name(service: &Service, port: u16) -> Result<String, String> {
    let spec = service.spec.clone().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(format!(
            "Service {name} is of type ExternalName and leads out of the namespace; a probe must not ask there"
        ));
    }
    let ports = spec.ports.unwrap_or_default();
    let found = ports.iter().find(|candidate| candidate.port == i32::from(port));
    found
        .map(|found| found.name.clone().unwrap_or_default())
        .ok_or_else(|| {
            let others: Vec<_> = ports.iter().map(|port| port.port.to_string()).collect();
            format!(
                "Service {name} has no port {port}, but {}; correct http.port",
                others.join(", ")
            )
        })
}

/// The ready endpoints of a slice.
fn endpoints(slice: &EndpointSlice, port_name: &str) -> Vec<Behind> {
    let namespace = slice.metadata.namespace.as_deref();
    let mut ports = slice.ports.iter().flatten();
    let port = ports
        .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
        .and_then(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else { return Vec::new() };
    let ready = slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    ready
        .flat_map(|endpoint| {
            let pod = endpoint.target_ref.as_ref().filter(|target| {
                target.kind.as_deref() == Some("Pod")
                    && (target.namespace.is_none() || target.namespace.as_deref() == namespace)
            });
            let pod = pod.and_then(|target| Some((target.name.clone()?, target.uid.clone()?)));
            endpoint.addresses.iter().filter_map(move |text| {
                Some(Behind {
                    ip: text.parse().ok()?,
                    port,
                    pod: pod.clone(),
                })
            })
        })
        .collect()
}

/// The addresses at which a pod may be asked: its own, and none where it has its node's.
fn addresses_of(pod: &Pod, uid: &str) -> BTreeSet<IpAddr> {
    let on_the_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    if on_the_node || pod.metadata.uid.as_deref() != Some(uid) {
        return BTreeSet::new();
    }
    let status = pod.status.iter();
    status
        .flat_map(|status| {
            let more = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
            status.pod_ip.as_deref().into_iter().chain(more)
        })
        .filter_map(|text| text.parse().ok())
        .collect()
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// An address where nobody listens, and nobody else either as long as the socket is kept.
    pub fn nobody() -> (SocketAddr, tokio::net::TcpSocket) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        (socket.local_addr().unwrap(), socket)
    }

    /// Every Service is here, unchecked.
    pub struct Fixed(pub SocketAddr);

    #[async_trait]
    impl Resolver for Fixed {
        async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<SocketAddr, Unresolved> {
            Ok(self.0)
        }
    }
}

#[cfg(test)]
mod tests;
