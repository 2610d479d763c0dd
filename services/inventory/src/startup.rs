//! Puts the service together: database, events, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use valerix_kit::events::consumer::Consumer;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{EventBus, Subscription};
use valerix_kit::health::Gate;
use valerix_kit::postgres::Database;
use valerix_kit::service::{Server, Service};
use valerix_resilience::Backoff;
use valerix_resilience::idempotency::Idempotency;

use crate::config::{Config, Seed};
use crate::{events, routes, store};

/// The service's schema.
pub fn migrations() -> Migrator {
    sqlx::migrate!("./migrations")
}

/// The service on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because Postgres or Redis is late.
pub async fn build(config: Config) -> anyhow::Result<Server> {
    let service = Service::on_bus(&config.service, &config.bus).await?;
    let database = Database::open(&config.database, &config.service.service, &service.health)?;
    let streams = RedisStreams::open(&config.bus);
    service.health.register("redis", Arc::new(streams.clone()));
    let bus: Arc<dyn EventBus> = Arc::new(streams);
    let relay = Relay::new(database.pool().clone(), Arc::clone(&bus), service.metrics.clone());

    let (starting, seeded, seeds) = (database.clone(), service.health.gate("items"), config.items.0);
    service
        .tasks
        .spawn_droppable("start", move || start(starting.clone(), seeded.clone(), seeds.clone()));

    let publisher = relay.clone();
    service
        .tasks
        .spawn_when_ready("relay", &database, move |stop| publisher.clone().run(stop));

    let subscription = Subscription {
        topics: vec![events::COMMANDS.to_owned()],
        group: events::GROUP.to_owned(),
        consumer: config.service.pod_name,
    };
    let handler = Arc::new(events::Commands::new(database.pool().clone(), relay.clone()));
    let consumer = Consumer::new(bus, subscription, handler, service.metrics.clone());
    service
        .tasks
        .spawn_when_ready("commands", &database, move |stop| consumer.clone().run(stop));

    let keys = database.pool().clone();
    service.tasks.spawn_when_ready("idempotency", &database, move |stop| {
        Idempotency::sweep(keys.clone(), stop)
    });

    let state = routes::AppState {
        pool: database.pool().clone(),
        relay,
        resilience: service.resilience.clone(),
    };
    Ok(service.bind(routes::router(state), routes::document()).await?)
}

/// Migrates and inserts the items, however long it takes.
async fn start(database: Database, seeded: Gate, seeds: Vec<Seed>) {
    database.migrate(migrations()).await;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    while let Err(error) = store::seed(database.pool(), &seeds).await {
        tracing::warn!(%error, "the items could not be inserted, trying again");
        tokio::time::sleep(backoff.next_delay()).await;
    }
    seeded.open();
}
