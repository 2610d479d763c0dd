//! The Job of `examples/job-guarded.yaml`: its guard is there before its program and tries again for it, and the Job is done once
//! the program is.

use super::{create, lives::Lives, ready, service};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use valerix_e2e::world::World;

const EXAMPLE: &str = include_str!("../../../../examples/job-guarded.yaml");
const LEDGER: &str = include_str!("ledger.py");
const WITHIN: Duration = Duration::from_secs(60);

/// The example, with images that the cluster has. The Job begins no second pod, so that nobody but the guard tries again.
fn example(world: &World) -> Result<Vec<Value>> {
    let documents = serde_yaml::Deserializer::from_str(EXAMPLE).map(Value::deserialize);
    let mut objects: Vec<Value> = documents.collect::<Result<_, _>>()?;
    objects.retain(|object| !object.is_null());
    let job = objects.iter_mut().find(|object| object["kind"] == "Job");
    let job = job.context("the example has no Job")?;
    job["spec"]["backoffLimit"] = json!(0);
    let pod = &mut job["spec"]["template"]["spec"];
    pod["initContainers"][0]["image"] = json!(world.environment.images.of("guard")?);
    pod["containers"][0]["image"] = json!(world.environment.images.of("python")?);
    Ok(objects)
}

fn has(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_when_its_program_is_and_its_guard_ends_with_it() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("guard", async |namespace| {
            let program = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ledger"}, "data": {"ledger.py": LEDGER}
            });
            create(&world, namespace, &program).await?;
            let ledger = json!({
                "command": ["python3", "/programs/ledger.py"],
                "volumes": [{"name": "programs", "configMap": {"name": "ledger"}}],
                "resilience": {"protocol": "None"}
            });
            create(&world, namespace, &service(&world, "python", "ledger", ledger)?).await?;
            ready(&world, namespace, "ledger").await?;

            for object in example(&world)? {
                create(&world, namespace, &object).await?;
            }
            let over = |job: &Job| has(job, "Complete") || has(job, "Failed");
            let job = world.object(namespace, "statement", "its end", WITHIN, over).await?;
            let log = format!("logs -n {namespace} job/statement -c statement");
            let said = world.kubectl(&log).await?.all();
            ensure!(has(&job, "Complete"), "the Job failed: {said}");
            let expected = format!("asked 2 times, by {namespace}/statement");
            ensure!(said.trim() == expected, "the ledger was not asked by the guard: {said}");

            let selector = ListParams::default().labels("batch.kubernetes.io/job-name=statement");
            let pods = world.api::<Pod>(namespace).list(&selector).await?;
            let [pod] = pods.items.as_slice() else {
                bail!("{} pods", pods.items.len());
            };
            let lives = Lives::of(pod).context("a container of the pod has not ended")?;
            lives.in_order()
        })
        .await
}
