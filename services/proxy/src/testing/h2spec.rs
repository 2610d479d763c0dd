//! What the standard of HTTP/2 asks of a server, by a program that asks it: h2spec.

use std::net::SocketAddr;
use std::process::Command;

/// Names the program; else Go builds the one that `e2e/tools` pins.
const PROGRAM_ENV: &str = "VALERIX_H2SPEC";
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/tools");

/// What only a port that speaks nothing but HTTP/2 does as the standard has it: here what does not begin as HTTP/2 is a request
/// of HTTP/1.1, and is answered as a bad one before the connection is closed.
pub const OTHER_BEGINNING: &str = "Sends invalid connection preface";

/// Asks the server at `address`, with TLS or without, all that the standard does, what it only recommends included. `path` is
/// one that is answered when the whole request has come: h2spec breaks rules within a request that has not ended, and what
/// comes to one that is answered already may be ignored.
///
/// # Panics
/// When it fails in anything `but` this, or does not fail in it.
pub async fn keeps_to_the_standard_of_http2(address: SocketAddr, tls: bool, path: &'static str, but: &[&str]) {
    let asking = tokio::task::spawn_blocking(move || {
        let mut program = match std::env::var_os(PROGRAM_ENV) {
            Some(program) => Command::new(program),
            None => {
                let mut go = Command::new("go");
                go.args(["tool", "h2spec"]).current_dir(TOOLS);
                go
            }
        };
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        program.args([
            "--strict",
            "--timeout",
            "5",
            "--host",
            &host,
            "--port",
            &port,
            "--path",
            path,
        ]);
        if tls {
            program.args(["--tls", "--insecure"]);
        }
        program
            .output()
            .expect("h2spec runs: set VALERIX_H2SPEC to it, or install Go")
    });
    let output = asking.await.expect("the program ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = text.lines().find(|line| line.contains(" tests, "));
    let errors = String::from_utf8_lossy(&output.stderr);
    let summary = summary.unwrap_or_else(|| panic!("h2spec asked nothing: {text}{errors}"));
    let failures = text.split_once("Failures:").map_or("", |(_, failures)| failures);
    let mut failed = failures.lines().filter(|line| line.trim_start().starts_with('\u{d7}'));
    assert_eq!(failed.clone().count(), but.len(), "{summary}\n{failures}");
    assert!(
        failed.all(|line| but.iter().any(|title| line.ends_with(title))),
        "{failures}"
    );
}
