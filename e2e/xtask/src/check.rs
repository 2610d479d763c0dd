//! The checks: what `make check`, `make unit`, `make e2e` and `make test` do. Quick failures first; within a stage
//! every step runs, so that one run shows all that is wrong; a stage with a failure is the last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::clusters::{Access, Cluster};
use crate::command::Program;
use crate::counting::{Count, count_go, judge};
use crate::failure::{Shown, WithRemedy};
use crate::images::Profile;
use crate::leftovers::Leftovers;
use crate::paths::Paths;
use crate::services::Services;
use crate::steps::{Log, Steps};
use crate::tools::{debian, go, rust};
use crate::workspace::{self, Artifacts, cargo};
use crate::{book, documents, images, interrupt, links, page, schemas};

/// Name of the cluster of the end-to-end tests.
const CLUSTER: &str = crate::clusters::TEST;
/// Set to leave the cluster of failed end-to-end tests as it is, for a person to look at.
const KEEP: &str = "VALERIX_KEEP";

/// The values with which each chart is rendered and held against the schemas: its defaults, then what they leave out.
const VARIANTS: [(&str, &[&str]); 2] = [
    (
        "valerix",
        &[
            "",
            // Rights by namespace, its own among them.
            "watchNamespaces={default,shop},chaos.namespaces={shop},console.enabled=true",
            "console.enabled=true",
            "replicas=2,networkPolicy.enabled=true,image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "valerix-shop",
        &[
            "",
            "monitoring.prometheus.enabled=true",
            "networkPolicies.enabled=true",
            "networkPolicies.enabled=true,monitoring.prometheus.enabled=true,networkPolicies.scrapers[0].ipBlock.cidr=10.9.0.0/16",
            "postgres.enabled=false,redis.enabled=false,ingress.enabled=true,ingress.host=shop.example,ingress.tlsSecret=tls",
        ],
    ),
];

/// Values that a chart refuses, each with words of its answer. Those of the inventory have one item as the shop sells it but for
/// one thing.
const REFUSED_VALUES: [(&str, &str, &str); 10] = [
    (
        "valerix",
        r#"image.digest="latest""#,
        "/image/digest': 'latest' does not match",
    ),
    (
        "valerix",
        r#"chaos={"namespaces": ["shop"]},watchNamespaces=["bank"]"#,
        "chaos.namespaces has shop, which is none of watchNamespaces",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 1, "unitPriceMinor": 0, "currency": "EUR"}]"#,
        "/inventory/items/0/unitPriceMinor': minimum: got 0, want 1",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 1, "unitPriceMinor": 5000000000, "currency": "EUR"}]"#,
        "/inventory/items/0/unitPriceMinor': maximum",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 5000000000, "unitPriceMinor": 1, "currency": "EUR"}]"#,
        "/inventory/items/0/quantity': maximum",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "two words", "quantity": 1, "unitPriceMinor": 1, "currency": "EUR"}]"#,
        "/inventory/items/0/id': 'two words' does not match",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 1, "unitPriceMinor": 1, "currency": "EUR"},
                            {"id": "a", "quantity": 2, "unitPriceMinor": 1, "currency": "EUR"}]"#,
        "inventory.items names a twice: give each item one entry",
    ),
    (
        "valerix-shop",
        r#"ingress={"enabled": true}"#,
        "ingress.host: name the host under which the shop is reached",
    ),
    (
        "valerix-shop",
        r#"httpRoute={"enabled": true}"#,
        "httpRoute.parentRefs: name the Gateway that the route belongs to",
    ),
    (
        "valerix",
        r#"chaos.maxDuration="25h""#,
        "/chaos/maxDuration': '25h' does not match",
    ),
];

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
}

