//! A game day: every experiment of `examples/chaos`, one after another, while customers order; then the shop's Redis and its
//! PostgreSQL are taken away, which are no ResilientServices and so no experiment's target; and the books at the end.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use valerix_crds::{
    ChaosExperiment, ChaosExperimentStatus, ResilientService, Verdict as Judgement,
    names::{RUN_ANNOTATION, condition as types},
};

use super::{
    Options,
    client::Client,
    measured::{Measured, Verdict},
    open::{Stretch, send},
    scenarios::{ITEM, STOCK, nothing_lost, supply},
};
use crate::{
    experiments,
    world::{SHOP, World, has_condition, shop_services},
};

/// Customers order all day, and leave the cluster something to recover with. Unit: orders per second.
const RATE: f64 = 2.0;
/// So long the load goes on before it is looked whether the day is over.
const CHUNK: Duration = Duration::from_secs(5);
/// Orders that may be under way.
const MOST_UNDER_WAY: usize = 200;
/// Who was hurt may take so long to be itself before the next experiment.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// What the shop stands on: StatefulSets of one pod each.
const FOUNDATIONS: [&str; 2] = ["redis", "postgres"];

/// One experiment of the day and what came of it.
struct Row {
    experiment: ChaosExperiment,
    status: ChaosExperimentStatus,
}

impl Row {
    /// Whether it says what it is there to say. The loss of a zone that this cluster does not have, or that has
    /// everybody, says nothing.
    fn holds(&self) -> bool {
        let nobody = matches!(self.status.reason.as_deref(), Some("NoTargets" | "NotEnoughPods"));
        let elsewhere = self.experiment.spec.target.zone.is_some() && nobody;
        self.status.verdict == Some(Judgement::Pass) || elsewhere
    }

    fn line(&self) -> String {
        let status = &self.status;
        let summary = status.summary.clone().unwrap_or_default();
        let word = |text: Option<&str>| text.unwrap_or("-").to_owned();
        format!(
            "{:<24} {:<13} {:<10} {:<8} {:<12} {:<8} {}",
            self.experiment.metadata.name.clone().unwrap_or_default(),
            summary.kind,
            self.experiment.spec.target.service,
            if summary.injected.is_empty() {
                "-"
            } else {
                &summary.injected
            },
            status
                .verdict
                .map_or_else(|| "-".to_owned(), |verdict| format!("{verdict:?}")),
            word(status.time_to_recover.as_deref()),
            word(status.reason.as_deref()),
        )
    }
}

/// Plays the day.
pub(super) async fn day(world: &World, options: &Options) -> Result<Verdict> {
    supply(world, ITEM, STOCK).await?;
    let client = Client::of(world, "order", options.url.as_deref()).await?;
    let library = library(&world.environment.root.join("examples/chaos"))?;
    let (over, ended) = watch::channel(false);
    let customers = async {
        let mut all = Measured::default();
        while !*ended.borrow() {
            let measured = send(&[Stretch::steady(RATE, CHUNK)], MOST_UNDER_WAY, |_| {
                let client = client.clone();
                async move { client.order(ITEM, &[]).await }
            })
            .await;
            all.add(measured);
        }
        all
    };
    let experiments = async {
        let played = all_of_it(world, library).await;
        // Nobody but this function holds the other end.
        let _ = over.send(true);
        played
    };
    let (measured, rows) = tokio::join!(customers, Box::pin(experiments));
    let rows = rows?;
    println!("{}", table(&rows));
    println!("  {measured}");
    let mut verdict = Verdict::default();
    for row in &rows {
        let message = row.status.message.clone().unwrap_or_default();
        let name = row.experiment.metadata.name.clone().unwrap_or_default();
        verdict.must(row.holds(), format!("{name}: {message}"));
    }
    nothing_lost(world, &measured, &mut verdict).await?;
    Ok(verdict)
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "\n  {:<24} {:<13} {:<10} {:<8} {:<12} {:<8} {}",
        "EXPERIMENT", "FAULT", "TARGET", "INJECTED", "VERDICT", "RECOVERY", "REASON"
    );
    for row in rows {
        // Writing into a String cannot fail.
        let _ = write!(text, "\n  {}", row.line());
    }
    text
}

/// The experiments of a folder, in the order of their files.
fn library(folder: &Path) -> Result<Vec<(ChaosExperiment, Value)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    let mut library = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).with_context(|| format!("failed to read {}", file.display()))?;
            if !value.is_null() {
                let experiment = serde_json::from_value(value.clone())
                    .with_context(|| format!("{} holds no experiment", file.display()))?;
                library.push((experiment, value));
            }
        }
    }
    ensure!(!library.is_empty(), "{} holds no experiment", folder.display());
    Ok(library)
}

