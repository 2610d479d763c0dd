//! Whom the pods of a trial restore may talk to. Pure.
//!
//! What an archive holds runs as superuser of the server in that pod, so the pod reaches what it needs: names, the API
//! server, and the store of a bucket. A claim is mounted by its node, which no NetworkPolicy of a pod speaks of. Databases
//! are left out by their ports alone: their hosts are in Secrets, which the operator does not read. One that listens on a
//! port that is let out to, or in the namespace of the store, is within reach.

use super::{Plan, metadata, trial_labels, verifier};
use crate::runtime::network::{DNS_PORT, cluster_service, namespace, select, tcp, udp};
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use valerix_crds::{DestinationChoice, S3Destination};

/// Where OpenShift's DNS pods listen behind their Service's 53.
const OPENSHIFT_DNS_PORT: i32 = 5353;
/// Label of the cluster's DNS pods wherever CoreDNS took kube-dns' place, with its value. Behind their Service's 53 they may
/// listen anywhere: Gardener's on 8053.
const DNS_PODS: (&str, &str) = ("k8s-app", "kube-dns");
/// Where API servers listen: the Service `kubernetes` and those of most providers; kubeadm, k3s, kind, OpenShift, Talos;
/// minikube and vcluster; MicroK8s.
///
/// Most networks judge a packet once the Service's address and port have become the server's. Ports and no addresses: those
/// change with the control plane, only an operator that sees the namespace `default` could read them, and Cilium takes an
/// address of a node for no part of a block.
const API_SERVER_PORTS: [i32; 4] = [443, 6443, 8443, 16443];

/// Lets nobody in, and out what a trial needs.
pub fn build_network_policy(plan: &Plan) -> NetworkPolicy {
    let anywhere = |ports| NetworkPolicyEgressRule {
        to: None,
        ports: Some(ports),
    };
    let at_any_port = |peer| NetworkPolicyEgressRule {
        to: Some(vec![peer]),
        ports: None,
    };
    let dns = [DNS_PORT, OPENSHIFT_DNS_PORT];
    let mut egress = vec![
        anywhere(dns.into_iter().flat_map(|port| [udp(port), tcp(port)]).collect()),
        at_any_port(NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector::default()),
            pod_selector: Some(select([DNS_PODS].map(|(key, value)| (key.into(), value.into())).into())),
            ..NetworkPolicyPeer::default()
        }),
        anywhere(
            API_SERVER_PORTS
                .into_iter()
                .map(tcp)
                .collect::<Vec<NetworkPolicyPort>>(),
        ),
    ];
    if let DestinationChoice::S3(destination) = &plan.destination {
        let (port, elsewhere) = store(destination, &plan.namespace);
        egress.push(anywhere(vec![tcp(port)]));
        // A Service may lead to another port than its own, as MinIO's 443 to 9000. In the policy's own namespace that
        // would open the databases.
        egress.extend(elsewhere.map(|name| {
            at_any_port(NetworkPolicyPeer {
                namespace_selector: Some(namespace(&name)),
                ..NetworkPolicyPeer::default()
            })
        }));
    }
    NetworkPolicy {
        metadata: metadata(plan, verifier(plan)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(select(trial_labels(&plan.name))),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: None,
            egress: Some(egress),
        }),
    }
}

/// The port of a store, and its namespace where it is a Service of another one.
fn store(destination: &S3Destination, own_namespace: &str) -> (i32, Option<String>) {
    let uri = destination
        .endpoint
        .as_deref()
        .and_then(|endpoint| endpoint.parse::<http::Uri>().ok());
    let of_scheme = if uri.as_ref().and_then(http::Uri::scheme_str) == Some("http") {
        80
    } else {
        443
    };
    let port = uri.as_ref().and_then(http::Uri::port_u16).map_or(of_scheme, i32::from);
    let service = uri.as_ref().and_then(|uri| cluster_service(uri.host()?, own_namespace));
    let elsewhere = service
        .map(|(namespace, _)| namespace)
        .filter(|namespace| namespace != own_namespace);
    (port, elsewhere)
}

#[cfg(test)]
mod tests {
    use super::super::super::{fixtures, validate::validate};
    use super::*;
    use serde_json::json;

    fn built(destination: serde_json::Value) -> NetworkPolicy {
        let mut policy = fixtures::policy();
        policy.spec.destination = serde_json::from_value(destination).unwrap();
        build_network_policy(&validate(&policy, &fixtures::runner(), fixtures::now()).unwrap())
    }

    #[test]
    fn a_claim_needs_names_and_the_api_server_and_nothing_else() {
        let policy = built(json!({"volumeClaim": {"claimName": "backups"}}));
        insta::assert_yaml_snapshot!("network_policy_of_a_claim", policy);
    }

    #[test]
    fn a_bucket_is_reached_at_the_port_of_its_endpoint_and_behind_a_service_of_another_namespace() {
        let found = |endpoint: Option<&str>| {
            let s3 = json!({"bucket": "archives", "endpoint": endpoint, "credentialsSecretRef": {"name": "store"}});
            let egress = built(json!({"s3": s3})).spec.unwrap().egress.unwrap();
            // Names, the pods that know them and the API server come first.
            let rest = serde_json::to_value(&egress[3..]).unwrap();
            let port = rest.pointer("/0/ports/0/port").cloned().unwrap();
            assert!(
                rest.pointer("/0/to").is_none() && rest.pointer("/0/ports/1").is_none(),
                "{rest}"
            );
            let elsewhere = rest.pointer("/1/to/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name");
            let elsewhere = elsewhere.map(|name| name.as_str().unwrap().to_owned());
            assert_eq!(egress.len(), 4 + usize::from(elsewhere.is_some()), "{rest}");
            (port, elsewhere)
        };
        for (endpoint, port, elsewhere) in [
            (None, 443, None),
            (Some("https://s3.eu-central-1.example.com"), 443, None),
            (Some("http://s3.example.com/"), 80, None),
            (Some("https://10.0.0.7:9000"), 9000, None),
            (Some("https://minio.storage.svc:9000/"), 9000, Some("storage")),
            (
                Some("http://rook-ceph-rgw.rook-ceph.svc.cluster.local"),
                80,
                Some("rook-ceph"),
            ),
            // Beside the databases it has to listen where its endpoint says.
            (Some("http://store:7070"), 7070, None),
            (Some("http://store.shop.svc:7070"), 7070, None),
        ] {
            assert_eq!(
                found(endpoint),
                (json!(port), elsewhere.map(str::to_owned)),
                "{endpoint:?}"
            );
        }
    }
}
