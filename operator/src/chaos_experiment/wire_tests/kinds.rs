//! What differs on the wire: a deletion in place of an eviction, a dry run, which changes nothing, and an end by force.

use super::*;

#[tokio::test]
async fn a_deletion_carries_the_recorded_uid_and_is_sent_once() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(json!({"podKill": {"method": "Delete", "gracePeriodSeconds": 0}}));
    let status = shop.over().await;
    let victim = &status["targets"][0];
    assert!(shop.evictions().is_empty());
    let path = format!("{PODS}/{}", victim["pod"].as_str().unwrap());
    let requests = shop.api.requests();
    let deletions: Vec<_> = requests
        .iter()
        .filter(|request| request.path == path && request.is_write())
        .collect();
    assert_eq!(deletions.len(), 1, "{deletions:#?}");
    assert_eq!(
        (
            &deletions[0].body["preconditions"],
            &deletions[0].body["gracePeriodSeconds"]
        ),
        (&json!({"uid": victim["uid"]}), &json!(0))
    );
    assert_eq!(status["history"][0]["type"], json!("PodKill"));
    assert_eq!(shop.entries(), 0);
}

#[tokio::test]
async fn a_dry_run_writes_its_status_and_nothing_else() {
    for mut spec in [json!({"podKill": {}}), json!({"crash": {}, "duration": "5s"})] {
        let shop = Shop::open();
        let _operator = shop.operator();
        spec["dryRun"] = json!(true);
        shop.experiment(spec);
        let status = shop.over().await;
        assert_eq!(
            (&status["verdict"], &status["reason"]),
            (&json!("NotEvaluated"), &json!("DryRun")),
            "{status:#}"
        );
        assert_eq!(status["targets"].as_array().unwrap().len(), 1);
        assert_eq!(status["spared"].as_array().unwrap().len(), 1);
        let writes = shop.api.writes();
        assert!(!writes.is_empty(), "the status is written");
        for write in writes {
            assert_eq!(write, format!("PATCH {EXPERIMENT}/status"));
        }
    }
}

/// Pods that never report are awaited until somebody says that nobody need wait, and that this was said stays to be seen.
#[tokio::test]
async fn an_end_by_force_takes_the_fault_out_and_is_told() {
    let shop = Shop::of(&[]);
    shop.create_service("inventory", 2);
    let _operator = shop.operator();
    shop.experiment(latency("10m"));
    shop.api
        .until(DOCUMENT, |map| map.pointer("/data/faults.json").is_some())
        .await;
    assert_eq!(shop.entries(), 1);
    shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
    let recovered = |status: &Value| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.find(|found| found["type"] == json!("Recovered")).cloned()
    };
    let force = valerix_crds::names::FORCE_FINALIZE_ANNOTATION;
    let awaits = |status: &Value| {
        recovered(status).is_some_and(|found| {
            let message = found["message"].as_str().unwrap_or_default();
            found["status"] == json!("False") && message.contains("inventory-0") && message.contains(force)
        })
    };
    shop.until(awaits).await;
    assert_eq!(shop.entries(), 0, "it is taken out before anybody is awaited");
    for other in ["false", "yes"] {
        shop.api
            .merge(EXPERIMENT, json!({"metadata": {"annotations": {force: other}}}));
        tokio::time::sleep(Duration::from_millis(600)).await;
        let found = shop.api.get(EXPERIMENT).unwrap();
        assert!(
            awaits(&found["status"]) && found["metadata"]["finalizers"].is_array(),
            "{other}: {found:#}"
        );
    }
    shop.api
        .merge(EXPERIMENT, json!({"metadata": {"annotations": {force: "true"}}}));
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Stopped"), &json!("AbortedByUser")),
        "{status:#}"
    );
    let how = recovered(&status).unwrap();
    assert_eq!(
        (&how["status"], &how["reason"]),
        (&json!("True"), &json!("Forced")),
        "{how:#}"
    );
    let is_told = |request: &Recorded| {
        let note = request.body["note"].as_str().unwrap_or_default();
        request.path.ends_with("/events") && note.contains(force) && request.body["type"] == json!("Warning")
    };
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        while !shop.api.requests().iter().any(is_told) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    told.await.expect("an Event says that it was forced");
}
