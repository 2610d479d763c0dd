//! The alerts: those of the operator and of what it manages, those of whatever serves requests, and those of the shop. What is lost between two
//! scrapes, a first failure for example, is looked for in both ways: as growth, and as a series that was not there before.

mod services;
mod shop;

use super::group::{Alert, Case, Group, Severity};
pub use services::SERVICES;
pub use shop::SHOP;

/// Of the operator, and of what it manages.
pub const VALERIX: Group = Group {
    name: "valerix",
    recordings: &[],
    alerts: &[
        Alert {
            name: "ValerixNotLeading",
            query: "(max(valerix_leader) or vector(0)) < 1",
            hold: "2m",
            severity: Severity::Critical,
            summary: "No process of the operator leads: nothing is written, statuses are as old as the last one.",
            runbook: "operator-does-not-lead",
            fires: Case {
                step: "1m",
                series: &[(r#"valerix_leader{pod="a"}"#, "1 1 0x10")],
                at: "8m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (r#"valerix_leader{pod="a"}"#, "1x3 0x10"),
                    (r#"valerix_leader{pod="b"}"#, "0x4 1x10"),
                ],
                at: "8m",
            },
        },
        Alert {
            name: "ValerixWatchStale",
            query: "time() - max by (resource) (valerix_watch_opened_timestamp_seconds) > 180",
            hold: "2m",
            severity: Severity::Warning,
            summary: "The watch of {{ $labels.resource }} was not opened for three minutes: the operator may not see what changes.",
            runbook: "operator-has-trouble",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_watch_opened_timestamp_seconds{resource="pods"}"#,
                    "0+60x2 120x20",
                )],
                at: "12m",
            },
            silent: Case {
                step: "1m",
                series: &[(r#"valerix_watch_opened_timestamp_seconds{resource="pods"}"#, "0+60x20")],
                at: "12m",
            },
        },
        Alert {
            name: "ValerixReconcilesFail",
            query: r#"sum by (controller, result) (increase(valerix_reconciles_total{result!="Success"}[10m])) > 5"#,
            hold: "5m",
            severity: Severity::Warning,
            summary: "Reconciles of {{ $labels.controller }} fail again and again with {{ $labels.result }}.",
            runbook: "operator-has-trouble",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_reconciles_total{controller="backup-policy",result="Conflict"}"#,
                    "0+2x30",
                )],
                at: "20m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (
                        r#"valerix_reconciles_total{controller="backup-policy",result="Success"}"#,
                        "0+9x30",
                    ),
                    (
                        r#"valerix_reconciles_total{controller="backup-policy",result="Conflict"}"#,
                        "0 3x30",
                    ),
                ],
                at: "20m",
            },
        },
        Alert {
            name: "ValerixApiErrors",
            query: r#"sum(rate(valerix_api_requests_total{status=~"5..|none"}[5m])) / sum(rate(valerix_api_requests_total[5m])) > 0.1"#,
            hold: "5m",
            severity: Severity::Warning,
            summary: "The API server leaves more than a tenth of the operator's requests without a good answer.",
            runbook: "operator-has-trouble",
            fires: Case {
                step: "1m",
                series: &[
                    (r#"valerix_api_requests_total{status="200"}"#, "0+10x30"),
                    (r#"valerix_api_requests_total{status="none"}"#, "0+2x30"),
                ],
                at: "15m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (r#"valerix_api_requests_total{status="200"}"#, "0+10x30"),
                    (r#"valerix_api_requests_total{status="409"}"#, "0+5x30"),
                ],
                at: "15m",
            },
        },
        Alert {
            name: "ConfigurationNotApplied",
            query: r#"max by (namespace, name) (valerix_resource_condition{kind="ResilientService",condition="ConfigApplied",status="False"}) == 1"#,
            hold: "5m",
            severity: Severity::Warning,
            summary: "Pods of {{ $labels.namespace }}/{{ $labels.name }} do not run the configuration that its spec asks for.",
            runbook: "configuration-not-applied",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="ResilientService",namespace="shop",name="order",condition="ConfigApplied",status="False"}"#,
                    "1x20",
                )],
                at: "10m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="ResilientService",namespace="shop",name="order",condition="ConfigApplied",status="True"}"#,
                    "1x20",
                )],
                at: "10m",
            },
        },
        Alert {
            name: "EvidenceStale",
            query: "max by (namespace, name) (valerix_evidence_age_seconds) > 240",
            hold: "1m",
            severity: Severity::Warning,
            summary: "A pod of {{ $labels.namespace }}/{{ $labels.name }} has told the operator nothing for four minutes.",
            runbook: "evidence-is-stale",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_evidence_age_seconds{namespace="shop",name="order"}"#,
                    "0+60x20",
                )],
                at: "10m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_evidence_age_seconds{namespace="shop",name="order"}"#,
                    "0 60 120 0 60 120 0 60 120 0 60 120",
                )],
                at: "10m",
            },
        },
        Alert {
            name: "CircuitOpen",
            query: r#"max by (namespace, service, target) (resilience_circuit_state{state="Open"}) == 1"#,
            hold: "1m",
            severity: Severity::Warning,
            summary: "{{ $labels.service }} has left {{ $labels.target }} alone for a minute: its circuit is open.",
            runbook: "circuit-open",
            fires: Case {
                step: "15s",
                series: &[(
                    r#"resilience_circuit_state{service="order",target="payment",state="Open"}"#,
                    "0x4 1x30",
                )],
                at: "5m",
            },
            silent: Case {
                step: "15s",
                series: &[
                    (
                        r#"resilience_circuit_state{service="order",target="payment",state="Open"}"#,
                        "0x4 1x2 0x30",
                    ),
                    (
                        r#"resilience_circuit_state{service="order",target="payment",state="HalfOpen"}"#,
                        "1x40",
                    ),
                ],
                at: "5m",
            },
        },
        Alert {
            name: "ExperimentFailed",
            query: r#"sum by (type) (increase(valerix_chaos_runs_total{verdict="Fail"}[1h])) > 0 or sum by (type) (valerix_chaos_runs_total{verdict="Fail"} unless valerix_chaos_runs_total offset 1h) > 0"#,
            hold: "0s",
            severity: Severity::Warning,
            summary: "An experiment with {{ $labels.type }} has failed: the steady state broke, or did not come back in time.",
            runbook: "experiment-failed",
            // The first failure ever: there is no growth to be seen.
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_chaos_runs_total{type="latency",verdict="Fail"}"#,
                    "_x100 1x30",
                )],
                at: "110m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (r#"valerix_chaos_runs_total{type="latency",verdict="Fail"}"#, "1x200"),
                    (r#"valerix_chaos_runs_total{type="latency",verdict="Pass"}"#, "0+1x200"),
                ],
                at: "110m",
            },
        },
        Alert {
            name: "ExperimentNotRecovered",
            query: r#"max by (namespace, name) (valerix_resource_condition{kind="ChaosExperiment",condition="Recovered",status="False"}) == 1"#,
            hold: "5m",
            severity: Severity::Critical,
            summary: "The fault of {{ $labels.namespace }}/{{ $labels.name }} could not be read back as gone for five minutes.",
            runbook: "experiment-does-not-end",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="ChaosExperiment",namespace="shop",name="slow",condition="Recovered",status="False"}"#,
                    "1x20",
                )],
                at: "10m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (
                        r#"valerix_resource_condition{kind="ChaosExperiment",namespace="shop",name="slow",condition="Recovered",status="False"}"#,
                        "1x3 _x20",
                    ),
                    (
                        r#"valerix_resource_condition{kind="ChaosExperiment",namespace="shop",name="slow",condition="Recovered",status="True"}"#,
                        "_x3 1x20",
                    ),
                ],
                at: "10m",
            },
        },
        Alert {
            name: "BackupStale",
            query: "time() - max by (namespace, policy) (valerix_backup_last_success_timestamp_seconds) > 26 * 3600",
            hold: "1m",
            severity: Severity::Critical,
            summary: "{{ $labels.namespace }}/{{ $labels.policy }} has stored no archive for more than 26 hours.",
            runbook: "backup-failed",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_backup_last_success_timestamp_seconds{namespace="shop",policy="shop"}"#,
                    "0x1700",
                )],
                at: "27h",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_backup_last_success_timestamp_seconds{namespace="shop",policy="shop"}"#,
                    "0x600 86400x1100",
                )],
                at: "27h",
            },
        },
        Alert {
            name: "BackupFailed",
            query: r#"max by (namespace, name) (valerix_resource_condition{kind="BackupPolicy",condition="LastBackupSucceeded",status="False"}) == 1"#,
            hold: "1m",
            severity: Severity::Warning,
            summary: "The newest backup of {{ $labels.namespace }}/{{ $labels.name }} has failed.",
            runbook: "backup-failed",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="BackupPolicy",namespace="shop",name="shop",condition="LastBackupSucceeded",status="False"}"#,
                    "1x20",
                )],
                at: "5m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="BackupPolicy",namespace="shop",name="shop",condition="LastBackupSucceeded",status="Unknown"}"#,
                    "1x20",
                )],
                at: "5m",
            },
        },
        Alert {
            name: "BackupUnverified",
            query: r#"max by (namespace, name) (valerix_resource_condition{kind="BackupPolicy",condition="Verified",status="False"}) == 1"#,
            hold: "5m",
            severity: Severity::Critical,
            summary: "An archive of {{ $labels.namespace }}/{{ $labels.name }} could not be restored as it was: do not rely on it.",
            runbook: "backup-unverified",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="BackupPolicy",namespace="shop",name="shop",condition="Verified",status="False"}"#,
                    "1x20",
                )],
                at: "10m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="BackupPolicy",namespace="shop",name="shop",condition="Verified",status="Unknown"}"#,
                    "1x20",
                )],
                at: "10m",
            },
        },
        Alert {
            name: "BackupVerificationStale",
            query: "time() - max by (namespace, policy) (valerix_backup_verified_timestamp_seconds) > 9 * 86400",
            hold: "1h",
            severity: Severity::Warning,
            summary: "The newest archive of {{ $labels.namespace }}/{{ $labels.policy }} that was restored on trial is more than nine days old.",
            runbook: "backup-unverified",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_backup_verified_timestamp_seconds{namespace="shop",policy="shop"}"#,
                    "0x13300",
                )],
                at: "220h",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_backup_verified_timestamp_seconds{namespace="shop",policy="shop"}"#,
                    "0x11400 604800x2400",
                )],
                at: "220h",
            },
        },
        Alert {
            name: "BackupRetentionFails",
            query: r#"max by (namespace, name) (valerix_resource_condition{kind="BackupPolicy",condition="RetentionHealthy",status="False"}) == 1"#,
            hold: "1h",
            severity: Severity::Warning,
            summary: "Old archives of {{ $labels.namespace }}/{{ $labels.name }} are not removed: the destination fills up.",
            runbook: "backup-retention",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="BackupPolicy",namespace="shop",name="shop",condition="RetentionHealthy",status="False"}"#,
                    "1x130",
                )],
                at: "2h",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"valerix_resource_condition{kind="BackupPolicy",namespace="shop",name="shop",condition="RetentionHealthy",status="Unknown"}"#,
                    "1x130",
                )],
                at: "2h",
            },
        },
        Alert {
            name: "BackupGrows",
            // What is small fills nothing, whatever it grows by.
            query: "max by (namespace, policy) (valerix_backup_archive_bytes) > 2 * (max by (namespace, policy) (max_over_time(valerix_backup_archive_bytes[1d] offset 7d)) > 0) and max by (namespace, policy) (valerix_backup_archive_bytes) > 16 * 1024 * 1024",
            hold: "1h",
            severity: Severity::Warning,
            summary: "The newest archive of {{ $labels.namespace }}/{{ $labels.policy }} is more than twice as large as those of a week ago.",
            runbook: "backup-retention",
            fires: Case {
                step: "1h",
                series: &[(
                    r#"valerix_backup_archive_bytes{namespace="shop",policy="shop"}"#,
                    "20000000x170 50000000x12",
                )],
                at: "178h",
            },
            silent: Case {
                step: "1h",
                series: &[
                    (
                        r#"valerix_backup_archive_bytes{namespace="shop",policy="shop"}"#,
                        "20000000x170 39000000x12",
                    ),
                    (
                        r#"valerix_backup_archive_bytes{namespace="shop",policy="small"}"#,
                        "1000x170 10000000x12",
                    ),
                    (
                        r#"valerix_backup_archive_bytes{namespace="shop",policy="new"}"#,
                        "0x170 50000000x12",
                    ),
                ],
                at: "178h",
            },
        },
    ],
};
