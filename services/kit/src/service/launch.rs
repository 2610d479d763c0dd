//! The `main` that all services have.

use std::future::Future;
use std::num::NonZero;

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{Server, StartError};
use crate::args::ServiceArgs;
use crate::telemetry;

/// The `main` of a service: telemetry, the TLS provider, a runtime, `build`, and run until SIGTERM or SIGINT.
///
/// # Errors
/// What `build` says, or the runtime.
pub fn launch<B, F>(args: &ServiceArgs, build: B) -> Result<(), StartError>
where
    B: FnOnce() -> F,
    F: Future<Output = Result<Server, StartError>>,
{
    // Two crates in one process must not each choose a provider; an error means that one is set already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = runtime(usize::MAX).map_err(StartError::Runtime)?;
    let export = telemetry::start(args, &runtime);
    let ended = runtime.block_on(async {
        let stop = stop_signal().map_err(StartError::Runtime)?;
        let server = build().await?;
        server.run(stop).await;
        Ok(())
    });
    if let Some(export) = export {
        // The last spans leave by connections of this runtime, which has to go on meanwhile.
        let _ = runtime.block_on(runtime.spawn_blocking(|| export.end()));
    }
    ended
}

/// A runtime of a thread for each core, of `most` at most. On one core there is the main thread alone: a second one would
/// only be woken in vain, and what is never handed over needs no guarding.
///
/// # Errors
/// When the system has no more threads.
pub fn runtime(most: usize) -> std::io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(most);
    let mut builder = if threads == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    builder.worker_threads(threads).enable_all().build()
}

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be heard.
pub fn stop_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(stop)
}
