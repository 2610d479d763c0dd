//! Three nodes in three zones: pods are spread over them, an experiment takes the pods of one zone and no other, a drain
//! takes one pod at a time, and a node that is lost takes its pod with it and nothing else. `make e2e NODES=3` runs these on a cluster that has the nodes.

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::process::Command;
use valerix_crds::{ChaosExperiment, ChaosPhase, ResilientService, Verdict, names::condition as types};
use valerix_e2e::world::{OPERATOR_NAMESPACE, SHOP, World, eventually, has_condition, is_ready};

const ZONE: &str = "topology.kubernetes.io/zone";
const REPLICAS: usize = 3;
/// Longer than Kubernetes takes to see that a node is lost, to move its pod and to start it.
const LOSS: Duration = Duration::from_secs(240);
const SERVER: &str =
    "import http.server as h; h.ThreadingHTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()";

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_spread_a_drain_takes_one_at_a_time_and_a_lost_node_takes_its_own_alone() -> Result<()> {
    let world = World::installed().await?;
    let zones = zones(&world).await?;
    ensure!(
        zones.values().collect::<BTreeSet<_>>().len() >= REPLICAS,
        "this cluster has the nodes and zones {zones:?}; `make e2e NODES=3` brings one up that has three of each"
    );
    world.install_operator().await?;
    Box::pin(zone_lost(&world, &zones)).await?;
    let test = world.with_namespace("placement", async |namespace| {
        world.create(namespace, &service(&world)?.to_string()).await?.text()?;
        settled(&world, namespace, Duration::from_secs(120)).await?;
        spread(&world, namespace, &zones).await?;
        drained(&world, namespace, &zones).await?;
        respread(&world, namespace, &zones).await?;
        lost(&world, namespace, &zones).await
    });
    let outcome = Box::pin(test).await;
    // Also after a failure, so that a cluster that is kept has its nodes.
    for node in zones.keys() {
        world.kubectl(&format!("uncordon {node}")).await?.text()?;
    }
    outcome
}

/// The zone of each node that takes pods.
async fn zones(world: &World) -> Result<BTreeMap<String, String>> {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let nodes = nodes.list(&ListParams::default()).await?.items;
    let takes_pods = nodes.into_iter().filter(takes_pods);
    Ok(takes_pods
        .map(|node| (node.name_any(), node.labels().get(ZONE).cloned().unwrap_or_default()))
        .collect())
}

fn takes_pods(node: &Node) -> bool {
    let is_cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    !is_cordoned && is_up(node)
}

fn is_up(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Three replicas whose pods leave a lost node after seconds instead of minutes.
fn service(world: &World) -> Result<Value> {
    let leaves = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    Ok(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": "placed"},
        "spec": {
            "image": world.environment.images.of("python")?,
            "command": ["python3", "-c", SERVER],
            "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
            "probes": {"readiness": {"path": "/", "periodSeconds": 1}},
            "replicas": REPLICAS,
            "disruption": {"maxUnavailable": 1},
            "resilience": {"protocol": "None"},
            "terminationGracePeriodSeconds": 15,
            "lifecycle": {"preStopSleep": "0s"},
            "tolerations": [leaves("node.kubernetes.io/not-ready"), leaves("node.kubernetes.io/unreachable")],
        }
    }))
}

/// The pods that serve, by name, and the node of each.
async fn serving(world: &World, namespace: &str) -> Result<BTreeMap<String, String>> {
    let selector = ListParams::default().labels("app.kubernetes.io/name=placed");
    let pods = world.api::<Pod>(namespace).list(&selector).await?.items;
    let serve = pods.into_iter().filter(|pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        pod.metadata.deletion_timestamp.is_none()
            && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    Ok(serve
        .map(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            (pod.name_any(), node.unwrap_or_default())
        })
        .collect())
}

fn all_ready(service: &ResilientService) -> bool {
    let summary = service.status.as_ref().and_then(|status| status.summary.as_ref());
    is_ready(service) && summary.is_some_and(|summary| summary.replicas == "3/3" && summary.config == "3/3")
}

async fn settled(world: &World, namespace: &str, within: Duration) -> Result<ResilientService> {
    world
        .object(namespace, "placed", "Ready with 3/3", within, all_ready)
        .await
}

