//! Puts the service together: database, events, sweeper, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;

use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::contacts::Contacts;
use crate::mail::Mail;
use crate::metrics::Metrics;
use crate::sweeper::{Sweeper, forget};
use crate::{events, routes};

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
    let pool = database.pool().clone();
    let wake = Arc::new(Notify::new());
    let announcements = events::Announcements {
        wake: Arc::clone(&wake),
    };
    service.events(&config.bus, &database).consume(
        events::GROUP,
        &[events::ORDER_EVENTS, events::AUTH_EVENTS],
        announcements,
    );
    let auth = config.service.identity.auth_url.as_ref();
    let sweeper = Sweeper {
        pool: pool.clone(),
        contacts: Contacts {
            pool: pool.clone(),
            auth: auth.map(|url| service.client("auth", url)).transpose()?,
        },
        mail: Mail::open(&config),
        metrics: Metrics::register(&service.metrics).map_err(StartError::Metrics)?,
        wake,
        pause: config.sweep_interval,
        send_timeout: config.smtp_timeout,
        attempts: config.delivery_attempts,
        first_pause: config.delivery_pause,
        expiry: config.delivery_expiry,
    };
    service
        .tasks
        .spawn_when_ready("sweeper", &database, move |stop| sweeper.clone().run(stop));
    let old = pool.clone();
    service
        .tasks
        .spawn_when_ready("retention", &database, move |stop| forget(old.clone(), stop));
    service.bind(routes::api().with_state(routes::AppState { pool })).await
}
