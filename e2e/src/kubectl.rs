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

async fn run(program: &Path, environment: &Environment, arguments: &[&str], input: Option<&str>) -> Result<Output> {
    let mut command = Command::new(program);
    // The driver's own program carries kubectl as a subcommand.
    if program
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("cluster"))
    {
        command.arg("kubectl");
    }
    let mut child = command
        .args(arguments)
        .env("KUBECONFIG", &environment.kubeconfig)
        .env_remove("KUBE_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.unwrap_or_default().as_bytes())
            .await
            .context("failed to write the input")?;
    }
    let output = child
        .wait_with_output()
        .await
        .context("failed to read what the program printed")?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
