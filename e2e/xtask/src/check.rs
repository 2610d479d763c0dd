//! The checks: what `make check`, `make unit`, `make e2e` and `make test` do. Quick failures first; within a stage
//! every step runs, so that one run shows all that is wrong; a stage with a failure is the last.

mod charts;
mod circles;
mod end_to_end;
mod redis_bounds;
mod scraped;
mod source;
mod unit;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::clusters::Cluster;
use crate::command::Program;
use crate::counting::{Count, count_go};
use crate::failure::{Shown, WithRemedy};
use crate::leftovers::Leftovers;
use crate::paths::Paths;
use crate::steps::{Log, Steps};
use crate::tools::{debian, go, rust};
use crate::workspace::{self, Artifacts, cargo};
use crate::{book, documents, images, interrupt, links, mutants, page};

/// Name of the cluster of the end-to-end tests.
const CLUSTER: &str = crate::clusters::TEST;
/// Set to leave the cluster of failed end-to-end tests as it is, for a person to look at.
const KEEP: &str = "VALERIX_KEEP";

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Formatting, lints, drift, licences, Go, charts.
    Quick,
    /// Unit and service tests on servers of our own.
    Unit,
    /// End-to-end tests on a cluster of our own.
    EndToEnd,
    /// Those of them that need several nodes, on a cluster that has them.
    Placement,
    /// That of many services, whose pods are on fake nodes.
    Scale {
        /// How many.
        services: u64,
    },
}

/// The nodes of a cluster on which placement is tested: one to keep, one to drain, one to lose.
pub const NODES: u8 = 3;
/// Fake nodes of a cluster of many services: enough to spread pods over, each takes as many as come.
const FAKE_NODES: u16 = 10;

impl Scope {
    fn includes(self, stage: Self) -> bool {
        let is_of_some = matches!(self, Self::Placement | Self::Scale { .. });
        self == Self::All || self == stage || (is_of_some && stage == Self::EndToEnd)
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "test",
            Self::Quick => "check",
            Self::Unit => "unit",
            Self::EndToEnd | Self::Placement => "e2e",
            Self::Scale { .. } => "campaign",
        }
    }
}

/// Runs the stages of `scope`, prints a table of all steps and, as the last line, how many tests passed and failed.
///
/// # Errors
/// [`Shown`] when a step failed.
pub fn run(paths: &Paths, scope: Scope) -> Result<()> {
    let mut steps = Steps::begin(paths.logs(scope.name()))?;
    let mut count = Count::default();
    let services = format!("valerix-services-{}", std::process::id());
    let marks = [services.as_str(), "clusters/test/", "test-node-"];
    let before = Leftovers::look(&marks);
    let mut outcome = stages(paths, scope, &mut steps, &mut count);
    if scope != Scope::Quick && std::env::var_os(KEEP).is_none() {
        let left = steps.run("Looking for anything that was left", |_| {
            before.compare(&Leftovers::look(&marks))
        });
        outcome = outcome.and(left);
    }
    println!("\n{}", steps.summary());
    if scope != Scope::Quick {
        println!(
            "tests: {} passed, {} failed, {} skipped",
            count.passed, count.failed, count.ignored
        );
    }
    outcome
}

