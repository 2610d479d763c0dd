//! ChaosExperiment against the shop: killed pods, faults as strong as asked, one at a time, and what the tests of
//! experiments share.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use valerix_crds::{ChaosExperiment, ChaosPhase, Verdict, names, names::condition as types};
use valerix_e2e::{
    shop::{self, Order},
    world::{SHOP, World, eventually, has_condition},
};

/// Creates an experiment on inventory under a name of its own.
pub(crate) async fn start(world: &World, prefix: &str, spec: Value) -> Result<String> {
    let name = format!("{prefix}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let mut full = json!({"target": {"service": "inventory"}, "safety": {"minPodAge": "5s"}});
    if let (Some(full), Value::Object(spec)) = (full.as_object_mut(), spec) {
        full.extend(spec);
    }
    let object = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
        "metadata": {"name": name}, "spec": full,
    });
    world.create(SHOP, &object.to_string()).await?.text()?;
    Ok(name)
}

pub(crate) fn in_phase(phase: ChaosPhase) -> impl Fn(&ChaosExperiment) -> bool {
    move |experiment| {
        experiment
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Some(phase))
    }
}

pub(crate) fn ended(experiment: &ChaosExperiment) -> bool {
    experiment
        .status
        .as_ref()
        .is_some_and(|status| status.phase.is_some_and(ChaosPhase::is_terminal))
}

pub(crate) fn injected(experiment: &ChaosExperiment) -> bool {
    experiment
        .status
        .as_ref()
        .is_some_and(|status| status.injected_at.is_some())
}

/// What a pod answers on its report port.
pub(crate) async fn report(world: &World, pod: &str) -> Result<Value> {
    let request = http::Request::get(format!("/api/v1/namespaces/{SHOP}/pods/{pod}:9090/proxy/resilience"))
        .body(Vec::new())
        .context("failed to build a request")?;
    world
        .client
        .request::<Value>(request)
        .await
        .context("failed to ask for a report")
}

pub(crate) async fn ready_pods(world: &World, service: &str) -> Result<Vec<(String, String)>> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={service}"));
    let pods = world.api::<Pod>(SHOP).list(&selector).await?;
    Ok(pods
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
        .collect())
}

