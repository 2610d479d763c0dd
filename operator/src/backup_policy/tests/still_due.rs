//! A run by hand that was at work at the day's time: once it has failed, the day's run starts, once.

use super::*;

/// A run by hand is begun at 02:00 UTC, and at 03:15 it has failed: the day's time was 02:15, and the CronJob controller
/// took it for the scheduled one.
async fn a_run_by_hand_over_the_days_time(api: &FakeApi, record: Value, now: fn() -> DateTime<Utc>) -> Operator {
    begun_by_hand(api, record).await;
    let operator = Operator::start_at(api, now);
    rest(api).await;
    assert_eq!(count(api, &format!("POST {JOBS}")), 1, "it is at work");
    fail(api, JOB);
    operator
}

/// The same, and nobody has looked since.
pub async fn failed_over_the_days_time(api: &FakeApi) {
    begun_by_hand(
        api,
        json!({"phase": "Failed", "reason": "DatabaseUnreachable", "message": "orders: refused"}),
    )
    .await;
    fail(api, JOB);
}

async fn begun_by_hand(api: &FakeApi, record: Value) {
    api.create(POLICIES, policy());
    let early = Operator::start_at(api, || fixtures::at("2026-08-21T02:00:00Z"));
    ask(api, "one");
    answered(api, "one").await;
    rest(api).await;
    drop(early);
    api.merge(
        CRON_JOB,
        json!({"status": {"lastScheduleTime": "2026-08-21T02:15:00Z"}}),
    );
    api.merge(TODAY, json!({"status": record}));
}

fn fail(api: &FakeApi, job: &str) {
    let failed = json!({"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exit code 21"});
    api.merge(job, json!({"status": {"conditions": [failed]}}));
}

#[tokio::test]
async fn the_days_run_starts_once_a_run_by_hand_that_was_in_its_way_has_failed() {
    let api = FakeApi::default();
    let failed = json!({"phase": "Failed", "reason": "DatabaseUnreachable", "message": "orders: refused"});
    let soon = || fixtures::at("2026-08-21T03:15:00Z");
    let operator = a_run_by_hand_over_the_days_time(&api, failed, soon).await;
    let by_hand = api.get(JOB).map(|job| job["metadata"]["uid"].clone());
    let job = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let job = api
                .get(JOB)
                .filter(|job| Some(&job["metadata"]["uid"]) != by_hand.as_ref());
            if let Some(job) = job {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let job = job.await.expect("the day's run starts");
    assert!(
        job.pointer("/metadata/annotations/resilience.valerix.io~1run")
            .is_none()
    );
    assert_eq!(job["metadata"]["labels"]["resilience.valerix.io/slot"], "2026-08-21");
    let record = api.get(TODAY).unwrap();
    assert_eq!(record["status"]["reason"], "RunByHandFailed", "{record:#}");
    assert!(
        record["status"]["message"]
            .as_str()
            .unwrap()
            .ends_with("orders: refused")
    );

    // It fails too: that was the day's run.
    fail(&api, JOB);
    api.until(TODAY, |record| record["status"]["reason"] == "JobFailed")
        .await;
    rest(&api).await;
    assert_eq!(count(&api, &format!("POST {JOBS}")), 2);
    assert_eq!(count(&api, &format!("DELETE {JOB}")), 1);
    // Nor does it come again when somebody clears the Job away.
    api.delete(JOB);
    rest(&api).await;
    assert_eq!(count(&api, &format!("POST {JOBS}")), 2);
    drop(operator);
}

#[tokio::test]
async fn the_days_run_does_not_start_where_an_archive_may_be_stored_or_too_late() {
    let failed = json!({"phase": "Failed", "reason": "DatabaseUnreachable"});
    let uploading = json!({"phase": "Uploading", "upload": {"state": "Started"}});
    let soon: fn() -> DateTime<Utc> = || fixtures::at("2026-08-21T03:15:00Z");
    let late: fn() -> DateTime<Utc> = || fixtures::at("2026-08-21T08:15:00Z");
    for (record, now) in [(uploading, soon), (failed, late)] {
        let api = FakeApi::default();
        let _operator = a_run_by_hand_over_the_days_time(&api, record, now).await;
        rest(&api).await;
        assert_eq!(count(&api, &format!("POST {JOBS}")), 1);
        assert!(api.get(JOB).is_some(), "it stays to be looked at");
    }
}

#[tokio::test]
async fn a_run_that_was_announced_starts_though_whoever_announced_it_was_killed() {
    let api = FakeApi::default();
    api.create(POLICIES, policy());
    let announced = json!({"phase": "Scheduled", "reason": "RunByHandFailed"});
    api.create(RECORDS, with_slot("shop-20260821", "2026-08-21", announced));
    let _operator = Operator::start_at(&api, || fixtures::at("2026-08-21T03:15:00Z"));
    api.until(JOB, |_| true).await;
    rest(&api).await;
    assert_eq!(count(&api, &format!("POST {JOBS}")), 1);
}
