//! The HTTP client of one target, over reqwest: the whole outbound order behind one `send`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue};

use super::connect::Connections;
use crate::faults::Faults;
use crate::outbound::{Balancer, Classify, Endpoint, Resolve, RetryOn, Target, TargetPolicy, is_cluster_host};

pub(super) type Decorate = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// A client of one target. Clones share it.
///
/// ```no_run
/// # async fn example(inventory: valerix_resilience::ResilientClient) -> Result<(), valerix_resilience::CallError> {
/// let items: Vec<String> = inventory.get("/api/items").query("sort", "name").send().await?.json().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ResilientClient(Arc<Inner>);

pub(super) struct Inner {
    pub(super) target: Arc<Target>,
    pub(super) url: Option<String>,
    pub(super) classify: Arc<dyn Classify>,
    pub(super) retry_on: Option<Arc<RetryOn>>,
    pub(super) decorate: Option<Decorate>,
    pub(super) max_body: usize,
    pub(super) faults: Arc<Faults>,
    pub(super) identity: Option<HeaderValue>,
    pub(super) connections: Connections,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) resolver_given: bool,
    pub(super) place: ArcSwapOption<Place>,
}

/// A base URL and the addresses behind it.
pub(super) struct Place {
    url: String,
    /// Whether the code or the document asked to choose among them.
    by_choice: bool,
    balancer: Option<Arc<Balancer>>,
}

impl ResilientClient {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The target, with its breaker.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.0.target
    }

    /// The addresses behind a base URL, which the document may change.
    pub(super) fn balancer(&self, url: &str, policy: &TargetPolicy) -> Option<Arc<Balancer>> {
        if !policy.balances {
            return None;
        }
        let by_choice = policy.balances_by_choice || self.0.resolver_given;
        let current = self.0.place.load();
        if let Some(place) = current.as_deref()
            && (place.url.as_str(), place.by_choice) == (url, by_choice)
        {
            return place.balancer.clone();
        }
        let place = Place {
            url: url.to_owned(),
            by_choice,
            balancer: self.new_balancer(url, by_choice).map(Arc::new),
        };
        let balancer = place.balancer.clone();
        self.0.place.store(Some(Arc::new(place)));
        balancer
    }

    fn new_balancer(&self, url: &str, by_choice: bool) -> Option<Balancer> {
        let url = reqwest::Url::parse(url).ok()?;
        let port = url.port_or_known_default()?;
        let host = url.host_str()?;
        if url.scheme() == "https" && !by_choice && !is_cluster_host(host) {
            return None;
        }
        let hosts = Arc::clone(&self.0.target.hosts);
        Some(match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => Balancer::fixed(SocketAddr::new(address, port), hosts),
            Err(_) => Balancer::new(
                Endpoint::new(url.scheme(), host, port),
                Arc::clone(&self.0.resolver),
                hosts,
            ),
        })
    }
}

impl std::fmt::Debug for ResilientClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ResilientClient")
            .field("target", &self.0.target.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use valerix_policy::{Balancing, BreakerScope, Policy};

    use super::*;
    use crate::runtime::Resilience;

    /// Whether the addresses of a URL are balanced.
    async fn balances(url: &str, resolver: bool, change: impl FnOnce(&mut valerix_policy::Target)) -> bool {
        let resilience = Resilience::builder().start().await.unwrap();
        let mut target = valerix_policy::Target::named("bank");
        change(&mut target);
        let mut policy = Policy::default();
        policy.targets.push(target);
        resilience.apply_policy(policy.render().as_bytes()).unwrap();
        let mut builder = resilience.client("bank").url(url);
        if resolver {
            builder = builder.resolver(Vec::<SocketAddr>::new());
        }
        let client = builder.build().unwrap();
        let policy = Arc::clone(&client.target().policy());
        client.balancer(url, &policy).is_some()
    }

    #[tokio::test]
    async fn over_https_only_the_cluster_is_balanced_unless_asked_for() {
        assert!(!balances("https://s3.example.com", false, |_| {}).await);
        assert!(balances("https://bank.shop.svc", false, |_| {}).await);
        assert!(balances("http://s3.example.com", false, |_| {}).await);
        assert!(balances("https://s3.example.com", true, |_| {}).await);
        let chosen = |target: &mut valerix_policy::Target| target.balancing = Some(Balancing::default());
        assert!(balances("https://s3.example.com", false, chosen).await);
        let per_host = |target: &mut valerix_policy::Target| target.circuit_breaker.scope = BreakerScope::Host;
        assert!(balances("https://s3.example.com", false, per_host).await);
    }
}
