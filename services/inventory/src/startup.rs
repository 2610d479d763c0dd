//! Puts the service together: database, events, routes, ports. Nothing here waits for a dependency.

use std::time::Duration;

use axum::middleware::from_fn_with_state;
use sqlx::migrate::Migrator;
use valerix_kit::lock::DistributedLock;
use valerix_kit::service::{Server, Service, StartError};

use crate::chaos::{Chaos, strike};
use crate::config::Config;
use crate::{consumer, events, routes, store};

/// How long a holder of the stock's lock may stand still before another may have it.
const LOCK_TIME: Duration = Duration::from_secs(2);

/// The service's schema.
pub fn migrations() -> Migrator {
    sqlx::migrate!("./migrations")
}

/// The service on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because Postgres or Redis is late.
pub async fn build(config: Config) -> Result<Server, StartError> {
    let service = Service::on_bus(&config.service, &config.bus).await?;
    let database = service.database(&config.database, migrations)?;
    let seeds = config.items.0;
    service.prepare("items", &database, move |pool| {
        let seeds = seeds.clone();
        async move { store::seed(&pool, &seeds).await }
    });
    service.sweep_expired_keys(&database);
    let endpoint = service.events(&config.bus, &database);
    endpoint.consume(events::GROUP, &[events::COMMANDS], consumer::Commands);
    let chaos = Chaos::register(&service.metrics).map_err(StartError::Metrics)?;
    let (following, pool) = (chaos.clone(), database.pool().clone());
    service.tasks.spawn_when_ready("chaos", &database, move |stop| {
        following.clone().follow(pool.clone(), stop)
    });
    let lock = DistributedLock::new(&config.bus, "stock", LOCK_TIME, &service.metrics).map_err(StartError::Metrics)?;
    let state = routes::AppState {
        pool: database.pool().clone(),
        relay: endpoint.relay(),
        lock,
        chaos: chaos.clone(),
        resilience: service.resilience.clone(),
    };
    let api = routes::api().with_state(state);
    let api = api.around(|routes| routes.layer(from_fn_with_state(chaos, strike)));
    service.bind(api).await
}
