//! The operator killed with -9 at chosen requests: after the intent and before the side effect, after the side effect
//! and before the status, during recovery. Each time it finishes after a restart with the same result.

use crate::{backup, chaos};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use valerix_crds::{
    Backup, BackupPhase, ChaosExperiment, ResilientService, TargetState, Verdict, names::condition as types,
};
use valerix_e2e::{
    operator::HostOperator,
    proxy::{Proxy, Release, Seen},
    shop,
    world::{SHOP, World, eventually, has_condition},
};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_finishes_what_it_began() -> Result<()> {
    let world = World::alone().await?;
    let proxy = Proxy::start(&world).await?;
    let mut operator = HostOperator::take_over(&world, &proxy).await?;
    let outcome = every_kill(&world, &proxy, &mut operator).await;
    let log = operator.log();
    operator.end(&world).await?;
    let tail: Vec<_> = log.lines().rev().take(60).collect();
    outcome.with_context(|| format!("the operator's log, newest first:\n{}", tail.join("\n")))
}

async fn every_kill(world: &World, proxy: &Proxy, operator: &mut HostOperator) -> Result<()> {
    policy_applied_before_status(world, proxy, operator)
        .await
        .context("patch of a threshold")?;
    victim_recorded_before_eviction(world, proxy, operator)
        .await
        .context("before the eviction")?;
    evicted_before_status(world, proxy, operator)
        .await
        .context("after the eviction")?;
    victim_gone_while_held(world, proxy)
        .await
        .context("victim gone while the eviction is held")?;
    during_recovery(world, proxy, operator)
        .await
        .context("during recovery")?;
    record_before_job(world, proxy, operator)
        .await
        .context("before the backup's job")
}

fn is_eviction(seen: &Seen) -> bool {
    seen.method == "POST" && seen.path.contains("/eviction")
}

async fn inventory(world: &World) -> Result<BTreeSet<String>> {
    let selector = ListParams::default().labels("app.kubernetes.io/name=inventory");
    let pods = world.api::<Pod>(SHOP).list(&selector).await?;
    Ok(pods
        .items
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| pod.uid().unwrap_or_default())
        .collect())
}

/// Waits until inventory has two ready pods again.
async fn calm(world: &World) -> Result<()> {
    let ready = |service: &ResilientService| {
        service.status.as_ref().is_some_and(|status| {
            status.ready_replicas == 2
                && status.replicas == 2
                && has_condition(&status.conditions, types::READY, "True")
        })
    };
    world.object(SHOP, "inventory", "two ready pods", SOON, ready).await?;
    Ok(())
}

fn kill_spec() -> Value {
    let probe = json!({"name": "order-ready", "condition": {"name": "order", "type": "Ready"}});
    json!({"podKill": {}, "steadyState": {"probes": [probe]}})
}

/// Longer than the probes tolerate, so that what happens meanwhile is a gap for certain.
const AWAY: Duration = Duration::from_secs(6);

/// Ended with exactly this verdict and reason.
fn judged(experiment: &ChaosExperiment, verdict: Verdict, reason: &str) -> Result<()> {
    let status = experiment.status.clone().unwrap_or_default();
    ensure!(
        status.verdict == Some(verdict) && status.reason.as_deref() == Some(reason),
        "{verdict:?} {reason} is right: {status:?}"
    );
    Ok(())
}

