//! Killed anywhere, paused, doubled, cut off from its answers: at most one archive, and the record agrees with it.

use crate::{
    api::{Moment, Trap},
    harness::{Database, Harness, SMALL},
};
use sqlx::Executor;
use std::{fs, time::Duration};

const PHASES: [&str; 5] = ["Dumping", "Archiving", "Verifying", "Uploading", "Completed"];

/// Kills the first pod while the patch that leads to `phase` is held, then runs a second one.
async fn kill_at(phase: &'static str, moment: Moment, database: &str) {
    let case = format!("{phase} {moment:?}");
    let harness = Harness::new(&[("orders", database)]).await;
    let trap = Trap::new(phase, moment);
    harness.api.set_trap(Some(trap.clone()));
    let mut victim = harness.pod("victim");
    tokio::select! {
        () = trap.bitten.notified() => {}
        _ = victim.wait() => unreachable!("{case}: the victim ended before the trap"),
    }
    victim.kill().await.unwrap();
    let linked = fs::metadata(harness.archive())
        .ok()
        .map(|_| crate::harness::sha256(&harness.archive()));
    // A patch that was on its way when the pod died may still take.
    trap.release.notify_one();
    tokio::time::sleep(Duration::from_millis(50)).await;

    let ended = harness.run("heir").await;
    assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
    harness.assert_agreement();
    assert_eq!(harness.record()["status"]["phase"], "Completed", "{case}");
    if let Some(sha256) = linked {
        assert_eq!(
            harness.record()["status"]["upload"]["sha256"],
            sha256,
            "{case}: the victim's archive stays"
        );
        assert_eq!(harness.record()["status"]["upload"]["podUID"], "victim", "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_pod_finishes() {
    let database = Database::new("orders", SMALL).await;
    for phase in PHASES {
        for moment in [Moment::Before, Moment::After] {
            kill_at(phase, moment, &database.name).await;
        }
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_refused_answer_is_settled_by_reading() {
    let database = Database::new("orders", SMALL).await;
    for phase in PHASES {
        for moment in [Moment::AnswerLost, Moment::Unavailable] {
            let harness = Harness::new(&[("orders", &database.name)]).await;
            harness.api.set_trap(Some(Trap::new(phase, moment)));
            let ended = harness.run("pod").await;
            assert_eq!(ended.code, Some(0), "{phase} {moment:?}: {}", ended.log);
            harness.assert_agreement();
            assert_eq!(harness.record()["status"]["upload"]["podUID"], "pod");
        }
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_of_one_slot_store_one_archive() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let (first, second) = (harness.pod("one"), harness.pod("two"));
    let (first, second) = tokio::join!(harness.ended(first, "one"), harness.ended(second, "two"));
    assert_eq!(
        (first.code, second.code),
        (Some(0), Some(0)),
        "{}\n{}",
        first.log,
        second.log
    );
    harness.assert_agreement();
    let stored = [&first, &second]
        .iter()
        .filter(|ended| ended.log.contains("\"decided\"") && ended.log.contains("action\":\"Write"))
        .count();
    assert_eq!(stored, 1, "{}\n{}", first.log, second.log);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_wakes_up_after_its_fence_was_released_stores_nothing() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let trap = Trap::new("Uploading", Moment::After);
    harness.api.set_trap(Some(trap.clone()));
    let paused = harness.pod("paused");
    trap.bitten.notified().await;
    let ended = harness.run("heir").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    harness.assert_agreement();
    assert_eq!(harness.record()["status"]["upload"]["podUID"], "heir");
    let record = harness.record();

    trap.release.notify_one();
    let ended = harness.ended(paused, "paused").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(harness.record(), record);
    harness.assert_agreement();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_before_the_fence_leaves_nothing_and_the_next_pod_goes_on() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let mut lock = harness.connect(&database.name).await;
    lock.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let trap = Trap::new("Dumping", Moment::After);
    harness.api.set_trap(Some(trap.clone()));
    let pod = harness.pod("pod");
    trap.bitten.notified().await;
    trap.release.notify_one();
    let pid = pod.id().unwrap();
    std::process::Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .unwrap();
    let ended = harness.ended(pod, "pod").await;
    assert_eq!(ended.code, Some(10), "{}", ended.log);
    assert_eq!(harness.record()["status"]["reason"], "Interrupted");
    assert_eq!(harness.record()["status"]["phase"], "Dumping");
    assert_eq!(harness.stored(), Vec::<String>::new());
    drop(lock);
    assert_eq!(harness.run("next").await.code, Some(0));
    harness.assert_agreement();
    assert_eq!(harness.record()["status"]["reason"], "Stored");
    database.drop().await;
}
