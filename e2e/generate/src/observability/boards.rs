//! Grafana's boards, in the form that every version from 9 on reads. A board is a list of panels of the same size, two in a
//! row; each names its queries, and nothing else is to be decided.

mod shop;
mod valerix;

use crate::Files;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// How a panel's numbers are shown: Grafana's name of the unit.
type Unit = &'static str;

/// A graph.
struct Panel {
    title: &'static str,
    unit: Unit,
    /// Each with its legend.
    queries: &'static [(&'static str, &'static str)],
}

/// What is marked in every graph of a board while its query has a result.
struct Mark {
    title: &'static str,
    query: &'static str,
    colour: &'static str,
    /// What is told of it, with the labels of the result.
    text: &'static str,
}

/// Faults and the ends of runs: what else a graph shows at that time may be their doing.
const FAULTS: &[Mark] = &[
    Mark {
        title: "Fault in force",
        query: r#"count by (namespace, service, type) (resilience_fault_active{namespace=~"$namespace"} > 0)"#,
        colour: "purple",
        text: "{{type}} in pods of {{service}}",
    },
    Mark {
        title: "Experiment ended",
        query: "sum by (type, verdict) (increase(valerix_chaos_runs_total[1m])) > 0",
        colour: "blue",
        text: "{{type}}: {{verdict}}",
    },
];

struct Board {
    chart: &'static str,
    name: &'static str,
    title: &'static str,
    marks: &'static [Mark],
    panels: &'static [Panel],
}

const fn panel(title: &'static str, unit: Unit, queries: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, unit, queries }
}

const BOARDS: [&Board; 5] = [
    &shop::OVERVIEW,
    &valerix::SERVICE,
    &valerix::CHAOS,
    &valerix::BACKUP,
    &valerix::OPERATOR,
];

/// The boards, by path.
pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for board in BOARDS {
        let text = serde_json::to_string_pretty(&json(board)).context("failed to write a board as JSON")?;
        let path = format!("charts/{}/boards/{}.json", board.chart, board.name);
        files.insert(PathBuf::from(path), format!("{text}\n"));
    }
    Ok(files)
}

fn json(board: &Board) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let panels = board.panels.iter().enumerate().map(|(place, panel)| {
        let targets = panel.queries.iter().zip('A'..='Z').map(|((query, legend), letter)| {
            json!({"refId": letter.to_string(), "datasource": source, "expr": query, "legendFormat": legend})
        });
        json!({
            "id": place + 1,
            "type": "timeseries",
            "title": panel.title,
            "datasource": source,
            "gridPos": {"x": place % 2 * 12, "y": place / 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": targets.collect::<Vec<_>>(),
        })
    });
    let marks = board.marks.iter().map(|mark| {
        json!({
            "name": mark.title,
            "datasource": source,
            "enable": true,
            "iconColor": mark.colour,
            "expr": mark.query,
            "step": "10s",
            "titleFormat": mark.title,
            "textFormat": mark.text,
        })
    });
    json!({
        "uid": format!("valerix-{}", board.name),
        "title": board.title,
        "tags": ["valerix"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": marks.collect::<Vec<_>>()},
        "templating": {"list": [
            {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
            {
                "name": "namespace", "label": "Namespace", "type": "query", "datasource": source,
                "query": "label_values(process_start_time_seconds, namespace)",
                "includeAll": true, "allValue": ".*", "multi": true, "refresh": 2,
                "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "panels": panels.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::promql::unknown;

    #[test]
    fn every_panel_asks_for_what_is_exposed() {
        for board in BOARDS {
            for panel in board.panels {
                for (query, _) in panel.queries {
                    assert_eq!(unknown(query, &[]), [""; 0], "{}: {}", board.name, panel.title);
                }
            }
            for mark in board.marks {
                assert_eq!(unknown(mark.query, &[]), [""; 0], "{}: {}", board.name, mark.title);
            }
        }
    }
}
