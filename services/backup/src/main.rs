//! The process: arguments, log, signals, exit code.

use clap::Parser;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use valerix_backup::{
    failure::Failure,
    run,
    settings::{Arguments, Settings},
};
use valerix_crds::backup_runner::exit;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log(&arguments.log_format);
    let code = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(start(arguments));
            // Work that SIGTERM or the deadline cut short may still sit in a thread; nothing waits for it.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "failed to start the runtime");
            exit::RETRY
        }
    };
    ExitCode::from(code)
}

async fn start(arguments: Arguments) -> u8 {
    match prepare_and_run(arguments).await {
        Ok(success) => {
            tracing::info!(?success, "done");
            exit::STORED
        }
        Err(error) => {
            tracing::error!("{error:#}");
            error.downcast_ref::<Failure>().map_or(exit::RETRY, Failure::exit_code)
        }
    }
}

async fn prepare_and_run(arguments: Arguments) -> anyhow::Result<run::Success> {
    // A second install is impossible here: nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = Settings::new(arguments).map_err(Failure::Settings)?;
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(15));
    // The runner tries again itself, and at the fence only after reading.
    config.default_retry = false;
    let client = kube::Client::try_from(config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(Box::pin(run::run(Arc::new(settings), client, stop)).await?)
}

fn log(format: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    if format == "text" {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
