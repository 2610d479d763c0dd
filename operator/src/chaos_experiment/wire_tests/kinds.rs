//! What differs on the wire: a deletion in place of an eviction, and a dry run, which changes nothing.

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
