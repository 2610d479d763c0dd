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
    let (first, second) = harness.both_end_well((first, "one"), (second, "two")).await;
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

/// A pod that has passed the fence and is paused right there, and the trap that holds it.
async fn paused_at_the_fence(harness: &Harness, uid: &str) -> (tokio::process::Child, Trap) {
    let trap = Trap::new("Uploading", Moment::After);
    harness.api.set_trap(Some(trap.clone()));
    let paused = harness.pod(uid);
    trap.bitten.notified().await;
    (paused, trap)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_the_release_of_a_paused_pods_hold_nobody_turns_in_circles() {
    let database = Database::new("orders", SMALL).await;
    for moment in [Moment::Before, Moment::After] {
        let harness = Harness::new(&[("orders", &database.name)]).await;
        let (paused, held) = paused_at_the_fence(&harness, "paused").await;
        // The heir has withdrawn the paused pod's file and dies while it gives the hold back.
        let release = Trap::new("Uploading", moment);
        harness.api.set_trap(Some(release.clone()));
        let mut heir = harness.pod("heir");
        release.bitten.notified().await;
        heir.kill().await.unwrap();
        held.release.notify_one();
        let ended = harness.ended(paused, "paused").await;
        assert_eq!(ended.code, Some(0), "{moment:?}: {}", ended.log);
        harness.assert_agreement();
        assert_eq!(harness.record()["status"]["phase"], "Completed", "{moment:?}");
        let decisions = ended.log.matches("\"decided\"").count();
        assert!(decisions < 12, "{moment:?}: {decisions} decisions\n{}", ended.log);
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withdrawn_of_a_pod_says_nothing_about_its_next_hold() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    let (paused, held) = paused_at_the_fence(&harness, "paused").await;
    // The heir gives the hold back, and is paused before it hears that it has.
    let release = Trap::new("Uploading", Moment::After);
    harness.api.set_trap(Some(release.clone()));
    let heir = harness.pod("heir");
    release.bitten.notified().await;
    // The first pod wakes up, finds its file gone, and passes the fence a second time.
    let again = Trap::new("Uploading", Moment::After);
    harness.api.set_trap(Some(again.clone()));
    held.release.notify_one();
    again.bitten.notified().await;
    release.release.notify_one();
    again.release.notify_one();
    harness.both_end_well((paused, "paused"), (heir, "heir")).await;
    harness.assert_agreement();
    assert_eq!(harness.record()["status"]["phase"], "Completed");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_was_changed_on_the_day_is_no_second_archive() {
    let database = Database::new("orders", SMALL).await;
    for change in ["path", "claimName"] {
        let mut harness = Harness::new(&[("orders", &database.name)]).await;
        assert_eq!(harness.run("first").await.code, Some(0));
        // As a kill leaves it between link(2) and the record's patch.
        let mut record = harness.record();
        record["status"]["phase"] = "Uploading".into();
        record["status"]["upload"]["state"] = "Started".into();
        harness.api.put(record.clone());
        let destination = harness.spec["destination"]["volumeClaim"].clone();
        harness.spec["destination"]["volumeClaim"][change] = "elsewhere".into();
        if change == "claimName" {
            fs::remove_dir_all(harness.destination()).unwrap();
        }
        let ended = harness.run("second").await;
        assert_eq!(ended.code, Some(30), "{change}: {}", ended.log);
        let status = harness.record()["status"].clone();
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&"Unknown".into(), &"UploadUncertain".into())
        );
        assert!(harness.message().contains("spec.destination"), "{}", harness.message());
        assert!(!harness.destination().join("elsewhere").exists());
        if change == "path" {
            harness.spec["destination"]["volumeClaim"] = destination;
            assert_eq!(harness.run("third").await.code, Some(0));
            harness.assert_agreement();
            assert_eq!(harness.record()["status"]["upload"]["podUID"], "first");
        }
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_stored_is_not_read_again() {
    let database = Database::new("orders", SMALL).await;
    let harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("first").await.code, Some(0));
    let record = harness.record();
    fs::write(harness.archive(), "damaged since").unwrap();
    let ended = harness.run("second").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(harness.record(), record);
    // As long as the record is open, a damaged archive of this slot has its own word.
    let mut open = record.clone();
    open["status"]["phase"] = "Uploading".into();
    open["status"]["upload"]["state"] = "Started".into();
    harness.api.put(open);
    let ended = harness.run("third").await;
    assert_eq!(ended.code, Some(23), "{}", ended.log);
    assert_eq!(harness.record()["status"]["reason"], "ArchiveDamaged");
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