async fn policy_applied_before_status(world: &World, proxy: &Proxy, operator: &mut HostOperator) -> Result<()> {
    let mut trap = proxy.trap(|seen| seen.method == "PATCH" && seen.path.contains("/configmaps/order-policy"));
    for (value, kill) in [(7, true), (3, false)] {
        let patch = json!([{"op": "replace", "path": "/spec/resilience/targets/0/circuitBreaker/consecutiveFailures", "value": value}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        let patched = world
            .api::<ResilientService>(SHOP)
            .patch("order", &PatchParams::default(), &patch)
            .await?;
        if kill {
            trap.reached(SOON).await?;
            operator.kill().await?;
            trap.release(Release::ForwardAndDrop);
            operator.start(world).await?;
            // The trap is used up; the second round runs without it.
            trap = proxy.trap(|_| false);
        }
        let generation = patched.metadata.generation.unwrap_or_default();
        let applied = |service: &ResilientService| {
            service.status.as_ref().is_some_and(|status| {
                status.observed_generation == generation
                    && has_condition(&status.conditions, types::CONFIG_APPLIED, "True")
                    && status
                        .config
                        .as_ref()
                        .is_some_and(|config| config.applied_replicas == 2)
            })
        };
        world.object(SHOP, "order", "ConfigApplied 2/2", SOON, applied).await?;
    }
    Ok(())
}

async fn victim_recorded_before_eviction(world: &World, proxy: &Proxy, operator: &mut HostOperator) -> Result<()> {
    calm(world).await?;
    let before = inventory(world).await?;
    let mut trap = proxy.trap(is_eviction);
    let name = chaos::start(world, "early", kill_spec()).await?;
    let seen = trap.reached(SOON).await?;
    let recorded = world
        .api::<ChaosExperiment>(SHOP)
        .get(&name)
        .await?
        .status
        .unwrap_or_default()
        .targets;
    let [victim] = &recorded[..] else {
        anyhow::bail!("the victim is recorded first: {recorded:?}")
    };
    let body: Value = serde_json::from_str(&seen.body)?;
    ensure!(
        body["deleteOptions"]["preconditions"]["uid"] == victim.uid.as_str(),
        "the request carries the recorded UID: {body}"
    );
    ensure!(
        seen.path.contains(&victim.pod),
        "the request is for the recorded pod: {}",
        seen.path
    );
    operator.kill().await?;
    trap.release(Release::Drop);
    ensure!(inventory(world).await? == before, "nothing was evicted yet");
    operator.start(world).await?;
    let ended = chaos::recovered(world, &name, SOON).await?;
    // Nobody was hurt while it was away, so nothing was missed.
    judged(&ended, Verdict::Pass, "SteadyStateHeld")?;
    replaced_exactly(world, &before, &victim.uid).await
}

async fn evicted_before_status(world: &World, proxy: &Proxy, operator: &mut HostOperator) -> Result<()> {
    calm(world).await?;
    let before = inventory(world).await?;
    let mut trap = proxy.trap(is_eviction);
    let name = chaos::start(world, "late", kill_spec()).await?;
    trap.reached(SOON).await?;
    let recorded = world
        .api::<ChaosExperiment>(SHOP)
        .get(&name)
        .await?
        .status
        .unwrap_or_default()
        .targets;
    let victim = recorded.first().context("no victim is recorded")?.clone();
    operator.kill().await?;
    trap.release(Release::ForwardAndDrop);
    let gone = eventually(SOON, || async {
        (!inventory(world).await.ok()?.contains(&victim.uid)).then_some(())
    })
    .await;
    ensure!(gone.is_some(), "the API server did the eviction");
    tokio::time::sleep(AWAY).await;
    operator.start(world).await?;
    let ended = chaos::recovered(world, &name, SOON).await?;
    judged(&ended, Verdict::Error, "ObservationGap")?;
    replaced_exactly(world, &before, &victim.uid).await
}

async fn replaced_exactly(world: &World, before: &BTreeSet<String>, victim: &str) -> Result<()> {
    calm(world).await?;
    let after = inventory(world).await?;
    let gone: Vec<_> = before.difference(&after).map(String::as_str).collect();
    ensure!(
        gone == [victim],
        "exactly the recorded pod was replaced: {gone:?}, recorded {victim}"
    );
    Ok(())
}

async fn victim_gone_while_held(world: &World, proxy: &Proxy) -> Result<()> {
    calm(world).await?;
    let before = inventory(world).await?;
    let mut trap = proxy.trap(is_eviction);
    let name = chaos::start(world, "held", json!({"podKill": {}})).await?;
    trap.reached(SOON).await?;
    let recorded = world
        .api::<ChaosExperiment>(SHOP)
        .get(&name)
        .await?
        .status
        .unwrap_or_default()
        .targets;
    let victim = recorded.first().context("no victim is recorded")?.clone();
    world
        .api::<Pod>(SHOP)
        .delete(&victim.pod, &DeleteParams::default().grace_period(0))
        .await?;
    let gone = eventually(SOON, || async {
        (!inventory(world).await.ok()?.contains(&victim.uid)).then_some(())
    })
    .await;
    ensure!(gone.is_some(), "the victim did not go");
    trap.release(Release::Forward);
    let ended = world
        .object::<ChaosExperiment>(SHOP, &name, "a terminal phase", SOON, chaos::ended)
        .await?;
    let targets = ended.status.unwrap_or_default().targets;
    ensure!(
        targets.iter().all(|target| target.state == TargetState::Gone),
        "recorded as Gone: {targets:?}"
    );
    ensure!(targets.len() == 1, "no other victim: {targets:?}");
    replaced_exactly(world, &before, &victim.uid).await
}

async fn during_recovery(world: &World, proxy: &Proxy, operator: &mut HostOperator) -> Result<()> {
    calm(world).await?;
    let probe = json!({"name": "order-ready", "condition": {"name": "order", "type": "Ready"}});
    let spec =
        json!({"latency": {"delay": "100ms"}, "count": "100%", "duration": "5s", "steadyState": {"probes": [probe]}});
    let name = chaos::start(world, "recovery", spec).await?;
    let run = |experiment: &ChaosExperiment| {
        experiment
            .status
            .as_ref()
            .is_some_and(|status| status.injected_at.is_some())
    };
    world
        .object::<ChaosExperiment>(SHOP, &name, "injected", SOON, run)
        .await?;
    let mut trap = proxy.trap(|seen| seen.is_write() && seen.path.contains("/configmaps/inventory-policy"));
    // A fault that no request met would have no verdict for another reason.
    for _ in 0..4 {
        shop::ask(world, SHOP, "GET", "inventory", "/api/inventory/ps5", &[], Vec::new()).await?;
    }
    trap.reached(SOON).await?;
    operator.kill().await?;
    trap.release(Release::ForwardAndDrop);
    tokio::time::sleep(AWAY).await;
    operator.start(world).await?;
    let ended = chaos::recovered(world, &name, SOON).await?;
    judged(&ended, Verdict::Error, "ObservationGap")?;
    Ok(())
}

async fn record_before_job(world: &World, proxy: &Proxy, operator: &mut HostOperator) -> Result<()> {
    world
        .with_namespace("killed-backup", async |namespace| {
            backup::prepare(world, namespace, "nightly", json!({})).await?;
            let path = format!("/namespaces/{namespace}/jobs");
            let mut trap = proxy.trap(move |seen| seen.method == "POST" && seen.path.contains(&path));
            backup::run_by_hand(world, namespace, "nightly", "one").await?;
            trap.reached(SOON).await?;
            operator.kill().await?;
            trap.release(Release::Drop);
            operator.start(world).await?;
            let record = backup::finished(world, namespace, "nightly", Duration::from_secs(120)).await?;
            ensure!(
                record
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == BackupPhase::Completed),
                "{:?}",
                record.status
            );
            let records = world.api::<Backup>(namespace).list(&ListParams::default()).await?;
            let stored = records.items.iter().filter(|record| {
                record
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == BackupPhase::Completed)
            });
            ensure!(stored.count() == 1, "one archive a day");
            Ok(())
        })
        .await
}
