//! A game day: every experiment of `examples/chaos`, one after another, while customers order, and the books at the end. What
//! the shop stands on is an experiment's target only where the chart puts it behind a guard (`redis.guarded`,
//! `postgres.guarded`); elsewhere its pod is deleted, of which there is no verdict. What did not run is told as that.

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
    experiments, shop,
    world::{SHOP, World, eventually, has_condition, shop_services},
};

/// Customers order all day, and leave the cluster something to recover with. Unit: orders per second.
const RATE: f64 = 2.0;
/// So long the load goes on before it is looked whether the day is over.
const CHUNK: Duration = Duration::from_secs(5);
/// Orders that may be under way.
const MOST_UNDER_WAY: usize = 200;
/// Who was hurt may take so long to be itself before the next experiment.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// What the shop stands on: StatefulSets of one pod each, unless they are guarded.
const FOUNDATIONS: [&str; 2] = ["redis", "postgres"];

/// One experiment of the day and what came of it.
struct Row {
    experiment: ChaosExperiment,
    status: ChaosExperimentStatus,
    /// How long the shop was without its target, where its pod was deleted instead.
    without: Option<Duration>,
}

/// What a row says of the shop.
#[derive(Debug, PartialEq)]
enum Says {
    /// It withstood the fault.
    Holds,
    /// It did not, or nobody knows.
    Broken,
    /// Nothing: this cluster does not have what would be hurt. Why.
    Nothing(String),
}

impl Row {
    fn name(&self) -> String {
        self.experiment.metadata.name.clone().unwrap_or_default()
    }

    /// The loss of a zone that this cluster does not have, or that has everybody, says nothing; nor does one whose target is
    /// no ResilientService here.
    fn says(&self) -> Says {
        let (status, target) = (&self.status, &self.experiment.spec.target);
        let reason = status.reason.as_deref().unwrap_or_default();
        if let Some(took) = self.without {
            return Says::Nothing(format!(
                "{} is no ResilientService of this shop; its pod was deleted, and the next one was ready after {:.1} s",
                target.service,
                took.as_secs_f64()
            ));
        }
        match (status.verdict, reason) {
            (Some(Judgement::Pass), _) => Says::Holds,
            (_, "NoTargets" | "NotEnoughPods") if target.zone.is_some() => {
                Says::Nothing(format!("{reason}: {}", status.message.clone().unwrap_or_default()))
            }
            (_, "TargetNotFound") if FOUNDATIONS.contains(&target.service.as_str()) => {
                Says::Nothing(format!("{} is not the shop's own", target.service))
            }
            _ => Says::Broken,
        }
    }

    /// A line of the table, which is one of Markdown.
    fn line(&self) -> String {
        let status = &self.status;
        let summary = status.summary.clone().unwrap_or_default();
        let word = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let verdict = match self.says() {
            Says::Nothing(_) => "not run".to_owned(),
            _ => status
                .verdict
                .map_or_else(|| "-".to_owned(), |verdict| format!("{verdict:?}")),
        };
        columns([
            &self.name(),
            &word(Some(summary.kind.as_str()).filter(|kind| !kind.is_empty())),
            &self.experiment.spec.target.service,
            &word(Some(summary.injected.as_str()).filter(|injected| !injected.is_empty())),
            &verdict,
            &word(status.time_to_recover.as_deref()),
            &word(status.reason.as_deref()),
        ])
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
        let played = play_all(world, library).await;
        // Nobody but this function holds the other end.
        let _ = over.send(true);
        played
    };
    let (measured, rows) = tokio::join!(customers, Box::pin(experiments));
    let rows = rows?;
    println!("\n{}\n\n{measured}", table(&rows));
    let mut verdict = judged(&rows);
    verdict.must(
        measured.accepted() > 0,
        format!("{} orders were accepted in the course of the day", measured.accepted()),
    );
    nothing_lost(world, &measured, &mut verdict).await?;
    Ok(verdict)
}

/// One line for each experiment that ran. One that did not holds nothing and breaks nothing; a day on which none ran does.
fn judged(rows: &[Row]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut ran = 0;
    for row in rows {
        let says = row.says();
        if matches!(says, Says::Holds | Says::Broken) {
            ran += 1;
            let message = row.status.message.clone().unwrap_or_default();
            verdict.must(says == Says::Holds, format!("{}: {message}", row.name()));
        }
    }
    verdict.must(ran > 0, format!("{ran} of {} experiments ran", rows.len()));
    verdict
}

const WIDTHS: [usize; 7] = [24, 13, 10, 8, 12, 8, 20];

fn columns(cells: [&str; 7]) -> String {
    let cells = cells.iter().zip(WIDTHS);
    cells.fold("|".to_owned(), |line, (cell, width)| format!("{line} {cell:<width$} |"))
}

/// In Markdown, so that it can be kept in a document as it is.
fn table(rows: &[Row]) -> String {
    let rule = WIDTHS.map(|width| "-".repeat(width));
    let mut text = columns([
        "Experiment",
        "Fault",
        "Target",
        "Injected",
        "Verdict",
        "Recovery",
        "Reason",
    ]);
    let lines = std::iter::once(columns(rule.each_ref().map(String::as_str))).chain(rows.iter().map(Row::line));
    for line in lines {
        // Writing into a String cannot fail.
        let _ = write!(text, "\n{line}");
    }
    text.push('\n');
    for row in rows {
        if let Says::Nothing(why) = row.says() {
            let _ = write!(
                text,
                "\n- {} did not run and says nothing of this shop: {why}",
                row.name()
            );
        }
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
        let row = play(world, experiment, object).await?;
        println!("  {}", row.line());
        rows.push(row);
    }
    everybody_is_ready(world).await?;
    Ok(rows)
}

