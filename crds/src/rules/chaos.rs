//! ChaosExperiments that are refused.

use super::*;

pub(super) fn by_rule() -> Vec<Row> {
    let probe = |block: Value| {
        let probe = merged(json!({"name": "a"}), block);
        chaos(json!({"podKill": {}, "steadyState": {"probes": [probe]}}))
    };
    let http = |block: Value| probe(json!({"http": merged(json!({"service": "order"}), block)}));
    vec![
        (
            chaos(json!({"errors": {}, "duration": "999ms"})),
            "duration must be at least 1s",
        ),
        (
            chaos(json!({"latency": {"delay": "301s"}, "duration": "5s"})),
            "delay must be between",
        ),
        (
            chaos(json!({"errors": {}, "duration": "half a minute"})),
            "duration must be at least 1s, for example 30s or 1m30s",
        ),
        (
            chaos(json!({"latency": {"delay": "1.5s"}, "duration": "5s"})),
            "delay must be between 1ms and 5m, for example 1s500ms",
        ),
        (
            chaos(json!({"latency": {"delay": "1s", "jitter": "some"}, "duration": "5s"})),
            "jitter must not be longer than delay, for example 200ms of 1s",
        ),
        (
            probe(json!({"http": {"service": "order"}, "interval": "5"})),
            "interval must be at least 200ms, for example 500ms or 5s",
        ),
        (
            http(json!({"expect": {"maxLatency": "1 s"}})),
            "maxLatency must be between 1ms and 5s, for example 300ms",
        ),
        (
            probe(json!({"http": {"service": "order"}, "interval": "199ms"})),
            "interval must be at least 200ms",
        ),
        (http(json!({"body": "{}"})), "body needs method: POST"),
        (http(json!({"body": "{}", "method": "HEAD"})), "body needs method: POST"),
        (
            http(json!({"headers": [{"name": "AUTHORIZATION", "value": "Bearer x"}]})),
            "a probe sends no credential",
        ),
        (
            http(json!({"headers": [{"name": "Valerix-Probe", "value": "shop/another/run"}]})),
            "sets Host, length, connection, Idempotency-Key, Valerix-Probe and traceparent itself",
        ),
        (
            probe(json!({"http": {"service": "order"}, "grpc": {"service": "order", "port": 9000}})),
            "exactly one of http, grpc, condition and prometheus",
        ),
        (
            probe(json!({"grpc": {"service": "order", "port": 9000, "maxLatency": "6s"}})),
            "maxLatency must be between 1ms and 5s",
        ),
        (
            chaos(json!({"podKill": {}, "excludedWindows": [{"from": "09:00", "to": "17:00"}]})),
            "excludedWindows have no meaning without schedule",
        ),
        (
            http(json!({"expect": {"maxLatency": "5001ms"}})),
            "maxLatency must be between 1ms and 5s",
        ),
        (
            http(json!({"expect": {"maxLatency": "0s"}})),
            "maxLatency must be between 1ms and 5s",
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
            "without schedule the one run would begin at once; set desired: Stop",
        ),
        (
            chaos(json!({"refuse": {}, "duration": "40s", "steadyState": {"probes": [
                {"name": "edge", "mode": "Edge", "interval": "41s", "http": {"service": "a"}},
                {"name": "late", "interval": "41s", "http": {"service": "a"}},
            ]}})),
            "interval is longer than duration",
        ),
        (
            http(json!({"method": "HEAD", "expect": {"bodyContains": "ok"}})),
            "an answer to HEAD has no body",
        ),
        (
            http(json!({"method": "HEAD", "expect": {"json": [{"pointer": "/a", "value": "1"}]}})),
            "an answer to HEAD has no body",
        ),
        (chaos(json!({})), "exactly one fault"),
        (
            chaos(json!({"podKill": {}, "errors": {}, "duration": "5s"})),
            "exactly one fault",
        ),
        (chaos(json!({"errors": {}})), "duration is required"),
        (chaos(json!({"crash": {}})), "duration is required"),
        (
            chaos(json!({"refuse": {}, "memoryStress": {"size": "1Mi"}, "duration": "5s"})),
            "exactly one fault",
        ),
        (
            chaos(json!({"podKill": {}, "duration": "5s"})),
            "duration has no meaning for podKill",
        ),
        (
            chaos(json!({"errors": {}, "duration": "0s"})),
            "duration must be at least 1s",
        ),
        (
            chaos(json!({"latency": {"delay": "0s"}, "duration": "5s"})),
            "delay must be between",
        ),
        (
            chaos(json!({"latency": {"delay": "1s", "jitter": "2s"}, "duration": "5s"})),
            "jitter must not be longer",
        ),
        (
            chaos(json!({"podKill": {}, "timeZone": "Europe/Berlin"})),
            "timeZone has no meaning without schedule",
        ),
        (chaos(json!({"podKill": {}, "count": "0%"})), "count must be"),
        (chaos(json!({"podKill": {}, "count": 101})), "count must be"),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "mode": "Edge", "http": {"service": "a",
                "expect": {"latencyPercentile": {"percent": 95, "max": "1s"}}}}]}}),
            ),
            "in which mode Edge does not ask",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "a",
                "expect": {"latencyPercentile": {"percent": 95, "max": "6s"}}}}]}}),
            ),
            "max must be between 1ms and 5s",
        ),
        (
            chaos(json!({"podKill": {}, "after": {"experiment": "slow"}})),
            "this one would wait for itself",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "mode": "OnFault", "http": {"service": "a"}}]}}),
            ),
            "mode OnFault needs a fault that lasts",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a",
                "prometheus": {"service": "a", "url": "http://b", "query": "up", "comparator": ">", "value": 1}}]}})),
            "exactly one of service and url must be set",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a",
                "prometheus": {"url": "http://b", "port": 80, "query": "up", "comparator": ">", "value": 1}}]}})),
            "port has no meaning with url",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a"}]}})),
            "exactly one of http, grpc, condition and prometheus",
        ),
    ]
}
