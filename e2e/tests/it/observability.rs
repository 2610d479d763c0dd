//! What Prometheus makes of the shop in a real cluster: every board's question has an answer where there is something to
//! tell, the labels are those of the table of metrics, and an alert fires when there is reason to, and not before.

use crate::{backup, chaos};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use valerix_crds::ChaosExperiment;
use valerix_e2e::{
    kubectl, shop,
    world::{SHOP, World, eventually, shop_services},
};

const SOON: Duration = Duration::from_secs(45);
/// The board whose answers need a backup, and no shop.
const BACKUPS: &str = "valerix/backup.json";
/// A stream that one group reads.
const STREAM: &str = "valerix:payment.commands";

/// Questions that have no answer where all is well, by what only they ask for, each with the reason.
const RIGHTLY_EMPTY: [(&str, &str); 10] = [
    ("resilience_circuit_state", "every circuit is closed"),
    ("resilience_retries_total", "nothing had to be repeated"),
    ("resilience_failovers_total", "every address took what was sent to it"),
    (
        "resilience_concurrency_inflight",
        "no service of the shop is told how many requests it may have at a time",
    ),
    ("resilience_concurrency_queued", "as above"),
    ("resilience_concurrency_limit", "as above"),
    ("valerix_restore_failed", "no Restore has failed"),
    ("valerix_watch_errors_total", "no watch has failed"),
    ("valerix_invalid_objects_total", "every object could be read"),
    (r#"status!="True""#, "every service is ready"),
];
/// What marks a run's end: the first of its kind and verdict is no growth.
const END_OF_A_RUN: &str = "increase(valerix_chaos_runs_total[1m])";

/// What Prometheus answers at `path`, asked with one parameter.
async fn prometheus(world: &World, path: &str, name: &str, value: &str) -> Result<Value> {
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("{path}?{name}={encoded}");
    let reply = shop::ask(world, SHOP, "GET", "prometheus", &path, &[], "").await?;
    let answer: Value = reply.json()?;
    ensure!(answer["status"] == "success", "{value}: {answer}");
    Ok(answer["data"].clone())
}

async fn query(world: &World, query: &str) -> Result<Vec<Value>> {
    let data = prometheus(world, "/api/v1/query", "query", query).await?;
    Ok(data["result"].as_array().cloned().unwrap_or_default())
}

/// A question of a board.
#[derive(Debug)]
struct Question {
    /// Its chart and file, such as `valerix/chaos.json`.
    board: String,
    text: String,
}

/// What every board asks, for its graphs and for what it marks in them.
fn questions(world: &World) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for chart in ["valerix", "valerix-shop"] {
        let folder = world.environment.root.join("charts").join(chart).join("boards");
        for entry in std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
            let entry = entry?;
            let board: Value = serde_json::from_str(&std::fs::read_to_string(entry.path())?)?;
            let panels = board["panels"].as_array().context("a board has panels")?;
            let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
            let marks = board["annotations"]["list"].as_array().into_iter().flatten();
            for target in targets.chain(marks) {
                let text = target["expr"].as_str().context("a target has a query")?;
                questions.push(Question {
                    board: format!("{chart}/{}", entry.file_name().to_string_lossy()),
                    text: text.replace("$namespace", ".*"),
                });
            }
        }
    }
    for (part, reason) in RIGHTLY_EMPTY {
        let is_asked = questions.iter().any(|question| question.text.contains(part));
        ensure!(is_asked, "no board asks for {part} ({reason})");
    }
    Ok(questions)
}

/// Leaves those that must have an answer, after each of the others was understood.
async fn to_be_answered(world: &World, questions: Vec<Question>) -> Result<Vec<Question>> {
    let mut open = Vec::new();
    for question in questions {
        query(world, &question.text).await.context(question.board.clone())?;
        let mut may_be_empty = RIGHTLY_EMPTY.iter().map(|(part, _)| *part).chain([END_OF_A_RUN]);
        if !may_be_empty.any(|part| question.text.contains(part)) {
            open.push(question);
        }
    }
    Ok(open)
}

/// Asks until none is left that `concerns`; one that was answered is not asked again.
async fn answered(world: &World, open: &mut Vec<Question>, concerns: impl Fn(&Question) -> bool) -> Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let mut left = Vec::new();
        for question in open.drain(..) {
            let answer = query(world, &question.text).await.unwrap_or_default();
            if answer.is_empty() {
                left.push(question);
            }
        }
        *open = left;
        let waiting: Vec<&Question> = open.iter().filter(|question| concerns(question)).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "no answer to {waiting:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs one command of Redis in its pod.
async fn redis(world: &World, command: &str) -> Result<String> {
    let script = format!("REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli {command}");
    let arguments = ["exec", "-n", SHOP, "service/redis", "--", "sh", "-c", &script];
    kubectl::kubectl_with(&world.environment, &arguments, None)
        .await?
        .text()
}

