//! The boards of the product: for whatever it manages, and for itself.

use super::{Board, FAULTS, Panel, panel};

/// What a service leaves alone now: a breaker opens because of what an experiment does, too.
const CIRCUITS: Panel = panel(
    "Circuits that are not closed",
    "short",
    &[(
        r#"max by (service, target, state) (resilience_circuit_state{namespace=~"$namespace",state!="Closed"}) > 0"#,
        "{{service}} to {{target}}: {{state}}",
    )],
);

/// Every service that links the library, as its users and its targets see it.
pub const SERVICE: Board = Board {
    chart: "valerix",
    name: "service",
    title: "Valerix: services",
    marks: FAULTS,
    panels: &[
        panel(
            "Time of 95 % of the requests",
            "s",
            &[(
                r#"histogram_quantile(0.95, sum by (service, le) (rate(resilience_request_duration_seconds_bucket{namespace=~"$namespace"}[5m])))"#,
                "{{service}}",
            )],
        ),
        CIRCUITS,
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
};

/// Experiments beside what they do.
pub const CHAOS: Board = Board {
    chart: "valerix",
    name: "chaos",
    title: "Valerix: experiments",
    marks: FAULTS,
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
        CIRCUITS,
        panel(
            "Time of 95 % of the requests",
            "s",
            &[(
                r#"histogram_quantile(0.95, sum by (service, le) (rate(resilience_request_duration_seconds_bucket{namespace=~"$namespace"}[1m])))"#,
                "{{service}}",
            )],
        ),
    ],
};

/// Archives, and whether they can be relied on.
pub const BACKUP: Board = Board {
    chart: "valerix",
    name: "backup",
    title: "Valerix: backups",
    marks: &[],
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
};

/// The operator itself.
pub const OPERATOR: Board = Board {
    chart: "valerix",
    name: "operator",
    title: "Valerix: operator",
    marks: &[],
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
};
