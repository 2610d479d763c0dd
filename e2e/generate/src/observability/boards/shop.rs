//! The board of the shop.

use super::{Board, FAULTS, panel};

/// The whole shop on one page.
pub const OVERVIEW: Board = Board {
    chart: "valerix-shop",
    name: "overview",
    title: "Valerix shop: overview",
    marks: FAULTS,
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
};
