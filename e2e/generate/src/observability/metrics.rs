//! The table of metrics and the page that is made of it. A test looks for each of them in the sources, and for each of
//! the sources' in the table.

use super::rules;
use crate::Files;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Has `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its own labels.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub means: &'static str,
}

/// Who exposes metrics.
pub struct Source {
    title: &'static str,
    says: &'static str,
    /// What it exposes.
    pub metrics: &'static [Metric],
}

const fn counter(name: &'static str, labels: &'static [&'static str], means: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        means,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], means: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        means,
    }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], means: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        labels,
        means,
    }
}

/// Everything that is exposed.
pub const SOURCES: &[Source] = &[
    Source {
        title: "Operator (`:8080/metrics`)",
        says: "",
        metrics: &[
            gauge("valerix_leader", &[], "1 while this process leads, else 0"),
            gauge("valerix_build_info", &["version"], "always 1; which version runs"),
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
        ],
    },
    Source {
        title: "Every service that links the library (`:9090/metrics`)",
        says: "",
        metrics: &[
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
        ],
    },
    Source {
        title: "The guard (`:9090/metrics`)",
        says: "It counts what the library counts too, as it links it, and what it relays without looking into it.",
        metrics: &[
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
        ],
    },
    Source {
        title: "Every service of the shop (`:9090/metrics`)",
        says: "",
        metrics: &[
            counter(
                "http_requests_total",
                &["method", "route", "status"],
                "requests answered",
            ),
            histogram(
                "http_request_duration_seconds",
                &["method", "route"],
                "from a request's head to its answer's head",
            ),
            counter(
                "events_published_total",
                &["outcome"],
                "outbox rows: published, failed, republished",
            ),
            gauge("outbox_unpublished_events", &[], "events that wait to be published"),
            gauge(
                "outbox_oldest_unpublished_seconds",
                &[],
                "age of the oldest of them, else 0",
            ),
            counter(
                "events_handled_total",
                &["stream", "group", "outcome"],
                "events: handled, failed, unavailable, dead",
            ),
            gauge(
                "consumer_lag",
                &["stream", "group"],
                "events that a group has not finished. Absent while Redis is away",
            ),
            gauge(
                "event_stream_entries",
                &["stream"],
                "what a stream holds, finished events included",
            ),
            counter(
                "stream_group_lost_total",
                &["stream", "group", "reason"],
                "times that a group lost events of a stream, which were then published again: cut (too many), gone (deleted), new (the group was made anew)",
            ),
            gauge(
                "event_dead_letters",
                &["stream"],
                "dead letters of a stream, of all groups; each is kept for a week",
            ),
            gauge("event_bus_up", &[], "1 while Redis answers the consumers"),
            counter(
                "lock_contentions_total",
                &["lock"],
                "times that a lock was held when somebody wanted it",
            ),
            histogram(
                "lock_acquisition_seconds",
                &[],
                "time until Redis granted a lock that was free",
            ),
            counter(
                "background_task_restarts_total",
                &["task"],
                "tasks that were started again: they panicked, or waited for a database that was gone",
            ),
            counter(
                "trace_spans_total",
                &["outcome"],
                "spans: exported, failed (the collector did not take them), dropped (too many waited)",
            ),
            gauge("service_build_info", &["version"], "always 1; which version runs"),
        ],
    },
    Source {
        title: "Single services of the shop",
        says: "Money is in the currency's minor unit.",
        metrics: &[
            gauge("console_streams", &[], "console: pages that follow what happens now"),
            counter(
                "orders_total",
                &["status", "reason"],
                "order: orders by the status they reached, and why they were cancelled",
            ),
            histogram(
                "order_processing_duration_seconds",
                &[],
                "order: from taking an order in to its first final status",
            ),
            gauge(
                "orders_open",
                &["state"],
                "order: orders that inventory or payment still has to do with",
            ),
            gauge(
                "order_commands_open",
                &["action"],
                "order: commands that are not answered",
            ),
            gauge(
                "order_commands_overdue_seconds",
                &[],
                "order: how long the command that has waited longest has been due, else 0",
            ),
            counter(
                "orders_passed_over_total",
                &["step"],
                "order: rows that the sweeper could not deal with",
            ),
            counter(
                "revenue_minor_total",
                &["currency"],
                "order: amounts of confirmed orders",
            ),
            gauge(
                "inventory_chaos_enabled",
                &[],
                "inventory: 1 while it goes wrong on purpose, by `POST /api/admin/chaos`",
            ),
            counter(
                "payments_total",
                &["state"],
                "payment: payments by the state they reached",
            ),
            counter(
                "payments_charged_minor_total",
                &["currency"],
                "payment: amounts that were charged",
            ),
            counter(
                "payments_passed_over_total",
                &[],
                "payment: due payments that this version could not read",
            ),
            gauge(
                "payment_reconciliation_differences",
                &["kind"],
                "payment: charges and refunds that payment and the processor do not agree about. Not 0: look at `GET /api/admin/reconciliation`",
            ),
            counter(
                "notifications_total",
                &["channel", "outcome"],
                "notification: attempts to deliver a message",
            ),
            counter(
                "gateway_config_reloads_total",
                &["result"],
                "gateway: readings of its file of routes",
            ),
            counter(
                "auth_logins_total",
                &["outcome"],
                "auth: attempts to log in: succeeded, wrong, locked, failed",
            ),
            counter(
                "auth_refreshes_total",
                &["outcome"],
                "auth: refresh tokens: exchanged, invalid, reused (shown twice, which ends the session), failed",
            ),
            gauge(
                "auth_signing_key_age_seconds",
                &[],
                "auth: how long the key that signs tokens has been signing; -1 while there is none",
            ),
        ],
    },
    Source {
        title: "Every process",
        says: "From Prometheus' own client library.",
        metrics: PROCESS,
    },
];

/// What the client library exposes by itself.
const PROCESS: &[Metric] = &[
    counter("process_cpu_seconds_total", &[], "processor time"),
    gauge("process_open_fds", &[], "open files and connections"),
    gauge("process_max_fds", &[], "how many there may be"),
    gauge("process_virtual_memory_bytes", &[], "memory that is mapped"),
    gauge("process_resident_memory_bytes", &[], "memory in use"),
    gauge("process_start_time_seconds", &[], "when it began"),
    gauge("process_threads", &[], "its threads"),
];

/// The metric that exposes the time series `name`.
#[cfg(test)]
pub fn of_series(name: &str) -> Option<&'static Metric> {
    let mut metrics = SOURCES.iter().flat_map(|source| source.metrics);
    metrics.find(|metric| match metric.kind {
        Kind::Histogram => name
            .strip_prefix(metric.name)
            .is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count")),
        _ => metric.name == name,
    })
}

/// The page.
pub fn files() -> Files {
    let mut page = String::from(
        "<!-- Generated from e2e/generate/src/observability; change that and run `make generate`. -->\n# Metrics\n\n\
         Labels come from closed sets or from the spec (targets, rules, names of objects); never a host, a key or a user. \
         Whoever scrapes adds `namespace`, `pod` and `service`; a metric that has a `namespace` of its own keeps it \
         (`honor_labels`). How to look at them: [observability](guide/observability.md).\n",
    );
    for source in SOURCES {
        let _ = write!(page, "\n## {}\n", source.title);
        if !source.says.is_empty() {
            let _ = writeln!(page, "{}", source.says);
        }
        page.push_str("\n| Metric | Kind | Means |\n| --- | --- | --- |\n");
        for Metric {
            name,
            kind,
            labels,
            means,
        } in source.metrics
        {
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(
                page,
                "| `{name}{labels}` | {} | {means} |",
                format!("{kind:?}").to_lowercase()
            );
        }
    }
    page.push_str(&rules::section());
    [(PathBuf::from("docs/metrics.md"), page)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// What stands before the name of a metric in the sources.
    const BEFORE: [&str; 9] = [
        "Opts::new(",
        "Gauge::new(",
        "Counter::new(",
        "counter(",
        "histogram(",
        "gauge(",
        "Gauge {",
        "gauge::new(",
        ROW,
    ];
    /// The same in a table of names and what they say, which may be of anything.
    const ROW: &str = "    (";

    fn sources(folder: &Path, texts: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // What tests define is exposed by nobody.
                texts.push(
                    text.split("#[cfg(test)]\nmod tests {")
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        }
    }

    fn defined() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut texts = Vec::new();
        sources(&root.join("operator/src"), &mut texts);
        for service in fs::read_dir(root.join("services")).unwrap() {
            let folder = service.unwrap().path().join("src");
            if folder.is_dir() {
                sources(&folder, &mut texts);
            }
        }
        let mut names = BTreeSet::new();
        for text in &texts {
            for before in BEFORE {
                for (place, _) in text.match_indices(before) {
                    let rest = text[place + before.len()..].trim_start();
                    let rest = rest.strip_prefix("name:").unwrap_or(rest).trim_start();
                    let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                        continue;
                    };
                    let is_metric = before != ROW || name.starts_with("resilience_") || name.starts_with("valerix_");
                    if is_metric
                        && name.contains('_')
                        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        names
    }

    #[test]
    fn the_table_has_what_the_sources_define_and_nothing_else() {
        let known: BTreeSet<String> = SOURCES
            .iter()
            .flat_map(|source| source.metrics)
            .filter(|metric| !metric.name.starts_with("process_"))
            .map(|metric| metric.name.to_owned())
            .collect();
        let defined = defined();
        let missing: Vec<_> = defined.difference(&known).collect();
        assert!(
            missing.is_empty(),
            "give these a row in e2e/generate/src/observability/metrics.rs: {missing:?}"
        );
        let gone: Vec<_> = known.difference(&defined).collect();
        assert!(gone.is_empty(), "no source defines these: {gone:?}");
    }

    #[test]
    fn no_label_can_have_as_many_values_as_there_are_users() {
        for metric in SOURCES.iter().flat_map(|source| source.metrics) {
            for label in metric.labels {
                let endless = [
                    "user",
                    "email",
                    "key",
                    "id",
                    "path",
                    "url",
                    "uri",
                    "address",
                    "host",
                    "ip",
                    "trace_id",
                    "error_text",
                ];
                assert!(!endless.contains(label), "{} has the label {label}", metric.name);
            }
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for metric in SOURCES.iter().flat_map(|source| source.metrics) {
            assert!(seen.insert(metric.name), "{} stands there twice", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }
}
