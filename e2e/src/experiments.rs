//! Experiments on inventory that the tour and the load programs run, with a steady state that must hold.

use crate::world::{SHOP, World, has_condition};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{
    ChaosExperiment, ChaosExperimentStatus,
    names::{RUN_ANNOTATION, condition as types},
};

/// The experiments spare younger pods.
const MINIMUM_POD_AGE: Duration = Duration::from_secs(10);

/// What is known of an experiment.
#[must_use]
pub fn status(experiment: &ChaosExperiment) -> ChaosExperimentStatus {
    experiment.status.clone().unwrap_or_default()
}

/// Whether its status speaks of that run.
#[must_use]
pub fn is_run(experiment: &ChaosExperiment, run: &str) -> bool {
    status(experiment).run.as_deref() == Some(run)
}

fn is_over(experiment: &ChaosExperiment) -> bool {
    has_condition(&status(experiment).conditions, types::COMPLETED, "True")
}

/// A run id that no earlier run had.
#[must_use]
pub fn run_id() -> String {
    format!("demo-{}", chrono::Utc::now().timestamp())
}

/// Waits until the run does something to its targets, and returns the experiment.
///
/// # Errors
/// If it has not within two minutes.
pub async fn injected(world: &World, name: &str, run: &str) -> Result<ChaosExperiment> {
    let active = |experiment: &ChaosExperiment| is_run(experiment, run) && status(experiment).injected_at.is_some();
    world
        .object(SHOP, name, "the fault", Duration::from_secs(120), active)
        .await
}

/// Waits until the run is over, and returns what is known of it.
///
/// # Errors
/// If it is not within three minutes.
pub async fn ended(world: &World, name: &str, run: &str) -> Result<ChaosExperimentStatus> {
    let over = |experiment: &ChaosExperiment| is_run(experiment, run) && is_over(experiment);
    let limit = Duration::from_secs(180);
    Ok(status(
        &world.object(SHOP, name, "the end of the run", limit, over).await?,
    ))
}

/// Applies the experiment with a new run id, once the target's pods are old enough and an earlier run has ended.
///
/// # Errors
/// If it cannot be applied, or an earlier run does not end within three minutes.
pub async fn start(world: &World, name: &str, fault: Value) -> Result<String> {
    let experiments = world.api::<ChaosExperiment>(SHOP);
    if experiments.get_opt(name).await?.is_some() {
        let free = |experiment: &ChaosExperiment| experiment.status.is_none() || is_over(experiment);
        let limit = Duration::from_secs(180);
        world.object(SHOP, name, "the end of the last run", limit, free).await?;
    }
    await_pod_age(world).await?;
    let run = run_id();
    let mut spec = json!({
        "target": {"service": "inventory"},
        "safety": {"minPodAge": format!("{}s", MINIMUM_POD_AGE.as_secs())},
        "steadyState": {
            // The order service is up: it answers its health whatever inventory does.
            "probes": [{
                "name": "order-answers",
                "http": {"service": "order", "port": 80, "path": "/health", "expect": {"status": 200}},
                "interval": "1s",
            }],
        },
    });
    if let (Value::Object(spec), Value::Object(fault)) = (&mut spec, fault) {
        spec.extend(fault);
    }
    let object = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1",
        "kind": "ChaosExperiment",
        "metadata": {"name": name, "namespace": SHOP, "annotations": {RUN_ANNOTATION: run}},
        "spec": spec,
    });
    let ours = PatchParams::apply("valerix-demo").force();
    let applied = experiments.patch(name, &ours, &Patch::Apply(object)).await;
    applied.with_context(|| format!("failed to apply the experiment {name}"))?;
    println!("   applied chaosexperiment/{name}, run {run}");
    Ok(run)
}

/// An experiment spares pods that have just started, so the demo waits instead of being skipped.
async fn await_pod_age(world: &World) -> Result<()> {
    let selector = ListParams::default().labels("app.kubernetes.io/name=inventory");
    let pods = world.api::<Pod>(SHOP).list(&selector).await?;
    let started = pods.items.into_iter().filter_map(|pod| pod.status?.start_time);
    let Some(youngest) = started.map(|time| time.0.as_second()).max() else {
        return Ok(());
    };
    let age = chrono::Utc::now().timestamp().saturating_sub(youngest);
    let left = MINIMUM_POD_AGE.saturating_sub(Duration::from_secs(age.try_into().unwrap_or_default()));
    if !left.is_zero() {
        println!(
            "   waiting {} s until every inventory pod is older than minPodAge",
            left.as_secs() + 1
        );
        tokio::time::sleep(left + Duration::from_secs(1)).await;
    }
    Ok(())
}
