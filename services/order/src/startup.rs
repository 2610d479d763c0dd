//! Puts the service together: database, events, sweeper, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;

use sqlx::migrate::Migrator;
use valerix_kit::events::consumer::Consumer;
use valerix_kit::events::redis_streams::RedisStreams;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{EventBus, Subscription};
use valerix_kit::postgres::Database;
use valerix_kit::service::{Server, Service};
use valerix_resilience::idempotency::Idempotency;

use crate::clients::{Inventory, Payment};
use crate::config::Config;
use crate::consumer::Replies;
use crate::events::{GROUP, INVENTORY_EVENTS, PAYMENT_EVENTS};
use crate::metrics::Metrics;
use crate::routes::{self, orders::ANONYMOUS};
use crate::saga::drive::FastPath;
use crate::saga::moves::Moves;
use crate::saga::waiters::Waiters;
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
    let store = Store::new(database.pool().clone(), config.times());
    let moves = Moves {
        relay: relay.clone(),
        metrics: Metrics::register(&service.metrics)?,
        waiters: Waiters::default(),
    };

    let starting = database.clone();
    service.tasks.spawn_droppable("start", move || {
        let database = starting.clone();
        async move { database.migrate(migrations()).await }
    });

    let keeper = relay.clone();
    service
        .tasks
        .spawn_when_ready("outbox", &database, move |stop| keeper.clone().keep_up(stop));

    service
        .tasks
        .spawn_when_ready("relay", &database, move |stop| relay.clone().run(stop));

    let sweeper = Sweeper {
        store: store.clone(),
        moves: moves.clone(),
        pause: config.sweep_interval,
    };
    service
        .tasks
        .spawn_when_ready("sweeper", &database, move |stop| sweeper.clone().run(stop));

    let keys = database.pool().clone();
    service.tasks.spawn_when_ready("idempotency", &database, move |stop| {
        Idempotency::sweep(keys.clone(), stop)
    });

    let subscription = Subscription {
        topics: vec![INVENTORY_EVENTS.to_owned(), PAYMENT_EVENTS.to_owned()],
        group: GROUP.to_owned(),
        consumer: config.service.pod_name.clone(),
    };
    let replies = Arc::new(Replies {
        store: store.clone(),
        moves: moves.clone(),
    });
    let consumer = Consumer::new(bus, subscription, replies, service.metrics.clone());
    service
        .tasks
        .spawn_when_ready("replies", &database, move |stop| consumer.clone().run(stop));

    tracing::info!(
        principal = ANONYMOUS,
        "there is no auth service yet: every order belongs to one principal"
    );
    let state = routes::AppState {
        fast_path: FastPath {
            store,
            moves,
            inventory: Inventory {
                client: service.client("inventory").url(&config.inventory_url).build()?,
            },
            payment: Payment {
                client: service.client("payment").url(&config.payment_url).build()?,
            },
        },
        resilience: service.resilience.clone(),
    };
    Ok(service.bind(routes::router(state), routes::document()).await?)
}
