//! The documents that the services of the tests obey.

use serde_json::{Value, json};

/// The times that the chart gives order.
pub fn order_policy() -> Value {
    let breaker = json!({"consecutiveFailures": 3, "openDuration": "1s", "maxOpenDuration": "2s"});
    // A key of a killed process is free again soon.
    let inbound = json!({"timeout": "3s", "idempotency": {"lockTimeout": "4s"}});
    json!({"version": 1, "chaos": {"admission": "Allowed"}, "inbound": inbound, "targets": [
        {"name": "inventory", "timeout": {"request": "1s", "attempt": "500ms"}, "circuitBreaker": breaker,
         "idempotentRoutes": ["POST /api/inventory/deduct"]},
        {"name": "payment", "timeout": {"request": "1s", "attempt": "900ms"}, "circuitBreaker": breaker,
         "idempotentRoutes": ["POST /payments"]},
    ]})
}

/// The times that the chart gives payment, all of them shorter.
pub fn hasty_payment_policy() -> Value {
    json!({"version": 1, "targets": [
        {"name": "processor", "timeout": {"request": "500ms", "attempt": "200ms"},
         "circuitBreaker": {"consecutiveFailures": 5, "openDuration": "1s", "maxOpenDuration": "2s"},
         "idempotentRoutes": ["POST /charges"]},
    ]})
}

/// Without a breaker: a processor that fails half of the time on purpose would open it again and again.
pub fn payment_policy() -> Value {
    json!({"version": 1, "mode": "Disabled"})
}