async fn spread(world: &World, namespace: &str, zones: &BTreeMap<String, String>) -> Result<()> {
    let pods = serving(world, namespace).await?;
    let used: BTreeSet<&String> = pods.values().filter_map(|node| zones.get(node)).collect();
    ensure!(
        pods.len() == REPLICAS && used.len() == REPLICAS,
        "three pods are spread over three zones: {pods:?}"
    );
    Ok(())
}

/// An experiment deletes every pod in one zone at once. The others are not touched, the service answers all the time, and the
/// verdict says so. In the shop's namespace, where the operator may delete pods.
async fn zone_lost(world: &World, zones: &BTreeMap<String, String>) -> Result<()> {
    let mut service = service(world)?;
    service["spec"]["chaos"] = json!({"admission": "Allowed"});
    world.create(SHOP, &service.to_string()).await?.text()?;
    let outcome = Box::pin(kill_in_zone(world, zones)).await;
    // Also after a failure: the namespace stays.
    world
        .kubectl(&format!(
            "delete -n {SHOP} --ignore-not-found chaos/zone-loss rsvc/placed"
        ))
        .await?
        .text()?;
    outcome
}

async fn kill_in_zone(world: &World, zones: &BTreeMap<String, String>) -> Result<()> {
    settled(world, SHOP, Duration::from_secs(120)).await?;
    spread(world, SHOP, zones).await?;
    let before = serving(world, SHOP).await?;
    let zone = zones.values().last().context("there is no zone")?;
    let experiment = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment", "metadata": {"name": "zone-loss"},
        "spec": {
            "target": {"service": "placed", "zone": zone},
            "podKill": {"method": "Delete", "gracePeriodSeconds": 0},
            "count": "100%",
            "safety": {"minPodAge": "1s", "minAvailable": 2},
            "steadyState": {"probes": [{"name": "served", "http": {"service": "placed", "path": "/"}, "failureThreshold": 5}]},
        }
    });
    world.create(SHOP, &experiment.to_string()).await?.text()?;
    let over = |experiment: &ChaosExperiment| {
        let phase = experiment.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(ChaosPhase::is_terminal)
    };
    let ended = world
        .object(SHOP, "zone-loss", "the end", Duration::from_secs(120), over)
        .await?;
    let status = ended.status.unwrap_or_default();
    ensure!(status.verdict == Some(Verdict::Pass), "{status:?}");
    let victims: BTreeSet<&String> = status.targets.iter().map(|target| &target.pod).collect();
    let in_zone = before.iter().filter(|(_, node)| zones.get(*node) == Some(zone));
    let in_zone: BTreeSet<&String> = in_zone.map(|(pod, _)| pod).collect();
    ensure!(
        victims == in_zone && !victims.is_empty(),
        "{victims:?} were hurt, and in {zone} were {in_zone:?}"
    );
    settled(world, SHOP, Duration::from_secs(120)).await?;
    let after = serving(world, SHOP).await?;
    for (pod, node) in &before {
        let stays = after.get(pod) == Some(node);
        ensure!(
            stays != in_zone.contains(pod),
            "{pod} of {node}: {before:?} to {after:?}"
        );
    }
    Ok(())
}

/// Two nodes are drained at once: the budget lets their pods go one after the other, when the first is replaced.
async fn drained(world: &World, namespace: &str, zones: &BTreeMap<String, String>) -> Result<()> {
    // The first node has the control plane.
    let nodes: Vec<&String> = zones.keys().skip(1).take(2).collect();
    // None gets the pod of the other.
    for node in &nodes {
        world.kubectl(&format!("cordon {node}")).await?.text()?;
    }
    let drains = join_all(nodes.iter().map(|node| async move {
        let drain = format!("drain {node} --ignore-daemonsets --delete-emptydir-data --force --timeout=150s");
        world.kubectl(&drain).await?.text()
    }));
    let mut drains = std::pin::pin!(drains);
    let mut least = REPLICAS;
    let drained = loop {
        tokio::select! {
            drained = &mut drains => break drained,
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                least = least.min(serving(world, namespace).await?.len());
            }
        }
    };
    for drained in drained {
        drained?;
    }
    ensure!(
        least == REPLICAS - 1,
        "while two of three nodes were drained at once, at least {least} pods served; the budget is one at a time"
    );
    settled(world, namespace, Duration::from_secs(120)).await?;
    let pods = serving(world, namespace).await?;
    ensure!(
        pods.values().all(|node| !nodes.contains(&node)),
        "what was drained holds no pod: {pods:?}"
    );
    for node in &nodes {
        world.kubectl(&format!("uncordon {node}")).await?.text()?;
    }
    Ok(())
}

