//! The operator with `watchNamespaces`: the rights that the chart then gives are enough there, and nothing is done elsewhere.
//! Alone, since the operator of the other tests works everywhere.

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use serde_json::{Value, json};
use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};
use valerix_crds::ResilientService;
use valerix_e2e::{
    kubectl, operator,
    world::{World, is_ready},
};

const WAIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_one_namespace_works_there_and_nowhere_else() -> Result<()> {
    let world = World::alone().await?;
    let test = world.with_namespace("watched", async |watched| {
        operator::scale(&world, 0).await?;
        let elsewhere = world.with_namespace("unwatched", async |unwatched| {
            let objects = rendered(&world, watched).await?;
            let outcome = works(&world, &objects, (watched, unwatched)).await;
            // Some of them are in no namespace.
            let delete = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
            kubectl::kubectl_with(&world.environment, &delete, Some(&objects))
                .await?
                .text()?;
            outcome
        });
        Box::pin(elsewhere).await
    });
    let outcome = AssertUnwindSafe(Box::pin(test)).catch_unwind().await;
    let back = operator::scale(&world, 1).await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic)).and(back)
}

/// The operator and its rights as the chart has them for one namespace, under names of their own.
async fn rendered(world: &World, namespace: &str) -> Result<String> {
    let chart = world.environment.root.join("charts/valerix");
    let image = world.environment.images.of("operator")?;
    let (repository, tag) = image.rsplit_once(':').context("the operator's image has no tag")?;
    let values = format!("watchNamespaces={{{namespace}}},image.repository={repository},image.tag={tag}");
    let arguments = [
        "template",
        namespace,
        &chart.to_string_lossy(),
        "--namespace",
        namespace,
        "--show-only",
        "templates/rights.yaml",
        "--show-only",
        "templates/operator.yaml",
        "--set",
        &values,
    ];
    kubectl::helm(&world.environment, &arguments).await?.text()
}

/// A service without a report, so that no more is needed than one image.
fn web(world: &World) -> Result<Value> {
    Ok(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": "web"}, "spec": {
            "image": world.environment.images.of("python")?, "command": ["python3", "-m", "http.server", "8080"],
            "ports": [{"name": "http", "containerPort": 8080}], "resilience": {"protocol": "None"},
        },
    }))
}

async fn works(world: &World, objects: &str, (watched, unwatched): (&str, &str)) -> Result<()> {
    // The one elsewhere is there first, and has waited longer.
    for namespace in [unwatched, watched] {
        let services = world.api::<ResilientService>(namespace);
        let web = serde_json::from_value(web(world)?)?;
        services.create(&PostParams::default(), &web).await?;
    }
    let apply = ["apply", "-f", "-"];
    kubectl::kubectl_with(&world.environment, &apply, Some(objects))
        .await?
        .text()?;
    world
        .object::<ResilientService>(watched, "web", "Ready", WAIT, is_ready)
        .await?;
    let other = world.api::<ResilientService>(unwatched).get("web").await?;
    // The API server itself says so until somebody has looked.
    let untouched = other
        .status
        .as_ref()
        .is_none_or(|status| status.observed_generation == -1);
    ensure!(untouched, "nobody is to write there: {:?}", other.status);
    let made = world.api::<Deployment>(unwatched).get_opt("web").await?;
    ensure!(made.is_none(), "nothing is to be made in {unwatched}");
    Ok(())
}
