//! What operator, library and guard expose.

use super::{Metric, counter, gauge, histogram};

/// Of the operator.
pub const OPERATOR: &[Metric] = &[
    gauge("valerix_leader", &[], "1 while this process leads, else 0"),
    gauge(
        "valerix_build_info",
        &["version", "revision"],
        "always 1; which version runs, of which revision of the sources",
    ),
    counter(
        "valerix_reconciles_total",
        &["controller", "result"],
        "reconciles; `result` is `Success` or the category of the failure",
    ),
    histogram(
        "valerix_reconcile_duration_seconds",
        &["controller", "result"],
        "how long they took",
    ),
    gauge(
        "valerix_reconciles_waiting",
        &["controller"],
        "objects that wait for a place to be reconciled",
    ),
    counter(
        "valerix_api_writes_total",
        &["controller", "write"],
        "requests that change something, by what they change; at rest none",
    ),
    counter(
        "valerix_api_requests_total",
        &["method", "status"],
        "every request to the API server; `status` is `none` where there was no answer",
    ),
    gauge(
        "valerix_watch_opened_timestamp_seconds",
        &["resource"],
        "when the API server last accepted a watch; each is opened anew every 30 seconds",
    ),
    counter(
        "valerix_watch_errors_total",
        &["kind"],
        "watches that failed and were opened again",
    ),
    gauge("valerix_cached_objects", &["kind"], "objects in the caches"),
    counter(
        "valerix_invalid_objects_total",
        &["kind"],
        "objects that could not be read",
    ),
    gauge(
        "valerix_resource_condition",
        &["kind", "namespace", "name", "condition", "status"],
        "1 for the status that a condition has now, of up to 2,000 objects of each kind",
    ),
    gauge(
        "valerix_evidence_age_seconds",
        &["namespace", "name"],
        "time since that pod of a service answered the operator that has been silent longest; with nothing new a pod answers every 120 seconds",
    ),
    counter("valerix_chaos_runs_total", &["type", "verdict"], "runs that ended"),
    gauge(
        "valerix_backup_last_success_timestamp_seconds",
        &["namespace", "policy"],
        "when the newest archive was stored; before the first, when the policy was made",
    ),
    gauge("valerix_backup_archive_bytes", &["namespace", "policy"], "its size"),
    gauge(
        "valerix_backup_archives",
        &["namespace", "policy"],
        "archives that the policy's records tell of",
    ),
    gauge(
        "valerix_backup_duration_seconds",
        &["namespace", "policy"],
        "how long the run took that stored the newest archive",
    ),
    gauge(
        "valerix_backup_verified_timestamp_seconds",
        &["namespace", "policy"],
        "when the newest archive was stored that a trial restore has verified; not there before the first",
    ),
    gauge(
        "valerix_backup_restore_seconds",
        &["namespace", "policy"],
        "how long fetching and restoring took in the last trial restore; not there before the first",
    ),
    counter(
        "valerix_backup_deletions_total",
        &["outcome"],
        "deleted policies with `deletionPolicy: Delete`; `outcome` is what became of their archives: `Removed`, `Left` or `Retained`",
    ),
    gauge(
        "valerix_restore_failed",
        &["namespace", "restore"],
        "1 for a Restore that has failed",
    ),
    gauge(
        "valerix_restore_completed_timestamp_seconds",
        &["namespace", "restore"],
        "when it ended; 0 while it has not",
    ),
];

/// Of every service that links the library.
pub const LIBRARY: &[Metric] = &[
    gauge(
        "resilience_circuit_state",
        &["target", "state"],
        "1 for the state of a target's circuit: `Closed`, `Open`, `HalfOpen`",
    ),
    counter("resilience_calls_total", &["target", "outcome"], "attempts by outcome"),
    histogram(
        "resilience_call_duration_seconds",
        &["target"],
        "how long attempts took",
    ),
    histogram(
        "resilience_request_duration_seconds",
        &["class"],
        "inbound requests, by the first digit of their status",
    ),
    counter("resilience_retries_total", &["target", "reason"], "repetitions"),
    counter(
        "resilience_retries_refused_total",
        &["target"],
        "repetitions that the budget refused",
    ),
    gauge(
        "resilience_retry_budget_remaining",
        &["target"],
        "repetitions that are left",
    ),
    counter(
        "resilience_failovers_total",
        &["target", "reason"],
        "attempts that went on to another address at once",
    ),
    counter(
        "resilience_hedges_total",
        &["target"],
        "attempts sent beside a slow one",
    ),
    counter(
        "resilience_ejections_total",
        &["target"],
        "addresses left alone for failing in a row",
    ),
    counter("resilience_timeouts_total", &["kind"], "times that ran out"),
    gauge(
        "resilience_bulkhead_inflight",
        &["target"],
        "calls under way to a target",
    ),
    gauge(
        "resilience_bulkhead_limit",
        &["target"],
        "calls at a time that it may have",
    ),
    counter(
        "resilience_bulkhead_decisions_total",
        &["target", "decision"],
        "places that were asked for",
    ),
    gauge("resilience_concurrency_inflight", &[], "requests under way"),
    gauge("resilience_concurrency_queued", &[], "requests that wait for a place"),
    gauge(
        "resilience_concurrency_limit",
        &[],
        "requests at a time that there may be",
    ),
    counter(
        "resilience_concurrency_decisions_total",
        &["priority", "decision"],
        "places that were asked for",
    ),
    counter(
        "resilience_ratelimit_decisions_total",
        &["rule", "decision"],
        "requests under a limit",
    ),
    counter(
        "resilience_ratelimit_redis_calls_total",
        &["result"],
        "times that Redis was asked for shared limits",
    ),
    counter(
        "resilience_ratelimit_local_decisions_total",
        &["rule"],
        "requests of a shared limit that the local share decided",
    ),
    gauge(
        "resilience_ratelimit_degraded",
        &["rule"],
        "1 while Redis does not decide a shared limit",
    ),
    gauge("resilience_config_info", &["hash", "error"], "which configuration runs"),
    counter(
        "resilience_config_reload_total",
        &["document", "result"],
        "documents that were read",
    ),
    gauge(
        "resilience_fault_active",
        &["run", "type"],
        "1 while a fault is in force",
    ),
    counter(
        "resilience_faults_injected_total",
        &["type"],
        "requests that a fault touched",
    ),
];

/// Of the guard, beside those of the library.
pub const GUARD: &[Metric] = &[
    counter(
        "guard_connections_total",
        &["listener", "outcome"],
        "connections of TCP ports that are over; `listener` is `inbound <port>` or `target <name>`, `outcome` is `ended`, `broken` (by one end), `cut` (by a fault or the end of the guard) or `refused`",
    ),
    gauge(
        "guard_connections_open",
        &["listener"],
        "connections that are relayed now",
    ),
];
