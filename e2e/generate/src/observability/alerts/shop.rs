//! The alerts of the shop.

use crate::observability::group::{Alert, Case, Group, Severity};

/// Of the shop.
pub const SHOP: Group = Group {
    name: "shop",
    recordings: &[],
    alerts: &[
        Alert {
            name: "LockContended",
            query: "sum by (namespace, lock) (rate(lock_contentions_total[5m])) > 1",
            hold: "5m",
            severity: Severity::Warning,
            summary: "The lock {{ $labels.lock }} is wanted and held more than once a second.",
            runbook: "lock-contention",
            fires: Case {
                step: "1m",
                series: &[(
                    r#"lock_contentions_total{service="inventory",lock="counts"}"#,
                    "0+90x30",
                )],
                at: "15m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"lock_contentions_total{service="inventory",lock="counts"}"#,
                    "0+30x30",
                )],
                at: "15m",
            },
        },
        Alert {
            name: "EventBusDown",
            query: "max by (namespace, service) (event_bus_up) == 0",
            hold: "1m",
            severity: Severity::Critical,
            summary: "Redis does not answer {{ $labels.service }}: events wait in its outbox, those of others are not handled.",
            runbook: "events-wait",
            fires: Case {
                step: "15s",
                series: &[(r#"event_bus_up{service="order",pod="a"}"#, "1x4 0x30")],
                at: "5m",
            },
            silent: Case {
                step: "15s",
                series: &[
                    (r#"event_bus_up{service="order",pod="a"}"#, "1x4 0x30"),
                    (r#"event_bus_up{service="order",pod="b"}"#, "1x40"),
                ],
                at: "5m",
            },
        },
        Alert {
            name: "EventsNotHandled",
            query: "max by (namespace, stream, group) (consumer_lag) > 1000",
            hold: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.group }} has more than 1,000 events of {{ $labels.stream }} still to handle.",
            runbook: "events-wait",
            fires: Case {
                step: "1m",
                series: &[(r#"consumer_lag{stream="order.events",group="analytics"}"#, "0+500x20")],
                at: "12m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"consumer_lag{stream="order.events",group="analytics"}"#,
                    "5000x3 900x20",
                )],
                at: "12m",
            },
        },
        Alert {
            name: "OutboxOld",
            query: "max by (namespace, service) (outbox_oldest_unpublished_seconds) > 60",
            hold: "2m",
            severity: Severity::Warning,
            summary: "An event of {{ $labels.service }} has waited for more than a minute to be published.",
            runbook: "events-wait",
            fires: Case {
                step: "1m",
                series: &[(r#"outbox_oldest_unpublished_seconds{service="order"}"#, "0+60x20")],
                at: "8m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"outbox_oldest_unpublished_seconds{service="order"}"#,
                    "0 90 0 30 0 90 0 30 0 90 0",
                )],
                at: "8m",
            },
        },
        Alert {
            name: "DeadLetters",
            query: "max by (namespace, stream) (event_dead_letters) > 0",
            hold: "0s",
            severity: Severity::Warning,
            summary: "Events of {{ $labels.stream }} could not be handled and lie among the dead letters, for a week at most.",
            runbook: "dead-letters",
            fires: Case {
                step: "15s",
                series: &[(r#"event_dead_letters{stream="payment.commands"}"#, "0x4 1x30")],
                at: "5m",
            },
            silent: Case {
                step: "15s",
                series: &[(r#"event_dead_letters{stream="payment.commands"}"#, "0x40")],
                at: "5m",
            },
        },
        Alert {
            name: "OrdersStuck",
            query: "max by (namespace) (order_commands_overdue_seconds) > 120",
            hold: "2m",
            severity: Severity::Warning,
            summary: "A command of an order has been due for two minutes and was not sent: the sweeper does not get on.",
            runbook: "events-wait",
            fires: Case {
                step: "1m",
                series: &[(r#"order_commands_overdue_seconds{service="order"}"#, "0+60x20")],
                at: "10m",
            },
            silent: Case {
                step: "1m",
                series: &[(r#"order_commands_overdue_seconds{service="order"}"#, "100x20")],
                at: "10m",
            },
        },
        Alert {
            name: "OrdersUnanswered",
            query: "max by (namespace) (order_commands_oldest_seconds) > 900",
            hold: "5m",
            severity: Severity::Warning,
            summary: "An order has waited for more than a quarter of an hour for the answer of inventory or payment.",
            runbook: "events-wait",
            fires: Case {
                step: "1m",
                series: &[(r#"order_commands_oldest_seconds{service="order"}"#, "0+60x30")],
                at: "25m",
            },
            silent: Case {
                step: "1m",
                series: &[(r#"order_commands_oldest_seconds{service="order"}"#, "0+60x14 0+60x14")],
                at: "25m",
            },
        },
        Alert {
            name: "PaymentsDiffer",
            query: "max by (namespace, kind) (payment_reconciliation_differences) > 0",
            hold: "5m",
            severity: Severity::Critical,
            summary: "Payment and the card processor do not agree about money: {{ $labels.kind }}.",
            runbook: "payments-differ",
            fires: Case {
                step: "1m",
                series: &[(r#"payment_reconciliation_differences{kind="unnamed"}"#, "0x3 1x20")],
                at: "12m",
            },
            silent: Case {
                step: "1m",
                series: &[(r#"payment_reconciliation_differences{kind="unnamed"}"#, "0x3 1 0x20")],
                at: "12m",
            },
        },
        Alert {
            name: "PaymentsStuck",
            query: "max by (namespace) (payments_open_oldest_seconds) > 900",
            hold: "5m",
            severity: Severity::Critical,
            summary: "A charge or refund has waited for more than a quarter of an hour for the card processor's word.",
            runbook: "payments-differ",
            fires: Case {
                step: "1m",
                series: &[(r#"payments_open_oldest_seconds{service="payment"}"#, "0+60x30")],
                at: "25m",
            },
            silent: Case {
                step: "1m",
                series: &[(r#"payments_open_oldest_seconds{service="payment"}"#, "0+60x14 0+60x14")],
                at: "25m",
            },
        },
        Alert {
            name: "PaymentsNotCompared",
            // Compared once an hour. A replica may have died over it, and each tells what it saw last.
            query: "max by (namespace) (payment_reconciliation_age_seconds) > 3 * 3600",
            hold: "5m",
            severity: Severity::Warning,
            summary: "Payment and the card processor were not compared for three hours: PaymentsDiffer tells nothing new.",
            runbook: "payments-differ",
            fires: Case {
                step: "1m",
                series: &[(r#"payment_reconciliation_age_seconds{service="payment"}"#, "0+60x240")],
                at: "200m",
            },
            silent: Case {
                step: "1m",
                series: &[(
                    r#"payment_reconciliation_age_seconds{service="payment"}"#,
                    "0+60x120 0+60x120",
                )],
                at: "200m",
            },
        },
        Alert {
            name: "PasswordsGuessed",
            query: r#"sum by (namespace) (rate(auth_logins_total{outcome=~"wrong|locked"}[5m])) > 1"#,
            hold: "5m",
            severity: Severity::Warning,
            summary: "More than one log-in a second fails: somebody may be guessing passwords.",
            runbook: "passwords-guessed",
            fires: Case {
                step: "1m",
                series: &[(r#"auth_logins_total{outcome="locked"}"#, "0+90x30")],
                at: "15m",
            },
            silent: Case {
                step: "1m",
                series: &[
                    (r#"auth_logins_total{outcome="succeeded"}"#, "0+900x30"),
                    (r#"auth_logins_total{outcome="wrong"}"#, "0+10x30"),
                ],
                at: "15m",
            },
        },
    ],
};
