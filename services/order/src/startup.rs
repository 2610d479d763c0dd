//! Puts the service together: database, events, sweeper, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;

use sqlx::migrate::Migrator;
use valerix_kit::events::consumer::Consumer;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{EventBus, Subscription};
use valerix_kit::postgres::Database;
use valerix_kit::service::{Server, Service};
use valerix_resilience::Resilience;
use valerix_resilience::idempotency::Idempotency;

use crate::clients::{Inventory, Payment};
use crate::config::Config;
use crate::events::{Answers, GROUP, INVENTORY_EVENTS, PAYMENT_EVENTS};
use crate::metrics::Metrics;
use crate::openapi;
use crate::routes::orders::{self, ANONYMOUS};
use crate::saga::drive::FastPath;
use crate::store::Store;
use crate::sweeper::Sweeper;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Where orders are.
    pub store: Store,
    /// Takes a new order as far as it gets over HTTP.
    pub fast_path: FastPath,
    /// Publishes what handlers append to the outbox.
    pub relay: Relay,
    /// Counts orders.
    pub metrics: Metrics,
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
    let store = Store::new(database.pool().clone(), config.times());
    let app = App {
        store: store.clone(),
        relay: relay.clone(),
        metrics: metrics.clone(),
        resilience: service.resilience.clone(),
        fast_path: FastPath {
            store: store.clone(),
            relay: relay.clone(),
            metrics: metrics.clone(),
            inventory: Inventory {
                client: service.client("inventory").url(&config.inventory_url).build()?,
            },
            payment: Payment {
                client: service.client("payment").url(&config.payment_url).build()?,
            },
        },
    };

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
        store: store.clone(),
        relay: relay.clone(),
        metrics: metrics.clone(),
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
        topics: vec![INVENTORY_EVENTS.to_owned(), PAYMENT_EVENTS.to_owned()],
        group: GROUP.to_owned(),
        consumer: config.service.pod_name.clone(),
    };
    let answers = Arc::new(Answers { store, relay, metrics });
    let (consumed, counted) = (database.clone(), service.metrics.clone());
    service.tasks.spawn("answers", move |stop| {
        let database = consumed.clone();
        let consumer = Consumer::new(Arc::clone(&bus), subscription.clone(), answers.clone(), counted.clone());
        async move {
            database.ready().await;
            consumer.run(stop).await;
        }
    });

    tracing::info!(
        principal = ANONYMOUS,
        "there is no auth service yet: every order belongs to one principal"
    );
    Ok(service
        .bind(orders::router().with_state(app), openapi::document())
        .await?)
}