fn stages(paths: &Paths, scope: Scope, steps: &mut Steps, count: &mut Count) -> Result<()> {
    let nodes = (scope == Scope::Placement).then_some(NODES);
    let fake_nodes = matches!(scope, Scope::Scale { .. }).then_some(FAKE_NODES);
    let cluster =
        Cluster::choose(CLUSTER, paths).and_then(|cluster| cluster.with_nodes(nodes).with_fake_nodes(fake_nodes));
    std::thread::scope(|threads| {
        // It waits for the network while the checks compute.
        let prepared = match (&cluster, scope.includes(Scope::EndToEnd)) {
            (Ok(cluster), true) => Some(
                steps.beside(threads, "Preparing the cluster and the base images", |log| {
                    cluster.prepare(log)
                })?,
            ),
            _ => None,
        };
        let outcome = if scope.includes(Scope::Quick) {
            quick(paths, steps);
            stop_on_failure(steps)
        } else {
            Ok(())
        };
        if outcome.is_err() {
            interrupt::request();
        }
        let prepared = prepared.map_or(Ok(()), |prepared| steps.wait_for(prepared));
        outcome.and(prepared)
    })?;
    if scope.includes(Scope::Quick) {
        quick_with_go(paths, steps, count);
        stop_on_failure(steps)?;
    }
    if scope.includes(Scope::Unit) {
        unit::stage(paths, steps, count);
        stop_on_failure(steps)?;
    }
    if scope.includes(Scope::EndToEnd) {
        match cluster {
            Ok(cluster) => end_to_end::run(paths, &cluster, scope, steps, count),
            Err(error) => each(steps, "Choosing a cluster", |_| Err(error)),
        }
        stop_on_failure(steps)?;
    }
    Ok(())
}

fn stop_on_failure(steps: &Steps) -> Result<()> {
    if steps.failures() > 0 || interrupt::requested() {
        Err(Shown.into())
    } else {
        Ok(())
    }
}

/// Steps report their failures themselves; a stage goes on, unless the user wants to stop.
fn each(steps: &mut Steps, title: &str, work: impl FnOnce(&Log) -> Result<()>) {
    if !interrupt::requested() {
        drop(steps.run(title, work));
    }
}

fn quick(paths: &Paths, steps: &mut Steps) {
    each(steps, "Rust: files and folders depend one way", |log| {
        circles::check(&paths.checkout, log)
    });
    each(steps, "Rust: formatting", |log| {
        rust::require_cargo()?;
        cargo(paths)
            .args(["fmt", "--all", "--check"])
            .run(log)
            .remedy("cargo fmt --all")
    });
    each(steps, "Mutants: each can be planted, and its test is there", |log| {
        mutants::check(&paths.checkout, log)
    });
    each(steps, "Documentation: every link leads somewhere", |log| {
        links::check(&paths.checkout, log)
    });
    each(steps, "Documentation: what it names is there", |log| {
        book::complete(&paths.checkout)?;
        documents::check(&paths.checkout, log)
    });
    // Before anything is compiled: the console compiles it in.
    each(steps, "Console: types, tests and size of the page", |log| {
        page::check(paths, log)
    });
    each(steps, "Console: every page in a browser", |log| page::look(paths, log));
    each(steps, "Rust: clippy, warnings denied", |log| {
        let lint = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ];
        let _claim = workspace::claim(paths, log)?;
        cargo(paths).args(lint).run(log)
    });
    each(steps, "Libraries: each feature alone, documentation, packages", |log| {
        libraries(paths, log)
    });
    each(steps, "Dependencies: bans, licences, sources", |log| {
        let deny = rust::install(paths, &rust::CARGO_DENY, log)?;
        // Its advisories are fetched from elsewhere, so they are not a check that can run anywhere.
        Program::new(deny)
            .args(["--workspace", "--locked", "check", "bans", "licenses", "sources"])
            .in_folder(&paths.checkout)
            .run(log)
    });
    each(steps, "Generated files are current", |log| {
        compile(paths, log)?;
        let check = Program::new(images::kept(paths, "generate"))
            .arg("--check")
            .in_folder(&paths.checkout)
            .run(log);
        check.remedy("make generate, then look at the difference and commit it")
    });
    each(steps, "Prometheus' rules: promtool", |log| rules(paths, log));
}

/// That Prometheus reads the rules, and that each alert fires when it should and is silent when it should.
fn rules(paths: &Paths, log: &Log) -> Result<()> {
    debian::install(debian::RULES, log)?;
    let files = |folder: &str| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(paths.checkout.join(folder)).with_context(|| format!("failed to read {folder}"))?;
        entries
            .map(|entry| entry.map(|entry| entry.path()).context("failed to read a folder"))
            .collect()
    };
    let (rules, tests) = (files("charts/valerix-shop/rules")?, files("e2e/rules")?);
    Program::new("promtool")
        .args(["check", "rules"])
        .args(&rules)
        .run(log)?;
    Program::new("promtool").args(["test", "rules"]).args(&tests).run(log)
}

