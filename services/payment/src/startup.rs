//! Puts the service together: database, events, sweeper, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;

use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use valerix_kit::events::consumer::Consumer;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{EventBus, Subscription};
use valerix_kit::postgres::Database;
use valerix_kit::service::{Server, Service};
use valerix_resilience::idempotency::Idempotency;

use crate::config::Config;
use crate::consumer::Commands;
use crate::events::{GROUP, PAYMENT_COMMANDS};
use crate::metrics::Metrics;
use crate::processor::Processor;
use crate::routes;
use crate::saga::settle::Settlement;
use crate::store::Store;
use crate::sweeper::Sweeper;

/// The service's schema.
#[must_use]
pub fn migrations() -> Migrator {
    sqlx::migrate!("./migrations")
}

/// The service on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because a dependency is late.
pub async fn build(config: Config) -> anyhow::Result<Server> {
    let service = Service::on_bus(&config.service, &config.bus).await?;
    let database = Database::open(&config.database, &config.service.service, &service.health)?;
    let streams = RedisStreams::open(&config.bus);
    service.health.register("redis", Arc::new(streams.clone()));
    let bus: Arc<dyn EventBus> = Arc::new(streams);
    let relay = Relay::new(database.pool().clone(), Arc::clone(&bus), service.metrics.clone());
    let metrics = Metrics::register(&service.metrics)?;
    let store = Store::new(database.pool().clone(), config.settle_lease);
    let settlement = Settlement {
        store: store.clone(),
        processor: Processor {
            client: service.client("processor").url(&config.processor_url).build()?,
        },
        relay: relay.clone(),
        metrics: metrics.clone(),
    };
    let wake = Arc::new(Notify::new());

    let starting = database.clone();
    service.tasks.spawn_droppable("start", move || {
        let database = starting.clone();
        async move { database.migrate(migrations()).await }
    });

    let keeper = relay.clone();
    service
        .tasks
        .spawn_when_ready("outbox", &database, move |stop| keeper.clone().keep_up(stop));

    let publisher = relay.clone();
    service
        .tasks
        .spawn_when_ready("relay", &database, move |stop| publisher.clone().run(stop));

    let sweeper = Sweeper {
        settlement: settlement.clone(),
        wake: Arc::clone(&wake),
        pause: config.sweep_interval,
        resilience: service.resilience.clone(),
    };
    service
        .tasks
        .spawn_when_ready("sweeper", &database, move |stop| sweeper.clone().run(stop));

    let keys = database.pool().clone();
    service.tasks.spawn_when_ready("idempotency", &database, move |stop| {
        Idempotency::sweep(keys.clone(), stop)
    });

    let subscription = Subscription {
        topics: vec![PAYMENT_COMMANDS.to_owned()],
        group: GROUP.to_owned(),
        consumer: config.service.pod_name.clone(),
    };
    let commands = Arc::new(Commands {
        store,
        relay,
        wake: Arc::clone(&wake),
        metrics,
    });
    let consumer = Consumer::new(bus, subscription, commands, service.metrics.clone());
    service
        .tasks
        .spawn_when_ready("commands", &database, move |stop| consumer.clone().run(stop));

    let state = routes::AppState {
        settlement,
        wake,
        resilience: service.resilience.clone(),
    };
    Ok(service.bind(routes::router(state), routes::document()).await?)
}