impl Scope {
    fn includes(self, stage: Self) -> bool {
        self == Self::All || self == stage
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "test",
            Self::Quick => "check",
            Self::Unit => "unit",
            Self::EndToEnd => "e2e",
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
    let cluster = Cluster::choose(CLUSTER, paths);
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
        unit(paths, steps, count);
        stop_on_failure(steps)?;
    }
    if scope.includes(Scope::EndToEnd) {
        match cluster {
            Ok(cluster) => end_to_end(paths, &cluster, steps, count),
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
    each(steps, "Rust: formatting", |log| {
        rust::require_cargo()?;
        cargo(paths)
            .args(["fmt", "--all", "--check"])
            .run(log)
            .remedy("cargo fmt --all")
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
        manifests(paths, log)
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
    go::require_go()?;
    let module = paths.checkout.join("e2e/cluster");
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

fn manifests(paths: &Paths, log: &Log) -> Result<()> {
    let helm = go::HELM.install(paths, log)?;
    let kubeconform = go::KUBECONFORM.install(paths, log)?;
    let kubernetes = schemas::write_kubernetes(paths, log)?;
    let crds = schemas::write_crds(&paths.checkout.join("crds"), &paths.checkout.join("target/schemas"))?;
    let location = |folder: &Path| format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", folder.display());
    let conform = || {
        let strict = Program::new(&kubeconform).args(["-strict", "-summary"]);
        strict.args([
            "-schema-location",
            &location(&kubernetes),
            "-schema-location",
            &location(&crds),
        ])
    };
    for (chart, variants) in VARIANTS {
        let folder = paths.checkout.join("charts").join(chart);
        Program::new(&helm).args(["lint", "--strict"]).arg(&folder).run(log)?;
        for values in variants {
            let template = Program::new(&helm).args(["template", chart, "--set", values]);
            conform()
                .arg("-")
                .input(template.arg(&folder).read(log)?)
                .run(log)
                .remedy(format!("see `helm template charts/{chart} --set '{values}'`"))?;
        }
    }
    refused_values(paths, &helm, log)?;
    conform().arg(paths.checkout.join("examples")).run(log)
}

fn refused_values(paths: &Paths, helm: &Path, log: &Log) -> Result<()> {
    for (chart, values, words) in REFUSED_VALUES {
        let mut said = String::new();
        let rendered = Program::new(helm)
            .args(["template", chart, "--set-json", values])
            .arg(paths.checkout.join("charts").join(chart))
            .run_seeing(log, |line| said.push_str(line));
        ensure!(rendered.is_err(), "charts/{chart} accepts {values}");
        ensure!(
            said.contains(words),
            "`{words}` is not what charts/{chart} says of {values}: {said}"
        );
    }
    Ok(())
}

fn unit(paths: &Paths, steps: &mut Steps, count: &mut Count) {
    each(steps, "Installing PostgreSQL and Redis", |log| {
        debian::install(debian::SERVICES, log)
    });
    each(steps, "Compiling the tests", |log| compile(paths, log).map(drop));
    each(steps, "Unit and service tests", |log| {
        let _claim = workspace::claim(paths, log)?;
        run_unit(paths, count, log)
    });
}

fn run_unit(paths: &Paths, count: &mut Count, log: &Log) -> Result<()> {
    let h2spec = go::H2SPEC.install(paths, log)?;
    let services = Services::start(log)?;
    let tests = cargo(paths)
        .args([
            "test",
            "--locked",
            "--workspace",
            "--exclude",
            "valerix-e2e",
            "--no-fail-fast",
        ])
        .env("TEST_DATABASE_URL", &services.database_url)
        .env("TEST_REDIS_URL", &services.redis_url)
        .env("VALERIX_H2SPEC", &h2spec)
        .run(log);
    drop(services);
    judge(tests, count, log)
}

fn end_to_end(paths: &Paths, cluster: &Cluster<'_>, steps: &mut Steps, count: &mut Count) {
    println!("\nEnd-to-end tests on {}", cluster.describe());
    // One test cluster per machine: a second `make test` waits for the first.
    let lock = steps.run("Waiting for other test runs", |log| lock(paths, log));
    let Ok(_lock) = lock else { return };
    let tested = (|| -> Result<()> {
        steps.run("Removing what an interrupted run left", |log| cluster.down(log))?;
        let artifacts = steps.run("Compiling the tests", |log| compile(paths, log))?;
        let built = steps.run("Building the images", |log| {
            // Compiled with the tests.
            let programs = images::compile(paths, cluster.builder(), Profile::Dev, log)?;
            images::build(paths, cluster.builder(), &programs, log)
        })?;
        let access = steps.run("Bringing the cluster up", |log| cluster.up(log))?;
        let loaded = steps.run("Loading the images", |log| cluster.load(&built, log))?;
        steps.run("End-to-end tests", |log| {
            let tests = test_on(paths, cluster, (&access, &loaded), &artifacts, log);
            judge(tests, count, log)
        })
    })();
    if tested.is_err() && std::env::var_os(KEEP).is_some() {
        println!("\n{KEEP} is set: the cluster is left as it is; make down removes it");
        return;
    }
    // On the way out everything is removed even after an interrupt.
    let interrupted = interrupt::requested();
    interrupt::clear();
    drop(steps.run("Removing the cluster", |log| cluster.down(log)));
    if interrupted {
        interrupt::request();
    }
}

/// Runs every test program of the e2e crate, also after one has failed.
fn test_on(
    paths: &Paths,
    cluster: &Cluster<'_>,
    (access, images): (&Access, &BTreeMap<String, String>),
    artifacts: &Artifacts,
    log: &Log,
) -> Result<()> {
    log.say(&format!("KUBECONFIG={}", access.kubeconfig.display()));
    let mut outcome = Ok(());
    for test in artifacts.tests_of(&paths.checkout.join("e2e")) {
        // They wait more than they compute: more at a time than there are cores.
        let program = cluster
            .harness(&test.path, access, images)?
            .args(["--test-threads=6", "--nocapture"])
            .in_folder(&test.folder);
        outcome = outcome.and(
            program
                .run(log)
                .with_context(|| format!("the test program {} failed", test.name)),
        );
        interrupt::check()?;
    }
    outcome
}

fn lock(paths: &Paths, log: &Log) -> Result<File> {
    let path = paths.cache.join("test-cluster.lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .context("failed to open the lock")?;
    while file.try_lock().is_err() {
        interrupt::check()?;
        log.heartbeat();
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    Ok(file)
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
    }
}
