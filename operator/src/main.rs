//! The operator's process: arguments, telemetry, run.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;
use valerix_operator::{
    chaos_experiment, installation,
    runtime::telemetry,
    settings::{CheckSettings, ConvertSettings, DrainSettings, Settings, VerifySettings},
};

#[derive(Parser)]
#[command(name = "valerix-operator", version, about = "Makes resilience a Kubernetes API")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconciles until told to end. Ends with an error when the lease is lost.
    Run(Settings),
    /// Prints the ResilientServices that existing Deployments amount to, as YAML; what they cannot say stands on standard error.
    Convert(ConvertSettings),
    /// Stops every experiment and waits until its fault is gone; run before the operator is removed.
    Drain(DrainSettings),
    /// Proves that this installation is whole: its kinds, the operator's rights, a leader. Changes nothing.
    Check(CheckSettings),
    /// Runs one experiment and shows what happens. Exit code: 0 Pass, 1 Fail, 2 no verdict (Skipped, Stopped, Error,
    /// NotEvaluated, or the run could not be asked for).
    Verify(VerifySettings),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("failed to install the TLS provider: another one is installed");
    }
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(settings) => {
            let telemetry = telemetry::start(settings.log_format);
            let config = kube::Config::infer()
                .await
                .context("failed to find a cluster to work in")?;
            let shutdown = CancellationToken::new();
            tokio::spawn(cancel_on_signal(shutdown.clone()));
            let ended = Box::pin(valerix_operator::run(settings, config, shutdown)).await;
            // The lease was given back by then: nobody waits for the spans but this process.
            tokio::task::spawn_blocking(|| telemetry.end()).await?;
            ended?;
        }
        Command::Convert(settings) => convert(&settings)?,
        Command::Drain(settings) => {
            let telemetry = telemetry::start(settings.operator.log_format);
            let config = kube::Config::infer()
                .await
                .context("failed to find a cluster to work in")?;
            let drained = chaos_experiment::drain(settings, config).await;
            tokio::task::spawn_blocking(|| telemetry.end()).await?;
            drained?;
        }
        Command::Check(settings) => {
            let config = kube::Config::infer()
                .await
                .context("failed to find a cluster to work in")?;
            installation::check(&settings, config, &mut std::io::stdout()).await?;
        }
        Command::Verify(settings) => {
            let (interrupt, interrupts) = tokio::sync::mpsc::channel(2);
            // Two are heard when the run can be stopped. Whoever insists before that waits for an answer that does not come.
            let insisted = async {
                loop {
                    signalled().await;
                    if interrupt.try_send(()).is_err() {
                        return;
                    }
                }
            };
            let mut output = std::io::stdout();
            let verified = Box::pin(chaos_experiment::verify(settings, interrupts, &mut output));
            let code = tokio::select! {
                code = verified => code,
                () = insisted => chaos_experiment::NO_VERDICT,
            };
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn convert(settings: &ConvertSettings) -> anyhow::Result<()> {
    let text = match settings.input() {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?,
        None => std::io::read_to_string(std::io::stdin()).context("failed to read standard input")?,
    };
    let converted = valerix_operator::convert::convert(&text)?;
    let mut notes = std::io::stderr().lock();
    for warning in &converted.warnings {
        writeln!(notes, "warning: {warning}")?;
    }
    for command in &converted.commands {
        writeln!(notes, "to hand over what runs: {command}")?;
    }
    std::io::stdout()
        .write_all(converted.yaml.as_bytes())
        .context("failed to write to standard output")
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    signalled().await;
    tracing::info!("asked to end");
    shutdown.cancel();
}

/// Waits for SIGTERM or an interrupt.
async fn signalled() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "failed to listen for SIGTERM");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