/// New pods, which find three nodes again.
async fn respread(world: &World, namespace: &str, zones: &BTreeMap<String, String>) -> Result<()> {
    let patch = json!({"spec": {"env": [{"name": "ROUND", "value": "2"}]}});
    let services = world.api::<ResilientService>(namespace);
    services
        .patch("placed", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    settled(world, namespace, Duration::from_secs(120)).await?;
    spread(world, namespace, zones).await
}

/// The node dies as a machine does. Its pod is missed, replaced elsewhere, and no other is touched.
async fn lost(world: &World, namespace: &str, zones: &BTreeMap<String, String>) -> Result<()> {
    let program = world.environment.cluster_program.as_ref().context(
        "VALERIX_CLUSTER_PROGRAM is not set: a node is lost on the project's own cluster, by `make e2e NODES=3`",
    )?;
    let cluster = world
        .environment
        .kubeconfig
        .parent()
        .and_then(|folder| folder.file_name());
    let cluster = cluster.context("the kubeconfig lies in no folder")?.to_string_lossy();
    let operator = ListParams::default().labels("app.kubernetes.io/name=valerix-operator");
    let operator = world.api::<Pod>(OPERATOR_NAMESPACE).list(&operator).await?.items;
    let of_operator: BTreeSet<String> = operator.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
    let victim = zones
        .keys()
        .skip(1)
        .find(|node| !of_operator.contains(*node))
        .context("the operator is on every node")?;
    let before = serving(world, namespace).await?;
    kill(program, &cluster, victim).await?;

    world
        .object(
            namespace,
            "placed",
            "one pod is missed",
            LOSS,
            |service: &ResilientService| {
                service.status.as_ref().is_some_and(|status| {
                    status.ready_replicas == 2 && !has_condition(&status.conditions, types::AVAILABLE, "True")
                })
            },
        )
        .await?;
    settled(world, namespace, LOSS).await?;
    let after = serving(world, namespace).await?;
    ensure!(
        after.values().all(|node| node != victim),
        "a pod is said to serve on {victim}, which is lost: {after:?}"
    );
    let stayed = before.iter().filter(|(_, node)| *node != victim);
    for (pod, node) in stayed {
        ensure!(
            after.get(pod) == Some(node),
            "{pod} on {node} was not to be touched: {after:?}"
        );
    }

    let up = Command::new(program)
        .args(["up", "--name", &cluster])
        .output()
        .await
        .context("failed to start the cluster's program")?;
    ensure!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let nodes: Api<Node> = Api::all(world.client.clone());
    let back = eventually(Duration::from_secs(60), || async {
        nodes.get(victim).await.ok().filter(is_up).map(drop)
    });
    back.await.with_context(|| format!("{victim} does not come back"))?;
    // What stood there is gone, and nothing was moved back.
    settled(world, namespace, Duration::from_secs(60)).await?;
    let returned = serving(world, namespace).await?;
    ensure!(
        returned == after,
        "pods moved when {victim} came back: {after:?} to {returned:?}"
    );
    Ok(())
}

/// `kill -9` of the node's first process.
async fn kill(program: &std::path::Path, cluster: &str, node: &str) -> Result<()> {
    let status = Command::new(program)
        .args(["status", "--name", cluster, "--json"])
        .output()
        .await
        .context("failed to start the cluster's program")?;
    let status: Value = serde_json::from_slice(&status.stdout).context("failed to read the cluster's status")?;
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    let pid = nodes
        .find(|found| found["name"] == node)
        .and_then(|found| found["pid"].as_u64())
        .with_context(|| format!("{node} is no node of {status}"))?;
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().await?;
    ensure!(killed.success(), "failed to kill process {pid} of {node}");
    Ok(())
}
