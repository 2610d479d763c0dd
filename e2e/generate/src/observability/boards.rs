//! Grafana's boards, in the form that every version from 9 on reads. A board is a list of panels of the same size, two in a
//! row; each names its queries, and nothing else is to be decided.

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

struct Board {
    chart: &'static str,
    name: &'static str,
    title: &'static str,
    panels: &'static [Panel],
}

const fn panel(title: &'static str, unit: Unit, queries: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, unit, queries }
}

const BOARDS: &[Board] = &[
    Board {
        chart: "valerix-shop",
        name: "overview",
        title: "Valerix shop: overview",
        panels: &[
            panel(
                "Requests",
                "reqps",
                &[(
                    r#"sum by (service) (rate(http_requests_total{namespace=~"$namespace",route!~"/health|/ready"}[5m]))"#,
                    "{{service}}",
                )],
            ),
            panel(
                "Share of requests that fail",
                "percentunit",
                &[(
                    r#"1 - sum by (service) (rate(http_requests_total{namespace=~"$namespace",status!~"5..",route!~"/health|/ready"}[5m])) / sum by (service) (rate(http_requests_total{namespace=~"$namespace",route!~"/health|/ready"}[5m]))"#,
                    "{{service}}",
                )],
            ),
            panel(
                "Time of 95 % of the requests",
                "s",
                &[(
                    r#"histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket{namespace=~"$namespace",route!~"/health|/ready"}[5m])))"#,
                    "{{service}}",
                )],
            ),
            panel(
                "Orders",
                "ops",
                &[(
                    r#"sum by (status, reason) (rate(orders_total{namespace=~"$namespace"}[5m]))"#,
                    "{{status}} {{reason}}",
                )],
            ),
            panel(
                "Orders that are open",
                "short",
                &[
                    (r#"max by (state) (orders_open{namespace=~"$namespace"})"#, "{{state}}"),
                    (
                        r#"max by (action) (order_commands_open{namespace=~"$namespace"})"#,
                        "{{action}}",
                    ),
                ],
            ),
            panel(
                "From an order to its end",
                "s",
                &[
                    (
                        r#"histogram_quantile(0.95, sum by (le) (rate(order_processing_duration_seconds_bucket{namespace=~"$namespace"}[5m])))"#,
                        "95 %",
                    ),
                    (
                        r#"histogram_quantile(0.5, sum by (le) (rate(order_processing_duration_seconds_bucket{namespace=~"$namespace"}[5m])))"#,
                        "half",
                    ),
                ],
            ),
            panel(
                "Revenue in minor units",
                "short",
                &[(
                    r#"sum by (currency) (revenue_minor_total{namespace=~"$namespace"})"#,
                    "{{currency}}",
                )],
            ),
            panel(
                "Events that wait to be handled",
                "short",
                &[
                    (
                        r#"max by (stream, group) (consumer_lag{namespace=~"$namespace"})"#,
                        "{{stream}} for {{group}}",
                    ),
                    (
                        r#"max by (stream) (event_dead_letters{namespace=~"$namespace"})"#,
                        "dead: {{stream}}",
                    ),
                ],
            ),
            panel(
                "Events that wait to be published",
                "s",
                &[(
                    r#"max by (service) (outbox_oldest_unpublished_seconds{namespace=~"$namespace"})"#,
                    "{{service}}",
                )],
            ),
            panel(
                "Log-ins",
                "ops",
                &[(
                    r#"sum by (outcome) (rate(auth_logins_total{namespace=~"$namespace"}[5m]))"#,
                    "{{outcome}}",
                )],
            ),
            panel(
                "Payments",
                "ops",
                &[(
                    r#"sum by (state) (rate(payments_total{namespace=~"$namespace"}[5m]))"#,
                    "{{state}}",
                )],
            ),
            panel(
                "Memory",
                "bytes",
                &[(
                    r#"sum by (service) (process_resident_memory_bytes{namespace=~"$namespace"})"#,
                    "{{service}}",
                )],
            ),
            panel(
                "Processor",
                "short",
                &[(
                    r#"sum by (service) (rate(process_cpu_seconds_total{namespace=~"$namespace"}[5m]))"#,
                    "{{service}}",
                )],
            ),
        ],
    },
    Board {
        chart: "valerix",
        name: "service",
        title: "Valerix: services",
        panels: &[
            panel(
                "Time of 95 % of the requests",
                "s",
                &[(
                    r#"histogram_quantile(0.95, sum by (service, le) (rate(resilience_request_duration_seconds_bucket{namespace=~"$namespace"}[5m])))"#,
                    "{{service}}",
                )],
            ),
            panel(
                "Circuits that are not closed",
                "short",
                &[(
                    r#"max by (service, target, state) (resilience_circuit_state{namespace=~"$namespace",state!="Closed"}) > 0"#,
                    "{{service}} to {{target}}: {{state}}",
                )],
            ),
            panel(
                "Calls by outcome",
                "ops",
                &[(
                    r#"sum by (service, target, outcome) (rate(resilience_calls_total{namespace=~"$namespace"}[5m]))"#,
                    "{{service}} to {{target}}: {{outcome}}",
                )],
            ),
            panel(
                "Time of 95 % of the calls",
                "s",
                &[(
                    r#"histogram_quantile(0.95, sum by (service, target, le) (rate(resilience_call_duration_seconds_bucket{namespace=~"$namespace"}[5m])))"#,
                    "{{service}} to {{target}}",
                )],
            ),
            panel(
                "Repetitions, and what the budget refused",
                "ops",
                &[
                    (
                        r#"sum by (service, target) (rate(resilience_retries_total{namespace=~"$namespace"}[5m]))"#,
                        "{{service}} to {{target}}",
                    ),
                    (
                        r#"sum by (service, target) (rate(resilience_retries_refused_total{namespace=~"$namespace"}[5m]))"#,
                        "refused: {{service}} to {{target}}",
                    ),
                ],
            ),
            panel(
                "Repetitions that are left",
                "short",
                &[(
                    r#"min by (service, target) (resilience_retry_budget_remaining{namespace=~"$namespace"})"#,
                    "{{service}} to {{target}}",
                )],
            ),
            panel(
                "Other addresses, hedges, ejections",
                "ops",
                &[
                    (
                        r#"sum by (service, target) (rate(resilience_failovers_total{namespace=~"$namespace"}[5m]))"#,
                        "failover: {{service}} to {{target}}",
                    ),
                    (
                        r#"sum by (service, target) (rate(resilience_hedges_total{namespace=~"$namespace"}[5m]))"#,
                        "hedge: {{service}} to {{target}}",
                    ),
                    (
                        r#"sum by (service, target) (rate(resilience_ejections_total{namespace=~"$namespace"}[5m]))"#,
                        "ejection: {{service}} to {{target}}",
                    ),
                ],
            ),
            panel(
                "Requests under way",
                "short",
                &[
                    (
                        r#"sum by (service) (resilience_concurrency_inflight{namespace=~"$namespace"})"#,
                        "{{service}}",
                    ),
                    (
                        r#"sum by (service) (resilience_concurrency_queued{namespace=~"$namespace"})"#,
                        "waiting: {{service}}",
                    ),
                    (
                        r#"sum by (service) (resilience_concurrency_limit{namespace=~"$namespace"})"#,
                        "limit: {{service}}",
                    ),
                ],
            ),
            panel(
                "Rate limits",
                "ops",
                &[(
                    r#"sum by (service, rule, decision) (rate(resilience_ratelimit_decisions_total{namespace=~"$namespace"}[5m]))"#,
                    "{{service}} {{rule}}: {{decision}}",
                )],
            ),
            panel(
                "Limits that Redis does not decide",
                "short",
                &[(
                    r#"max by (service, rule) (resilience_ratelimit_degraded{namespace=~"$namespace"})"#,
                    "{{service}} {{rule}}",
                )],
            ),
            panel(
                "Configurations in force",
                "short",
                &[(
                    r#"count by (service, hash, error) (resilience_config_info{namespace=~"$namespace"})"#,
                    "{{service}} {{hash}} error: {{error}}",
                )],
            ),
            panel(
                "Locks that were held",
                "ops",
                &[(
                    r#"sum by (service, lock) (rate(lock_contentions_total{namespace=~"$namespace"}[5m]))"#,
                    "{{service}} {{lock}}",
                )],
            ),
        ],
    },
    Board {
        chart: "valerix",
        name: "chaos",
        title: "Valerix: experiments",
        panels: &[
            panel(
                "Runs that ended, in a day",
                "short",
                &[(
                    "sum by (type, verdict) (increase(valerix_chaos_runs_total[1d]))",
                    "{{type}}: {{verdict}}",
                )],
            ),
            panel(
                "Faults in force",
                "short",
                &[(
                    r#"count by (service, type) (resilience_fault_active{namespace=~"$namespace"} > 0)"#,
                    "{{service}}: {{type}}",
                )],
            ),
            panel(
                "Requests that faults touched",
                "ops",
                &[(
                    r#"sum by (service, type) (rate(resilience_faults_injected_total{namespace=~"$namespace"}[5m]))"#,
                    "{{service}}: {{type}}",
                )],
            ),
            panel(
                "Conditions of experiments",
                "short",
                &[(
                    r#"max by (name, condition, status) (valerix_resource_condition{kind="ChaosExperiment",namespace=~"$namespace"})"#,
                    "{{name}} {{condition}} {{status}}",
                )],
            ),
            panel(
                "Circuits that are not closed",
                "short",
                &[(
                    r#"max by (service, target, state) (resilience_circuit_state{namespace=~"$namespace",state!="Closed"}) > 0"#,
                    "{{service}} to {{target}}: {{state}}",
                )],
            ),
            panel(
                "Time of 95 % of the requests",
                "s",
                &[(
                    r#"histogram_quantile(0.95, sum by (service, le) (rate(resilience_request_duration_seconds_bucket{namespace=~"$namespace"}[1m])))"#,
                    "{{service}}",
                )],
            ),
        ],
    },
    Board {
        chart: "valerix",
        name: "backup",
        title: "Valerix: backups",
        panels: &[
            panel(
                "Age of the newest archive",
                "s",
                &[(
                    r#"time() - max by (namespace, policy) (valerix_backup_last_success_timestamp_seconds{namespace=~"$namespace"})"#,
                    "{{namespace}}/{{policy}}",
                )],
            ),
            panel(
                "Size of the newest archive",
                "bytes",
                &[(
                    r#"max by (namespace, policy) (valerix_backup_archive_bytes{namespace=~"$namespace"})"#,
                    "{{namespace}}/{{policy}}",
                )],
            ),
            panel(
                "Archives",
                "short",
                &[(
                    r#"max by (namespace, policy) (valerix_backup_archives{namespace=~"$namespace"})"#,
                    "{{namespace}}/{{policy}}",
                )],
            ),
            panel(
                "Time of the newest run, and of the last trial restore",
                "s",
                &[
                    (
                        r#"max by (namespace, policy) (valerix_backup_duration_seconds{namespace=~"$namespace"})"#,
                        "{{namespace}}/{{policy}} run",
                    ),
                    (
                        r#"max by (namespace, policy) (valerix_backup_restore_seconds{namespace=~"$namespace"})"#,
                        "{{namespace}}/{{policy}} trial restore",
                    ),
                ],
            ),
            panel(
                "Age of the newest archive that was restored on trial",
                "s",
                &[(
                    r#"time() - max by (namespace, policy) (valerix_backup_verified_timestamp_seconds{namespace=~"$namespace"})"#,
                    "{{namespace}}/{{policy}}",
                )],
            ),
            panel(
                "Restores that have failed",
                "short",
                &[(
                    r#"max by (namespace, restore) (valerix_restore_failed{namespace=~"$namespace"}) == 1"#,
                    "{{namespace}}/{{restore}}",
                )],
            ),
            panel(
                "Conditions of policies",
                "short",
                &[(
                    r#"max by (namespace, name, condition, status) (valerix_resource_condition{kind="BackupPolicy",namespace=~"$namespace"})"#,
                    "{{namespace}}/{{name}} {{condition}} {{status}}",
                )],
            ),
            panel(
                "Reconciles of policies",
                "ops",
                &[(
                    r#"sum by (result) (rate(valerix_reconciles_total{controller="backup-policy"}[5m]))"#,
                    "{{result}}",
                )],
            ),
        ],
    },
    Board {
        chart: "valerix",
        name: "operator",
        title: "Valerix: operator",
        panels: &[
            panel("Who leads", "short", &[("max by (pod) (valerix_leader)", "{{pod}}")]),
            panel(
                "Reconciles",
                "ops",
                &[(
                    "sum by (controller, result) (rate(valerix_reconciles_total[5m]))",
                    "{{controller}}: {{result}}",
                )],
            ),
            panel(
                "Time of 95 % of the reconciles",
                "s",
                &[(
                    "histogram_quantile(0.95, sum by (controller, le) (rate(valerix_reconcile_duration_seconds_bucket[5m])))",
                    "{{controller}}",
                )],
            ),
            panel(
                "Objects that wait",
                "short",
                &[("sum by (controller) (valerix_reconciles_waiting)", "{{controller}}")],
            ),
            panel(
                "Requests to the API server",
                "reqps",
                &[(
                    "sum by (method, status) (rate(valerix_api_requests_total[5m]))",
                    "{{method}} {{status}}",
                )],
            ),
            panel(
                "Writes",
                "ops",
                &[(
                    "sum by (controller, write) (rate(valerix_api_writes_total[5m]))",
                    "{{controller}}: {{write}}",
                )],
            ),
            panel(
                "Age of the watches",
                "s",
                &[(
                    "time() - max by (resource) (valerix_watch_opened_timestamp_seconds)",
                    "{{resource}}",
                )],
            ),
            panel(
                "Watches that failed",
                "ops",
                &[("sum by (kind) (rate(valerix_watch_errors_total[5m]))", "{{kind}}")],
            ),
            panel(
                "Objects in the caches, and unreadable ones",
                "short",
                &[
                    ("max by (kind) (valerix_cached_objects)", "{{kind}}"),
                    ("sum by (kind) (valerix_invalid_objects_total)", "unreadable: {{kind}}"),
                ],
            ),
            panel(
                "Services that are not ready",
                "short",
                &[(
                    r#"max by (namespace, name, status) (valerix_resource_condition{kind="ResilientService",condition="Ready",status!="True",namespace=~"$namespace"})"#,
                    "{{namespace}}/{{name}}: {{status}}",
                )],
            ),
            panel(
                "Age of the evidence",
                "s",
                &[(
                    r#"max by (namespace, name) (valerix_evidence_age_seconds{namespace=~"$namespace"})"#,
                    "{{namespace}}/{{name}}",
                )],
            ),
            panel(
                "Memory and processor",
                "short",
                &[
                    (
                        "max by (pod) (process_resident_memory_bytes * on (pod) group_left () valerix_leader) / 1048576",
                        "MiB: {{pod}}",
                    ),
                    (
                        "sum by (pod) (rate(process_cpu_seconds_total[5m]) * on (pod) group_left () valerix_leader)",
                        "cores: {{pod}}",
                    ),
                ],
            ),
        ],
    },
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
    json!({
        "uid": format!("valerix-{}", board.name),
        "title": board.title,
        "tags": ["valerix"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
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
        }
    }
}
