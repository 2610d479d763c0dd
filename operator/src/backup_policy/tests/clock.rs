//! A clock that is set back or forward while a slot is on its way, by hand or by its schedule: one Job, one record for it,
//! and what the runner says is heard.

use super::*;
use http::Method;
use std::sync::atomic::{AtomicI64, Ordering};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
/// How the clock is set, and whether it is set right again before the run ends. Unit: seconds.
const JUMPS: [(i64, bool); 8] = [
    (-DAY, true),
    (-DAY, false),
    (-HOUR, true),
    (-HOUR, false),
    (HOUR, true),
    (HOUR, false),
    (DAY, true),
    (DAY, false),
];

/// A clock for each case of both tests, since all run side by side.
static CLOCKS: [AtomicI64; 2 * JUMPS.len()] = [const { AtomicI64::new(0) }; 2 * JUMPS.len()];

fn now<const CASE: usize>() -> DateTime<Utc> {
    DateTime::from_timestamp(CLOCKS[CASE].load(Ordering::SeqCst), 0).unwrap()
}

const NOW: [fn() -> DateTime<Utc>; 2 * JUMPS.len()] = [
    now::<0>, now::<1>, now::<2>, now::<3>, now::<4>, now::<5>, now::<6>, now::<7>, now::<8>, now::<9>, now::<10>,
    now::<11>, now::<12>, now::<13>, now::<14>, now::<15>,
];

/// The cases of a test with clocks of their own, all at a time: most of it is waiting.
async fn every_jump<Case: Future<Output = ()>>(first: usize, play: impl Fn(usize, i64, bool) -> Case) {
    let cases = JUMPS.into_iter().enumerate();
    futures::future::join_all(cases.map(|(index, (jump, returns))| play(first + index, jump, returns))).await;
}

/// Everybody is looked at again, by this clock.
async fn look(api: &FakeApi, number: &mut usize) {
    *number += 1;
    api.merge(POLICY, json!({"metadata": {"labels": {"look": number.to_string()}}}));
    rest(api).await;
}

/// Nobody took anything away, and no other day got a Job.
fn assert_one_job(api: &FakeApi, jobs: usize, case: &str) {
    assert_eq!(count(api, &format!("POST {JOBS}")), jobs, "{case}: {:#?}", api.writes());
    let deletions = api
        .requests()
        .into_iter()
        .filter(|request| request.method == Method::DELETE);
    assert_eq!(deletions.count(), 0, "{case}: {:#?}", api.writes());
}

/// The schema says so where nobody else does, and this server knows none.
fn is_scheduled(api: &FakeApi, record: &str) -> bool {
    let phase = api.get(record).unwrap()["status"]["phase"].clone();
    phase.is_null() || phase == "Scheduled"
}

