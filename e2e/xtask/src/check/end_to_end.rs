//! The end-to-end tests: what they run on is made for them and removed after them.

use std::collections::BTreeMap;
use std::fs::{self, File};

use anyhow::{Context, Result};

use super::{KEEP, Scope, compile};
use crate::clusters::{Access, Cluster};
use crate::counting::{Count, judge};
use crate::images::{self, Profile};
use crate::interrupt;
use crate::paths::Paths;
use crate::steps::{Log, Steps};
use crate::tools::go;
use crate::workspace::Artifacts;

/// The end-to-end tests that need several nodes.
const OF_PLACEMENT: &str = "placement::";
/// The one that needs fake nodes. What is beside it in `scale` needs no cluster at all.
const OF_SCALE: &str = "scale::many_services_of_three_pods_cost_little_and_wait_for_nobody";
/// How their figures begin, which a person is shown.
const FIGURES: &str = "scale: ";

/// Images, a cluster, every end-to-end test; the cluster is removed whatever happens, unless the person wants to look at it.
pub fn run(paths: &Paths, cluster: &Cluster<'_>, scope: Scope, steps: &mut Steps, count: &mut Count) {
    println!("\nEnd-to-end tests on {}", cluster.describe());
    // One test cluster per machine: a second `make test` waits for the first.
    let lock = steps.run("Waiting for other test runs", |log| lock(paths, log));
    let Ok(_lock) = lock else { return };
    let tested = (|| -> Result<()> {
        steps.run("Removing what an interrupted run left", |log| cluster.down(log))?;
        let artifacts = steps.run("Compiling the tests", |log| compile(paths, log))?;
        let built = steps.run("Building the images", |log| {
            // Compiled with the tests, unless they are measured.
            let profile = match scope {
                Scope::Scale { .. } => Profile::Release,
                _ => Profile::Dev,
            };
            let programs = images::compile(paths, cluster.builder(), profile, log)?;
            images::build(paths, cluster.builder(), &programs, log)
        })?;
        let access = steps.run("Bringing the cluster up", |log| cluster.up(log))?;
        let loaded = steps.run("Loading the images", |log| cluster.load(&built, log))?;
        steps.run("End-to-end tests", |log| {
            let chosen: &[&str] = match scope {
                Scope::Placement => &[OF_PLACEMENT],
                Scope::Scale { .. } => &[OF_SCALE, "--nocapture"],
                _ => &["--skip", OF_PLACEMENT, "--skip", OF_SCALE],
            };
            let tests = test_on(paths, cluster, (&access, &loaded), (&artifacts, chosen), scope, log);
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

/// Runs the chosen tests of every test program of the e2e crate, also after one has failed.
fn test_on(
    paths: &Paths,
    cluster: &Cluster<'_>,
    (access, images): (&Access, &BTreeMap<String, String>),
    (artifacts, chosen): (&Artifacts, &[&str]),
    scope: Scope,
    log: &Log,
) -> Result<()> {
    log.say(&format!("KUBECONFIG={}", access.kubeconfig.display()));
    let store = go::VERSITYGW.install(paths, log)?;
    let mut outcome = Ok(());
    for test in artifacts.tests_of(&paths.checkout.join("e2e")) {
        // They wait more than they compute: more at a time than there are cores.
        let program = cluster
            .harness(&test.path, access, images)?
            .env("VALERIX_STORE_PROGRAM", &store)
            // Output that is captured is repeated under the name of its test, so that a failure says its reason at the end.
            .args(["--test-threads=6", "--show-output"])
            .args(chosen)
            .in_folder(&test.folder);
        let ran = match scope {
            Scope::Scale { services } => {
                let measured = program.env("VALERIX_ROUNDS", services.to_string());
                measured.run_seeing(log, |line| {
                    if line.starts_with(FIGURES) {
                        log.say(line);
                    }
                })
            }
            _ => program.run(log),
        };
        outcome = outcome.and(ran.with_context(|| format!("the test program {} failed", test.name)));
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
    use std::path::Path;

    /// A name that no test has would skip nothing, and the campaign would end well, having tried nothing.
    #[test]
    fn the_test_of_scale_has_that_name_and_is_the_only_one_with_it() {
        let (file, test) = OF_SCALE.split_once("::").unwrap();
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/it");
        let text = fs::read_to_string(tests.join(file).with_extension("rs")).unwrap();
        assert_eq!(text.matches(&format!("async fn {test}")).count(), 1);
        assert!(text.contains(&format!("async fn {test}()")));
    }
}
