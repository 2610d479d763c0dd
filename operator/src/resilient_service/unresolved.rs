//! Targets whose name in the cluster's DNS is that of no Service. Services of ours are in a cache; another one is asked
//! for once it is worth a request, and again only while it is missing.

use super::{Controller, Looks, status::Reason};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use valerix_crds::ResilientService;

/// A Service that is made together with its caller is there within this.
const GRACE: Duration = Duration::from_secs(10);
/// How often a Service is asked for again.
const PACE: Duration = Duration::from_secs(60);
/// So many are asked for at a time.
const AT_ONCE: usize = 8;
/// So many are told of.
const NAMED: usize = 5;
/// What decides how a pod resolves names: with one of these it need not be as the cluster's DNS would.
const RESOLVERS: [&str; 4] = ["dnsPolicy", "dnsConfig", "hostAliases", "hostNetwork"];

/// Namespace and name of a Service.
type Key = (String, String);

/// What was found out about the Services of one service's targets.
#[derive(Debug, Default)]
pub struct Resolved {
    looks: HashMap<Key, Look>,
}

#[derive(Debug)]
struct Look {
    /// Not asked for before.
    next: Instant,
    /// What the last answer was; none before the first.
    is_missing: Option<bool>,
}

impl Resolved {
    fn look(&mut self, key: &Key, first: Instant) -> &Look {
        let look = || Look {
            next: first,
            is_missing: None,
        };
        self.looks.entry(key.clone()).or_insert_with(look)
    }

    /// A question that got no answer changes nothing but the time of the next one.
    fn found(&mut self, key: &Key, is_missing: Option<bool>, now: Instant) {
        if let Some(look) = self.looks.get_mut(key) {
            look.next = now + PACE;
            look.is_missing = is_missing.or(look.is_missing);
        }
    }
}

impl Controller {
    /// The targets that no Service stands behind. Reads the metadata of Services that no cache holds, each at most once a
    /// minute, and none where the operator has no right to.
    pub(super) async fn unresolved(&self, service: &Arc<ResilientService>, looks: &mut Looks) -> Vec<String> {
        let (ctx, now) = (&self.ctx, Instant::now());
        let mut targets = in_cluster(service);
        targets.retain(|(namespace, name), _| {
            ctx.runtime.scopes.iter().any(|scope| scope.contains(namespace))
                && ctx.stores.kubernetes_services.get(namespace, name).is_none()
        });
        // What an operator before this one has told is neither taken back nor waited for.
        let first = if was_told(service) { now } else { now + GRACE };
        let mut due = Vec::new();
        self.memory.with(service, |notes| {
            notes.resolved.looks.retain(|key, _| targets.contains_key(key));
            for key in targets.keys() {
                if notes.resolved.look(key, first).next <= now {
                    due.push(key.clone());
                }
            }
        });
        if due.len() > AT_ONCE {
            due.truncate(AT_ONCE);
            looks.within(Some(Duration::ZERO));
        }
        let answers = join_all(due.iter().map(|key| self.is_missing(key))).await;
        let mut missing = Vec::new();
        self.memory.with(service, |notes| {
            for (key, answer) in due.iter().zip(answers) {
                notes.resolved.found(key, answer, now);
            }
            for key in targets.keys() {
                let look = notes.resolved.look(key, first);
                if look.is_missing == Some(true) {
                    missing.push(key.clone());
                }
                // One that was found is asked for again when something else is to be looked at.
                if look.is_missing != Some(false) {
                    looks.within(Some(look.next.saturating_duration_since(now)));
                }
            }
        });
        missing.sort();
        let told = missing.iter().take(NAMED).map(|key| {
            let (namespace, name) = key;
            format!("{} (Service {name} in namespace {namespace})", targets[key])
        });
        told.collect()
    }

    /// Whether there is no such Service, if the API server says.
    async fn is_missing(&self, (namespace, name): &Key) -> Option<bool> {
        let api: Api<Service> = self.ctx.runtime.clients.api(namespace);
        api.get_metadata_opt(name).await.ok().map(|found| found.is_none())
    }
}

fn was_told(service: &ResilientService) -> bool {
    let reason = Reason::TargetUnresolved.as_str();
    let conditions = service.status.iter().flat_map(|status| &status.conditions);
    conditions
        .filter(|condition| condition.type_ == "Warning" && condition.status == "True")
        .any(|condition| condition.reason == reason || condition.message.contains(reason))
}

/// The Services that the specification's targets name, each with the name of a target: `name`, `name.<own namespace>`, or
/// one of the longer forms that end in `svc` or `svc.cluster.local`. Another name of two parts may be a host outside.
fn in_cluster(service: &ResilientService) -> BTreeMap<Key, String> {
    let spec = &service.spec;
    let overrides = spec.pod_overrides.as_ref().map(|overrides| &overrides.0);
    if overrides.is_some_and(|pod| RESOLVERS.iter().any(|key| pod.contains_key(*key))) {
        return BTreeMap::new();
    }
    let own = service.namespace().unwrap_or_default();
    let targets = spec.resilience.iter().flat_map(|resilience| &resilience.targets);
    targets
        .filter_map(|target| {
            let uri = target.url.as_ref()?.parse::<http::Uri>().ok()?;
            let host = uri.host()?.trim_end_matches('.').to_lowercase();
            if host == "localhost" || host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
                return None;
            }
            let host = host.strip_suffix(".cluster.local").unwrap_or(&host);
            let key = match host.split('.').collect::<Vec<_>>()[..] {
                [name] => (own.clone(), name.to_owned()),
                [name, namespace] if namespace == own => (own.clone(), name.to_owned()),
                [name, namespace, "svc"] => (namespace.to_owned(), name.to_owned()),
                _ => return None,
            };
            Some((key, target.name.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};
    use serde_json::json;

    #[test]
    fn only_what_the_clusters_dns_alone_can_resolve_is_taken_for_a_service() {
        let found = |url: &str, overrides: serde_json::Value| {
            let targets = json!([{"name": "inventory", "url": url}]);
            let spec = json!({"image": "a", "podOverrides": overrides, "resilience": {"targets": targets}});
            let keys = in_cluster(&fixtures::service("order", spec)).into_keys();
            keys.map(|(namespace, name)| format!("{namespace}/{name}"))
                .collect::<Vec<_>>()
        };
        for url in [
            "http://inventory",
            "tcp://inventory:6379",
            "http://Inventory.shop:80/v1",
            "http://inventory.shop.svc",
            "https://inventory.shop.svc.cluster.local.",
        ] {
            assert_eq!(found(url, json!(null)), ["shop/inventory"], "{url}");
            assert!(
                found(url, json!({"hostAliases": [{"ip": "10.0.0.1"}]})).is_empty(),
                "{url}"
            );
        }
        assert_eq!(
            found("http://ledger.bank.svc", json!({"nodeName": "a"})),
            ["bank/ledger"]
        );
        for url in [
            "http://example.com",
            "https://api.example.com",
            "http://inventory-0.inventory.shop.svc",
            "http://inventory.shop.svc.corp.example",
            "http://localhost:8080",
            "http://10.0.0.1",
            "http://[fd00::1]:80",
        ] {
            assert!(found(url, json!(null)).is_empty(), "{url}");
        }
    }
}
