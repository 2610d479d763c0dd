//! Redis behind a guard, gone for the service of the shop that takes orders: `examples/chaos/redis-gone.yaml`, word for word but
//! for the age of the pod. Nobody else of the shop is there, so that an order stays as it is taken.

use super::{create, has_ended, is_injected, object, phase, ready};
use crate::undisturbed::guarded_postgres::{PASSWORD, database};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{ChaosExperiment, ChaosPhase, Verdict};
use valerix_e2e::{
    shop,
    world::{World, eventually},
};

const EXAMPLE: &str = include_str!("../../../../examples/chaos/redis-gone.yaml");
const WITHIN: Duration = Duration::from_secs(90);

/// As the shop's chart has it with `redis.guarded`, but for its password and its volume.
fn redis(world: &World) -> Result<Value> {
    let spec = json!({
        "image": world.environment.images.of("redis")?,
        "command": ["redis-server", "--save", "", "--dir", "/tmp"],
        "ports": [{"name": "redis", "containerPort": 6379}],
        "probes": {"readiness": {"type": "TCP", "periodSeconds": 2}},
        "chaos": {"admission": "Allowed"},
        "guard": {"mode": "Sidecar", "inbound": {"ports": [{"name": "redis", "protocol": "TCP"}]}}
    });
    Ok(object("ResilientService", "redis", spec))
}

/// What an order asks of others is given up soon: they are not there.
fn order(world: &World) -> Result<Value> {
    let spec = json!({
        "image": world.environment.images.of("order")?,
        "ports": [{"name": "http", "containerPort": 3001, "servicePort": 80}],
        "probes": {
            "startup": {"path": "/health"}, "readiness": {"path": "/ready"}, "liveness": {"path": "/health"}
        },
        "env": [
            {"name": "DATABASE_URL", "value": format!("postgres://postgres:{PASSWORD}@database:5432/postgres")},
            {"name": "REDIS_URL", "value": "redis://redis:6379/"},
            {"name": "ORDER_BUDGET", "value": "500ms"}
        ]
    });
    Ok(object("ResilientService", "order", spec))
}

/// The example. The pods of a test are young.
fn experiment() -> Result<Value> {
    let documents = serde_yaml::Deserializer::from_str(EXAMPLE).map(Value::deserialize);
    let documents: Vec<Value> = documents.collect::<Result<_, _>>()?;
    let experiment = documents.into_iter().find(|document| !document.is_null());
    let mut experiment = experiment.context("the example is empty")?;
    experiment["spec"]["safety"]["minPodAge"] = json!("1s");
    Ok(experiment)
}

async fn place_order(world: &World, namespace: &str) -> Result<()> {
    let key = uuid::Uuid::new_v4().to_string();
    let headers = [("Idempotency-Key", key.as_str()), ("Content-Type", "application/json")];
    let body = json!({"item_id": "ps5", "quantity": 1}).to_string();
    let reply = shop::ask(world, namespace, "POST", "order", "/api/orders", &headers, body).await?;
    ensure!(reply.status == 202, "{reply:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_while_their_redis_refuses() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("guard", async |namespace| {
            for object in [redis(&world)?, database(&world)?, order(&world)?] {
                create(&world, namespace, &object).await?;
            }
            for name in ["redis", "database", "order"] {
                ready(&world, namespace, name).await?;
            }
            // Pods that are ready are not yet where the Service leads.
            let taken = eventually(WITHIN, || async { place_order(&world, namespace).await.ok() }).await;
            taken.context("no order is taken")?;

            create(&world, namespace, &experiment()?).await?;
            world
                .object(namespace, "redis-gone", "injected", WITHIN, is_injected)
                .await?;
            for _ in 0..5 {
                place_order(&world, namespace).await.context("without Redis")?;
            }
            let gone = world.object(namespace, "redis-gone", "the end", WITHIN, has_ended);
            let gone: ChaosExperiment = gone.await?;
            ensure!(phase(&gone) == Some(ChaosPhase::Completed), "{:?}", gone.status);
            let status = gone.status.unwrap_or_default();
            ensure!(status.verdict == Some(Verdict::Pass), "{status:?}");
            place_order(&world, namespace).await
        })
        .await
}
