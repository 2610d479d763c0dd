//! Records of archives that a runner has removed, against the fake API server.

use super::*;
use http::Method;

#[tokio::test]
async fn the_record_of_a_removed_archive_goes_and_the_policy_says_what_was_removed() {
    let api = FakeApi::default();
    let stored = |slot: &str, retention: Value| {
        let status = json!({
            "phase": "Completed", "completedAt": format!("{slot}T02:16:00Z"), "upload": {"state": "Completed"},
            "retention": retention,
        });
        api.create(
            RECORDS,
            with_slot(&format!("shop-{}", slot.replace('-', "")), slot, status),
        );
    };
    stored("2026-08-01", Value::Null);
    stored("2026-08-20", Value::Null);
    let told = json!({"healthy": true, "message": "1 archives removed, 2 kept", "removed": ["2026-08-01"]});
    stored("2026-08-21", told);
    let mut retaining = policy();
    retaining["spec"]["retention"] = json!({"daily": 2});
    api.create(POLICIES, retaining);
    let _operator = Operator::start(&api);
    let shown = api
        .until(POLICY, |policy| shows(policy, "RetentionHealthy", "True", "Applied"))
        .await;
    let message = condition(&shown, "RetentionHealthy").unwrap()["message"].to_string();
    assert!(message.contains("2026-08-21: 1 archives removed"), "{message}");
    rest(&api).await;
    let gone = format!("{RECORDS}/shop-20260801");
    assert!(api.get(&gone).is_none());
    assert!(api.get(TODAY).is_some() && api.get(&format!("{RECORDS}/shop-20260820")).is_some());
    let deletions: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|request| request.method == Method::DELETE)
        .collect();
    assert_eq!(deletions.len(), 1, "{deletions:?}");
    assert!(deletions[0].body["preconditions"]["uid"].is_string(), "{deletions:?}");

    let unhealthy =
        json!({"healthy": false, "message": "nothing is removed: 0 archives were restored on trial", "removed": []});
    api.merge(TODAY, json!({"status": {"retention": unhealthy}}));
    api.until(POLICY, |policy| {
        shows(policy, "RetentionHealthy", "False", "NotApplied")
    })
    .await;
    api.merge(POLICY, json!({"spec": {"retention": null}}));
    api.until(POLICY, |policy| condition(policy, "RetentionHealthy").is_none())
        .await;
}
