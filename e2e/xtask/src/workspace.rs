//! Compiles the workspace and tells what is in it and where cargo put what.
//!
//! Everything is compiled by calls that select the whole workspace, because cargo unifies features over what a call
//! selects: `cargo test --package x` would compile half of the dependencies again with fewer features.

use std::collections::{BTreeMap, BTreeSet};
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
    // Compiled with the tests where all targets are, and no test: nobody is to run them as one.
    benches: Vec<TestProgram>,
}

/// A compiled test or benchmark.
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

    /// The benchmarks of the package in `folder`.
    pub fn benches_of<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a TestProgram> {
        self.benches.iter().filter(move |bench| bench.folder == folder)
    }

    /// The test programs of every other package, by folder.
    pub fn tests_outside(&self, folder: &Path) -> impl Iterator<Item = &TestProgram> {
        let mut tests: Vec<_> = self.tests.iter().filter(|test| test.folder != folder).collect();
        tests.sort_by_key(|test| (&test.folder, &test.name));
        tests.into_iter()
    }
}

/// The folders of the workspace's packages, as its `Cargo.toml` names them.
///
/// # Errors
/// When that cannot be read, or has no members.
pub fn members(checkout: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(checkout.join("Cargo.toml")).context("failed to read Cargo.toml")?;
    let members = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (members, _) = members.context("Cargo.toml has no members")?;
    Ok(members.split('"').skip(1).step_by(2).map(str::to_owned).collect())
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

/// The target folder, held by this checkout until dropped: no other xtask builds or tests in it meanwhile.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Waits for the target folder and makes it this checkout's.
///
/// Checkouts share the compiled dependencies, which cargo keys by version and features. It keys a workspace's own
/// crates by their path inside the workspace, so it takes another checkout's for this one's if they are newer than
/// the sources here. Whoever takes the folder over from another checkout therefore removes what cargo knows of those.
///
/// # Errors
/// When the folder cannot be made, locked or tidied.
pub fn claim(paths: &Paths, log: &Log) -> Result<Claim> {
    let target = &paths.cargo_target;
    fs::create_dir_all(target).with_context(|| format!("failed to create {}", target.display()))?;
    let lock = File::create(target.join(".valerix-xtask.lock")).context("failed to create a lock")?;
    if lock.try_lock().is_err() {
        log.say("waiting for the build of another checkout");
        lock.lock().context("failed to lock the target folder")?;
    }
    let holder = target.join(".valerix-checkout");
    let this = paths.checkout.to_string_lossy();
    if fs::read_to_string(&holder).is_ok_and(|other| other == this) {
        return Ok(Claim { _lock: lock });
    }
    forget_own_crates(target)?;
    fs::write(&holder, this.as_bytes()).with_context(|| format!("failed to write {}", holder.display()))?;
    Ok(Claim { _lock: lock })
}

/// Removes cargo's fingerprints of the workspace's crates in every profile, so that it compiles those anew.
fn forget_own_crates(target: &Path) -> Result<()> {
    let entries = |folder: &Path| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    for profile in entries(target) {
        for fingerprint in entries(&profile.join(".fingerprint")) {
            let own = fingerprint.file_name().is_some_and(|name| {
                name.to_string_lossy().starts_with("valerix-") || name.to_string_lossy().starts_with("xtask-")
            });
            if own {
                fs::remove_dir_all(&fingerprint)
                    .with_context(|| format!("failed to remove {}", fingerprint.display()))?;
            }
        }
    }
    Ok(())
}

/// Selects every program of the workspace. `--examples`, of which there are none, makes cargo turn on the features that
/// only tests ask for: what is compiled for a program is then compiled for the tests too, and the other way round.
pub const PROGRAMS: &[&str] = &["--workspace", "--bins", "--examples"];
/// Selects the programs and the tests.
pub const ALL: &[&str] = &["--workspace", "--all-targets"];

/// Runs `cargo build <arguments>` and copies each binary of `copied`, by name, to the path beside it.
///
/// # Errors
/// When the build fails, or does not make a binary of `copied`.
pub fn build(paths: &Paths, arguments: &[&str], copied: &[(&str, PathBuf)], log: &Log) -> Result<Artifacts> {
    let _claim = claim(paths, log)?;
    let build = cargo(paths).args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    let mut progress = Progress::new(packages(paths, arguments, log)?);
    let messages = build.args(arguments).read_seeing(log, |line| {
        if let Some(text) = progress.after(line) {
            log.set_progress(text);
        }
    })?;
    let artifacts = parse(&messages);
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

/// How many packages a build with `arguments` is made of.
fn packages(paths: &Paths, arguments: &[&str], log: &Log) -> Result<usize> {
    let selection = arguments
        .iter()
        .filter(|argument| argument.starts_with("--package=") || **argument == "--workspace");
    let edges = if arguments.contains(&"--all-targets") {
        "normal,build,dev"
    } else {
        "normal,build"
    };
    let tree = cargo(paths)
        .args(["tree", "--locked", "--prefix=none", "--format={p}", "--edges", edges])
        .args(selection)
        .read(log)?;
    let names = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    Ok(names.filter(|name| !name.is_empty()).collect::<BTreeSet<_>>().len())
}

/// Counts the packages that a build is done with, and the programs, which are what is left when all packages are.
struct Progress {
    all: usize,
    done: BTreeSet<String>,
    programs: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self {
            all,
            done: BTreeSet::new(),
            programs: 0,
        }
    }

    /// What to say after a line of cargo's messages that is about a compiled package.
    fn after(&mut self, line: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Artifact {
            package_id: String,
            target: CargoTarget,
            executable: Option<PathBuf>,
        }
        #[derive(Deserialize)]
        struct CargoTarget {
            kind: Vec<String>,
        }
        let artifact: Artifact = serde_json::from_str(line).ok()?;
        // A package's build script is only the beginning of it.
        if artifact.target.kind.iter().any(|kind| kind == "custom-build") {
            return None;
        }
        self.done.insert(artifact.package_id);
        self.programs += usize::from(artifact.executable.is_some());
        // Features that only tests ask for bring a few more than were counted; it is not over before it ends.
        let all = self.all.max(self.done.len() + 1);
        let packages = format!("{} of {all} packages compiled", self.done.len());
        Some(match self.programs {
            0 => packages,
            programs => format!("{packages}; programs linked: {programs}"),
        })
    }
}

/// Reads cargo's messages, one JSON object a line.
pub(crate) fn parse(messages: &str) -> Artifacts {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: PathBuf,
        target: CargoTarget,
        profile: Profile,
    }
    #[derive(Deserialize)]
    struct CargoTarget {
        name: String,
        kind: Vec<String>,
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
        let folder = message.manifest_path.parent().map(Path::to_owned).unwrap_or_default();
        if message.target.kind.iter().any(|kind| kind == "bench") {
            artifacts.benches.push(TestProgram { name, folder, path });
        } else if message.profile.test {
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
    fn a_folder_taken_over_forgets_the_crates_of_the_other_checkout_and_keeps_dependencies() {
        let folder = tempfile::tempdir().unwrap();
        let paths = |checkout: &str| Paths {
            checkout: PathBuf::from(checkout),
            cache: folder.path().to_owned(),
            cargo_target: folder.path().join("target"),
        };
        let log = Log::create(folder.path().join("log")).unwrap();
        let fingerprints = folder.path().join("target/debug/.fingerprint");
        let make = || {
            for name in ["valerix-order-0a", "serde-1b"] {
                fs::create_dir_all(fingerprints.join(name)).unwrap();
            }
        };
        let left = || -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&fingerprints)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        make();
        drop(claim(&paths("/one"), &log).unwrap());
        make();
        drop(claim(&paths("/one"), &log).unwrap());
        assert_eq!(
            left(),
            ["serde-1b", "valerix-order-0a"],
            "the same checkout keeps its own"
        );
        drop(claim(&paths("/two"), &log).unwrap());
        assert_eq!(left(), ["serde-1b"], "another one does not");
    }

    #[test]
    fn progress_counts_packages_and_not_their_parts() {
        let line = |package: &str, kind: &str| {
            let executable = if kind == "bin" { r#""/t/x""# } else { "null" };
            format!(
                r#"{{"package_id":"{package}","target":{{"kind":["{kind}"],"name":"x"}},"executable":{executable}}}"#
            )
        };
        let mut progress = Progress::new(3);
        assert_eq!(progress.after(&line("a", "custom-build")), None);
        for kind in ["lib", "test"] {
            let text = progress.after(&line("a", kind));
            assert_eq!(text.as_deref(), Some("1 of 3 packages compiled"));
        }
        assert_eq!(progress.after(r#"{"reason":"build-finished"}"#), None);
        assert!(
            progress
                .after(&line("b", "lib"))
                .is_some_and(|text| text.starts_with("2 of 3"))
        );
        let text = progress.after(&line("b", "bin"));
        assert_eq!(text.as_deref(), Some("2 of 3 packages compiled; programs linked: 1"));
    }

    #[test]
    fn binaries_and_tests_come_from_cargos_messages() {
        let made = |name: &str, kind: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/x/Cargo.toml","target":{{"name":"{name}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let artifact = |name: &str, test: bool, executable: &str| made(name, "bin", test, executable);
        let messages = [
            artifact("order", false, r#""/t/debug/order""#),
            artifact("order", true, r#""/t/debug/deps/order-1""#),
            artifact("it", true, r#""/t/debug/deps/it-2""#),
            made("core", "bench", true, r#""/t/debug/deps/core-3""#),
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
        assert_eq!(artifacts.tests_outside(Path::new("/w/y")).count(), 2);
        assert_eq!(artifacts.tests_outside(Path::new("/w/x")).count(), 0);
        let benches: Vec<_> = artifacts
            .benches_of(Path::new("/w/x"))
            .map(|bench| bench.name.as_str())
            .collect();
        assert_eq!(benches, ["core"]);
        assert_eq!(artifacts.benches_of(Path::new("/w/y")).count(), 0);
    }
}
