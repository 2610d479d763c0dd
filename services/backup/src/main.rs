//! The process: arguments, log, signals, exit code.

use clap::Parser;
use std::{fmt::Debug, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use valerix_backup::{
    failure::Failure,
    restore, run,
    settings::{Arguments, Settings},
};
use valerix_crds::backup_runner::exit;

/// What the process is to do.
enum Task {
    /// The word `restore` comes first.
    Restore(restore::settings::Arguments),
    /// Nothing or `run` comes first.
    Run(Arguments),
}

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().collect();
    let first = words.get(1).and_then(|word| word.to_str()).map(str::to_owned);
    let named = matches!(first.as_deref(), Some("restore" | "run"));
    if named {
        words.remove(1);
    }
    let (task, format) = if named && first.as_deref() == Some("restore") {
        let arguments = restore::settings::Arguments::parse_from(words);
        let format = arguments.log_format.clone();
        (Task::Restore(arguments), format)
    } else {
        let arguments = Arguments::parse_from(words);
        let format = arguments.log_format.clone();
        (Task::Run(arguments), format)
    };
    log(&format);
    let code = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(start(task));
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

async fn start(task: Task) -> u8 {
    let result = match task {
        Task::Run(arguments) => backup(arguments).await.map(|success| ended(&success)),
        Task::Restore(arguments) => give_back(arguments).await.map(|success| ended(&success)),
    };
    match result {
        Ok(()) => exit::STORED,
        Err(error) => {
            tracing::error!("{error:#}");
            let backup = error.downcast_ref::<Failure>().map(Failure::exit_code);
            let restore = error
                .downcast_ref::<restore::failure::Failure>()
                .map(restore::failure::Failure::exit_code);
            backup.or(restore).unwrap_or(exit::RETRY)
        }
    }
}

fn ended(success: &impl Debug) {
    tracing::info!(?success, "done");
}

async fn backup(arguments: Arguments) -> anyhow::Result<run::Success> {
    let settings = Settings::new(arguments).map_err(Failure::Settings)?;
    let (client, stop) = (client().await?, asked_to_end()?);
    Ok(Box::pin(run::run(Arc::new(settings), client, stop)).await?)
}

async fn give_back(arguments: restore::settings::Arguments) -> anyhow::Result<restore::Success> {
    let settings = restore::settings::Settings::new(arguments).map_err(restore::failure::Failure::Settings)?;
    let (client, stop) = (client().await?, asked_to_end()?);
    Ok(Box::pin(restore::run(Arc::new(settings), client, stop)).await?)
}

async fn client() -> anyhow::Result<kube::Client> {
    // A second install is impossible here: nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(15));
    // The runner tries again itself, and at the fence only after reading.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
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
