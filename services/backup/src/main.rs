//! The process: arguments, log, signals, exit code.

use clap::Parser;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use valerix_backup::{
    deletion,
    failure::Failure,
    restore, run,
    settings::{Arguments, Settings},
    verify,
};
use valerix_crds::{
    backup_runner::{REMOVE, VERIFY, exit},
    restore_runner::RESTORE,
};

/// What this process is to do. Without a word it is a run, as the CronJob starts it.
enum Task {
    Run(Arguments),
    Verify(verify::Arguments),
    Restore(restore::settings::Arguments),
    Remove(deletion::Arguments),
}

impl Task {
    fn parse() -> Self {
        let mut words = std::env::args_os();
        let program = words.next();
        match words.next() {
            Some(word) if word == VERIFY => {
                Self::Verify(verify::Arguments::parse_from(program.into_iter().chain(words)))
            }
            Some(word) if word == REMOVE => {
                Self::Remove(deletion::Arguments::parse_from(program.into_iter().chain(words)))
            }
            Some(word) if word == RESTORE => Self::Restore(restore::settings::Arguments::parse_from(
                program.into_iter().chain(words),
            )),
            _ => Self::Run(Arguments::parse()),
        }
    }

    fn log_format(&self) -> &str {
        match self {
            Self::Run(arguments) => &arguments.shared.log_format,
            Self::Verify(arguments) => &arguments.shared.log_format,
            Self::Restore(arguments) => &arguments.log_format,
            Self::Remove(arguments) => &arguments.shared.log_format,
        }
    }
}

fn main() -> ExitCode {
    let task = Task::parse();
    log(task.log_format());
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
    match prepare_and_do(task).await {
        Ok(()) => exit::STORED,
        Err(error) => {
            tracing::error!("{error:#}");
            let of_restore = error.downcast_ref::<restore::failure::Failure>();
            error
                .downcast_ref::<Failure>()
                .map(Failure::exit_code)
                .or(of_restore.map(restore::failure::Failure::exit_code))
                .unwrap_or(exit::RETRY)
        }
    }
}

async fn prepare_and_do(task: Task) -> anyhow::Result<()> {
    // A second install is impossible here: nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match task {
        Task::Run(arguments) => {
            let settings = Settings::new(arguments).map_err(Failure::Settings)?;
            let success = Box::pin(run::run(Arc::new(settings), client().await?, stop)).await?;
            tracing::info!(?success, "done");
        }
        Task::Verify(arguments) => {
            let found = Box::pin(verify::verify(arguments, client().await?, stop)).await?;
            tracing::info!(?found, "done");
        }
        Task::Restore(arguments) => {
            let settings = restore::settings::Settings::new(arguments).map_err(restore::failure::Failure::Settings)?;
            let success = Box::pin(restore::run(Arc::new(settings), client().await?, stop)).await?;
            tracing::info!(?success, "done");
        }
        Task::Remove(arguments) => {
            let report = Box::pin(deletion::remove(arguments, stop)).await?;
            tracing::info!(removed = report.removed, left = ?report.left, "{}", report.message);
        }
    }
    Ok(())
}

async fn client() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(15));
    // The runner tries again itself, and at the fence only after reading.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
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
