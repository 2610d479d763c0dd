//! Rust programs by `cargo install`, pinned, into the cache.

use std::path::PathBuf;

use anyhow::Result;

use super::{find, is_program};
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::steps::Log;

/// A program of crates.io.
pub struct Tool {
    name: &'static str,
    version: &'static str,
    /// More arguments of `cargo install`.
    arguments: &'static [&'static str],
}

/// Licences, bans and sources of dependencies.
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    arguments: &[],
};
/// The documentation as a site; without its own server.
pub const MDBOOK: Tool = Tool {
    name: "mdbook",
    version: "0.5.4",
    arguments: &["--no-default-features", "--features", "search"],
};

/// Installs a tool unless this version is there, and returns its path.
///
/// # Errors
/// When the build fails.
pub fn install(paths: &Paths, tool: &Tool, log: &Log) -> Result<PathBuf> {
    let Tool {
        name,
        version,
        arguments,
    } = tool;
    let root = paths.programs().join(format!("{name}-{version}"));
    let path = root.join("bin").join(name);
    if is_program(&path) {
        log.say(&format!("{name} {version}: there"));
        return Ok(path);
    }
    log.say(&format!(
        "{name} {version}: building it by `cargo install` (some minutes, once)"
    ));
    Program::new("cargo")
        .args(["install", name, "--version", version, "--locked"])
        .args(*arguments)
        .arg("--root")
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
