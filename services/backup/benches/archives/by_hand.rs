//! The same by hand: the programs that somebody would call who has no runner.

use crate::harness::{Harness, password};
use std::{path::Path, process::Stdio, time::Instant};
use tokio::process::Command;

/// A command line of the shell with a variable for everything that differs.
fn shell(harness: &Harness, script: &str) -> Command {
    let server = &harness.server;
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .env("PGHOST", server.get_host())
        .env("PGPORT", server.get_port().to_string())
        .env("PGUSER", server.get_username())
        .env("PGPASSWORD", password())
        .stdin(Stdio::null());
    command
}

/// Runs it, and says how many seconds that took; why there is no figure, where it cannot be run.
async fn timed(mut command: Command) -> Result<f64, String> {
    let begun = Instant::now();
    let output = command.output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(begun.elapsed().as_secs_f64());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Whoever comes next finds nothing under way that somebody before has left: the server's pages and everybody's files are on
/// the disk.
pub async fn settled(harness: &Harness) {
    let mut command = shell(harness, "psql -q -d postgres -c CHECKPOINT; sync");
    let settled = command.status().await.is_ok_and(|status| status.success());
    assert!(settled, "what was written before is on the disk");
}

/// Dump, compress.
pub async fn dump(harness: &Harness, database: &str, file: &Path) -> Result<f64, String> {
    let mut command = shell(
        harness,
        "pg_dump -Fc -Z0 \"$DATABASE\" | zstd -9 -T2 -q -f -o \"$FILE\"",
    );
    command.env("DATABASE", database).env("FILE", file);
    timed(command).await
}

/// Decompress, create, restore.
pub async fn restore(harness: &Harness, database: &str, file: &Path) -> Result<f64, String> {
    let script = "zstd -d -q -f \"$FILE\" -o \"$FILE.dump\"; createdb \"$DATABASE\"; pg_restore -j2 -d \"$DATABASE\" \"$FILE.dump\"";
    let mut command = shell(harness, script);
    command.env("DATABASE", database).env("FILE", file);
    timed(command).await
}

/// Where a store is, and who asks.
pub struct Place<'a> {
    pub endpoint: &'a str,
    pub bucket: &'a str,
    pub access_key: &'a str,
    pub secret_key: &'a str,
}

/// One PUT by curl, which signs and does not hash.
pub async fn curl(place: &Place<'_>, file: &Path) -> Result<f64, String> {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
        ])
        .args(["--user", &format!("{}:{}", place.access_key, place.secret_key)])
        .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--upload-file"])
        .arg(file)
        .arg(format!("{}/{}/by-curl", place.endpoint, place.bucket));
    timed(command).await
}

/// The same by the program of the makers of S3.
pub async fn aws(place: &Place<'_>, file: &Path) -> Result<f64, String> {
    let mut command = Command::new("aws");
    command
        .args(["s3", "cp", "--only-show-errors", "--endpoint-url", place.endpoint])
        .arg(file)
        .arg(format!("s3://{}/by-aws", place.bucket))
        .env("AWS_ACCESS_KEY_ID", place.access_key)
        .env("AWS_SECRET_ACCESS_KEY", place.secret_key)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env_remove("AWS_CA_BUNDLE");
    timed(command).await
}