async fn fires(world: &World, alert: &str) -> Result<bool> {
    let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",stream=\"payment.commands\"}}");
    Ok(!query(world, &firing).await?.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_boards_have_answers() -> Result<()> {
    let world = World::with_shop().await?;
    let (order, _) = shop::place(&world, "ps5", 1).await?;
    shop::settled(&world, &[order.order_id], SOON).await?;
    // Refused or not, a limit decides about it.
    shop::ask(&world, SHOP, "POST", "gateway", "/payments", &[], "").await?;
    let elsewhere = |question: &Question| question.board != BACKUPS;
    let mut open = to_be_answered(&world, questions(&world)?).await?;
    open.retain(elsewhere);

    let probe = json!({"name": "order-ready", "condition": {"name": "order", "type": "Ready"}});
    let spec =
        json!({"latency": {"delay": "100ms"}, "count": "100%", "duration": "20s", "steadyState": {"probes": [probe]}});
    let name = chaos::start(&world, "boards", spec).await?;
    world
        .object::<ChaosExperiment>(SHOP, &name, "injected", SOON, chaos::injected)
        .await?;
    // What it touches is counted in the pod that answers: a few requests meet both.
    for _ in 0..8 {
        shop::ask(&world, SHOP, "GET", "inventory", "/api/inventory/ps5", &[], "").await?;
    }
    // While it is in force, and not after it.
    let while_it_lasts = answered(&world, &mut open, |question| question.text.contains("resilience_fault")).await;
    chaos::recovered(&world, &name, Duration::from_secs(60)).await?;
    while_it_lasts?;
    answered(&world, &mut open, |_| true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_of_backups_has_answers() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("boards", async |namespace| {
        backup::prepare(&world, namespace, "nightly", json!({})).await?;
        backup::run_by_hand(&world, namespace, "nightly", "boards").await?;
        let record = backup::finished(&world, namespace, "nightly", Duration::from_secs(120)).await?;
        backup::restored_on_trial(&world, namespace, &record.name_any()).await?;
        let mut questions = questions(&world)?;
        questions.retain(|question| question.board == BACKUPS);
        let mut open = to_be_answered(&world, questions).await?;
        answered(&world, &mut open, |_| true).await
    });
    Box::pin(test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_is_scraped_and_every_label_is_known() -> Result<()> {
    let world = World::with_shop().await?;
    let mut awaited: BTreeSet<String> = shop_services()?.into_keys().collect();
    awaited.extend(["valerix-operator", "valerix-console"].map(str::to_owned));
    let up = eventually(SOON, || async {
        let up = query(&world, "sum by (service) (up)").await.ok()?;
        let names: BTreeSet<String> = up
            .iter()
            .filter(|one| one["value"][1] != "0")
            .filter_map(|one| Some(one["metric"]["service"].as_str()?.to_owned()))
            .collect();
        awaited.is_subset(&names).then_some(())
    });
    up.await.context("not every service is scraped")?;
    let page = std::fs::read_to_string(world.environment.root.join("docs/metrics.md"))?;
    let documented: Vec<(&str, BTreeSet<&str>)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(|cell| {
            let (name, labels) = cell.trim_end_matches('}').split_once('{').unwrap_or((cell, ""));
            (name, labels.split(',').collect())
        })
        .collect();
    let series = prometheus(&world, "/api/v1/series", "match[]", r#"{job=~"shop|operator|console"}"#).await?;
    for series in series.as_array().context("a list of series")? {
        let name = series["__name__"].as_str().unwrap_or_default();
        let of_scrapes = name == "up" || name.starts_with("scrape_");
        if of_scrapes || name.contains(':') || name.starts_with("ALERTS") {
            continue;
        }
        let known = documented.iter().find(|(known, _)| {
            let rest = name.strip_prefix(known);
            rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        });
        let (_, labels) = known.with_context(|| format!("docs/metrics.md does not have {name}"))?;
        let added = ["__name__", "job", "instance", "namespace", "pod", "service", "le"];
        for label in series.as_object().context("labels")?.keys() {
            let known = added.contains(&label.as_str()) || labels.contains(label.as_str());
            ensure!(known, "docs/metrics.md does not give {name} the label {label}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_told_and_only_that() -> Result<()> {
    let world = World::with_shop().await?;
    ensure!(!fires(&world, "DeadLetters").await?, "there is no dead letter yet");
    // It is no event, so no try will make one of it.
    redis(&world, &format!("XADD {STREAM} '*' what 'nothing that payment knows'")).await?;
    let told = eventually(SOON, || async {
        fires(&world, "DeadLetters").await.ok().filter(|fires| *fires)
    })
    .await;
    redis(&world, &format!("DEL {STREAM}:dead")).await?;
    told.context("a dead letter lies there, and nobody is told")?;
    let quiet = eventually(SOON, || async {
        fires(&world, "DeadLetters").await.ok().filter(|fires| !fires)
    });
    quiet
        .await
        .context("the dead letter is gone, and the alert still fires")?;
    Ok(())
}
