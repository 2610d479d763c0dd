//! Puts the service together: database, events, routes, ports. Nothing here waits for a dependency.

use sqlx::migrate::Migrator;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::{events, routes, store};

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
    endpoint.consume(events::GROUP, &[events::COMMANDS], events::Commands);
    let state = routes::AppState {
        pool: database.pool().clone(),
        relay: endpoint.relay(),
        resilience: service.resilience.clone(),
    };
    service.bind(routes::api().with_state(state)).await
}
