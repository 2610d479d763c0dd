//! Services whose pods report: what it costs to follow them. The pods answer from this process, each at an address of its
//! own on loopback, and keep nothing but a connection.

use super::*;
use crate::resilient_service::policy;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Pods of each service.
const PODS: usize = 3;

/// Memory and CPU for so many services, by the machine's own clock.
pub async fn figures(objects: usize) -> Vec<Figure> {
    let mut spec = order()["spec"].clone();
    spec["replicas"] = json!(PODS);
    spec["resilience"] = json!({"targets": [{"name": "inventory", "url": "http://inventory.example.com"}]});
    let service = fixtures::service("order", spec.clone());
    let hash = valerix_policy::hash(policy::render(&service.spec).unwrap().as_bytes());
    spec["resilience"]["reportPort"] = json!(pods_that_answer(hash.into()).await);

    let api = FakeApi::default();
    let names: Vec<String> = (0..objects).map(|number| format!("followed-{number:05}")).collect();
    for name in &names {
        let mut service = named(name);
        service["spec"] = spec.clone();
        api.create(SERVICES, service);
    }
    let operator = Operator::start(&api);
    for name in &names {
        found(
            &api,
            &format!("/apis/apps/v1/namespaces/shop/deployments/{name}"),
            |_| true,
        )
        .await;
    }
    operator.rest().await;
    let before = resident_bytes();
    for (number, name) in names.iter().enumerate() {
        ready_pods(&api, name, number * PODS);
    }
    for name in &names {
        found(&api, &path(name), |service| {
            reason(service, "Ready") == "True/AllPodsCurrent"
        })
        .await;
    }
    operator.rest().await;
    let pods = count(objects * PODS);
    let after = resident_bytes();
    let (cpu, looks) = (cpu_seconds(), operator.looks());
    tokio::time::sleep(Duration::from_secs(60)).await;
    vec![
        timed("pods that are followed", "pods", pods, None),
        timed("resident memory with them", "MB", after / 1e6, None),
        timed(
            "memory of a followed pod, its objects in cache and in the API server included",
            "kB",
            (after - before) / pods / 1e3,
            None,
        ),
        timed(
            "looks at rest with them, a minute",
            "looks",
            operator.looks() - looks,
            Some(0.0),
        ),
        timed(
            "CPU at rest with them",
            "% of a core",
            100.0 * (cpu_seconds() - cpu) / 60.0,
            Some(0.5),
        ),
    ]
}

/// All of them at one port, which is returned.
async fn pods_that_answer(hash: Arc<str>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, hash.clone()));
        }
    });
    port
}

/// Reports once, and that nothing is new for as long as the connection stands.
async fn answer(mut connection: TcpStream, hash: Arc<str>) -> std::io::Result<()> {
    let uid = uid(connection.local_addr()?.ip());
    while let Some(head) = request(&mut connection).await? {
        if head.contains("since=") {
            tokio::time::sleep(Duration::from_secs(100)).await;
            connection
                .write_all(b"HTTP/1.1 304 Not Modified\r\netag: \"one\"\r\n\r\n")
                .await?;
            continue;
        }
        let body = json!({
            "podUID": uid, "service": "order", "now": Utc::now(), "policy": {"versions": [1], "hash": &*hash},
            "circuitBreakers": [{"target": "inventory", "state": "Closed"}]
        })
        .to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\netag: \"one\"\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all((head + &body).as_bytes()).await?;
    }
    Ok(())
}

/// The head of the next request; none once nobody asks any more.
async fn request(connection: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn address(number: usize) -> IpAddr {
    let number = u32::try_from(number).unwrap();
    IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number))
}

fn uid(address: IpAddr) -> String {
    format!("pod-at-{address}")
}

/// Does what Kubernetes would: every pod of the Deployment is ready.
fn ready_pods(api: &FakeApi, name: &str, first: usize) {
    let deployment_path = format!("/apis/apps/v1/namespaces/shop/deployments/{name}");
    let deployment = api.get(&deployment_path).unwrap();
    let revision = json!({"deployment.kubernetes.io/revision": "1"});
    let labels = json!({"resilience.valerix.io/service": name, "pod-template-hash": "one"});
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": deployment["metadata"]["uid"],
        "controller": true});
    api.create(
        "/apis/apps/v1/namespaces/shop/replicasets",
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {
            "name": format!("{name}-one"), "annotations": revision, "ownerReferences": [owner], "labels": labels}}),
    );
    let status = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": PODS, "updatedReplicas": PODS,
        "availableReplicas": PODS, "readyReplicas": PODS});
    api.merge(
        &deployment_path,
        json!({"metadata": {"annotations": revision}, "status": status}),
    );
    let mut endpoints = Vec::new();
    for number in first..first + PODS {
        let (address, pod) = (address(number), format!("{name}-{number}"));
        let uid = uid(address);
        api.create(
            "/api/v1/namespaces/shop/pods",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "uid": uid, "labels": labels},
                "status": {"podIP": address}}),
        );
        endpoints.push(json!({"addresses": [address], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod, "uid": uid}}));
    }
    api.create(
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-pods-x"), "labels": {
                "kubernetes.io/service-name": format!("{name}-pods"), "resilience.valerix.io/service": name}},
            "addressType": "IPv4", "ports": [], "endpoints": endpoints
        }),
    );
}

/// Of this process, as Linux counts it.
fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok());
    4096.0 * pages.unwrap_or_default()
}
