//! The Valerix operator: keeps ResilientServices, ChaosExperiments and BackupPolicies true.
//!
//! One folder per kind, with the same file names in each; `runtime` is what they share and knows none of them.

pub mod backup_policy;
pub mod chaos_experiment;
#[cfg(test)]
mod fake_api;
pub mod resilient_service;
pub mod runtime;
pub mod settings;

use resilient_service::{ReportStore, Stores};
use runtime::{Clients, Runtime, leader};
use settings::Settings;
use std::sync::Arc;

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
    /// A controller ended although nobody asked it to.
    #[error("failed to keep the controllers running: one of them ended")]
    ControllerEnded,
}

/// Runs until `runtime.shutdown` is cancelled.
///
/// # Errors
/// When the process must not go on: the Lease is lost, the port is taken, a controller ended.
pub async fn run(
    settings: Settings,
    config: kube::Config,
    shutdown: tokio_util::sync::CancellationToken,
) -> Result<(), Error> {
    let clients = Clients::new(config).map_err(|source| Error::Client {
        source: Box::new(source),
    })?;
    let mut runtime = Runtime::new(settings.identity(), clients, settings.scopes());
    runtime.shutdown = shutdown;
    let reports = ReportStore::default();
    let stores = Stores::watch(&runtime);
    let ctx = Arc::new(Context {
        runtime: runtime.clone(),
        settings,
        stores,
        reports,
    });
    // Each controller starts its caches before it first waits, and its work when this process leads. In order
    // (`biased`), so that all caches are announced when the last branch says so.
    let controllers = async {
        tokio::select! {
            biased;
            () = resilient_service::run(ctx.clone()) => {}
            () = chaos_experiment::run(ctx.clone()) => {}
            () = backup_policy::run(ctx.clone()) => {}
            () = announced(&runtime) => {}
        }
    };
    let address = ctx.settings.listen_address;
    tokio::select! {
        served = runtime::server::serve(runtime.clone(), address) => {
            served.map_err(|source| Error::Serve { address, source })
        }
        led = leader::run(&runtime, &ctx.settings.pod_namespace) => {
            led.map_err(|source| Error::Leadership { source })
        }
        () = controllers => {
            if runtime.shutdown.is_cancelled() { Ok(()) } else { Err(Error::ControllerEnded) }
        }
    }
}

/// Says that every cache has been announced; then waits for ever.
async fn announced(runtime: &Runtime) {
    runtime.readiness.complete();
    std::future::pending().await
}
