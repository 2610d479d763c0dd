//! Two versions at once: documents, reports and objects of another day, before this build or after it. There is no release
//! yet; what lies in `skew` was written on 21 November 2026 by the operator and for the library of that day, and stays as
//! it is. What comes later is this day's with something in it that nobody here knows.

use super::*;
use axum::{Router, extract::RawQuery, routing::get};
use http::header::ETAG;
use valerix_draw::{Draws, places};
use valerix_policy::Policy;

/// What the operator wrote for [`fixtures::full_spec`].
const WRITTEN: &str = include_str!("skew/written.json");
/// Everything that a document could say.
const FULL: &str = include_str!("skew/full.json");

/// The first place where `later` does not say what `earlier` says; more it may say.
pub(super) fn lost(earlier: &Value, later: &Value, path: &str) -> Option<String> {
    match (earlier, later) {
        (Value::Object(fields), Value::Object(_)) => fields
            .iter()
            .find_map(|(name, value)| lost(value, &later[name], &format!("{path}.{name}"))),
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            let mut pairs = items.iter().zip(others).enumerate();
            pairs.find_map(|(index, (item, other))| lost(item, other, &format!("{path}[{index}]")))
        }
        _ => (earlier != later).then(|| format!("{path}: {earlier} became {later}")),
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn an_earlier_document_is_read_whole_by_the_library_of_this_day() {
    for text in [WRITTEN, FULL] {
        let read = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!(read.ignored_fields, Vec::<String>::new());
        assert_eq!(
            read.hash,
            valerix_policy::hash(text.as_bytes()),
            "of the bytes as they are"
        );
        assert_eq!(lost(&json_of(text), &json_of(&read.document.render()), ""), None);
    }
}

#[test]
fn an_earlier_library_finds_everything_in_this_days_document_where_it_looks_for_it() {
    let service = fixtures::service("order", fixtures::full_spec());
    let now = policy::render(&service.spec).unwrap();
    assert_eq!(lost(&json_of(WRITTEN), &json_of(&now), ""), None);
}

/// A later document never freezes an image: what it does not know is ignored and named.
#[test]
fn a_later_document_is_read_but_for_what_is_new_in_it() {
    let mut later = json_of(FULL);
    let mut places = Vec::new();
    maps(&later, "", &mut places);
    for place in &places {
        later.pointer_mut(place).unwrap()["novel"] = json!({"a": [1]});
    }
    let read = Policy::parse(later.to_string().as_bytes()).unwrap();
    assert_eq!(read.ignored_fields.len(), places.len(), "{:?}", read.ignored_fields);
    assert_eq!(read.document, Policy::parse(FULL.as_bytes()).unwrap().document);
    let next = json!({"version": 2, "targets": "in another shape"}).to_string();
    assert_eq!(Policy::parse(next.as_bytes()).unwrap_err().category(), "Version");
}

/// Pointers of every object.
fn maps(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(pointer.to_owned());
            for (name, below) in fields {
                maps(below, &format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                maps(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// A server that answers as pods do; its port.
async fn pod_that_says(report: Value) -> u16 {
    let body = report.to_string();
    let answer = move |RawQuery(query): RawQuery| {
        let body = body.clone();
        async move {
            // Nothing is ever new.
            if query.unwrap_or_default().contains("since=") {
                std::future::pending::<()>().await;
            }
            ([(ETAG, "\"one\"")], body)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/resilience", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// What the status of a service says whose only pod answers so; its policy's hash is filled in.
async fn judged(mut report: Value) -> Value {
    let target = json!({"name": "inventory", "url": "http://inventory.example.com"});
    let mut spec = order()["spec"].clone();
    spec["resilience"] = json!({"targets": [target]});
    let hash = valerix_policy::hash(
        policy::render(&fixtures::service("order", spec.clone()).spec)
            .unwrap()
            .as_bytes(),
    );
    report["policy"]["hash"] = json!(hash);
    spec["resilience"]["reportPort"] = json!(pod_that_says(report).await);
    let api = FakeApi::default();
    let mut service = order();
    service["spec"] = spec;
    api.create(SERVICES, service);
    let _operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(ORDER, |service| reason(service, "Ready") == "True/AllPodsCurrent")
        .await
}

#[tokio::test]
async fn an_earlier_report_says_what_it_said() {
    // Every field that a report had.
    let service = judged(json!({
        "podUID": "pod-of-order", "service": "order", "now": "2026-11-21T10:00:00Z",
        "policy": {"versions": [1], "source": "Document", "loadedAt": "2026-11-21T09:00:00Z"},
        "circuitBreakers": [{"target": "inventory", "state": "Open", "calls": 20, "failures": 20, "slow": 0,
            "nextProbeAt": "2026-11-21T10:00:07Z"}],
        "limits": [{"name": "inventory", "kind": "Bulkhead", "limit": 100, "inUse": 0, "allowed": 20, "refused": 0, "degraded": false}],
        "faults": []
    }))
    .await;
    assert_eq!(reason(&service, "CircuitsClosed"), "False/CircuitOpen");
    assert_eq!(service["status"]["circuitBreakers"][0]["open"], 1);
}

#[tokio::test]
async fn a_later_report_says_what_is_known_of_it_and_what_is_not_is_not_taken_for_good() {
    let novel = json!({"a": [1]});
    let service = judged(json!({
        "podUID": "pod-of-order", "service": "order", "now": "2026-11-28T10:00:00Z", "novel": novel,
        "policy": {"versions": [1, 2], "source": "Novel", "loadedAt": "2026-11-28T09:00:00Z", "novel": novel},
        "circuitBreakers": [{"target": "inventory", "state": "Novel", "override": "Novel", "novel": novel}],
        "limits": [{"name": "inventory", "kind": "Novel", "limit": 100, "novel": novel}],
        "faults": [{"run": "r", "type": "Novel", "state": "Novel", "novel": novel}]
    }))
    .await;
    assert_eq!(reason(&service, "CircuitsClosed"), "Unknown/CircuitUnknown");
    assert_eq!(
        service["status"]["config"]["appliedReplicas"], 1,
        "the policy is proven all the same"
    );
}

/// The definition may be of a later release than the operator: while one upgrades, and after a way back.
#[test]
fn a_choice_that_a_later_definition_adds_makes_no_service_unreadable() {
    let mut draws = Draws::seeded(3).unwrap();
    let choices: Vec<String> = draws
        .leaves()
        .into_iter()
        .filter(|(_, schema)| schema["enum"].is_array())
        .map(|(path, _)| path)
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        if seen.len() == choices.len() {
            break;
        }
        let drawn = draws.service("order", |_| Vec::new());
        for path in &choices {
            for place in places(&drawn, path) {
                let mut later = drawn.clone();
                *later.pointer_mut(&place).unwrap() = json!("Novel");
                let read = serde_json::from_value::<ResilientService>(later);
                assert!(read.is_ok(), "{place}: {read:?}");
                seen.insert(path.clone());
            }
        }
    }
    assert_eq!(seen.len(), choices.len(), "{choices:?}");
}

#[tokio::test(start_paused = true)]
async fn fields_that_a_later_definition_adds_change_nothing_and_are_kept() {
    let children = async |spec: &Value| {
        let api = FakeApi::default();
        let mut service = order();
        service["spec"] = spec.clone();
        api.create(SERVICES, service);
        let operator = Operator::start(&api);
        api.until(DEPLOYMENT, |_| true).await;
        operator.rest().await;
        // A life that ends, and one that begins.
        drop(operator);
        let operator = Operator::start(&api);
        operator.rest().await;
        let kept = api.get(ORDER).unwrap();
        assert_eq!(kept["spec"], *spec);
        assert_eq!(reason(&kept, "ResourcesReady"), "True/AllApplied");
        [DEPLOYMENT, CONFIG_MAP, SERVICE].map(|path| {
            let mut child = api.get(path).unwrap();
            for counted in ["uid", "resourceVersion", "ownerReferences"] {
                child["metadata"].as_object_mut().unwrap().remove(counted);
            }
            child
        })
    };
    let spec = json!({
        "image": "order:1", "replicas": 2, "terminationGracePeriodSeconds": 45,
        "ports": [{"name": "http", "containerPort": 3001}],
        "probes": {"readiness": {"path": "/ready"}},
        "resilience": {"protocol": "None", "inbound": {"timeout": "10s"}, "targets": [{"name": "a", "timeout": {"request": "1s"}}]}
    });
    let mut later = spec.clone();
    let mut places = Vec::new();
    maps(&spec, "", &mut places);
    for place in places {
        later.pointer_mut(&place).unwrap()["novel"] = json!({"a": [1]});
    }
    assert_eq!(children(&later).await, children(&spec).await);
}
