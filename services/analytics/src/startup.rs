//! Puts the service together: database, events, routes, ports. Nothing here waits for a dependency.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::{events, routes, store};

const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// The service's schema.
#[must_use]
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
    let endpoint = service.events(&config.bus, &database);
    endpoint.consume_everything(events::GROUP, &[events::ORDER_EVENTS], events::Announcements);
    let pool = database.pool().clone();
    service
        .tasks
        .spawn_when_ready("retention", &database, move |stop| forget(pool.clone(), stop));
    let state = routes::AppState {
        pool: database.pool().clone(),
    };
    service.bind(routes::api().with_state(state)).await
}

/// Forgets what is too old, until `stop`.
async fn forget(pool: PgPool, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match store::prune(&pool, store::RETENTION).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "old figures were not deleted, trying again in an hour"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
        }
    }
}