fn completed() -> Value {
    json!({
        "phase": "Completed", "reason": "Stored", "completedAt": "2026-08-21T12:10:00Z",
        "upload": {"state": "Completed", "sha256": "abc", "bytes": 7, "key": "shop/shop/20260821.tar.zst"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_over_which_the_clock_is_set_is_the_days_only_one() {
    every_jump(0, |number, jump, returns| async move {
        let (now, clock) = (NOW[number], &CLOCKS[number]);
        let case = format!("{jump} s, returns: {returns}");
        let noon = fixtures::now().timestamp();
        clock.store(noon, Ordering::SeqCst);
        let (api, mut looks) = (FakeApi::default(), 0);
        api.create(POLICIES, policy());
        let _operator = Operator::start_at(&api, now);
        ask(&api, "one");
        assert_eq!(answered(&api, "one").await["slot"], "2026-08-21");
        let dumping = json!({"phase": "Dumping", "startedAt": "2026-08-21T12:00:05Z"});
        api.merge(TODAY, json!({"status": dumping}));
        rest(&api).await;

        clock.store(noon + jump, Ordering::SeqCst);
        look(&api, &mut looks).await;
        assert_eq!(
            api.get(TODAY).unwrap()["status"]["phase"],
            "Dumping",
            "{case}: it is at work"
        );
        let fence = json!({"phase": "Uploading", "upload": {"state": "Started", "podUID": "pod", "sha256": "abc"}});
        api.merge(TODAY, json!({"status": fence}));
        if returns {
            clock.store(noon + 600, Ordering::SeqCst);
        }
        look(&api, &mut looks).await;
        assert_eq!(
            api.get(TODAY).unwrap()["status"]["upload"],
            fence["upload"],
            "{case}: the fence stands"
        );
        api.merge(TODAY, json!({"status": completed()}));
        api.merge(
            JOB,
            json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
        );
        let shown = api
            .until(POLICY, |policy| {
                policy.pointer("/status/lastSuccess/slot") == Some(&json!("2026-08-21"))
            })
            .await;
        assert_eq!(shown["status"]["lastRun"]["result"], "Started", "{case}");
        clock.store(noon + 1200, Ordering::SeqCst);
        look(&api, &mut looks).await;
        // Asked for once more, by the same clock, the slot is used.
        ask(&api, "two");
        assert_eq!(answered(&api, "two").await["result"], "SlotUsed", "{case}");
        assert_one_job(&api, 1, &case);
        assert_eq!(api.get(TODAY).unwrap()["status"]["phase"], "Completed", "{case}");
        assert!(is_scheduled(&api, NEXT), "{case}: {:#?}", api.get(NEXT));
        let shown = api.get(POLICY).unwrap();
        assert!(shows(&shown, "Stale", "False", "Fresh"), "{case}: {shown:#}");
        assert_eq!(shown["status"]["nextSlot"], "2026-08-22", "{case}");
    })
    .await;
}

/// From just before the time of the next day's slot, when a day more makes it one that has passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_run_over_which_the_clock_is_set_is_heard_and_not_called_missed() {
    every_jump(JUMPS.len(), |number, jump, returns| async move {
        let (now, clock) = (NOW[number], &CLOCKS[number]);
        let case = format!("{jump} s, returns: {returns}");
        let before = fixtures::at("2026-08-21T02:14:00Z").timestamp();
        clock.store(before, Ordering::SeqCst);
        let (api, mut looks) = (FakeApi::default(), 0);
        api.create(POLICIES, policy());
        let _operator = Operator::start_at(&api, now);
        api.until(TODAY, |record| {
            record["status"]["phase"] == "Scheduled" || record["status"].is_null()
        })
        .await;
        rest(&api).await;
        clock.store(before + jump, Ordering::SeqCst);
        look(&api, &mut looks).await;
        if returns {
            clock.store(before + 120, Ordering::SeqCst);
        }
        // The cluster's own clock was right all the time.
        let mut job = job_at_work(json!({"resilience.valerix.io/policy": "shop"}));
        job["metadata"]["creationTimestamp"] = json!("2026-08-21T02:15:00Z");
        api.create(JOBS, job);
        api.merge(
            CRON_JOB,
            json!({"status": {"lastScheduleTime": "2026-08-21T02:15:00Z"}}),
        );
        look(&api, &mut looks).await;
        let record = api.get(TODAY).unwrap();
        assert_eq!(
            record["status"]["upload"]["state"].as_str().unwrap_or("None"),
            "None",
            "{case}"
        );
        api.merge(TODAY, json!({"status": {"phase": "Dumping", "reason": null, "message": null, "completedAt": null, "startedAt": "2026-08-21T02:15:05Z"}}));
        look(&api, &mut looks).await;
        assert_eq!(api.get(TODAY).unwrap()["status"]["phase"], "Dumping", "{case}");
        api.merge(TODAY, json!({"status": completed()}));
        api.merge(
            JOB,
            json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
        );
        clock.store(before + 600, Ordering::SeqCst);
        look(&api, &mut looks).await;
        api.until(POLICY, |policy| {
            policy.pointer("/status/lastSuccess/slot") == Some(&json!("2026-08-21"))
        })
        .await;
        assert_one_job(&api, 0, &case);
        assert_eq!(api.get(NEXT).unwrap()["spec"]["slot"], "2026-08-22", "{case}");
        assert!(is_scheduled(&api, NEXT), "{case}: {:#?}", api.get(NEXT));
    })
    .await;
}