/// Runs one experiment and awaits its end; or deletes the pod of a target that is no ResilientService.
async fn play(world: &World, experiment: ChaosExperiment, object: Value) -> Result<Row> {
    let target = experiment.spec.target.service.as_str();
    let is_foundation = FOUNDATIONS.contains(&target);
    if is_foundation && world.api::<ResilientService>(SHOP).get_opt(target).await?.is_none() {
        let without = without(world, target).await?;
        // The next experiment begins with orders that are accepted, as everybody has found back to what was gone.
        let accepted = eventually(READY_WITHIN, || async { shop::place(world, ITEM, 1).await.ok() });
        accepted
            .await
            .with_context(|| format!("no order is accepted after {target} was gone"))?;
        let status = ChaosExperimentStatus {
            reason: Some("TargetNotFound".into()),
            ..ChaosExperimentStatus::default()
        };
        return Ok(Row {
            experiment,
            status,
            without,
        });
    }
    let status = run(world, &experiment, object).await?;
    Ok(Row {
        experiment,
        status,
        without: None,
    })
}

async fn run(world: &World, experiment: &ChaosExperiment, mut object: Value) -> Result<ChaosExperimentStatus> {
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

    fn row(service: &str, zone: Option<&str>, verdict: Option<Judgement>, reason: &str) -> Row {
        let mut target = json!({"service": service});
        target["zone"] = json!(zone);
        let object = json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
            "metadata": {"name": "test"}, "spec": {"target": target, "podKill": {}},
        });
        Row {
            experiment: serde_json::from_value(object).unwrap(),
            status: ChaosExperimentStatus {
                verdict,
                reason: Some(reason.into()),
                ..ChaosExperimentStatus::default()
            },
            without: None,
        }
    }

    #[test]
    fn only_a_pass_holds_and_what_did_not_run_says_nothing() {
        let (inventory, zone) = ("inventory", Some("zone-a"));
        assert_eq!(
            row(inventory, None, Some(Judgement::Pass), "SteadyStateHeld").says(),
            Says::Holds
        );
        for row in [
            row(inventory, zone, Some(Judgement::Error), "NoTargets"),
            row(inventory, zone, Some(Judgement::Skipped), "NotEnoughPods"),
            row("redis", None, None, "TargetNotFound"),
        ] {
            assert!(matches!(row.says(), Says::Nothing(_)), "{:?}", row.says());
            assert!(row.line().contains(" not run "), "{}", row.line());
            let table = table(&[row]);
            assert!(
                table.contains("test did not run and says nothing of this shop: "),
                "{table}"
            );
        }
        for (zone, verdict, reason) in [
            (None, Judgement::Error, "NoTargets"),
            (None, Judgement::Skipped, "NotEnoughPods"),
            (zone, Judgement::Fail, "SteadyStateDeviated"),
            (None, Judgement::NotEvaluated, "NoRequestAffected"),
            (None, Judgement::Skipped, "NotAdmitted"),
            (None, Judgement::Skipped, "TargetNotFound"),
        ] {
            assert_eq!(
                row(inventory, zone, Some(verdict), reason).says(),
                Says::Broken,
                "{reason}"
            );
        }
    }

    #[test]
    fn the_table_is_one_of_markdown() {
        let held = row("inventory", None, Some(Judgement::Pass), "SteadyStateHeld");
        let gone = row("inventory", Some("zone-a"), Some(Judgement::Skipped), "NotEnoughPods");
        let text = table(&[held, gone]);
        let (lines, notes) = text.split_once("\n\n").unwrap();
        let lines: Vec<Vec<&str>> = lines
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines.iter().all(|cells| cells.len() == WIDTHS.len()), "{text}");
        assert!(
            lines[1]
                .iter()
                .all(|cell| !cell.is_empty() && cell.trim_matches('-').is_empty()),
            "{text}"
        );
        assert_eq!(
            lines[2],
            ["test", "-", "inventory", "-", "Pass", "-", "SteadyStateHeld"]
        );
        assert_eq!(lines[3][4], "not run");
        assert!(notes.starts_with("- test did not run"), "{text}");
    }

    #[test]
    fn a_day_on_which_nothing_ran_does_not_pass() {
        let nobody = || row("inventory", Some("zone-a"), Some(Judgement::Skipped), "NotEnoughPods");
        let mut deleted = row("redis", None, None, "TargetNotFound");
        deleted.without = Some(Duration::from_secs(3));
        let verdict = judged(&[nobody(), deleted]);
        assert!(!verdict.passes());
        assert!(
            verdict.to_string().contains("BROKEN 0 of 2 experiments ran"),
            "{verdict}"
        );
        let held = row("inventory", None, Some(Judgement::Pass), "SteadyStateHeld");
        let verdict = judged(&[held, nobody()]);
        assert!(verdict.passes(), "{verdict}");
        assert!(verdict.to_string().contains("1 of 2 experiments ran"), "{verdict}");
    }

    #[test]
    fn the_library_is_read_in_order_and_judges_each_of_its_faults() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chaos");
        let library = library(&root).unwrap();
        let names: Vec<_> = library
            .iter()
            .map(|(one, _)| one.metadata.name.clone().unwrap())
            .collect();
        assert!(names.len() >= 10 && names.is_sorted(), "{names:?}");
        for (experiment, _) in library {
            let steady = experiment
                .spec
                .steady_state
                .expect("an experiment without a steady state proves nothing");
            assert!(!steady.probes.is_empty());
        }
    }
}
