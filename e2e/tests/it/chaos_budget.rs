//! Two experiments that evict pods at once, and one disruption budget over the pods of both: a watch counts those that serve at
//! every moment. Of one service two experiments never have the pods at once, so they are two services. Their pods are slow to
//! begin, so that whoever has evicted one has the budget for longer than the other takes to ask for it.

use anyhow::{Context, Result, bail, ensure};
use futures::{
    TryStreamExt,
    future::{Either, select},
};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt,
    runtime::{watcher, watcher::Event},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, convert::Infallible, pin::pin, time::Duration};
use tokio::sync::watch;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, RefusedBy, ResilientService, Verdict};
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
/// Rounds that are begun at most: what was while a watch was broken nobody knows, so that round does not count.
const BEGUN: usize = 2 * ROUNDS;
/// How long no pod is asked whether it serves. Unit: seconds.
const SLOW: u32 = 15;
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

    let (mut counted, mut contended) = (0, 0);
    for _ in 0..BEGUN {
        let Some(refused) = Box::pin(round(world)).await? else {
            continue;
        };
        counted += 1;
        contended += usize::from(refused);
        if counted == ROUNDS {
            break;
        }
    }
    ensure!(
        counted == ROUNDS,
        "in {BEGUN} rounds the watch broke more than {ROUNDS} times"
    );
    eprintln!("in {contended} of {ROUNDS} rounds one had the budget and the other was refused by it");
    ensure!(contended > 0, "in no round did both want the budget at once");
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
            "probes": {"readiness": {"path": "/", "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 30,
                                     "initialDelaySeconds": SLOW}},
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

/// Both at once. Whether one was refused because the other had the budget; none if not all of it was seen.
async fn round(world: &World) -> Result<Option<bool>> {
    all_serve(world).await?;
    let (count, mut counted) = watch::channel(None::<Count>);
    let kills = pin!(async {
        // From before anybody is evicted. Whoever does not count any more has said why.
        let _ = counted.wait_for(Option::is_some).await;
        let [one, two] = SERVICES;
        let (one, two) = tokio::try_join!(kill(world, one), kill(world, two))?;
        // Until all who were evicted are gone and all serve: whatever came in between has been counted by then.
        let gone = evicted(&one) + evicted(&two);
        let over = |count: &Option<Count>| count.is_some_and(|count| count.gone >= gone && count.now >= ALL as usize);
        let over = tokio::time::timeout(Duration::from_secs(120), counted.wait_for(over)).await;
        let last = over.context("both experiments have ended, and not all pods serve")?;
        let fewest = last.ok().and_then(|last| last.map(|last| last.fewest));
        anyhow::Ok((one, two, fewest))
    });
    let counting = pin!(watch_pods(world.api(SHOP), count));
    let (one, two, fewest) = match select(kills, counting).await {
        Either::Left((kills, _)) => kills?,
        Either::Right((Err(broken), kills)) => {
            eprintln!("this round does not count: {broken:#}");
            // An experiment that was begun would run into the next round.
            let (one, two, _) = kills.await?;
            (one, two, None)
        }
    };
    let contended = contended(&one, &two)?;
    if let Some(fewest) = fewest {
        ensure!(
            fewest == KEPT,
            "{fewest} pods served at the least, and the budget keeps {KEPT}"
        );
    }
    Ok(fewest.map(|_| contended))
}

/// Whether one was refused while a pod that the other had evicted was not replaced. If nobody was, the one came after the
/// other.
fn contended(one: &ChaosExperimentStatus, two: &ChaosExperimentStatus) -> Result<bool> {
    let (first, second) = match (evicted(one), evicted(two)) {
        (0, 0) => bail!("all pods served, and nobody was evicted by either experiment"),
        (0, _) => (two, one),
        (_, 0) => (one, two),
        (_, _) if one.injected_at <= two.injected_at => (one, two),
        (_, _) => (two, one),
    };
    let held = (
        first.injected_at,
        first.targets.iter().find_map(|target| target.ready_again_at),
    );
    let (Some(from), Some(until)) = held else {
        bail!("it is not told from when to when a pod was away: {first:?}");
    };
    if let Some(at) = second.injected_at {
        // Kubernetes tells to the second when a pod is ready.
        ensure!(
            at >= until,
            "both had a pod evicted, though the budget lets one go: {one:?} {two:?}"
        );
        return Ok(false);
    }
    let ended = second.completed_at.context("it has ended, and does not tell when")?;
    Ok((from..until).contains(&ended))
}

/// Evicts one pod, if the budget allows it by then; returns what the experiment tells.
async fn kill(world: &World, service: &str) -> Result<ChaosExperimentStatus> {
    let spec = json!({
        "target": {"service": service}, "podKill": {"method": "Evict"},
        "safety": {"minPodAge": "1s", "minAvailable": 0},
        "steadyState": {"probes": [{"name": "served", "http": {"service": service, "path": "/"}, "failureThreshold": 5}],
                        "recoveryTimeout": "2m"},
    });
    let name = start(world, service, spec).await?;
    let experiment: ChaosExperiment = recovered(world, &name, Duration::from_secs(180)).await?;
    let status = experiment.status.unwrap_or_default();
    let evicted = evicted(&status);
    match (status.verdict, status.reason.as_deref()) {
        (Some(Verdict::Pass), _) => ensure!(evicted == 1, "{status:?}"),
        (Some(Verdict::Skipped), Some("DisruptionBudget")) => {
            let mut targets = status.targets.iter();
            let refused = targets.any(|target| target.refused_by == Some(RefusedBy::DisruptionBudget));
            ensure!(evicted == 0 && refused, "{status:?}");
        }
        _ => bail!("{service}: {status:?}"),
    }
    Ok(status)
}

fn evicted(status: &ChaosExperimentStatus) -> usize {
    let targets = status.targets.iter();
    targets.filter(|target| target.active_at.is_some()).count()
}

/// How many pods serve by what a watch has shown.
#[derive(Clone, Copy)]
struct Count {
    now: usize,
    fewest: usize,
    /// Pods that are not there any more.
    gone: usize,
}

/// Counts the pods that serve whenever one changes. Ends only if the watch breaks.
async fn watch_pods(pods: Api<Pod>, count: watch::Sender<Option<Count>>) -> Result<Infallible> {
    let selector = format!("app.kubernetes.io/name in ({})", SERVICES.join(","));
    let mut events = pin!(watcher(pods, watcher::Config::default().labels(&selector)));
    let (mut serve, mut gone, mut complete) = (BTreeMap::new(), 0, false);
    while let Some(event) = events.try_next().await.context("the watch broke")? {
        match event {
            // Once it has begun, it tells everything from the beginning only where it has missed something.
            Event::Init if complete => bail!("the watch began again"),
            Event::Init => {}
            Event::InitApply(pod) | Event::Apply(pod) => {
                serve.insert(pod.name_any(), serves(&pod));
            }
            Event::Delete(pod) => {
                serve.remove(&pod.name_any());
                gone += 1;
            }
            Event::InitDone => complete = true,
        }
        if complete {
            let now = serve.values().filter(|serves| **serves).count();
            count.send_modify(|count| {
                let fewest = count.map_or(now, |count| count.fewest.min(now));
                *count = Some(Count { now, fewest, gone });
            });
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
