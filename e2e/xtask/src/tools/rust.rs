//! Rust programs by `cargo install`, pinned, into the cache.

use std::path::PathBuf;

use anyhow::Result;

use super::{find, is_program};
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::steps::Log;

const CARGO_DENY: &str = "0.20.2";

/// Installs cargo-deny unless this version is there, and returns its path.
///
/// # Errors
/// When the build fails.
pub fn install_cargo_deny(paths: &Paths, log: &Log) -> Result<PathBuf> {
    let root = paths.programs().join(format!("cargo-deny-{CARGO_DENY}"));
    let path = root.join("bin/cargo-deny");
    if is_program(&path) {
        log.say(&format!("cargo-deny {CARGO_DENY}: there"));
        return Ok(path);
    }
    log.say(&format!(
        "cargo-deny {CARGO_DENY}: building it by `cargo install` (some minutes, once)"
    ));
    Program::new("cargo")
        .args(["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--root"])
        .arg(&root)
        .arg("--target-dir")
        .arg(root.join("build"))
        // A tool that reads a file or two: built fast is better than built to be fast.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256")
        .in_folder(&paths.cache)
        .run(log)
        .remedy("make crates.io reachable, then run the same command again")?;
    drop(std::fs::remove_dir_all(root.join("build")));
    Ok(path)
}

/// Fails with the remedy when cargo or one of its components is not there.
///
/// # Errors
/// When `cargo`, `cargo-clippy` or `cargo-fmt` is not in PATH.
pub fn require_cargo() -> Result<()> {
    for (program, remedy) in [
        ("cargo", "install Rust 1.94 or newer: https://rustup.rs"),
        ("cargo-clippy", "rustup component add clippy"),
        ("cargo-fmt", "rustup component add rustfmt"),
    ] {
        if find(program).is_none() {
            return Err(anyhow::anyhow!("{program} was not found")).remedy(remedy);
        }
    }
    Ok(())
}