/// The quick checks that build Go programs. They come once the cluster program is there: two builds at the same time would
/// compile Kubernetes twice, as each looks into the cache before either has filled it.
fn quick_with_go(paths: &Paths, steps: &mut Steps, count: &mut Count) {
    each(steps, "Go: formatting, vet and unit tests of e2e/cluster", |log| {
        go_checks(paths, count, log)
    });
    each(steps, "Charts and examples: helm lint, kubeconform", |log| {
        charts::check(paths, log)
    });
}

/// What only those meet who use the libraries outside of this workspace, where all features are on together.
fn libraries(paths: &Paths, log: &Log) -> Result<()> {
    const LIBRARIES: [&str; 4] = ["--package", "valerix-policy", "--package", "valerix-resilience"];
    let _claim = workspace::claim(paths, log)?;
    for feature in [
        "",
        "axum",
        "faults",
        "metrics",
        "postgres",
        "redis",
        "redis-tls",
        "reload",
        "reqwest",
        "testing",
    ] {
        log.say(&format!(
            "feature: {}",
            if feature.is_empty() { "none" } else { feature }
        ));
        cargo(paths)
            .args(["clippy", "--locked", "--package", "valerix-resilience"])
            .args([
                "--no-default-features",
                "--features",
                feature,
                "--",
                "--deny",
                "warnings",
            ])
            .run(log)?;
    }
    cargo(paths)
        .args(["doc", "--locked", "--no-deps", "--all-features"])
        .args(LIBRARIES)
        .env("RUSTDOCFLAGS", "--deny warnings")
        .run(log)?;
    // Without the build of what was packed: it would compile every dependency once more.
    cargo(paths)
        .args(["package", "--locked", "--no-verify", "--allow-dirty", "--quiet"])
        .args(LIBRARIES)
        .run(log)
}

/// Compiles every target of the workspace for tests; the first call takes minutes, the next ones reuse it.
fn compile(paths: &Paths, log: &Log) -> Result<Artifacts> {
    workspace::build(
        paths,
        workspace::ALL,
        &[("generate", images::kept(paths, "generate"))],
        log,
    )
}

/// Writes every generated file.
///
/// # Errors
/// When the generator does not compile, or cannot write.
pub fn write_generated(paths: &Paths) -> Result<()> {
    let log = Log::create(paths.logs("generate").join("log"))?;
    let _claim = workspace::claim(paths, &log)?;
    let said = cargo(paths)
        .args(["run", "--quiet", "--locked", "--package", "valerix-generate"])
        .read(&log)?;
    print!("{said}");
    Ok(())
}

fn go_checks(paths: &Paths, count: &mut Count, log: &Log) -> Result<()> {
    let module = paths.checkout.join("e2e/cluster");
    go::require_go(&module, log)?;
    let unformatted = Program::new("gofmt").args(["-l", "."]).in_folder(&module).read(log)?;
    ensure!(
        unformatted.trim().is_empty(),
        "gofmt would change: {}",
        unformatted.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    go::go(&module).args(["vet", "./..."]).run(log)?;
    let tests = go::go(&module).args(["test", "-v", "./..."]).run(log);
    count.add(count_go(&log.text()?));
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_test_includes_every_stage() {
        assert!(
            [Scope::Quick, Scope::Unit, Scope::EndToEnd]
                .into_iter()
                .all(|stage| Scope::All.includes(stage))
        );
        assert!(!Scope::Unit.includes(Scope::EndToEnd));
        for some in [Scope::Placement, Scope::Scale { services: 1 }] {
            assert!(
                some.includes(Scope::EndToEnd) && !some.includes(Scope::Unit),
                "{some:?}"
            );
        }
    }
}
