//! Where a probe's question may go: a Service of the experiment's own namespace, and nothing that an experiment must not
//! become a way to reach.
//!
//! [`ClusterResolver`] reads the API server (and, for headless Services, the cluster's DNS); [`refusal`] is pure.

use crate::runtime::{Clients, failure};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an address is believed.
const FRESH: Duration = Duration::from_secs(5);

/// Finds the address of a Service.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The address to connect to, already checked.
    ///
    /// # Errors
    /// A sentence on why the question cannot be asked.
    async fn resolve(&self, namespace: &str, service: &str, port: u16) -> Result<SocketAddr, String>;
}

/// Finds addresses as the cluster has them.
pub struct ClusterResolver {
    clients: Clients,
    forbidden: BTreeSet<IpAddr>,
    known: Mutex<HashMap<(String, u16), (SocketAddr, Instant)>>,
}

impl ClusterResolver {
    /// A resolver for one run. `forbidden` are the addresses of the API server and of nodes.
    pub fn new(clients: Clients, forbidden: BTreeSet<IpAddr>) -> Self {
        Self {
            clients,
            forbidden,
            known: Mutex::default(),
        }
    }

    async fn find(&self, namespace: &str, service: &str, port: u16) -> Result<SocketAddr, String> {
        let api: Api<Service> = self.clients.api(namespace);
        let found = api
            .get_opt(service)
            .await
            .map_err(|error| format!("failed to read Service {service}: {}", failure::chain(&error)))?;
        let found = found
            .ok_or_else(|| format!("there is no Service {service} in namespace {namespace}; correct http.service"))?;
        let ip = match target(&found, port)? {
            Target::Address(ip) => ip,
            Target::Name => {
                let host = format!("{service}.{namespace}.svc");
                let mut found = tokio::net::lookup_host((host.as_str(), port))
                    .await
                    .map_err(|error| format!("failed to resolve {host}: {error}"))?;
                found.next().ok_or_else(|| format!("{host} has no address"))?.ip()
            }
        };
        match refusal(ip, &self.forbidden) {
            Some(what) => Err(format!(
                "Service {service} leads to {ip}, {what}; a probe must not ask there"
            )),
            None => Ok(SocketAddr::new(ip, port)),
        }
    }
}

#[async_trait]
impl Resolver for ClusterResolver {
    async fn resolve(&self, namespace: &str, service: &str, port: u16) -> Result<SocketAddr, String> {
        let key = (service.to_owned(), port);
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied();
        if let Some((address, since)) = known
            && since.elapsed() < FRESH
        {
            return Ok(address);
        }
        let address = self.find(namespace, service, port).await?;
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, (address, Instant::now()));
        Ok(address)
    }
}

/// Where a Service leads.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// To its own virtual address.
    Address(IpAddr),
    /// To whatever its name stands for: a headless Service.
    Name,
}

fn target(service: &Service, port: u16) -> Result<Target, String> {
    let spec = service.spec.clone().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(format!(
            "Service {name} is of type ExternalName and leads out of the namespace; a probe must not ask there"
        ));
    }
    if spec.selector.is_none_or(|selector| selector.is_empty()) {
        return Err(format!(
            "Service {name} has no selector, so its addresses may be anybody's; a probe must not ask there"
        ));
    }
    match spec.cluster_ip.as_deref() {
        Some("None") => Ok(Target::Name),
        Some(text) => {
            let ports: Vec<_> = spec
                .ports
                .into_iter()
                .flatten()
                .map(|port| port.port.to_string())
                .collect();
            if !ports.contains(&port.to_string()) {
                return Err(format!(
                    "Service {name} has no port {port}, but {}; correct http.port",
                    ports.join(", ")
                ));
            }
            text.parse()
                .map(Target::Address)
                .map_err(|_| format!("Service {name} has no usable address yet"))
        }
        None => Err(format!("Service {name} has no address yet")),
    }
}

/// Why an address must not be asked, if so.
pub fn refusal(ip: IpAddr, forbidden: &BTreeSet<IpAddr>) -> Option<&'static str> {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => is_link_local(ip),
    };
    if ip.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
        Some("no address of one host")
    } else if forbidden.iter().any(|other| other.to_canonical() == ip) {
        Some("an address of a node or of the API server")
    } else {
        None
    }
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// Every Service is here, unchecked.
    pub struct Fixed(pub SocketAddr);

    #[async_trait]
    impl Resolver for Fixed {
        async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<SocketAddr, String> {
            Ok(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("127.0.0.1", true)]
    #[case("127.8.9.1", true)]
    #[case("::1", true)]
    #[case("::ffff:127.0.0.1", true)]
    #[case("169.254.169.254", true)]
    #[case("::ffff:169.254.169.254", true)]
    #[case("fe80::1", true)]
    #[case("febf::1", true)]
    #[case("0.0.0.0", true)]
    #[case("::", true)]
    #[case("224.0.0.1", true)]
    #[case("ff02::1", true)]
    #[case("255.255.255.255", true)]
    #[case("192.168.7.7", true)]
    #[case("::ffff:192.168.7.7", true)]
    #[case("10.96.0.10", false)]
    #[case("10.244.1.7", false)]
    #[case("fd00::5", false)]
    #[case("fec0::1", false)]
    fn what_must_not_be_asked(#[case] ip: &str, #[case] refused: bool) {
        let forbidden = ["192.168.7.7".parse().unwrap()].into();
        assert_eq!(refusal(ip.parse().unwrap(), &forbidden).is_some(), refused);
    }

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "order"}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_a_service_of_pods_is_asked_and_only_on_its_ports() {
        let good = json!({"clusterIP": "10.96.0.10", "selector": {"a": "b"}, "ports": [{"port": 80}]});
        assert_eq!(
            target(&service(good.clone()), 80),
            Ok(Target::Address("10.96.0.10".parse().unwrap()))
        );
        for (field, value, word) in [
            ("type", json!("ExternalName"), "ExternalName"),
            ("selector", json!({}), "selector"),
            ("ports", json!([{"port": 81}]), "has no port 80, but 81"),
            ("clusterIP", json!(""), "address"),
        ] {
            let mut spec = good.clone();
            spec[field] = value;
            let error = target(&service(spec), 80).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let mut headless = good;
        headless["clusterIP"] = json!("None");
        assert_eq!(target(&service(headless), 8080), Ok(Target::Name));
    }
}
