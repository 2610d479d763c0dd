//! What the services of the shop expose.

use super::{Metric, counter, gauge, histogram};

/// Of each of them.
pub const EVERY_SERVICE: &[Metric] = &[
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
        "times that a group lost events of a stream, which were then published again: cut (too many), gone (deleted), new (the group was made anew), restored (its database came back from an archive)",
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
];

/// Of one of them each; what it says begins with its name.
pub const SINGLE_SERVICES: &[Metric] = &[
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
    gauge(
        "order_commands_oldest_seconds",
        &[],
        "order: how long the oldest command has waited for its answer, however often it was sent, else 0",
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
        "payment_reconciliations_total",
        &["outcome"],
        "payment: comparisons with the processor: compared, or why they came to no end (call, answer, sql, row)",
    ),
    gauge(
        "payment_reconciliation_age_seconds",
        &[],
        "payment: time since the last comparison that came to an end",
    ),
    gauge(
        "payments_open",
        &["state"],
        "payment: payments whose processor has to be asked",
    ),
    gauge(
        "payments_open_oldest_seconds",
        &[],
        "payment: how long the payment that has been open longest has waited for the processor's word, else 0",
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
];
