//! A row for each refusal: the place, the value and the remedy are told.

use valerix_policy::{Faults, Policy, PolicyError};

fn error(text: &str) -> (&'static str, String) {
    let error = Policy::parse(text.as_bytes()).unwrap_err();
    (error.category(), error.to_string())
}

#[test]
fn errors_name_the_place_the_value_and_the_remedy() {
    let target = |field: &str| format!(r#"{{"version": 1, "targets": [{{"name": "a", {field}}}]}}"#);
    for (text, category, parts) in [
        (String::new(), "Syntax", ["line 1", "EOF", "operator"]),
        ("{\"version\": 1".to_owned(), "Syntax", ["line 1", "EOF", "column"]),
        ("[]".to_owned(), "Shape", ["invalid type", "JSON object", "."]),
        ("{}".to_owned(), "Version", ["missing", "version 1", "beside"]),
        (
            r#"{"version": 2}"#.to_owned(),
            "Version",
            ["version is 2", "version 1", "beside"],
        ),
        (
            r#"{"version": 1, "mode": "Off"}"#.to_owned(),
            "Shape",
            ["mode", "`Off`", "`Shadow`"],
        ),
        (
            target(r#""timeout": {"request": "1 s"}"#),
            "Shape",
            ["targets[0].timeout.request", "\"1 s\"", "500ms"],
        ),
        (
            target(r#""retry": {"maxAttempts": "3"}"#),
            "Shape",
            ["targets[0].retry.maxAttempts", "\"3\"", "u32"],
        ),
        (
            target(r#""retry": {"maxAttempts": 11}"#),
            "Invalid",
            ["targets[0].retry.maxAttempts", "11", "1 to 10"],
        ),
        (
            target(r#""url": "ftp://x""#),
            "Invalid",
            ["targets[0].url", "ftp://x", "http://host"],
        ),
        (
            target(r#""idempotentRoutes": ["POST"]"#),
            "Invalid",
            ["targets[0].idempotentRoutes[0]", "POST", "METHOD /path"],
        ),
        (
            target(r#""circuitBreaker": {"window": {"type": "Count", "calls": 10}}"#),
            "Invalid",
            ["targets[0].circuitBreaker.minimumRequests", "20", "window.calls (10)"],
        ),
        (
            target(r#""hedge": {"delay": "0s"}"#),
            "Invalid",
            ["targets[0].hedge.delay", "0s", "from 1ms"],
        ),
        (
            target(r#""hedge": {"delay": "1s", "percentile": 95}"#),
            "Invalid",
            ["targets[0].hedge.percentile", "95", "type to Percentile"],
        ),
        (
            target(r#""hedge": {"type": "Percentile", "delay": "1s", "percentile": 100}"#),
            "Invalid",
            ["targets[0].hedge.percentile", "100", "50 to 99"],
        ),
        (
            target(r#""hedge": {"delay": "1s", "maxHedgedAttempts": 4}"#),
            "Invalid",
            ["targets[0].hedge.maxHedgedAttempts", "4", "1 to 3"],
        ),
        (
            target(r#""balancing": {"type": "None"}, "circuitBreaker": {"scope": "Host"}"#),
            "Invalid",
            ["targets[0].circuitBreaker.scope", "Host", "P2C"],
        ),
        (
            r#"{"version": 1, "targets": [{"name": "a"}, {"name": "a"}]}"#.to_owned(),
            "Invalid",
            ["targets[1].name", "\"a\"", "once"],
        ),
        (
            r#"{"version": 1, "inbound": {"concurrency": {"priorities": {"sheddablePercent": 95}}}}"#.to_owned(),
            "Invalid",
            ["inbound.concurrency.priorities.defaultPercent", "90", "95 to 100"],
        ),
        (
            r#"{"version": 1, "inbound": {"concurrency": {"priorities": {"routes": [
                {"route": "GET /a", "priority": "Critical"}, {"route": "GET /a", "priority": "Default"}]}}}}"#
                .to_owned(),
            "Invalid",
            ["inbound.concurrency.priorities.routes[1].route", "GET /a", "once"],
        ),
        (
            r#"{"version": 1, "inbound": {"timeout": "30s"}}"#.to_owned(),
            "Invalid",
            ["inbound.idempotency.lockTimeout", "30s", "more than inbound.timeout"],
        ),
        (
            r#"{"version": 1, "inbound": {"idempotency": {"ttl": "90s", "lockTimeout": "90s"}}}"#.to_owned(),
            "Invalid",
            [
                "inbound.idempotency.ttl",
                "1m30s",
                "more than inbound.idempotency.lockTimeout",
            ],
        ),
    ] {
        let (found, message) = error(&text);
        assert_eq!(found, category, "{text}: {message}");
        for part in parts {
            assert!(message.contains(part), "{text}: {message} lacks {part}");
        }
    }
}

/// What people write who know other libraries, or who mistype: each is refused, with the place, the value and a remedy.
#[test]
fn what_nobody_would_think_of_is_refused_too() {
    let target = |field: &str| format!(r#"{{"version": 1, "targets": [{{"name": "a", {field}}}]}}"#);
    let inbound = |field: &str| format!(r#"{{"version": 1, "inbound": {{{field}}}}}"#);
    let url = |url: &str| target(&format!(r#""url": "{url}""#));
    let name = |name: &str| format!(r#"{{"version": 1, "targets": [{{"name": "{name}"}}]}}"#);
    for (text, message) in [
        (url("http://:80"), "targets[0].url is \"http://:80\": use http://host"),
        (url("http://a:"), "targets[0].url is \"http://a:\""),
        (url("http://a:0"), "targets[0].url is \"http://a:0\""),
        (url("http://a:65536"), "targets[0].url is \"http://a:65536\""),
        (url("http://a:http/x"), "targets[0].url is \"http://a:http/x\""),
        (url("http://a:+80"), "targets[0].url is \"http://a:+80\""),
        (url("http://[::1"), "targets[0].url is \"http://[::1\""),
        (url("http://[a]:80"), "targets[0].url is \"http://[a]:80\""),
        (url("http://[::1]80"), "targets[0].url is \"http://[::1]80\""),
        (url("http://a,b"), "targets[0].url is \"http://a,b\""),
        (url("http://${HOST}"), "targets[0].url is \"http://${HOST}\""),
        (url("http://a b"), "targets[0].url is \"http://a b\""),
        (url("http://a?b"), "targets[0].url is \"http://a?b\""),
        (url("http:/a"), "targets[0].url is \"http:/a\""),
        (url("HTTP://a"), "targets[0].url is \"HTTP://a\""),
        (url("redis://a:6379"), "targets[0].url is \"redis://a:6379\""),
        (url("//a"), "targets[0].url is \"//a\""),
        (name("-a"), "targets[0].name is \"-a\": use 1 to 63"),
        (name("a_b"), "targets[0].name is \"a_b\""),
        (name("a.b"), "targets[0].name is \"a.b\""),
        (
            target(r#""timeout": {"request": "0s"}"#),
            "targets[0].timeout.request is 0s: use a duration from 1ms",
        ),
        (
            target(r#""timeout": {"attempt": 500}"#),
            "targets[0].timeout.attempt: invalid type: integer",
        ),
        (
            target(r#""timeout": {"connect": "1.5s"}"#),
            "targets[0].timeout.connect: invalid duration \"1.5s\"",
        ),
        (
            target(r#""timeout": {"connect": "PT1S"}"#),
            "targets[0].timeout.connect: invalid duration \"PT1S\"",
        ),
        (target(r#""timeout": "1s""#), "targets[0].timeout: invalid type: string"),
        (
            target(r#""retry": {"maxAttempts": -1}"#),
            "targets[0].retry.maxAttempts: invalid value",
        ),
        (
            target(r#""retry": {"maxAttempts": 1.5}"#),
            "targets[0].retry.maxAttempts: invalid type",
        ),
        (
            target(r#""retry": {"backoff": {"base": "2s", "max": "1s"}}"#),
            "targets[0].retry.backoff.max is 1s: use at least backoff.base (2s)",
        ),
        (
            target(r#""retry": {"budget": {"percent": 101}}"#),
            "targets[0].retry.budget.percent is 101",
        ),
        (
            target(r#""bulkhead": {"maxConcurrent": 0}"#),
            "targets[0].bulkhead.maxConcurrent is 0",
        ),
        (
            target(r#""bulkhead": {"maxWait": "25h"}"#),
            "targets[0].bulkhead.maxWait is 25h",
        ),
        (
            target(r#""circuitBreaker": {"failureRatePercent": 0.5}"#),
            "targets[0].circuitBreaker.failureRatePercent: invalid type",
        ),
        (
            target(r#""circuitBreaker": {"openDuration": "1m", "maxOpenDuration": "1s"}"#),
            "targets[0].circuitBreaker.maxOpenDuration is 1s: use a duration from openDuration (1m)",
        ),
        (
            target(r#""circuitBreaker": {"window": {"type": "Calls"}}"#),
            "targets[0].circuitBreaker.window.type: unknown variant `Calls`",
        ),
        (
            target(r#""idempotentRoutes": ["POST api"]"#),
            "targets[0].idempotentRoutes[0] is \"POST api\": invalid route",
        ),
        (
            target(r#""idempotentRoutes": ["post /api"]"#),
            "targets[0].idempotentRoutes[0] is \"post /api\"",
        ),
        (
            inbound(r#""rateLimit": {"rules": [{"name": "a", "requests": 0, "window": "1s"}]}"#),
            "inbound.rateLimit.rules[0].requests is 0",
        ),
        (
            inbound(r#""rateLimit": {"rules": [{"name": "a", "requests": 5, "window": "1ms"}]}"#),
            "inbound.rateLimit.rules[0].window is 1ms: use a duration from 100ms",
        ),
        (
            inbound(
                r#""rateLimit": {"rules": [{"name": "a", "requests": 5, "window": "1s", "key": {"type": "Header"}}]}"#,
            ),
            "inbound.rateLimit.rules[0].key.name is \"\": name the header",
        ),
        (
            inbound(r#""rateLimit": {"rules": [{"name": "a", "requests": 5, "window": "1s", "routes": ["*"]}]}"#),
            "inbound.rateLimit.rules[0].routes[0] is \"*\": invalid route",
        ),
        (inbound(r#""rateLimit": [{"name": "a"}]"#), "inbound.rateLimit"),
        (inbound(r#""concurrency": {"max": 0}"#), "inbound.concurrency.max is 0"),
        (
            inbound(r#""concurrency": {"type": "Adaptive", "min": 9, "max": 5}"#),
            "inbound.concurrency.min is 9: use a number from 1 to 5",
        ),
        (
            inbound(r#""concurrency": {"queueTimeout": "61s"}"#),
            "inbound.concurrency.queueTimeout is 1m1s",
        ),
        (inbound(r#""timeout": "0s""#), "inbound.timeout is 0s"),
        (
            inbound(r#""idempotency": {"ttl": "59s"}"#),
            "inbound.idempotency.ttl is 59s",
        ),
        (r#"{"version": "1"}"#.to_owned(), "version is \"1\""),
        (
            r#"{"version": 1, "targets": null}"#.to_owned(),
            "targets: invalid type: null",
        ),
        (
            r#"{"version": 1, "targets": {"a": {}}}"#.to_owned(),
            "targets: invalid type: map",
        ),
        (
            r#"{"version": 1, "targets": [null]}"#.to_owned(),
            "targets[0]: invalid type: null",
        ),
        (
            r#"{"version": 1, "mode": null}"#.to_owned(),
            "mode: expected value at line 1 column 24; write one of the values",
        ),
        (
            r#"{"version": 1, "chaos": {"admission": "allowed"}}"#.to_owned(),
            "chaos.admission: unknown variant `allowed`",
        ),
        (r#"{"version": 1} {}"#.to_owned(), "trailing characters"),
        ("\u{feff}{\"version\": 1}".to_owned(), "line 1"),
    ] {
        let (_, said) = error(&text);
        assert!(said.contains(message), "{text}: {said}");
    }
    for good in [
        "http://a",
        "https://a.b:65535/c/d",
        "http://[::1]:80",
        "http://10.0.0.1",
        "http://a_b-c",
    ] {
        let parsed = Policy::parse(url(good).as_bytes());
        assert!(parsed.is_ok(), "{good}: {parsed:?}");
    }
}

#[test]
fn faults_out_of_bounds_are_refused() {
    let entry = |field: &str, fault: &str| {
        format!(
            r#"{{"version": 1, "faults": [{{"run": "r", "podUIDs": ["u"], "duration": "60s",
            "notAfter": "2026-11-21T10:01:45Z", "intentAt": "2026-11-21T10:00:00Z"{field}, "fault": {fault}}}]}}"#
        )
    };
    let fault = |fault: &str| entry("", fault);
    for (text, message) in [
        (
            fault(r#"{"latency": {"delay": "0s"}}"#),
            "faults[0].fault.latency.delay is 0s",
        ),
        (
            fault(r#"{"latency": {"delay": "1s", "jitter": "2s"}}"#),
            "faults[0].fault.latency.jitter is 2s: use at most latency.delay (1s)",
        ),
        (
            fault(r#"{"latency": {"delay": "1s", "percent": 0}}"#),
            "faults[0].fault.latency.percent is 0",
        ),
        (
            fault(r#"{"errors": {"status": 200}}"#),
            "faults[0].fault.errors.status is 200",
        ),
        (
            fault(r#"{"errors": {"percent": 101}}"#),
            "faults[0].fault.errors.percent is 101",
        ),
        (
            fault(r#"{"abort": {"routes": ["/a"]}}"#),
            "faults[0].fault.abort.routes[0] is \"/a\"",
        ),
        (fault(r#"{"crash": {"times": 4}}"#), "faults[0].fault.crash.times is 4"),
        (
            fault(r#"{"partition": {"peer": ""}}"#),
            "faults[0].fault.partition.peer is \"\": name the peer",
        ),
        (
            fault(r#"{"cpuStress": {"loadPercent": 101, "workers": 1}}"#),
            "faults[0].fault.cpuStress.loadPercent is 101",
        ),
        (
            fault(r#"{"memoryStress": {"size": "65Gi"}}"#),
            "faults[0].fault.memoryStress.size is \"65Gi\": use a quantity",
        ),
        (
            entry(r#", "sparedPaths": ["alive"]"#, r#"{"refuse": {}}"#),
            "faults[0].sparedPaths[0] is \"alive\": write a path",
        ),
    ] {
        let said = Faults::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(message), "{text}: {said}");
    }
}

#[test]
fn all_bounds_that_are_broken_are_named_at_once() {
    let text = r#"{"version": 1, "targets": [{"name": "A", "retry": {"maxAttempts": 0},
        "circuitBreaker": {"failureRatePercent": 101, "halfOpenPermits": 0}}]}"#;
    let PolicyError::Invalid { violations } = Policy::parse(text.as_bytes()).unwrap_err() else {
        panic!()
    };
    let paths: Vec<_> = violations.iter().map(|violation| violation.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "targets[0].name",
            "targets[0].retry.maxAttempts",
            "targets[0].circuitBreaker.failureRatePercent",
            "targets[0].circuitBreaker.halfOpenPermits"
        ]
    );
}

#[test]
fn a_large_document_is_refused_before_it_is_read() {
    let text = format!("{{\"version\": 1, \"x\": \"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(error(&text).0, "TooLarge");
}
