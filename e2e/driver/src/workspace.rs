//! Compiles the workspace and tells where cargo put what.
//!
//! Everything is compiled by calls that select the whole workspace, because cargo unifies features over what a call
//! selects: `cargo test --package x` would compile half of the dependencies again with fewer features.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::Program;
use crate::paths::Paths;
use crate::steps::Log;

/// What a build made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Artifacts {
    binaries: BTreeMap<String, PathBuf>,
    tests: Vec<TestProgram>,
}

/// A compiled test target. Its file is named by a hash of the checkout's path, so no other checkout replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestProgram {
    /// The target's name, for example `it`.
    pub name: String,
    /// The package's folder, in which its tests run.
    pub folder: PathBuf,
    /// The program.
    pub path: PathBuf,
}

impl Artifacts {
    /// The test programs of the package in `folder`, by name.
    pub fn tests_of(&self, folder: &Path) -> Vec<&TestProgram> {
        let mut tests: Vec<_> = self.tests.iter().filter(|test| test.folder == folder).collect();
        tests.sort_by_key(|test| &test.name);
        tests
    }
}

/// cargo on this checkout, with the target folder that checkouts share.
pub fn cargo(paths: &Paths) -> Program {
    let cargo = Program::new("cargo")
        .env("CARGO_TARGET_DIR", &paths.cargo_target)
        .in_folder(&paths.checkout);
    // A checkout that is built once gains nothing from incremental compilation, and pays for it in time and disk.
    if std::env::var_os("CI").is_some() {
        cargo.env("CARGO_INCREMENTAL", "0")
    } else {
        cargo
    }
}

/// Runs `cargo build <arguments>` and copies each binary of `copied`, by name, to the path beside it.
///
/// Checkouts may share the target folder, and binaries lie there under plain names: from before the build until after
/// the copy, no other driver may build.
///
/// # Errors
/// When the build fails, or does not make a binary of `copied`.
pub fn build(paths: &Paths, arguments: &[&str], copied: &[(&str, PathBuf)], log: &Log) -> Result<Artifacts> {
    fs::create_dir_all(&paths.cargo_target)
        .with_context(|| format!("failed to create {}", paths.cargo_target.display()))?;
    let lock = File::create(paths.cargo_target.join(".valerix-driver.lock")).context("failed to create a lock")?;
    if lock.try_lock().is_err() {
        log.say("waiting for the build of another checkout");
        lock.lock().context("failed to lock the target folder")?;
    }
    let build = cargo(paths).args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    let artifacts = parse(&build.args(arguments).read(log)?);
    for (name, copy) in copied {
        let built = artifacts
            .binaries
            .get(*name)
            .with_context(|| format!("cargo did not build the binary {name}"))?;
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        fs::copy(built, copy).with_context(|| format!("failed to copy {}", built.display()))?;
    }
    Ok(artifacts)
}

/// Reads cargo's messages, one JSON object a line.
fn parse(messages: &str) -> Artifacts {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: PathBuf,
        target: Target,
        profile: Profile,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    let mut artifacts = Artifacts::default();
    for message in messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
    {
        let Some(path) = message.executable else { continue };
        let name = message.target.name;
        if message.profile.test {
            let folder = message.manifest_path.parent().map(Path::to_owned).unwrap_or_default();
            artifacts.tests.push(TestProgram { name, folder, path });
        } else {
            artifacts.binaries.insert(name, path);
        }
    }
    artifacts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_and_tests_come_from_cargos_messages() {
        let artifact = |name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/x/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [
            artifact("order", false, r#""/t/debug/order""#),
            artifact("order", true, r#""/t/debug/deps/order-1""#),
            artifact("it", true, r#""/t/debug/deps/it-2""#),
            artifact("serde", false, "null"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let artifacts = parse(&messages.join("\n"));
        assert_eq!(
            artifacts.binaries,
            BTreeMap::from([("order".to_owned(), PathBuf::from("/t/debug/order"))])
        );
        let names: Vec<_> = artifacts
            .tests_of(Path::new("/w/x"))
            .into_iter()
            .map(|test| test.name.as_str())
            .collect();
        assert_eq!(names, ["it", "order"]);
        assert!(artifacts.tests_of(Path::new("/w/y")).is_empty());
    }
}
