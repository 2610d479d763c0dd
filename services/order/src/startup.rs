//! Puts the service together: database, events, sweeper, routes, ports. Nothing here waits for a dependency.

use sqlx::migrate::Migrator;
use valerix_kit::service::{Server, Service, StartError};

use crate::clients::{Inventory, Payment};
use crate::config::{Config, Gremlin};
use crate::consumer::Replies;
use crate::drive::FastPath;
use crate::events::{GROUP, INVENTORY_EVENTS, PAYMENT_EVENTS};
use crate::keys;
use crate::metrics::Metrics;
use crate::moves::Moves;
use crate::routes::{self, history::Streams};
use crate::store::Store;
use crate::sweeper::Sweeper;
use crate::waiters::Waiters;

/// The service's schema.
#[must_use]
pub fn migrations() -> Migrator {
    sqlx::migrate!("./migrations")
}

/// The service on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because a dependency is late.
pub async fn build(config: Config) -> Result<Server, StartError> {
    let service = Service::on_bus(&config.service, &config.bus).await?;
    let database = service.database(&config.database, migrations)?;
    service.sweep_expired_keys(&database);
    let endpoint = service.events(&config.bus, &database);
    let store = Store::new(database.pool().clone(), config.times());
    let moves = Moves {
        relay: endpoint.relay(),
        metrics: Metrics::register(&service.metrics).map_err(StartError::Metrics)?,
        waiters: Waiters::default(),
    };
    let (counted, counts) = (store.clone(), moves.metrics.clone());
    service.tasks.spawn_when_ready("counts", &database, move |stop| {
        counts.clone().follow(counted.clone(), stop)
    });
    let replies = Replies {
        store: store.clone(),
        moves: moves.clone(),
    };
    endpoint.consume(GROUP, &[INVENTORY_EVENTS, PAYMENT_EVENTS], replies);
    let sweeper = Sweeper {
        store: store.clone(),
        moves: moves.clone(),
        pause: config.sweep_interval,
    };
    service
        .tasks
        .spawn_when_ready("sweeper", &database, move |stop| sweeper.clone().run(stop));
    let (kept, resilience) = (store.clone(), service.resilience.clone());
    service.tasks.spawn_when_ready("keys", &database, move |stop| {
        keys::keep(kept.clone(), resilience.clone(), stop)
    });
    let state = routes::AppState {
        fast_path: FastPath {
            store,
            moves,
            inventory: Inventory {
                client: service.client("inventory", &config.inventory_url)?,
            },
            payment: Payment {
                client: service.client("payment", &config.payment_url)?,
            },
        },
        streams: Streams::new(service.health.clone()),
        gremlins: config.gremlin == Some(Gremlin::Allowed),
        resilience: service.resilience.clone(),
    };
    service.bind(routes::api().with_state(state)).await
}
