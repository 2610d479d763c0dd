//! The NetworkPolicy. Pure.

use super::{
    super::validate::{GuardPlan, Plan, REPORT_PORT_NAME},
    metadata::{metadata, selector},
    services::service_target,
};
use crate::runtime::network::{DNS_PORT, cluster_service, namespace, select, tcp, udp};
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use std::collections::BTreeSet;
use valerix_crds::{MonitoringMode, NetworkPolicyMode, ResilientServiceSpec, names::pods_service};

/// Who looks at pods from outside of their namespace, and is let in to what it looks at.
#[derive(Clone, Copy, Debug)]
pub struct Watchers<'a> {
    /// From where the operator follows pods, and the console shows them.
    pub operator_namespace: &'a str,
    /// From where they are scraped.
    pub monitoring_namespaces: &'a [String],
}

/// None unless the specification asks for one.
pub fn build_network_policy(plan: &Plan, watchers: Watchers<'_>) -> Option<NetworkPolicy> {
    let policy = plan.service.spec.network_policy.as_ref()?;
    if policy.mode == Some(NetworkPolicyMode::None) {
        return None;
    }
    let egress = plan.parts.egress_to.as_ref().map(|peers| build_egress(plan, peers));
    let types = ["Ingress"].into_iter().chain(egress.is_some().then_some("Egress"));
    Some(NetworkPolicy {
        metadata: metadata(plan, plan.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(select(selector(&plan.name))),
            policy_types: Some(types.map(str::to_owned).collect()),
            ingress: Some(build_ingress(plan, watchers)).filter(|rules| !rules.is_empty()),
            egress,
        }),
    })
}

fn build_ingress(plan: &Plan, watchers: Watchers<'_>) -> Vec<NetworkPolicyIngressRule> {
    // Whoever may talk to the service finds every port of it; none that leads past a guard.
    let callers = match &plan.parts.ingress_from {
        None => vec![NetworkPolicyPeer {
            pod_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        }],
        Some(peers) => peers.clone(),
    };
    // A rule without callers would be open to everybody.
    let from_callers = (!callers.is_empty()).then_some(NetworkPolicyIngressRule {
        from: Some(callers),
        ports: plan.guard.as_ref().map(|guard| build_open_ports(plan, guard)),
    });
    let from = |name: &str| NetworkPolicyPeer {
        namespace_selector: Some(namespace(name)),
        ..NetworkPolicyPeer::default()
    };
    let from_operator = plan.report_port.map(|port| NetworkPolicyIngressRule {
        from: Some(vec![from(watchers.operator_namespace)]),
        ports: Some(vec![tcp(port)]),
    });
    let scrapers: Vec<_> = watchers.monitoring_namespaces.iter().map(|name| from(name)).collect();
    let scraped = scraped_ports(plan);
    let from_scrapers = (!scrapers.is_empty() && !scraped.is_empty()).then(|| NetworkPolicyIngressRule {
        from: Some(scrapers),
        ports: Some(scraped.into_iter().map(tcp).collect()),
    });
    from_callers
        .into_iter()
        .chain(from_operator)
        .chain(from_scrapers)
        .collect()
}

/// Where metrics are served, as the ServiceMonitor says it, in the pods that stand too.
fn scraped_ports(plan: &Plan) -> BTreeSet<i32> {
    let monitoring = plan.service.spec.monitoring.as_ref();
    if monitoring.is_some_and(|monitoring| monitoring.mode == Some(MonitoringMode::None)) {
        return BTreeSet::new();
    }
    let Some(name) = monitoring.and_then(|monitoring| monitoring.port.as_ref()) else {
        return plan.report_port.into_iter().collect();
    };
    let named = plan.service.spec.ports.iter().find(|port| port.name == *name);
    let number = named.map(|port| {
        let guarded = plan.guard.as_ref().and_then(|guard| guard.inbound(name));
        guarded.unwrap_or(port.container_port)
    });
    let report = plan.report_port.filter(|_| name == REPORT_PORT_NAME);
    let standing = plan.standing_ports.get(name).into_iter().flatten().copied();
    number.into_iter().chain(report).chain(standing).collect()
}

/// Every port but those that a guard stands before. Those are open too until the last pod without this guard is gone, and
/// so is each where a pod of before has it.
fn build_open_ports(plan: &Plan, guard: &GuardPlan) -> Vec<NetworkPolicyPort> {
    let of_spec = plan.service.spec.ports.iter().flat_map(|port| {
        let guarded = guard.inbound(&port.name);
        let own = Some(port.container_port).filter(|_| guarded.is_none() || plan.has_pods_of_another_shape);
        let standing = plan.standing_ports.get(&port.name).into_iter().flatten().copied();
        // Under its name of before, while that is where the Service leads.
        let (number, name) = match service_target(plan, port) {
            IntOrString::Int(number) => (Some(number), None),
            IntOrString::String(name) => (None, plan.standing_ports.get(&name)),
        };
        let led_to = number.into_iter().chain(name.into_iter().flatten().copied());
        guarded.into_iter().chain(own).chain(standing).chain(led_to)
    });
    let beside = plan.parts.pod_overrides.iter().flat_map(|pod| &pod.containers);
    let beside = beside.chain(&plan.parts.init_containers);
    let of_others = beside.flat_map(|container| container.ports.iter().flatten());
    let numbers: BTreeSet<i32> = of_spec
        .chain(of_others.map(|port| port.container_port))
        .chain(plan.report_port)
        .collect();
    numbers.into_iter().map(tcp).collect()
}

