//! Where a target's addresses come from. In: the host and port of its URL. Out: socket addresses. Asks the network.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dns::{Lookup, Nameservers};

/// The future of [`Resolve::resolve`].
pub type Resolving<'resolver> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'resolver>>;

/// The place that a target's URL names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: String,
    /// The host name.
    pub host: String,
    /// The port, the scheme's own where the URL has none.
    pub port: u16,
}

impl Endpoint {
    /// A place.
    #[must_use]
    pub fn new(scheme: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self {
            scheme: scheme.into(),
            host: host.into(),
            port,
        }
    }
}

/// Finds the addresses of a target. Asked every 5 s while calls are made, and at once after a connect error (then at most
/// once a second). When it fails, the last good answer stays in use.
///
/// ```
/// use std::net::SocketAddr;
/// use valerix_resilience::{Endpoint, Resolve, Resolving, SystemResolver};
///
/// /// Two data centres that share a name.
/// struct Both(SocketAddr);
///
/// impl Resolve for Both {
///     fn resolve<'resolver>(&'resolver self, endpoint: &'resolver Endpoint) -> Resolving<'resolver> {
///         Box::pin(async move {
///             let mut addresses = SystemResolver.resolve(endpoint).await?;
///             addresses.push(self.0);
///             Ok(addresses)
///         })
///     }
/// }
/// ```
///
/// A list of addresses is a resolver too:
///
/// ```no_run
/// # fn example(resilience: valerix_resilience::Resilience) -> Result<(), Box<dyn std::error::Error>> {
/// let addresses: Vec<std::net::SocketAddr> = vec!["10.0.0.7:8080".parse()?, "10.0.0.8:8080".parse()?];
/// let search = resilience.client("search").url("http://search.internal").resolver(addresses).build()?;
/// # Ok(())
/// # }
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// The addresses, ports included, in any order. Of more than 256 each client uses 256 of its own choice. An empty list
    /// counts as a failure.
    fn resolve<'resolver>(&'resolver self, endpoint: &'resolver Endpoint) -> Resolving<'resolver>;

    /// Whether the URL's own host leads to the same service by another way, on which an attempt may go that reached none
    /// of the addresses. Default: no.
    fn host_is_another_way(&self, _endpoint: &Endpoint) -> bool {
        false
    }
}

impl Resolve for Vec<SocketAddr> {
    fn resolve<'resolver>(&'resolver self, _endpoint: &'resolver Endpoint) -> Resolving<'resolver> {
        Box::pin(async { Ok(self.clone()) })
    }
}

/// Resolves the URL's own host as the operating system does, with the URL's port.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'resolver>(&'resolver self, endpoint: &'resolver Endpoint) -> Resolving<'resolver> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
            Ok(found.collect())
        })
    }
}

/// The default. For the URL of a Kubernetes Service (`<name>.<namespace>.svc` with or without the cluster's domain) it
/// asks DNS for the pods behind the headless Service `<name>-pods`, with their own ports; for every other host, and where
/// there is no such headless Service, it does as [`SystemResolver`].
///
/// The pods' port is the one that both Services call by the URL's scheme: `http` or `https`.
///
/// ```
/// use valerix_resilience::ClusterResolver;
///
/// let elsewhere: Vec<std::net::SocketAddr> = vec!["10.0.0.7:8080".parse()?];
/// let resolver = ClusterResolver::new()
///     .nameservers(vec!["10.96.0.10:53".parse()?], "cluster.local")
///     .fallback(elsewhere);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub struct ClusterResolver {
    nameservers: Option<Nameservers>,
    fallback: Box<dyn Resolve>,
    /// Whether DNS has ever named pods: from then on its silence is a failure, and no sign that there are none.
    named_pods: AtomicBool,
}

impl Default for ClusterResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ClusterResolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClusterResolver")
            .field("nameservers", &self.nameservers)
            .finish_non_exhaustive()
    }
}

