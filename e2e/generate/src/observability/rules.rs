//! Prometheus' rules, and for each alert two tests for promtool: one in which it fires and one in which it is silent.

use super::alerts::{SERVICES, SHOP, VALERIX};
use super::group::{Alert, Case, Group, Severity};
use crate::Files;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Where the pages lie that alerts name.
const RUNBOOKS: &str = "https://github.com/valerix/valerix/blob/main/docs/runbooks";

const HEADER: &str = "# Generated from e2e/generate/src/observability; change that and run `make generate`.\n";

/// Files by their name: the groups of each, and the charts that have it. The shop's has both, for the Prometheus that it
/// may bring.
const FILES: [(&str, &[&Group], &[&str]); 2] = [
    ("valerix", &[&VALERIX, &SERVICES], &["valerix", "valerix-shop"]),
    ("shop", &[&SHOP], &["valerix-shop"]),
];

fn groups() -> impl Iterator<Item = &'static Group> {
    FILES.into_iter().flat_map(|(_, groups, _)| groups.iter().copied())
}

/// Rules and tests.
pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for (name, groups, charts) in FILES {
        let rules = yaml(&json!({"groups": groups.iter().map(|group| rules(group)).collect::<Vec<_>>()}))?;
        for chart in charts {
            files.insert(
                PathBuf::from(format!("charts/{chart}/rules/{name}.yaml")),
                rules.clone(),
            );
        }
        // Every minute of a week would take a minute to go through.
        for (ending, interval, is_slow) in [("", "1m", false), (".hourly", "1h", true)] {
            let cases: Vec<_> = cases(groups)
                .filter(|(_, case, ..)| (case.step == "1h") == is_slow)
                .collect();
            if !cases.is_empty() {
                files.insert(
                    PathBuf::from(format!("e2e/rules/{name}{ending}.test.yaml")),
                    yaml(&tests(name, interval, &cases))?,
                );
            }
        }
    }
    Ok(files)
}

/// The section of `docs/metrics.md` about alerts.
pub fn section() -> String {
    let mut section = String::from(
        "\n## Alerts\nBoth charts bring them; see [observability](guide/observability.md).\n\n| Alert | Severity | Says | Runbook |\n| --- | --- | --- | --- |\n",
    );
    for alert in groups().flat_map(|group| group.alerts) {
        let summary = alert.summary.replace("{{ $labels.", "`").replace(" }}", "`");
        let severity = severity(alert.severity);
        let _ = writeln!(
            section,
            "| `{}` | {severity} | {summary} | [{}](runbooks/{}.md) |",
            alert.name,
            alert.runbook.replace('-', " "),
            alert.runbook
        );
    }
    section
}

fn yaml(value: &Value) -> Result<String> {
    let text = crate::yaml::write(value).context("failed to write rules as YAML")?;
    Ok(format!("{HEADER}{text}"))
}

fn severity(severity: Severity) -> String {
    format!("{severity:?}").to_lowercase()
}

fn rules(group: &Group) -> Value {
    let recordings = group
        .recordings
        .iter()
        .map(|recording| json!({"record": recording.name, "expr": recording.query}));
    let alerts = group.alerts.iter().map(|alert| {
        json!({
            "alert": alert.name,
            "expr": alert.query,
            "for": alert.hold,
            "labels": {"severity": severity(alert.severity)},
            "annotations": {
                "summary": alert.summary,
                "runbook_url": format!("{RUNBOOKS}/{}.md", alert.runbook),
            },
        })
    });
    json!({"name": group.name, "rules": recordings.chain(alerts).collect::<Vec<_>>()})
}

/// An alert, what is seen, in words what it does then, and how many fire.
type Tried = (&'static Alert, &'static Case, &'static str, u8);

fn cases(groups: &[&'static Group]) -> impl Iterator<Item = Tried> {
    let alerts = groups.iter().flat_map(|group| group.alerts);
    alerts.flat_map(|alert| {
        [
            (alert, &alert.fires, "fires", 1),
            (alert, &alert.silent, "is silent", 0),
        ]
    })
}

fn tests(file: &str, interval: &str, cases: &[Tried]) -> Value {
    let test = |(alert, case, what, firing): &Tried| {
        let series = case
            .series
            .iter()
            .map(|(series, values)| json!({"series": series, "values": values}));
        let question = format!(
            "count(ALERTS{{alertname=\"{}\", alertstate=\"firing\"}}) > bool 0 or vector(0)",
            alert.name
        );
        json!({
            "name": format!("{} {what}", alert.name),
            "interval": case.step,
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": [{
                "expr": question,
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": firing}],
            }],
        })
    };
    json!({
        "rule_files": [format!("../../charts/valerix-shop/rules/{file}.yaml")],
        "evaluation_interval": interval,
        "tests": cases.iter().map(test).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::promql::unknown;
    use std::path::Path;

    #[test]
    fn every_rule_asks_for_what_is_exposed() {
        for group in groups() {
            let recorded: Vec<&str> = group.recordings.iter().map(|recording| recording.name).collect();
            let recordings = group
                .recordings
                .iter()
                .map(|recording| (recording.name, recording.query));
            let alerts = group.alerts.iter().map(|alert| (alert.name, alert.query));
            for (name, query) in recordings.chain(alerts) {
                assert_eq!(unknown(query, &recorded), [""; 0], "{name}");
            }
        }
    }

    #[test]
    fn every_alert_has_a_runbook_that_exists() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks");
        for alert in groups().flat_map(|group| group.alerts) {
            let page = folder.join(alert.runbook).with_extension("md");
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(
                text.contains(alert.name),
                "{} does not speak of {}",
                page.display(),
                alert.name
            );
        }
    }
}
