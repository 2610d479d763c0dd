//! What is told as an event, and how often.

use super::*;

/// Why something is told when the status becomes another.
fn reasons(old: &ResilientServiceStatus, new: &ResilientServiceStatus) -> Vec<String> {
    let told = news(old, new).into_iter();
    told.map(|news| news.reason.into_owned()).collect()
}

#[test]
fn news_are_told_once() {
    let service = service(spec(1));
    let with = |state: &str| {
        let report =
            json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [{"target": "inventory", "state": state}]});
        judge(&service, &seen(1, 1, vec![pod(1, Some(report))]))
    };
    let nothing = ResilientServiceStatus::default();
    assert_eq!(reasons(&nothing, &with("Closed")), ["ConfigAccepted"]);
    assert_eq!(reasons(&with("Closed"), &with("Closed")), Vec::<String>::new());
    assert_eq!(reasons(&with("Closed"), &with("Open")), ["CircuitOpened"]);
    assert_eq!(reasons(&with("Open"), &with("HalfOpen")), Vec::<String>::new());
    assert_eq!(reasons(&with("HalfOpen"), &with("Closed")), ["CircuitClosed"]);
}

#[test]
fn each_configuration_is_news_and_a_circuit_that_stays_open_is_none() {
    let of = |replicas: i32, timeout: &str, state: &str| {
        let service = service(json!({"image": "a", "replicas": replicas, "resilience": {
            "inbound": {"timeout": timeout}, "targets": [{"name": "inventory"}]}}));
        let report =
            json!({"policy": {"hash": hash(&service)}, "circuitBreakers": [{"target": "inventory", "state": state}]});
        judge(&service, &seen(1, 1, vec![pod(1, Some(report))]))
    };
    assert_eq!(reasons(&of(1, "5s", "Open"), &of(1, "6s", "Open")), ["ConfigAccepted"]);
    assert_eq!(
        reasons(&of(1, "5s", "Open"), &of(1, "5s", "Open")),
        Vec::<String>::new()
    );
}
