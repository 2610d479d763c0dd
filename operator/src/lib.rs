//! The Valerix operator: keeps ResilientServices, ChaosExperiments and BackupPolicies true, and carries Restores out.
//!
//! One folder per kind, each with the steps dereference, validate, build, apply and status (a ChaosExperiment has nothing to
//! build: `step` decides, `report` is its status); `runtime` is what they share and knows none of them.

mod admin;
pub mod allowed_url;
pub mod backup_policy;
pub mod chaos_experiment;
pub mod convert;
#[cfg(test)]
mod fake_api;
pub mod installation;
pub mod resilient_service;
pub mod restore;
pub mod rights;
pub mod runtime;
pub mod settings;

use resilient_service::{ReportStore, Stores};
use runtime::{Clients, Runtime, api_metrics::ApiMetrics, leader, scrapers::Scrapers, server::Protection};
use settings::Settings;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The revision of the sources, where the build was told by the variable `VALERIX_REVISION`.
pub const REVISION: &str = match option_env!("VALERIX_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// How long work that is under way may take when the process is asked to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// What every kind's controller is given.
pub struct Context {
    /// Clients, caches, leadership, metrics.
    pub runtime: Runtime,
    /// What the process was told.
    pub settings: Settings,
    /// The caches of ResilientServices and of what belongs to them, for those who read them.
    pub stores: Stores,
    /// What the pods of ResilientServices answered last.
    pub reports: ReportStore,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster cannot be reached as configured.
    #[error("failed to make a client for the cluster: {source}")]
    Client {
        /// What is wrong.
        source: Box<kube::Error>,
    },
    /// The metrics cannot be described, which is a bug.
    #[error("failed to describe the metrics: {source}")]
    Metrics {
        /// Which and why.
        source: prometheus::Error,
    },
    /// Health and metrics cannot be served.
    #[error("failed to serve on {address}: {source}")]
    Serve {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Leadership ended before the process did.
    #[error("failed to stay the leader: {source}")]
    Leadership {
        /// How.
        source: leader::Error,
    },
    /// A controller, a watch or the nudger ended although nobody asked it to; the log says which.
    #[error("failed to keep every part of the operator running: one of them ended")]
    PartEnded,
}

/// Runs until `runtime.shutdown` is cancelled.
///
/// # Errors
/// When the process must not go on: the Lease is lost, the port is taken, a controller ended.
pub async fn run(settings: Settings, config: kube::Config, shutdown: CancellationToken) -> Result<(), Error> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = REVISION,
        "the operator starts"
    );
    let requests = ApiMetrics::new().map_err(|source| Error::Metrics { source })?;
    let clients = Clients::new(config, &requests).map_err(|source| Error::Client {
        source: Box::new(source),
    })?;
    let mut runtime = Runtime::new(settings.identity(), clients, settings.scopes());
    runtime.metrics.build_info(REVISION);
    runtime.metrics.add(requests);
    runtime.shutdown = shutdown;
    let reports = ReportStore::default();
    let stores = Stores::watch(&runtime);
    let ctx = Arc::new(Context {
        runtime: runtime.clone(),
        settings,
        stores,
        reports,
    });
    // Each controller starts its caches before it first waits, and its work when this process leads. `join!` polls in
    // order, so all caches are announced when the last part says so.
    let controllers = async {
        futures::join!(
            unless_asked(resilient_service::run(ctx.clone()), &runtime),
            unless_asked(chaos_experiment::run(ctx.clone()), &runtime),
            unless_asked(backup_policy::run(ctx.clone()), &runtime),
            unless_asked(restore::run(ctx.clone()), &runtime),
            async { runtime.readiness.complete() },
        );
    };
    let until_drained = async {
        tokio::select! {
            () = controllers => {}
            () = overdue(&runtime.shutdown) => tracing::warn!("work under way is cut off"),
        }
    };
    let address = ctx.settings.listen_address;
    let protection = Protection {
        scrapers: ctx
            .settings
            .metrics_authentication
            .then(|| Scrapers::new(&runtime.clients)),
        tls: ctx.settings.metrics_tls(),
    };
    let release = CancellationToken::new();
    let mut leading = std::pin::pin!(leader::run(&runtime, &ctx.settings.pod_namespace, &release));
    tokio::select! {
        led = &mut leading => return led.map_err(|source| Error::Leadership { source }),
        served = runtime::server::serve(runtime.clone(), protection, address) => {
            return served.map_err(|source| Error::Serve { address, source });
        }
        () = admin::serve(ctx.clone()) => {}
        () = runtime.broken.cancelled() => return Err(Error::PartEnded),
        () = until_drained => {}
    }
    // Nothing is written any more: somebody else may begin.
    release.cancel();
    leading.await.map_err(|source| Error::Leadership { source })
}

/// Runs a controller; its end is an error unless the process was asked to end.
async fn unless_asked(controller: impl Future<Output = ()>, runtime: &Runtime) {
    controller.await;
    if !runtime.shutdown.is_cancelled() {
        runtime.broken.cancel();
    }
}

/// Ends when work that was under way at shutdown has had its time.
async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN_TIMEOUT).await;
}
