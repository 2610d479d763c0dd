//! Puts the service together: database, routes, ports. Nothing here waits for a dependency.

use sqlx::migrate::Migrator;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::routes;

/// The service's schema.
pub fn migrations() -> Migrator {
    sqlx::migrate!("./migrations")
}

/// The service on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because Postgres is late.
pub async fn build(config: Config) -> Result<Server, StartError> {
    let service = Service::new(&config.service).await?;
    let database = service.database(&config.database, migrations)?;
    let state = routes::AppState {
        pool: database.pool().clone(),
        misbehaviour: config.misbehaviour,
    };
    service.bind(routes::api().with_state(state)).await
}
