//! Two experiments that evict pods at once, and one disruption budget over the pods of both: a watch counts those that serve at
//! every moment. Of one service two experiments never have the pods at once, so they are two services.

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt,
    runtime::{watcher, watcher::Event},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ResilientService, Verdict};
use valerix_e2e::kubectl::Output;
use valerix_e2e::world::{SHOP, World, is_ready};

use crate::chaos::{recovered, start};

const SERVICES: [&str; 2] = ["pool-one", "pool-two"];
/// Pods of each service, and of both.
const REPLICAS: i32 = 2;
const ALL: i32 = 2 * REPLICAS;
/// The budget lets one of all go.
const KEPT: usize = 3;
const ROUNDS: usize = 3;
const SERVER: &str =
    "import http.server as h; h.ThreadingHTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()";

#[tokio::test(flavor = "multi_thread")]
async fn two_kills_at_once_never_leave_fewer_pods_than_their_budget_keeps() -> Result<()> {
    let world = World::with_shop().await?;
    // In the shop's namespace, where the operator may evict pods.
    let outcome = Box::pin(two_kills(&world)).await;
    // Also after a failure: the namespace stays.
    let leftover = format!("delete -n {SHOP} --ignore-not-found pdb/pool rsvc/pool-one rsvc/pool-two");
    let gone = world.kubectl(&leftover).await.and_then(Output::text);
    outcome.and(gone.map(|_| ()))
}

async fn two_kills(world: &World) -> Result<()> {
    for service in SERVICES {
        world.create(SHOP, &pool(world, service)?.to_string()).await?.text()?;
    }
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "pool"},
        "spec": {"maxUnavailable": 1, "selector": {"matchExpressions": [
            {"key": "app.kubernetes.io/name", "operator": "In", "values": SERVICES},
        ]}},
    });
    world.create(SHOP, &budget.to_string()).await?.text()?;
    all_serve(world).await?;

    let fewest = AtomicUsize::new(usize::MAX);
    let evicted = tokio::select! {
        evicted = rounds(world) => evicted?,
        broken = count(world.api(SHOP), &fewest) => match broken {
            Ok(never) => match never {},
            Err(error) => return Err(error.context("while the pods were counted")),
        },
    };
    eprintln!("{evicted} of {} evictions were allowed", SERVICES.len() * ROUNDS);
    let fewest = fewest.into_inner();
    ensure!(
        fewest == KEPT,
        "{fewest} pods served at the least, and the budget keeps {KEPT}"
    );
    Ok(())
}

/// A pod that is kept waiting on a busy machine serves all the same.
fn pool(world: &World, name: &str) -> Result<Value> {
    Ok(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": name},
        "spec": {
            "image": world.environment.images.of("python")?,
            "command": ["python3", "-c", SERVER],
            "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
            "probes": {"readiness": {"path": "/", "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 30}},
            "replicas": REPLICAS,
            "resilience": {"protocol": "None"},
            "chaos": {"admission": "Allowed"},
            "terminationGracePeriodSeconds": 5,
            "lifecycle": {"preStopSleep": "0s"},
        }
    }))
}

/// Every pod serves, and the budget knows it.
async fn all_serve(world: &World) -> Result<()> {
    let all = format!("{REPLICAS}/{REPLICAS}");
    for service in SERVICES {
        let complete = |service: &ResilientService| {
            let summary = service.status.as_ref().and_then(|status| status.summary.as_ref());
            is_ready(service) && summary.is_some_and(|summary| summary.replicas == all)
        };
        world
            .object(SHOP, service, "every pod ready", Duration::from_secs(120), complete)
            .await?;
    }
    let allows = |budget: &PodDisruptionBudget| {
        let status = budget.status.as_ref();
        status.is_some_and(|status| status.disruptions_allowed == 1 && status.expected_pods == ALL)
    };
    world
        .object(SHOP, "pool", "one may go", Duration::from_secs(60), allows)
        .await?;
    Ok(())
}

/// Both at once, again and again; returns how many pods were evicted.
async fn rounds(world: &World) -> Result<usize> {
    let mut evicted = 0;
    for _ in 0..ROUNDS {
        all_serve(world).await?;
        let [one, two] = SERVICES;
        let (one, two) = tokio::try_join!(kill(world, one), kill(world, two))?;
        ensure!(
            one + two >= 1,
            "all pods served, and nobody was evicted by either experiment"
        );
        evicted += one + two;
    }
    Ok(evicted)
}

/// Evicts one pod, if the budget allows it by then; returns how many were.
async fn kill(world: &World, service: &str) -> Result<usize> {
    let spec = json!({
        "target": {"service": service}, "podKill": {"method": "Evict"},
        "safety": {"minPodAge": "1s", "minAvailable": 0},
        "steadyState": {"probes": [{"name": "served", "http": {"service": service, "path": "/"}, "failureThreshold": 5}]},
    });
    let name = start(world, service, spec).await?;
    let experiment: ChaosExperiment = recovered(world, &name, Duration::from_secs(120)).await?;
    let status = experiment.status.unwrap_or_default();
    let evicted = evicted(&status);
    match (status.verdict, status.reason.as_deref()) {
        (Some(Verdict::Pass), _) => ensure!(evicted == 1, "{status:?}"),
        (Some(Verdict::Skipped), Some("DisruptionBudget")) => ensure!(evicted == 0, "{status:?}"),
        _ => bail!("{service}: {status:?}"),
    }
    Ok(evicted)
}

fn evicted(status: &ChaosExperimentStatus) -> usize {
    let targets = status.targets.iter();
    targets.filter(|target| target.active_at.is_some()).count()
}

/// Counts the pods that serve whenever one changes, and keeps the fewest. Ends only if the watch breaks.
async fn count(pods: Api<Pod>, fewest: &AtomicUsize) -> Result<Infallible> {
    let selector = format!("app.kubernetes.io/name in ({})", SERVICES.join(","));
    let mut events = pin!(watcher(pods, watcher::Config::default().labels(&selector)));
    let (mut serve, mut complete) = (BTreeMap::new(), false);
    while let Some(event) = events.try_next().await.context("the watch broke")? {
        match event {
            Event::Init => {
                serve.clear();
                complete = false;
            }
            Event::InitApply(pod) | Event::Apply(pod) => {
                serve.insert(pod.name_any(), serves(&pod));
            }
            Event::Delete(pod) => {
                serve.remove(&pod.name_any());
            }
            Event::InitDone => complete = true,
        }
        if complete {
            let now = serve.values().filter(|serves| **serves).count();
            fewest.fetch_min(now, Ordering::Relaxed);
        }
    }
    bail!("the watch ended")
}

/// As a budget counts it: ready, and not on its way out.
fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
