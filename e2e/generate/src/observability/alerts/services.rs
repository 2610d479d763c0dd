//! The alerts of whatever serves requests, by the library's own histogram: a service that links it, one with a guard, and
//! those of the shop, which link it too. Probes are not in it.

use crate::observability::group::{Alert, Case, Group, Recording, Severity};

/// Of every service that links the library, and of every guard.
pub const SERVICES: Group = Group {
    name: "services",
    recordings: &[
        Recording {
            name: "service:resilience_errors:ratio_rate5m",
            query: r#"sum by (namespace, service) (rate(resilience_request_duration_seconds_count{class="5xx"}[5m])) / sum by (namespace, service) (rate(resilience_request_duration_seconds_count[5m]))"#,
        },
        Recording {
            name: "service:resilience_errors:ratio_rate30m",
            query: r#"sum by (namespace, service) (rate(resilience_request_duration_seconds_count{class="5xx"}[30m])) / sum by (namespace, service) (rate(resilience_request_duration_seconds_count[30m]))"#,
        },
        Recording {
            name: "service:resilience_errors:ratio_rate1h",
            query: r#"sum by (namespace, service) (rate(resilience_request_duration_seconds_count{class="5xx"}[1h])) / sum by (namespace, service) (rate(resilience_request_duration_seconds_count[1h]))"#,
        },
        Recording {
            name: "service:resilience_errors:ratio_rate6h",
            query: r#"sum by (namespace, service) (rate(resilience_request_duration_seconds_count{class="5xx"}[6h])) / sum by (namespace, service) (rate(resilience_request_duration_seconds_count[6h]))"#,
        },
    ],
    alerts: &[
        Alert {
            name: "ServiceSlow",
            query: r#"histogram_quantile(0.95, sum by (namespace, service, le) (rate(resilience_request_duration_seconds_bucket[5m]))) > 1"#,
            hold: "5m",
            severity: Severity::Warning,
            summary: "One of twenty requests to {{ $labels.service }} takes more than a second.",
            runbook: "service-is-slow",
            fires: Case {
                step: "1m",
                series: &[
                    (
                        r#"resilience_request_duration_seconds_bucket{service="bank",class="2xx",le="1"}"#,
                        "0+9x30",
                    ),
                    (
                        r#"resilience_request_duration_seconds_bucket{service="bank",class="2xx",le="2.5"}"#,
                        "0+10x30",
                    ),
                    (
                        r#"resilience_request_duration_seconds_bucket{service="bank",class="2xx",le="+Inf"}"#,
                        "0+10x30",
                    ),
                ],
                at: "15m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (
                        r#"resilience_request_duration_seconds_bucket{service="bank",class="2xx",le="1"}"#,
                        "0+99x30",
                    ),
                    (
                        r#"resilience_request_duration_seconds_bucket{service="bank",class="2xx",le="2.5"}"#,
                        "0+100x30",
                    ),
                    (
                        r#"resilience_request_duration_seconds_bucket{service="bank",class="2xx",le="+Inf"}"#,
                        "0+100x30",
                    ),
                ],
                at: "15m",
            },
        },
        Alert {
            name: "ServiceFailsFast",
            // 14.4 times the budget of 0.5 % uses up a month's in two days.
            query: "service:resilience_errors:ratio_rate1h > 14.4 * 0.005 and service:resilience_errors:ratio_rate5m > 14.4 * 0.005",
            hold: "2m",
            severity: Severity::Critical,
            summary: "{{ $labels.service }} fails so often that a month's budget of errors (0.5 %) is gone in two days.",
            runbook: "service-fails",
            fires: Case {
                step: "1m",
                series: &[
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="2xx"}"#,
                        "0+90x90",
                    ),
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="5xx"}"#,
                        "0+10x90",
                    ),
                ],
                at: "70m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="2xx"}"#,
                        "0+90x90",
                    ),
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="5xx"}"#,
                        "0+10x60 600x30",
                    ),
                ],
                at: "70m",
            },
        },
        Alert {
            name: "ServiceFailsSlowly",
            // 6 times the budget uses up a month's in five days.
            query: "service:resilience_errors:ratio_rate6h > 6 * 0.005 and service:resilience_errors:ratio_rate30m > 6 * 0.005",
            hold: "15m",
            severity: Severity::Warning,
            summary: "{{ $labels.service }} fails so often that a month's budget of errors (0.5 %) is gone in five days.",
            runbook: "service-fails",
            fires: Case {
                step: "1m",
                series: &[
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="2xx"}"#,
                        "0+96x480",
                    ),
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="5xx"}"#,
                        "0+4x480",
                    ),
                ],
                at: "7h",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="2xx"}"#,
                        "0+38x480",
                    ),
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="5xx"}"#,
                        "0+2x480",
                    ),
                    (
                        r#"resilience_request_duration_seconds_count{service="bank",class="4xx"}"#,
                        "0+60x480",
                    ),
                ],
                at: "7h",
            },
        },
    ],
};
