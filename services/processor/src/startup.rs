//! Puts the service together: database, routes, ports. Nothing here waits for a dependency.

use sqlx::migrate::Migrator;
use valerix_kit::postgres::Database;
use valerix_kit::service::{Server, Service};

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
pub async fn build(config: Config) -> anyhow::Result<Server> {
    let service = Service::new(&config.service).await?;
    let database = Database::open(&config.database, &config.service.service, &service.health)?;
    let starting = database.clone();
    service.tasks.spawn_droppable("start", move || {
        let database = starting.clone();
        async move { database.migrate(migrations()).await }
    });
    let state = routes::AppState {
        pool: database.pool().clone(),
        misbehaviour: config.misbehaviour,
    };
    Ok(service.bind(routes::router(state), routes::document()).await?)
}
