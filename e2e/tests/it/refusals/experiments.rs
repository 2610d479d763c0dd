//! What the API server must refuse of experiments: the rows of `rows.rs` for this kind.

use super::rows::{merged, object};
use serde_json::{Value, json};

fn chaos(spec: Value) -> Value {
    object(
        "ChaosExperiment",
        "refused",
        merged(json!({"target": {"service": "inventory"}}), spec),
    )
}

/// Each with a text that names what is wrong.
pub fn refused() -> Vec<(Value, &'static str)> {
    vec![
        (chaos(json!({})), "exactly one fault must be set"),
        (
            chaos(json!({"podKill": {}, "latency": {"delay": "1s"}, "duration": "5s"})),
            "exactly one fault must be set",
        ),
        (chaos(json!({"latency": {"delay": "1s"}})), "duration is required"),
        (chaos(json!({"crash": {}})), "duration is required"),
        (
            chaos(json!({"refuse": {}, "abort": {}, "duration": "5s"})),
            "exactly one fault must be set",
        ),
        (
            chaos(json!({"crash": {"times": 4}, "duration": "5s"})),
            "spec.crash.times",
        ),
        (
            chaos(json!({"cpuStress": {"workers": 65}, "duration": "5s"})),
            "spec.cpuStress.workers",
        ),
        (
            chaos(json!({"memoryStress": {"size": "65Gi"}, "duration": "5s"})),
            "spec.memoryStress.size",
        ),
        (
            chaos(json!({"partition": {"peer": "Order"}, "duration": "5s"})),
            "spec.partition.peer",
        ),
        (chaos(json!({"podKill": {"method": "Wish"}})), "spec.podKill.method"),
        (
            chaos(
                json!({"podKill": {}, "schedule": "0 10 * * *", "excludedWindows": [{"from": "9:00", "to": "17:00"}]}),
            ),
            "spec.excludedWindows[0].from",
        ),
        (
            chaos(json!({"podKill": {}, "excludedWindows": [{"from": "09:00", "to": "17:00"}]})),
            "excludedWindows have no meaning without schedule",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {
                "service": "order", "headers": [{"name": "Authorization", "value": "Bearer x"}]
            }}]}})),
            "a probe sends no credential",
        ),
        (
            chaos(json!({"podKill": {}, "duration": "5s"})),
            "duration has no meaning for podKill",
        ),
        (
            chaos(json!({"latency": {"delay": "10m"}, "duration": "5s"})),
            "delay must be between 1ms and 5m",
        ),
        (
            chaos(json!({"errors": {"status": 200}, "duration": "5s"})),
            "spec.errors.status",
        ),
        (
            chaos(json!({"errors": {"percent": 0}, "duration": "5s"})),
            "spec.errors.percent",
        ),
        (
            chaos(json!({"podKill": {}, "count": "150%"})),
            "count must be a number from 1 to 100",
        ),
        (
            chaos(json!({"podKill": {}, "count": 0})),
            "count must be a number from 1 to 100",
        ),
        (chaos(json!({"podKill": {}, "schedule": "@daily"})), "spec.schedule"),
        (
            chaos(json!({"podKill": {}, "schedule": "0 10 * * 5#2"})),
            "spec.schedule",
        ),
        (chaos(json!({"podKill": {}, "schedule": "0 10 ? * *"})), "spec.schedule"),
        (
            chaos(json!({"errors": {"routes": ["GET /a?b=c"]}, "duration": "5s"})),
            "spec.errors.routes",
        ),
        (
            chaos(json!({"errors": {"routes": ["GET /a/*"]}, "duration": "5s"})),
            "spec.errors.routes",
        ),
        (
            chaos(json!({"latency": {"delay": "1s", "routes": ["ANY /a"]}, "duration": "5s"})),
            "spec.latency.routes",
        ),
        (
            chaos(json!({"podKill": {}, "timeZone": "Europe/Berlin"})),
            "timeZone has no meaning without schedule",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a"}]}})),
            "exactly one of http, grpc, condition and prometheus must be set",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "grpc": {"service": "order"}}]}})),
            "spec.steadyState.probes[0].grpc.port",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "order", "body": "{}"}}]}}),
            ),
            "body needs method: POST",
        ),
        (
            chaos(json!({"podKill": {}, "startingDeadlineSeconds": 45})),
            "startingDeadlineSeconds has no meaning without schedule",
        ),
        (
            chaos(json!({"podKill": {}, "concurrencyPolicy": "Replace"})),
            "concurrencyPolicy: Replace has no meaning without schedule",
        ),
        (
            chaos(json!({"podKill": {}, "suspend": true})),
            "suspend holds back scheduled runs only",
        ),
        (
            chaos(
                json!({"refuse": {}, "duration": "40s", "steadyState": {"probes": [{"name": "a", "interval": "41s", "http": {"service": "a"}}]}}),
            ),
            "interval is longer than duration",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "a", "method": "HEAD", "expect": {"bodyContains": "ok"}}}]}}),
            ),
            "an answer to HEAD has no body",
        ),
        (
            chaos(json!({"podKill": {}, "target": {"service": "Inventory"}})),
            "spec.target.service",
        ),
        (
            chaos(json!({"podKill": {}, "target": {"service": ""}})),
            "spec.target.service",
        ),
        (
            chaos(json!({"podKill": {}, "target": {"service": "inventory", "zone": "west 1"}})),
            "spec.target.zone",
        ),
        (
            chaos(json!({"podKill": {"gracePeriodSeconds": -1}})),
            "spec.podKill.gracePeriodSeconds",
        ),
        (chaos(json!({"refuse": {}, "duration": "5 minutes"})), "spec.duration"),
        (
            chaos(json!({"abort": {"percent": 101}, "duration": "5s"})),
            "spec.abort.percent",
        ),
        (
            chaos(json!({"cpuStress": {"loadPercent": 0}, "duration": "5s"})),
            "spec.cpuStress.loadPercent",
        ),
        (
            chaos(json!({"memoryStress": {"size": "12MB"}, "duration": "5s"})),
            "spec.memoryStress.size",
        ),
        (
            chaos(json!({"memoryStress": {}, "duration": "5s"})),
            "spec.memoryStress.size",
        ),
        (
            chaos(json!({"latency": {"delay": "2"}, "duration": "5s"})),
            "spec.latency.delay",
        ),
        (
            chaos(json!({"podKill": {}, "safety": {"minPodAge": "-3s"}})),
            "spec.safety.minPodAge",
        ),
        (
            chaos(json!({"podKill": {}, "safety": {"minAvailable": -1}})),
            "spec.safety.minAvailable",
        ),
        (chaos(json!({"podKill": {}, "schedule": "0 10 * *"})), "spec.schedule"),
        (
            chaos(json!({"podKill": {}, "schedule": "0 10 * * *", "startingDeadlineSeconds": 9})),
            "spec.startingDeadlineSeconds",
        ),
        (
            chaos(json!({"podKill": {}, "after": {"experiment": "First"}})),
            "spec.after.experiment",
        ),
        (
            chaos(json!({"podKill": {}, "after": {"experiment": "first", "verdict": "Passed"}})),
            "spec.after.verdict",
        ),
        (chaos(json!({"podKill": {}, "desired": "Pause"})), "spec.desired"),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "order", "path": "api"}}]}}),
            ),
            "spec.steadyState.probes[0].http.path",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "order", "port": 65536}}]}}),
            ),
            "spec.steadyState.probes[0].http.port",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "order", "expect": {"status": 99}}}]}}),
            ),
            "spec.steadyState.probes[0].http.expect.status",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "order", "expect": {"bodyContains": ""}}}]}}),
            ),
            "http.expect.bodyContains",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "condition": {"name": "Order", "type": "Ready"}}]}}),
            ),
            "spec.steadyState.probes[0].condition.name",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "failureThreshold": 0, "http": {"service": "order"}}]}}),
            ),
            "spec.steadyState.probes[0].failureThreshold",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "prometheus": {"service": "p", "query": " ", "comparator": "<", "value": 1}}]}}),
            ),
            "spec.steadyState.probes[0].prometheus.query",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "prometheus": {"service": "p", "query": "up", "comparator": "=", "value": 1}}]}}),
            ),
            "spec.steadyState.probes[0].prometheus.comparator",
        ),
    ]
}
