//! Puts the service together: database, events, sweeper, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;

use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::consumer::Commands;
use crate::events::{GROUP, PAYMENT_COMMANDS};
use crate::metrics::Metrics;
use crate::processor::HttpProcessor;
use crate::reconciliation::worker::Worker;
use crate::routes;
use crate::settle::Settlement;
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
pub async fn build(config: Config) -> Result<Server, StartError> {
    let service = Service::on_bus(&config.service, &config.bus).await?;
    let database = service.database(&config.database, migrations)?;
    service.sweep_expired_keys(&database);
    let endpoint = service.events(&config.bus, &database);
    let store = Store::new(database.pool().clone(), config.settle_lease);
    let metrics = Metrics::register(&service.metrics).map_err(StartError::Metrics)?;
    let wake = Arc::new(Notify::new());
    let commands = Commands {
        store: store.clone(),
        wake: Arc::clone(&wake),
        metrics: metrics.clone(),
    };
    endpoint.consume(GROUP, &[PAYMENT_COMMANDS], commands);
    let settlement = Settlement {
        store,
        processor: Arc::new(HttpProcessor {
            client: service.client("processor", &config.processor_url)?,
        }),
        relay: endpoint.relay(),
        metrics,
    };
    let (counted, counts) = (settlement.store.clone(), settlement.metrics.clone());
    service.tasks.spawn_when_ready("counts", &database, move |stop| {
        counts.clone().follow(counted.clone(), stop)
    });
    let sweeper = Sweeper {
        settlement: settlement.clone(),
        wake: Arc::clone(&wake),
        pause: config.sweep_interval,
        resilience: service.resilience.clone(),
    };
    service
        .tasks
        .spawn_when_ready("sweeper", &database, move |stop| sweeper.clone().run(stop));
    let reconcile = Arc::new(Notify::new());
    let worker = Worker {
        store: settlement.store.clone(),
        processor: settlement.processor.clone(),
        metrics: settlement.metrics.clone(),
        interval: config.reconcile_interval,
        wake: Arc::clone(&reconcile),
    };
    service
        .tasks
        .spawn_when_ready("reconciliation", &database, move |stop| worker.clone().run(stop));
    let state = routes::AppState {
        settlement,
        wake,
        reconcile,
        resilience: service.resilience.clone(),
    };
    service.bind(routes::api().with_state(state)).await
}
