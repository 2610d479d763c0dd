//! What Prometheus makes of the shop in a real cluster: every board's question is understood, those of the overview have
//! answers, the labels are those of the table of metrics, and an alert fires when there is reason to, and not before.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use valerix_e2e::{
    kubectl, shop,
    world::{SHOP, World, eventually},
};

const SOON: Duration = Duration::from_secs(45);
/// A stream that one group reads.
const STREAM: &str = "valerix:payment.commands";

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

/// The questions of a chart's boards, or those of what they mark, each with the name of its file.
fn questions(world: &World, chart: &str, of_marks: bool) -> Result<Vec<(String, String)>> {
    let folder = world.environment.root.join("charts").join(chart).join("boards");
    let mut questions = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let path = entry?.path();
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let panels = board["panels"].as_array().context("a board has panels")?;
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let marks = board["annotations"]["list"].as_array().into_iter().flatten();
        let asked: Vec<&Value> = if of_marks { marks.collect() } else { targets.collect() };
        for target in asked {
            let question = target["expr"].as_str().context("a target has a query")?;
            questions.push((path.display().to_string(), question.replace("$namespace", ".*")));
        }
    }
    Ok(questions)
}

/// Runs one command of Redis in its pod.
async fn redis(world: &World, command: &str) -> Result<String> {
    let script = format!("REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli {command}");
    let arguments = ["exec", "-n", SHOP, "redis-0", "--", "sh", "-c", &script];
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
    for chart in ["valerix", "valerix-shop"] {
        let marks = questions(&world, chart, true)?;
        for (board, question) in questions(&world, chart, false)?.into_iter().chain(marks) {
            query(&world, &question).await.with_context(|| board.clone())?;
        }
    }
    for (board, question) in questions(&world, "valerix-shop", false)? {
        let answered = eventually(SOON, || async {
            let answer = query(&world, &question).await.ok()?;
            (!answer.is_empty()).then_some(())
        });
        answered
            .await
            .with_context(|| format!("{board}: no answer to {question}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_is_scraped_and_every_label_is_known() -> Result<()> {
    let world = World::with_shop().await?;
    let up = eventually(SOON, || async {
        let up = query(&world, "sum by (service) (up)").await.ok()?;
        let names: BTreeSet<String> = up
            .iter()
            .filter(|one| one["value"][1] != "0")
            .filter_map(|one| Some(one["metric"]["service"].as_str()?.to_owned()))
            .collect();
        let awaited = [
            "valerix-operator",
            "gateway",
            "order",
            "inventory",
            "payment",
            "processor",
            "auth",
        ];
        awaited.iter().all(|name| names.contains(*name)).then_some(())
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
    let series = prometheus(&world, "/api/v1/series", "match[]", r#"{job=~"shop|operator"}"#).await?;
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