/// Orders that arrive one after another until the stream is ended.
pub(crate) struct Stream {
    stop: CancellationToken,
    placed: Arc<Mutex<Vec<(Order, Duration)>>>,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Stream {
    /// Starts `customers` that each order again `pause` after they were answered.
    pub(crate) fn start(world: &Arc<World>, customers: usize, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let placed = Arc::new(Mutex::new(Vec::new()));
        let tasks = (0..customers)
            .map(|_| {
                let (world, stop, placed) = (Arc::clone(world), stop.clone(), Arc::clone(&placed));
                tokio::spawn(async move {
                    while !stop.is_cancelled() {
                        let (order, answer) = shop::place(&world, "ps5", 1).await?;
                        placed.lock().await.push((order, answer.took));
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        Self { stop, placed, tasks }
    }

    /// Waits until so many orders were placed, or for a minute.
    async fn has_placed(&self, count: usize) {
        let _ = eventually(Duration::from_secs(60), || async {
            (self.placed.lock().await.len() >= count).then_some(())
        })
        .await;
    }

    /// Ends the stream and returns every order with the time that its answer took.
    pub(crate) async fn end(self) -> Result<Vec<(Order, Duration)>> {
        self.stop.cancel();
        for task in self.tasks {
            task.await.context("a customer panicked")??;
        }
        Ok(std::mem::take(&mut *self.placed.lock().await))
    }
}

async fn faults(world: &World) -> Result<Value> {
    let map = world
        .api::<ConfigMap>(SHOP)
        .get(&names::policy_config_map("inventory"))
        .await?;
    match map.data.unwrap_or_default().get(names::FAULTS_KEY) {
        Some(text) => Ok(serde_json::from_str::<Value>(text)?["faults"].clone()),
        None => Ok(json!([])),
    }
}

/// The run is over, nothing is held, nothing is left in the service's document.
pub(crate) async fn recovered(world: &World, name: &str, within: Duration) -> Result<ChaosExperiment> {
    let experiment = world.object(SHOP, name, "a terminal phase", within, ended).await?;
    let conditions = experiment.status.clone().unwrap_or_default().conditions;
    ensure!(
        has_condition(&conditions, types::RECOVERED, "True"),
        "not recovered: {conditions:?}"
    );
    ensure!(
        has_condition(&conditions, types::COMPLETED, "True"),
        "not completed: {conditions:?}"
    );
    let released = eventually(Duration::from_secs(30), || async {
        let experiment = world.api::<ChaosExperiment>(SHOP).get(name).await.ok()?;
        let faults = faults(world).await.ok()?;
        (experiment.metadata.finalizers.unwrap_or_default().is_empty() && faults.as_array().is_none_or(Vec::is_empty))
            .then_some(())
    })
    .await;
    ensure!(
        released.is_some(),
        "a finalizer or a fault is left\n{}",
        world.dump(SHOP).await
    );
    Ok(experiment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pod_loses_no_order_and_the_verdict_says_so() -> Result<()> {
    let world = Arc::new(World::with_shop().await?);
    let before: BTreeSet<String> = ready_pods(&world, "inventory")
        .await?
        .into_iter()
        .map(|(_, uid)| uid)
        .collect();
    let stream = Stream::start(&world, 3, Duration::from_millis(200));
    let probe = json!({
        "name": "orders", "interval": "500ms", "failureThreshold": 5,
        "http": {"service": "order", "path": "/api/orders", "method": "POST",
                 "body": "{\"item_id\":\"xbox\",\"quantity\":1}", "expect": {"bodyContains": "order_id"}},
    });
    let name = start(
        &world,
        "kill",
        json!({"podKill": {}, "steadyState": {"probes": [probe]}}),
    )
    .await?;
    let experiment = recovered(&world, &name, Duration::from_secs(120)).await?;
    let status = experiment.status.unwrap_or_default();
    ensure!(
        status.verdict == Some(Verdict::Pass),
        "{:?} {:?} {:?}",
        status.verdict,
        status.reason,
        status.message
    );
    let [victim] = &status.targets[..] else {
        anyhow::bail!("one victim: {:?}", status.targets)
    };
    ensure!(
        before.contains(&victim.uid),
        "the victim is one of the pods that were there: {victim:?}"
    );
    let after: BTreeSet<String> = ready_pods(&world, "inventory")
        .await?
        .into_iter()
        .map(|(_, uid)| uid)
        .collect();
    let gone: Vec<_> = before.difference(&after).collect();
    ensure!(gone == [&victim.uid], "exactly the recorded pod was replaced: {gone:?}");
    let recovery = status.time_to_recover.context("no time to recover")?;
    ensure!(recovery.ends_with('s'), "{recovery}");
    eprintln!("time to recover from a killed pod: {recovery}");

    // A quick recovery is no reason to order less.
    stream.has_placed(30).await;
    let placed = stream.end().await?;
    ensure!(placed.len() >= 30, "only {} orders were placed", placed.len());
    let orders: Vec<Order> = placed.into_iter().map(|(order, _)| order).collect();
    let ids: Vec<String> = orders.iter().map(|order| order.order_id.clone()).collect();
    shop::settled(&world, &ids, Duration::from_secs(60)).await?;
    // What the probe ordered went the whole way, and was undone.
    let undone = eventually(Duration::from_secs(60), || async {
        let kept =
            "select count(*) filter (where state not in ('REFUNDED', 'CANCELLED')), count(*) from orders where probe";
        let kept = shop::sql(&world, "orders", kept).await.ok()?;
        let (kept, all) = kept.split_once('|')?;
        (kept == "0" && all != "0").then_some(())
    })
    .await;
    ensure!(undone.is_some(), "orders of the probe were kept, or none was marked");
    shop::balanced(&world, &orders).await?;

    let row = world
        .kubectl(&format!("get chaos -n {SHOP} {name} --no-headers"))
        .await?
        .text()?;
    let row: Vec<_> = row.split_whitespace().collect();
    ensure!(
        row[1..6] == ["PodKill", "inventory", "Completed", "Pass", "1/1"],
        "{row:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_as_strong_as_asked_and_stops_at_once_when_told() -> Result<()> {
    let world = World::with_shop().await?;
    let ask = || shop::ask(&world, SHOP, "GET", "inventory", "/api/inventory/ps5", &[], Vec::new());
    let name = start(
        &world,
        "stop",
        json!({"latency": {"delay": "600ms"}, "count": "100%", "duration": "5m"}),
    )
    .await?;
    world
        .object(SHOP, &name, "injected", Duration::from_secs(60), injected)
        .await?;
    let mut times = Vec::new();
    for _ in 0..9 {
        times.push(ask().await?.took);
    }
    // What the way to the pod takes comes on top, so the quickest shows the delay best, and none is quicker than it.
    let quickest = times.into_iter().min().unwrap_or_default();
    ensure!(
        (Duration::from_millis(600)..Duration::from_millis(1_000)).contains(&quickest),
        "the quickest of nine took {quickest:?}, asked were 600 ms"
    );

    // The rest of the spec is frozen meanwhile; the stop button is not.
    let experiments = world.api::<ChaosExperiment>(SHOP);
    let harder = Patch::Merge(json!({"spec": {"latency": {"delay": "2s"}}}));
    let refused = experiments
        .patch(&name, &PatchParams::default(), &harder)
        .await
        .err()
        .map(|error| error.to_string());
    ensure!(
        refused
            .as_deref()
            .is_some_and(|error| error.contains("frozen while a run is Running")),
        "{refused:?}"
    );
    let stop = Patch::Merge(json!({"spec": {"desired": "Stop"}}));
    experiments.patch(&name, &PatchParams::default(), &stop).await?;
    let experiment = recovered(&world, &name, Duration::from_secs(20)).await?;
    let status = experiment.status.unwrap_or_default();
    ensure!(
        status.phase == Some(ChaosPhase::Stopped) && status.verdict == Some(Verdict::Stopped),
        "{status:?}"
    );
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(ask().await?.took);
    }
    let quickest = times.into_iter().min().unwrap_or_default();
    ensure!(
        quickest < Duration::from_millis(300),
        "still slow after Recovered: {quickest:?}"
    );
    Ok(())
}

/// A request to inventory, and what it usually gets.
pub(crate) type Asked = (&'static str, &'static str, u16);
pub(crate) const READ: Asked = ("GET", "/api/inventory/ps5", 200);
/// Nobody may who does not say who they are.
const WRITE: Asked = ("POST", "/api/inventory/deduct", 401);

/// How many of `count` requests to inventory, sixteen at a time, are hit by a fault: answered by nobody, or with a 5xx. The
/// others have to get what is usual.
pub(crate) async fn hit(world: &World, count: usize, asked: Asked) -> Result<usize> {
    hit_with(world, count, asked, &[]).await
}

/// The same of requests with these headers.
pub(crate) async fn hit_with(
    world: &World,
    count: usize,
    (method, path, usual): Asked,
    headers: &[(&str, &str)],
) -> Result<usize> {
    let asked = futures::stream::iter(0..count)
        .map(|_| shop::ask(world, SHOP, method, "inventory", path, headers, Vec::new()))
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let (hit, spared): (Vec<_>, Vec<_>) = asked.into_iter().partition(|answer| answer.status >= 500);
    let other = spared.iter().find(|answer| answer.status != usual);
    ensure!(other.is_none(), "neither hit nor spared: {other:?}");
    Ok(hit.len())
}

/// Within a tenth of 70 % of 800, which are four standard deviations.
fn is_seventy_percent(hit: usize) -> Result<()> {
    ensure!(
        (504..=616).contains(&hit),
        "{hit} of 800 requests were hit, asked were 560"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_injected_in_the_asked_share() -> Result<()> {
    let world = World::with_shop().await?;
    let spec = json!({"errors": {"percent": 70, "status": 503, "routes": ["GET /api/inventory/{item}"]}, "count": "100%", "duration": "2m"});
    let name = start(&world, "errors", spec).await?;
    world
        .object(SHOP, &name, "injected", Duration::from_secs(60), injected)
        .await?;
    is_seventy_percent(hit(&world, 800, READ).await?)?;
    ensure!(hit(&world, 50, WRITE).await? == 0, "another route was hit");
    let stop = Patch::Merge(json!({"spec": {"desired": "Stop"}}));
    world
        .api::<ChaosExperiment>(SHOP)
        .patch(&name, &PatchParams::default(), &stop)
        .await?;
    recovered(&world, &name, Duration::from_secs(20)).await?;
    ensure!(hit(&world, 50, READ).await? == 0, "still failing after Recovered");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_crashes_comes_back_in_its_pod_and_the_verdict_says_when() -> Result<()> {
    let world = World::with_shop().await?;
    let before = ready_pods(&world, "payment").await?;
    // A process that begins decides by itself until it has reached Redis: not inventory, whose limit is counted meanwhile.
    let spec = json!({"target": {"service": "payment"}, "crash": {}, "duration": "30s", "steadyState": {"probes": [
        {"name": "alive", "http": {"service": "payment", "path": "/health"}, "failureThreshold": 5}
    ]}});
    let name = start(&world, "crash", spec).await?;
    let experiment = recovered(&world, &name, Duration::from_secs(120)).await?;
    let status = experiment.status.clone().unwrap_or_default();
    ensure!(status.verdict == Some(Verdict::Pass), "{status:?}");
    ensure!(status.time_to_recover.is_some(), "{status:?}");
    ensure!(
        before == ready_pods(&world, "payment").await?,
        "the same pods are there, and no other"
    );
    let pod = world.api::<Pod>(SHOP).get(&status.targets[0].pod).await?;
    let containers = pod
        .status
        .and_then(|status| status.container_statuses)
        .unwrap_or_default();
    ensure!(
        containers.iter().map(|container| container.restart_count).sum::<i32>() > 0,
        "its process never ended: {containers:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_its_victims_and_hurts_nobody() -> Result<()> {
    let world = World::with_shop().await?;
    let before = ready_pods(&world, "inventory").await?;
    let name = start(&world, "dry", json!({"podKill": {"method": "Delete"}, "dryRun": true})).await?;
    let experiment = recovered(&world, &name, Duration::from_secs(60)).await?;
    let status = experiment.status.clone().unwrap_or_default();
    ensure!(status.reason.as_deref() == Some("DryRun"), "{status:?}");
    ensure!(status.targets.len() == 1 && !status.spared.is_empty(), "{status:?}");
    ensure!(before == ready_pods(&world, "inventory").await?, "somebody was hurt");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_experiments_never_hurt_one_service_at_once() -> Result<()> {
    let world = World::with_shop().await?;
    let spec = json!({"abort": {"percent": 70}, "count": "100%", "duration": "2m"});
    let first = start(&world, "first", spec).await?;
    world
        .object(SHOP, &first, "injected", Duration::from_secs(60), injected)
        .await?;
    let second = start(&world, "second", json!({"podKill": {}})).await?;
    let busy = |experiment: &ChaosExperiment| {
        experiment
            .status
            .as_ref()
            .is_some_and(|status| status.injected_at.is_none() && status.reason.as_deref() == Some("TargetBusy"))
    };
    world
        .object(
            SHOP,
            &second,
            "kept away from a target in use",
            Duration::from_secs(20),
            busy,
        )
        .await?;
    let running = world.api::<ChaosExperiment>(SHOP).get(&first).await?;
    ensure!(
        in_phase(ChaosPhase::Running)(&running) || ended(&running),
        "the first one goes on"
    );
    // An API server sends a GET that was not answered once more, and a POST never.
    is_seventy_percent(hit(&world, 800, WRITE).await?)?;
    for name in [&second, &first] {
        let stop = Patch::Merge(json!({"spec": {"desired": "Stop"}}));
        world
            .api::<ChaosExperiment>(SHOP)
            .patch(name, &PatchParams::default(), &stop)
            .await?;
        world
            .object(SHOP, name, "a terminal phase", Duration::from_secs(60), ended)
            .await?;
    }
    ensure!(hit(&world, 50, WRITE).await? == 0, "still aborted at the end");
    Ok(())
}
