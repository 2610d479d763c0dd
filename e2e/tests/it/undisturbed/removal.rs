//! Removing things while a fault is active: it ends, nothing is held, and the users' objects stay.

use crate::chaos;
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{ListParams, ObjectList},
};
use serde_json::json;
use std::time::Duration;
use valerix_crds::{BackupPolicy, ChaosExperiment, ResilientService, names::condition as types};
use valerix_e2e::{
    kubectl, shop,
    world::{OPERATOR_NAMESPACE, SHOP, World, eventually, has_condition},
};

fn injected(experiment: &ChaosExperiment) -> bool {
    experiment
        .status
        .as_ref()
        .is_some_and(|status| status.injected_at.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_ends_the_fault_and_keeps_the_objects() -> Result<()> {
    let world = World::alone().await?;
    let outcome = uninstall(&world).await;
    world.install().await?;
    outcome?;
    let ready = |service: &ResilientService| {
        service
            .status
            .as_ref()
            .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
    };
    world
        .object(
            SHOP,
            "order",
            "Ready after a new install",
            Duration::from_secs(60),
            ready,
        )
        .await?;
    Ok(())
}

async fn uninstall(world: &World) -> Result<()> {
    let name = chaos::start(
        world,
        "uninstall",
        json!({"latency": {"delay": "700ms"}, "count": "100%", "duration": "5m"}),
    )
    .await?;
    world
        .object(SHOP, &name, "injected", Duration::from_secs(60), injected)
        .await?;
    let output = kubectl::helm(
        &world.environment,
        &[
            "uninstall",
            "valerix",
            "--namespace",
            OPERATOR_NAMESPACE,
            "--wait",
            "--timeout",
            "150s",
        ],
    )
    .await?;
    ensure!(output.success, "{}\n{}", output.all(), world.dump(SHOP).await);
    let experiment = world.api::<ChaosExperiment>(SHOP).get(&name).await?;
    ensure!(
        experiment.metadata.finalizers.unwrap_or_default().is_empty(),
        "no finalizer is left"
    );
    ensure!(
        has_condition(
            &experiment.status.unwrap_or_default().conditions,
            types::RECOVERED,
            "True"
        ),
        "the fault was read back as gone"
    );
    let mut times = Vec::new();
    for _ in 0..5 {
        let answer = shop::ask(world, SHOP, "GET", "inventory", "/api/inventory/ps5", &[], Vec::new());
        times.push(answer.await?.took);
    }
    let quickest = times.into_iter().min().unwrap_or_default();
    ensure!(quickest < Duration::from_millis(400), "the fault is over: {quickest:?}");
    let services: ObjectList<ResilientService> = world.api(SHOP).list(&ListParams::default()).await?;
    let policies: ObjectList<BackupPolicy> = world.api(SHOP).list(&ListParams::default()).await?;
    ensure!(
        services.items.len() >= 4 && !policies.items.is_empty(),
        "the users' objects are kept"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_namespace_during_a_run_finishes() -> Result<()> {
    let world = World::alone().await?;
    let name = chaos::start(
        &world,
        "namespace",
        json!({"latency": {"delay": "100ms"}, "count": "100%", "duration": "5m"}),
    )
    .await?;
    world
        .object(SHOP, &name, "injected", Duration::from_secs(60), injected)
        .await?;
    world.delete_namespace(SHOP).await?;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let gone = eventually(Duration::from_secs(120), || async {
        namespaces.get_opt(SHOP).await.ok()?.is_none().then_some(())
    })
    .await;
    let story = if gone.is_none() {
        world.dump(SHOP).await
    } else {
        String::new()
    };
    // The other tests want it back, but what went wrong here is told first.
    let restored = world.install().await;
    ensure!(gone.is_some(), "the namespace is still there\n{story}");
    restored
}
