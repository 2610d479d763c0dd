//! Documents in, values or errors out: tables of good and bad ones, and a slice of fuzzing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "../full/mod.rs"]
mod full;
mod fuzzing;
mod refusals;

use valerix_policy::{
    Admission, CircuitState, Fault, FaultType, Faults, LatencyFault, Mode, Policy, PolicySource, Report, Runtime,
    Target,
};

use full::POLICY as FULL;

#[test]
fn every_field_is_read_and_written_back() {
    let parsed = Policy::parse(FULL.as_bytes()).unwrap();
    assert_eq!(parsed.ignored_fields, [""; 0]);
    assert_eq!(parsed.hash, valerix_policy::hash(FULL.as_bytes()));
    let policy = parsed.document;
    assert_eq!(
        (policy.mode, policy.chaos.admission),
        (Mode::Shadow, Admission::Allowed)
    );
    let written = policy.render();
    assert_eq!(Policy::parse(written.as_bytes()).unwrap().document, policy);
    assert_eq!(policy.render(), written, "the same value gives the same bytes");
    // Nothing of the original is lost on the way.
    let original: serde_json::Value = serde_json::from_str(FULL).unwrap();
    let again: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(again["targets"][0], original["targets"][0]);
}

#[test]
fn a_short_document_has_the_defaults_of_the_page() {
    let policy = Policy::parse(br#"{"version": 1, "targets": [{"name": "a"}]}"#)
        .unwrap()
        .document;
    assert_eq!(
        (policy.mode, policy.chaos.admission),
        (Mode::Enforce, Admission::Denied)
    );
    let target = &policy.targets[0];
    assert_eq!(*target, Target::named("a"));
    let times = [target.timeout.request, target.timeout.attempt, target.timeout.connect];
    assert_eq!(times.map(valerix_policy::Duration::as_millis), [30_000, 10_000, 2_000]);
    assert_eq!(
        (target.retry.max_attempts, target.circuit_breaker.consecutive_failures),
        (3, None)
    );
    assert_eq!(
        (target.circuit_breaker.minimum_requests, target.bulkhead.max_concurrent),
        (20, 100)
    );
}

#[test]
fn unknown_fields_are_ignored_and_named() {
    let text = r#"{"version": 1, "future": {"a": 1}, "inbound": {"x": 1, "concurrency": {"type": "Fixed", "y": 2}},
        "targets": [{"name": "a"}, {"name": "b", "circuitBreaker": {"window": {"type": "Count", "z": 1}}}]}"#;
    let parsed = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!(
        parsed.ignored_fields,
        [
            "future",
            "inbound.x",
            "inbound.concurrency.y",
            "targets[1].circuitBreaker.window.z"
        ]
    );
}

#[test]
fn faults_and_runtime_are_read() {
    let text = r#"{"version": 1, "faults": [{"run": "r-1", "podUIDs": ["u"], "duration": "60s",
        "notAfter": "2026-11-21T10:01:45Z", "intentAt": "2026-11-21T10:00:00Z",
        "fault": {"latency": {"delay": "2s", "jitter": "500ms", "routes": ["POST /api/inventory/deduct"]}}}]}"#;
    let faults = Faults::parse(text.as_bytes()).unwrap().document;
    let fault = &faults.faults[0].fault;
    assert_eq!(
        (fault.fault_type(), fault.latency.as_ref().unwrap().percent),
        (FaultType::Latency, 100)
    );
    assert_eq!(Faults::parse(faults.render().as_bytes()).unwrap().document, faults);
    assert_eq!(
        Runtime::parse(br#"{"version": 1, "readyReplicas": 3}"#)
            .unwrap()
            .document,
        Runtime::new(3)
    );

    // A kind of a newer writer is an entry that this reader refuses to obey, not a document that it cannot read.
    let newer = text.replace("\"latency\"", "\"gravity\"");
    let parsed = Faults::parse(newer.as_bytes()).unwrap();
    assert_eq!(parsed.document.faults[0].fault.fault_type(), FaultType::Unknown);
    assert_eq!(parsed.ignored_fields, ["faults[0].fault.gravity"]);
}

/// An older operator and a newer image: what the one does not know of the other's report says nothing about the rest.
#[test]
fn a_report_of_a_newer_image_is_still_a_report() {
    let text = r#"{"podUID": "u", "service": "order", "now": "2026-11-21T10:00:00Z", "fresh": 1,
        "policy": {"versions": [1, 2], "hash": "9f2c", "source": "Sidecar"},
        "circuitBreakers": [{"target": "a", "state": "Open"}, {"target": "b", "state": "Ajar"},
            {"target": "c", "state": "Closed", "override": "Tilted"}, {"target": "d", "state": {"half": true}},
            {"state": "Open"}],
        "limits": [{"name": "cost", "kind": "Cost", "limit": 5}, {"name": "b", "kind": "Bulkhead", "limit": 100}],
        "faults": [{"run": "r-1", "type": "Gravity", "state": "Active"}, {"run": "r-2", "type": "Crash", "state": "Paused"}]}"#;
    let report: Report = serde_json::from_str(text).unwrap();
    assert_eq!(
        (report.policy.hash.as_deref(), report.policy.source),
        (Some("9f2c"), PolicySource::Unknown)
    );
    let circuits: Vec<_> = report
        .circuit_breakers
        .iter()
        .map(|breaker| (breaker.target.as_str(), breaker.state, breaker.new_state.as_deref()))
        .collect();
    let limits: Vec<_> = report.limits.iter().map(|limit| limit.name.as_str()).collect();
    let faults: Vec<_> = report
        .faults
        .iter()
        .map(|fault| (fault.run.as_str(), fault.fault_type))
        .collect();
    assert_eq!(
        circuits,
        [
            ("a", CircuitState::Open, None),
            ("b", CircuitState::Unknown, Some("Ajar")),
            ("c", CircuitState::Closed, None),
            ("d", CircuitState::Unknown, Some(r#"{"half":true}"#)),
        ],
        "a circuit that is left out reads as closed"
    );
    assert_eq!(limits, ["b"]);
    assert_eq!(faults, [("r-1", FaultType::Unknown)]);
}

#[test]
fn two_faults_in_one_entry_are_none() {
    let latency = LatencyFault {
        delay: "1s".parse().unwrap(),
        jitter: "0s".parse().unwrap(),
        percent: 100,
        routes: vec![],
    };
    let fault = Fault {
        latency: Some(latency),
        crash: Some(valerix_policy::CrashFault { times: 1 }),
        ..Fault::default()
    };
    assert_eq!(fault.fault_type(), FaultType::Unknown);
}
