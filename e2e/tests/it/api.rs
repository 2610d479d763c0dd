//! The kinds as a user meets them: columns, waiting, explanations, examples.

use anyhow::{Result, ensure};
use std::time::Duration;
use valerix_crds::{ResilientService, names::condition as types};
use valerix_e2e::kubectl::kubectl_with;
use valerix_e2e::world::{SHOP, World, has_condition, shop_services};

#[tokio::test(flavor = "multi_thread")]
async fn one_command_shows_everything_with_its_columns() -> Result<()> {
    let world = World::with_shop().await?;
    for service in shop_services()?.keys() {
        let ready = |service: &ResilientService| {
            service
                .status
                .as_ref()
                .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
        };
        world
            .object(SHOP, service, "Ready", Duration::from_secs(60), ready)
            .await?;
    }
    // Services that begin before auth open its circuit until it answers.
    let closed = |service: &ResilientService| {
        let status = service.status.as_ref();
        status.is_some_and(|status| has_condition(&status.conditions, types::CIRCUITS_CLOSED, "True"))
    };
    let within = Duration::from_secs(60);
    world.object(SHOP, "order", "CircuitsClosed", within, closed).await?;
    let table = world.kubectl("get valerix -n shop").await?.text()?;
    let row = |name: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(Into::into).collect()
    };
    let order = row("resilientservice.resilience.valerix.io/order");
    ensure!(
        order[1..6] == ["True", "AllPodsCurrent", "2/2", "2/2", "closed"],
        "{table}"
    );
    ensure!(
        order[6].starts_with("order:"),
        "the image is shown without its registry: {table}"
    );
    ensure!(
        table.contains("READY") && table.contains("CONFIG") && table.contains("CIRCUITS"),
        "{table}"
    );
    let policy = row("backuppolicy.resilience.valerix.io/shop");
    ensure!(policy[1..3] == ["00:00", "Etc/UTC"], "the schedule is shown: {table}");
    ensure!(table.contains("LAST-SUCCESS") && table.contains("STALE"), "{table}");

    world
        .kubectl("wait -n shop --for=condition=Ready rsvc/order --timeout=30s")
        .await?
        .text()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_fields_with_unit_and_default() -> Result<()> {
    let world = World::shared().await?;
    for (path, texts) in [
        (
            "resilientservice.spec.resilience.targets.circuitBreaker.consecutiveFailures",
            ["Unit: calls", "Default: off"],
        ),
        (
            "rsvc.spec.terminationGracePeriodSeconds",
            ["Unit: seconds", "Default: 45"],
        ),
        ("chaos.spec.latency.delay", ["Unit: duration", "Required."]),
        ("chaosexperiment.spec.count", ["Unit: pods or percent", "Default: 1"]),
        ("bkp.spec.schedule.timeOfDay", ["Unit: HH:MM", "Default: 00:00"]),
        ("backup.spec.slot", ["yyyy-mm-dd", "Required."]),
    ] {
        let text = world
            .kubectl(&format!("explain {path}"))
            .await?
            .text()?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        for wanted in texts {
            ensure!(
                text.contains(wanted),
                "`kubectl explain {path}` does not say `{wanted}`: {text}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_and_the_one_for_any_image_runs() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("examples", async |namespace| {
            // The images of whole applications are not at hand, and a machine of two cores has no room for them.
            for (folder, stored, least) in [
                ("examples", "none", 6),
                ("examples/chaos", "none", 1),
                ("examples/workloads", "server", 2),
            ] {
                let mut found = 0;
                for entry in std::fs::read_dir(world.environment.root.join(folder))? {
                    let path = entry?.path();
                    if path.extension().is_some_and(|extension| extension == "yaml") {
                        let dry_run = format!("--dry-run={stored}");
                        let arguments = ["create", &dry_run, "-n", namespace, "-f", "-"];
                        let example = std::fs::read_to_string(&path)?;
                        let output = kubectl_with(&world.environment, &arguments, Some(&example)).await?;
                        ensure!(output.success, "{}: {}", path.display(), output.all());
                        ensure!(
                            !output.stderr.contains("Warning"),
                            "{}: {}",
                            path.display(),
                            output.stderr
                        );
                        found += 1;
                    }
                }
                ensure!(found >= least, "only {found} examples were found in {folder}");
            }
            let ready = |service: &ResilientService| {
                service
                    .status
                    .as_ref()
                    .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
            };
            let cache = world
                .object::<ResilientService>(namespace, "cache", "Ready", Duration::from_secs(90), ready)
                .await?;
            let status = cache.status.unwrap_or_default();
            let circuits = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == types::CIRCUITS_CLOSED);
            ensure!(
                circuits.is_some_and(|condition| condition.status == "Unknown" && condition.reason == "NotReported"),
                "a service that does not report has no evidence about circuits: {:?}",
                status.conditions
            );
            Ok(())
        })
        .await
}