fn build_egress(plan: &Plan, peers: &[NetworkPolicyPeer]) -> Vec<NetworkPolicyEgressRule> {
    let mut rules = vec![NetworkPolicyEgressRule {
        to: None,
        ports: Some(vec![udp(DNS_PORT), tcp(DNS_PORT)]),
    }];
    let targets = targets(&plan.service.spec, &plan.namespace).into_iter();
    let to: Vec<NetworkPolicyPeer> = targets
        .map(|(namespace_of_target, service)| NetworkPolicyPeer {
            namespace_selector: (namespace_of_target != plan.namespace).then(|| namespace(&namespace_of_target)),
            pod_selector: Some(select(selector(&service))),
            ..NetworkPolicyPeer::default()
        })
        .chain(peers.iter().cloned())
        .collect();
    // Ports of pods are not those of their Service, and change with it: whom a service calls is the boundary.
    rules.extend((!to.is_empty()).then_some(NetworkPolicyEgressRule {
        to: Some(to),
        ports: None,
    }));
    rules
}

/// Namespace and name of each target that the cluster's DNS resolves: `name`, `name.namespace` or one of the longer forms.
fn targets(spec: &ResilientServiceSpec, own_namespace: &str) -> BTreeSet<(String, String)> {
    let targets = spec.resilience.iter().flat_map(|resilience| &resilience.targets);
    targets
        .filter_map(|target| {
            let uri = target.url.as_ref()?.parse::<http::Uri>().ok()?;
            // An address has its own rule, as an ipBlock.
            let (namespace, name) = cluster_service(uri.host()?, own_namespace)?;
            let headless = pods_service("");
            let name = name.strip_suffix(headless.as_str()).unwrap_or(&name);
            Some((namespace, name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use super::*;
    use serde_json::json;

    #[test]
    fn whoever_scrapes_reaches_the_scraped_port_alone() {
        let monitoring = ["monitoring".to_owned(), "observability".to_owned()];
        let rules = |spec: serde_json::Value, namespaces: &[String]| {
            let mut full = json!({"image": "a", "networkPolicy": {"ingressFrom": []},
                "ports": [{"name": "http", "containerPort": 3001}, {"name": "stats", "containerPort": 3100}]});
            json_patch::merge(&mut full, &spec);
            let service = std::sync::Arc::new(fixtures::service("order", full));
            let mut plan = super::super::super::validate::validate(&service, 1, "guard:1").unwrap();
            plan.standing_ports.insert("stats".into(), [3099].into());
            let watchers = Watchers {
                operator_namespace: "valerix-system",
                monitoring_namespaces: namespaces,
            };
            let policy = build_network_policy(&plan, watchers).unwrap().spec.unwrap();
            let found = policy.ingress.unwrap_or_default().into_iter().map(|rule| {
                let peers = rule.from.unwrap().into_iter().map(|peer| {
                    let labels = peer.namespace_selector.unwrap().match_labels.unwrap();
                    labels.values().cloned().collect::<String>()
                });
                let ports = rule.ports.unwrap().into_iter().map(|port| match port.port {
                    Some(IntOrString::Int(number)) => number,
                    other => panic!("{other:?}"),
                });
                (peers.collect::<Vec<_>>().join(" "), ports.collect::<Vec<_>>())
            });
            found.collect::<Vec<_>>()
        };
        let pair = |from: &str, ports: &[i32]| (from.to_owned(), ports.to_vec());
        let operator = || pair("valerix-system", &[9090]);
        assert_eq!(
            rules(json!({}), &monitoring),
            [operator(), pair("monitoring observability", &[9090])]
        );
        assert_eq!(rules(json!({}), &[]), [operator()]);
        assert_eq!(
            rules(json!({"monitoring": {"mode": "None"}}), &monitoring),
            [operator()]
        );
        assert_eq!(
            rules(json!({"monitoring": {"port": "stats"}}), &monitoring[..1]),
            [operator(), pair("monitoring", &[3099, 3100])]
        );
        // An image that does not report and names no port has nothing to scrape.
        assert_eq!(rules(json!({"resilience": {"protocol": "None"}}), &monitoring), []);
        let guarded = json!({"guard": {"mode": "Sidecar"}, "monitoring": {"port": "http"}});
        assert_eq!(
            rules(guarded, &monitoring[..1]),
            [operator(), pair("monitoring", &[15100])]
        );
    }

    #[test]
    fn only_what_the_clusters_dns_resolves_is_a_target() {
        let urls = [
            "http://inventory",
            "http://payment.bank:8080/x",
            "http://payment-pods.bank.svc.cluster.local",
            "https://api.example.com",
            "http://10.0.0.7",
            "http://[fd00::7]:80",
        ];
        let targets_of_spec: Vec<_> = urls
            .iter()
            .enumerate()
            .map(|(index, url)| json!({"name": format!("t{index}"), "url": url}))
            .chain([json!({"name": "unsaid"})])
            .collect();
        let service = fixtures::service(
            "order",
            json!({"image": "a", "resilience": {"targets": targets_of_spec}}),
        );
        let found: Vec<_> = targets(&service.spec, "shop").into_iter().collect();
        let pair = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(found, [pair("bank", "payment"), pair("shop", "inventory")]);
    }
}
