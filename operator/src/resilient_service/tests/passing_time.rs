//! What becomes another by the passing of time alone.

use super::*;
use chrono::TimeDelta;

/// A service whose image reports.
fn reporting() -> Value {
    let mut reporting = order();
    reporting["spec"]["resilience"] = json!({"targets": [{"name": "inventory"}]});
    reporting
}

#[tokio::test]
async fn a_pod_that_falls_silent_is_shown_as_unreachable_in_time_without_any_other_news() {
    let api = FakeApi::default();
    api.create(SERVICES, reporting());
    // There from the start, so that no count of ready pods has to settle and no other look comes in between.
    one_ready_pod(&api, "order");
    let operator = Operator::start(&api);
    let service = api
        .until(ORDER, |service| service.pointer("/status/config/hash").is_some())
        .await;
    operator.rest().await;
    // It runs what it should, as far as it was heard: nothing else of it is awaited.
    let mut report = old_report();
    report.report.policy.hash = service["status"]["config"]["hash"].as_str().map(str::to_owned);
    report.received_at = Utc::now() - TimeDelta::seconds(238);
    let reports = &operator.ctx.reports;
    reports.put("pod-of-order", report);
    assert!(reports.failed("pod-of-order", "connection refused", Utc::now()));
    operator.ctx.stores.services.triggers().trigger("shop", "order");
    let shown = api.until(ORDER, |service| {
        reason(service, "ConfigApplied") == "Unknown/PodUnreachable"
    });
    tokio::time::timeout(Duration::from_secs(60), shown)
        .await
        .expect("it is shown");
}

#[tokio::test]
async fn an_alarm_outlives_a_restart_and_each_configuration_has_a_deadline_of_its_own() {
    let api = FakeApi::default();
    api.create(SERVICES, reporting());
    one_ready_pod(&api, "order");
    let first = Operator::start(&api);
    let service = api
        .until(ORDER, |service| {
            reason(service, "ConfigApplied") == "False/WaitingForPods"
        })
        .await;
    first.rest().await;
    drop(first);
    // A minute later the pod was still behind, and that is a while ago.
    let mut conditions = service["status"]["conditions"].clone();
    let applied = conditions.as_array_mut().unwrap().iter_mut();
    for condition in applied.filter(|condition| condition["type"] == "ConfigApplied") {
        condition["reason"] = json!("DeadlineExceeded");
        condition["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    }
    api.merge(ORDER, json!({"status": {"conditions": conditions}}));
    let overdue = |service: &Value| reason(service, "ConfigApplied") == "False/DeadlineExceeded";

    let second = Operator::start(&api);
    second.ctx.reports.put("pod-of-order", old_report());
    while second.count("Success") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.rest().await;
    assert!(overdue(&api.get(ORDER).unwrap()), "{:#}", api.get(ORDER).unwrap());

    let mut known = vec![service["status"]["config"]["hash"].clone()];
    for target in ["payment", "shipping"] {
        api.merge(
            ORDER,
            json!({"spec": {"resilience": {"targets": [{"name": "inventory"}, {"name": target}]}}}),
        );
        let service = api
            .until(ORDER, |service| {
                !known.contains(&service["status"]["config"]["hash"]) && !overdue(service)
            })
            .await;
        assert_eq!(reason(&service, "ConfigApplied"), "False/WaitingForPods");
        known.push(service["status"]["config"]["hash"].clone());
    }
}

#[test]
fn the_first_override_that_is_still_to_end_is_waited_for() {
    let now: DateTime<Utc> = "2026-08-21T12:00:00Z".parse().unwrap();
    let ends = |untils: &[Option<&str>]| {
        let targets = untils.iter().enumerate().map(|(number, until)| {
            let mut target = json!({"name": format!("target-{number}")});
            if let Some(until) = until {
                target["override"] = json!({"circuitBreaker": "ForcedOpen", "until": until});
            }
            target
        });
        let mut service = order();
        service["spec"]["resilience"] = json!({"targets": targets.collect::<Vec<_>>()});
        override_ends(&serde_json::from_value(service).unwrap(), now).min()
    };
    let (past, now_itself) = (Some("2026-08-21T11:59:00Z"), Some("2026-08-21T12:00:00Z"));
    let (soon, late) = (Some("2026-08-21T12:01:00Z"), Some("2026-08-21T13:00:00Z"));
    let expected = soon.map(|soon| soon.parse::<DateTime<Utc>>().unwrap());
    assert_eq!(ends(&[late, past, None, soon, now_itself]), expected);
    assert_eq!(ends(&[soon, late]), expected);
    assert_eq!(ends(&[past, now_itself, None]), None);
    assert_eq!(ends(&[]), None);
}