impl ClusterResolver {
    /// Asks the nameservers of `/etc/resolv.conf`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nameservers: None,
            fallback: Box::new(SystemResolver),
            named_pods: AtomicBool::new(false),
        }
    }

    /// Asks these nameservers instead, in turn, about Services of a cluster of this domain (`cluster.local`, say).
    #[must_use]
    pub fn nameservers(mut self, servers: Vec<SocketAddr>, domain: impl Into<String>) -> Self {
        self.nameservers = Some(Nameservers {
            servers,
            domain: domain.into(),
        });
        self
    }

    /// Asks this resolver instead of [`SystemResolver`] where there are no pods to ask for.
    #[must_use]
    pub fn fallback(mut self, resolver: impl Resolve) -> Self {
        self.fallback = Box::new(resolver);
        self
    }

    async fn pods(&self, endpoint: &Endpoint, service: Service<'_>) -> io::Result<Option<Vec<SocketAddr>>> {
        let read;
        let nameservers = match &self.nameservers {
            Some(given) => given,
            None => {
                read = Nameservers::read().await?;
                &read
            }
        };
        let question = service.question(&endpoint.scheme, &nameservers.domain);
        match nameservers.services(&question).await {
            Ok(Lookup::Found(addresses)) => {
                self.named_pods.store(true, Ordering::Relaxed);
                Ok(Some(addresses))
            }
            Ok(Lookup::Nothing) => Ok(None),
            Err(error) if self.named_pods.load(Ordering::Relaxed) => Err(error),
            Err(error) => {
                tracing::debug!(%question, %error, "failed to ask for pods, the Service is called");
                Ok(None)
            }
        }
    }
}

impl Resolve for ClusterResolver {
    fn resolve<'resolver>(&'resolver self, endpoint: &'resolver Endpoint) -> Resolving<'resolver> {
        Box::pin(async move {
            if let Some(service) = Service::of(&endpoint.host)
                && let Some(addresses) = self.pods(endpoint, service).await?
            {
                return Ok(addresses);
            }
            self.fallback.resolve(endpoint).await
        })
    }

    /// A Service's own address leads past pods that DNS still names and that are gone.
    fn host_is_another_way(&self, endpoint: &Endpoint) -> bool {
        Service::of(&endpoint.host).is_some()
    }
}

/// Whether a host is the name of a Kubernetes Service.
#[cfg(feature = "reqwest")]
pub(crate) fn is_cluster_host(host: &str) -> bool {
    Service::of(host).is_some()
}

/// A Service as a URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Service<'host> {
    name: &'host str,
    namespace: &'host str,
    domain: Option<&'host str>,
}

impl<'host> Service<'host> {
    fn of(host: &'host str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut labels = host.splitn(4, '.');
        let (name, namespace, svc) = (labels.next()?, labels.next()?, labels.next()?);
        let domain = labels.next();
        let good = |label: &str| !label.is_empty() && label.len() <= 63;
        // With `-pods` the name must still be a label.
        (svc == "svc" && good(namespace) && !name.is_empty() && name.len() <= 58).then_some(Self {
            name,
            namespace,
            domain,
        })
    }

    fn question(self, port: &str, domain: &str) -> String {
        let (name, namespace, domain) = (self.name, self.namespace, self.domain.unwrap_or(domain));
        format!("_{port}._tcp.{name}-pods.{namespace}.svc.{domain}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_services_are_asked_for_pods() {
        let question = |host| Service::of(host).map(|service| service.question("http", "cluster.local"));
        let pods = "_http._tcp.inventory-pods.shop.svc.cluster.local";
        assert_eq!(question("inventory.shop.svc").unwrap(), pods);
        assert_eq!(question("inventory.shop.svc.cluster.local").unwrap(), pods);
        assert_eq!(question("inventory.shop.svc.cluster.local.").unwrap(), pods);
        assert_eq!(
            question("inventory.shop.svc.example.org").unwrap(),
            "_http._tcp.inventory-pods.shop.svc.example.org"
        );
        let long = format!("{}.shop.svc", "a".repeat(59));
        for host in [
            "localhost",
            "example.org",
            "inventory.shop",
            "www.svc.example.org",
            ".shop.svc",
            "a..svc",
            &long,
        ] {
            assert_eq!(question(host), None, "{host}");
        }
    }
}
