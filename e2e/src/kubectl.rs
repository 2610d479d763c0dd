//! kubectl and helm as a user runs them: what they print is part of the product.

use crate::environment::Environment;
use anyhow::{Context, Result, bail};
use std::{path::Path, process::Stdio};
use tokio::{io::AsyncWriteExt, process::Command};

/// What a program printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether the exit code was zero.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output, or an error with everything that was printed.
    ///
    /// # Errors
    /// If the program failed.
    pub fn text(self) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        bail!("failed: {}{}", self.stdout, self.stderr)
    }

    /// Both streams, for looking for a message.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs kubectl with arguments separated by blanks.
///
/// # Errors
/// If kubectl could not be started.
pub async fn kubectl(environment: &Environment, arguments: &str) -> Result<Output> {
    run(
        &environment.kubectl,
        environment,
        &arguments.split_whitespace().collect::<Vec<_>>(),
        None,
    )
    .await
}

/// Runs kubectl with whole arguments and a standard input.
///
/// # Errors
/// If kubectl could not be started.
pub async fn kubectl_with(environment: &Environment, arguments: &[&str], input: Option<&str>) -> Result<Output> {
    run(&environment.kubectl, environment, arguments, input).await
}

/// Runs helm.
///
/// # Errors
/// If helm could not be started.
pub async fn helm(environment: &Environment, arguments: &[&str]) -> Result<Output> {
    run(&environment.helm, environment, arguments, None).await
}

/// Runs kubectl with bytes as its input and returns the bytes that it printed.
///
/// # Errors
/// If kubectl could not be started or failed; with what it printed as an error.
pub async fn kubectl_bytes(environment: &Environment, arguments: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>> {
    let output = start(&environment.kubectl, environment, arguments, input.unwrap_or_default()).await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!(
        "kubectl {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    )
}

async fn run(program: &Path, environment: &Environment, arguments: &[&str], input: Option<&str>) -> Result<Output> {
    let output = start(program, environment, arguments, input.unwrap_or_default().as_bytes()).await?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

async fn start(
    program: &Path,
    environment: &Environment,
    arguments: &[&str],
    input: &[u8],
) -> Result<std::process::Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", &environment.kubeconfig)
        .env_remove("KUBE_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input closes the pipe, which is its right.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output.context("failed to read what the program printed")
}