async fn all_of_it(world: &World, library: Vec<(ChaosExperiment, Value)>) -> Result<Vec<Row>> {
    let rows = play_all(world, library).await?;
    for name in FOUNDATIONS {
        match without(world, name).await? {
            Some(took) => println!(
                "  {name:<24} its pod was deleted; the next one was ready after {:.1} s",
                took.as_secs_f64()
            ),
            None => println!("  {name:<24} is not the shop's own; left alone"),
        }
        everybody_is_ready(world).await?;
    }
    Ok(rows)
}

/// Deletes the one pod and waits until its successor is ready. None where there is no such pod.
async fn without(world: &World, name: &str) -> Result<Option<Duration>> {
    let pods = world.api::<Pod>(SHOP);
    let pod = format!("{name}-0");
    let Some(found) = pods.get_opt(&pod).await? else {
        return Ok(None);
    };
    let began = Instant::now();
    pods.delete(&pod, &DeleteParams::default())
        .await
        .with_context(|| format!("failed to delete pod {pod}"))?;
    let back = |next: &Pod| {
        let conditions = next.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
        next.metadata.uid != found.metadata.uid && ready.next().is_some()
    };
    world
        .object(SHOP, &pod, "a successor that is ready", READY_WITHIN, back)
        .await?;
    Ok(Some(began.elapsed()))
}

async fn play_all(world: &World, library: Vec<(ChaosExperiment, Value)>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (experiment, object) in library {
        everybody_is_ready(world).await?;
        let status = play(world, &experiment, object).await?;
        let row = Row { experiment, status };
        println!("  {}", row.line());
        rows.push(row);
    }
    everybody_is_ready(world).await?;
    Ok(rows)
}

/// Runs one experiment and awaits its end.
async fn play(world: &World, experiment: &ChaosExperiment, mut object: Value) -> Result<ChaosExperimentStatus> {
    let name = experiment.metadata.name.clone().context("the experiment has no name")?;
    let run = experiments::run_id();
    // Nobody's stock is used up by a probe that orders every second.
    let probes = object
        .pointer_mut("/spec/steadyState/probes")
        .and_then(Value::as_array_mut);
    for probe in probes.into_iter().flatten() {
        if let Some(Value::String(text)) = probe.pointer_mut("/http/body") {
            *text = text.replace("\"ps5\"", &format!("\"{ITEM}\""));
        }
    }
    object["metadata"]["namespace"] = json!(SHOP);
    object["metadata"]["annotations"] = json!({RUN_ANNOTATION: run});
    world
        .api::<ChaosExperiment>(SHOP)
        .patch(
            &name,
            &PatchParams::apply("valerix-gameday").force(),
            &Patch::Apply(&object),
        )
        .await
        .with_context(|| format!("failed to apply experiment {name}"))?;
    experiments::ended(world, &name, &run).await
}

async fn everybody_is_ready(world: &World) -> Result<()> {
    let ready = |service: &ResilientService| {
        let status = service.status.as_ref();
        status.is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
    };
    for name in shop_services()?.keys() {
        world.object(SHOP, name, "Ready", READY_WITHIN, ready).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(zone: Option<&str>, verdict: Judgement, reason: &str) -> Row {
        let mut target = json!({"service": "inventory"});
        target["zone"] = json!(zone);
        let object = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
            "metadata": {"name": "test"}, "spec": {"target": target, "podKill": {}},
        });
        Row {
            experiment: serde_json::from_value(object).unwrap(),
            status: ChaosExperimentStatus {
                verdict: Some(verdict),
                reason: Some(reason.into()),
                ..ChaosExperimentStatus::default()
            },
        }
    }

    #[test]
    fn only_a_pass_holds_and_a_zone_that_is_not_there() {
        assert!(row(None, Judgement::Pass, "SteadyStateHeld").holds());
        assert!(row(Some("zone-a"), Judgement::Error, "NoTargets").holds());
        assert!(row(Some("zone-a"), Judgement::Skipped, "NotEnoughPods").holds());
        for (zone, verdict, reason) in [
            (None, Judgement::Error, "NoTargets"),
            (None, Judgement::Skipped, "NotEnoughPods"),
            (Some("zone-a"), Judgement::Fail, "SteadyStateDeviated"),
            (None, Judgement::NotEvaluated, "NoRequestAffected"),
            (None, Judgement::Skipped, "NotAdmitted"),
        ] {
            assert!(!row(zone, verdict, reason).holds(), "{reason}");
        }
    }

    #[test]
    fn the_library_is_read_in_order_and_judges_each_of_its_faults() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chaos");
        let library = library(&root).unwrap();
        let names: Vec<_> = library
            .iter()
            .map(|(one, _)| one.metadata.name.clone().unwrap())
            .collect();
        assert!(names.len() >= 8 && names.is_sorted(), "{names:?}");
        for (experiment, _) in library {
            let steady = experiment
                .spec
                .steady_state
                .expect("an experiment without a steady state proves nothing");
            assert!(!steady.probes.is_empty());
        }
    }
}
