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
use valerix_resilience::Resilience;
use valerix_resilience::idempotency::Idempotency;

use crate::config::Config;
use crate::events::{Commands, GROUP, PAYMENT_COMMANDS};
use crate::metrics::Metrics;
use crate::openapi;
use crate::processor::Processor;
use crate::routes::payments;
use crate::saga::settle::Settlement;
use crate::store::Store;
use crate::sweeper::Sweeper;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Asks the processor and writes down what it said.
    pub settlement: Settlement,
    /// Tells the sweeper that the processor has to be asked.
    pub wake: Arc<Notify>,
    /// The policy in force.
    pub resilience: Resilience,
}

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
    let processor = Processor {
        client: service.client("processor").url(&config.processor_url).build()?,
        // One who took a payment up has given up before another takes it up.
        patience: config.settle_lease.mul_f64(0.8),
    };
    let settlement = Settlement {
        store: store.clone(),
        processor,
        relay: relay.clone(),
        metrics: metrics.clone(),
    };
    let wake = Arc::new(Notify::new());

    let starting = database.clone();
    service.tasks.spawn("start", move |_| {
        let database = starting.clone();
        async move { database.migrate(migrations()).await }
    });

    let keeper = relay.clone();
    service
        .tasks
        .spawn_when_ready("outbox", &database, move |stop| keeper.clone().keep_up(stop));

    let (published, publisher) = (database.clone(), relay.clone());
    service.tasks.spawn("relay", move |stop| {
        let (database, relay) = (published.clone(), publisher.clone());
        async move {
            database.ready().await;
            relay.run(stop).await;
        }
    });

    let sweeper = Sweeper {
        settlement: settlement.clone(),
        wake: Arc::clone(&wake),
        pause: config.sweep_interval,
    };
    let swept = database.clone();
    service.tasks.spawn("sweeper", move |stop| {
        let (database, sweeper) = (swept.clone(), sweeper.clone());
        async move {
            database.ready().await;
            sweeper.run(stop).await;
        }
    });

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
    let (consumed, counted) = (database.clone(), service.metrics.clone());
    service.tasks.spawn("commands", move |stop| {
        let database = consumed.clone();
        let consumer = Consumer::new(
            Arc::clone(&bus),
            subscription.clone(),
            commands.clone(),
            counted.clone(),
        );
        async move {
            database.ready().await;
            consumer.run(stop).await;
        }
    });

    let app = App {
        settlement,
        wake,
        resilience: service.resilience.clone(),
    };
    Ok(service
        .bind(payments::router().with_state(app), openapi::document())
        .await?)
}
