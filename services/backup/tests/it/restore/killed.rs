//! Killed anywhere: the next pod goes on, or everything is as it was; never is the old database left closed.

use super::harness::Restoring;
use crate::{
    api::{Moment, Trap},
    gate::Gate,
    harness::Database,
};
use futures::StreamExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::collections::BTreeMap;
use tokio::process::Child;

const PHASES: [&str; 5] = ["Fetching", "Checking", "Restoring", "Swapping", "Completed"];

pub async fn terminate(pod: &Child) {
    let pid = pod.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await;
    assert!(sent.unwrap().success());
}

/// A living database of 500 rows that was emptied since the backup, and its Restore.
pub async fn emptied() -> (Database, Restoring) {
    let (living, restoring) = Restoring::of_living().await;
    restoring.execute(&living.name, "TRUNCATE t").await;
    (living, restoring)
}

pub async fn rows(restoring: &Restoring, living: &Database) -> String {
    restoring.text(&living.name, "SELECT count(*)::text FROM t").await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_pod_finishes() {
    for phase in PHASES {
        for moment in [Moment::Before, Moment::After] {
            let case = format!("{phase} {moment:?}");
            let (living, restoring) = emptied().await;
            let trap = Trap::new(phase, moment);
            restoring.harness.api.set_trap(Some(trap.clone()));
            let mut victim = restoring.pod("victim", &[]);
            tokio::select! {
                () = trap.bitten.notified() => {}
                _ = victim.wait() => unreachable!("{case}: the victim ended before the trap"),
            }
            victim.kill().await.unwrap();
            trap.release.notify_one();
            let ended = restoring.run("heir").await;
            restoring.assert_completed(&ended);
            assert_eq!(rows(&restoring, &living).await, "500", "{case}");
            let previous = valerix_crds::restore_runner::previous_name(&living.name, "2026-08-21");
            assert_eq!(
                restoring.databases(&living.name[..20]).await,
                [(living.name.clone(), true), (previous.clone(), false)].into(),
                "{case}"
            );
            assert_eq!(restoring.status()["databases"][0]["previous"], previous, "{case}");
            restoring.drop_databases(&living.name[..20]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_renames_wait_the_next_pod_finds_out_how_they_ended() {
    let (living, restoring) = emptied().await;
    let trap = Trap::new("Swapping", Moment::Before);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let mut victim = restoring.pod("victim", &[]);
    trap.bitten.notified().await;
    // Whoever renames the restored database waits for this transaction, with the old one closed and half renamed.
    let staged = valerix_crds::restore_runner::staged_name(&living.name, "2026-08-21", "victim");
    let mut blocker = restoring.admin().await;
    blocker.execute("BEGIN").await.unwrap();
    blocker
        .execute(AssertSqlSafe(format!("ALTER DATABASE {staged} CONNECTION LIMIT 5")))
        .await
        .unwrap();
    trap.release.notify_one();
    let waits = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'valerix-restore-UID-victim' AND wait_event_type = 'Lock' AND query LIKE '%' || $$NAME$$ || '%'"
        .replace("NAME", &staged)
        .replace("UID", &restoring.uid());
    let blocked = async {
        while restoring.text("postgres", &waits).await == "0" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), blocked)
        .await
        .unwrap();
    assert!(!restoring.databases(&living.name).await[&living.name], "it is closed");
    victim.kill().await.unwrap();
    let heir = restoring.pod("heir", &[]);
    // The heir ends the victim's session before it looks; only then may the lock go.
    let gone = async {
        while restoring.text("postgres", &waits).await != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone)
        .await
        .unwrap();
    blocker.execute("ROLLBACK").await.unwrap();
    let ended = restoring.harness.ended(heir, "heir").await;
    restoring.assert_completed(&ended);
    assert_eq!(rows(&restoring, &living).await, "500");
    restoring.drop_databases(&living.name[..20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_leaves_the_old_database_open_and_nothing_else() {
    for phase in ["Restoring", "Swapping"] {
        let (living, restoring) = emptied().await;
        let trap = Trap::new(phase, Moment::After);
        restoring.harness.api.set_trap(Some(trap.clone()));
        let pod = restoring.pod("pod", &[]);
        trap.bitten.notified().await;
        terminate(&pod).await;
        // As when the Restore is deleted: by the time the pod hears of it, there is nothing left to report into.
        restoring.harness.api.remove("back");
        trap.release.notify_one();
        let ended = restoring.harness.ended(pod, "pod").await;
        assert_eq!(ended.code, Some(10), "{phase}: {}", ended.log);
        assert_eq!(
            restoring.databases(&living.name[..20]).await,
            [(living.name.clone(), true)].into(),
            "{phase}"
        );
        assert_eq!(rows(&restoring, &living).await, "0", "{phase}");
        living.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_taken_for_dead_does_nothing_more() {
    let (living, restoring) = emptied().await;
    let trap = Trap::new("Swapping", Moment::Before);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let paused = restoring.pod("paused", &[]);
    trap.bitten.notified().await;
    let ended = restoring.run("heir").await;
    restoring.assert_completed(&ended);
    trap.release.notify_one();
    let ended = restoring.harness.ended(paused, "paused").await;
    assert_ne!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(restoring.status()["podUID"], "heir");
    assert_eq!(rows(&restoring, &living).await, "500");
    assert_eq!(restoring.databases(&living.name[..20]).await.len(), 2);
    restoring.drop_databases(&living.name[..20]).await;
}

/// Between its word that it swaps and the swap itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_taken_for_dead_after_its_word_closes_nothing() {
    let (living, restoring) = emptied().await;
    let trap = Trap::new("Swapping", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let paused = restoring.pod("paused", &[]);
    trap.bitten.notified().await;
    let ended = restoring.run("heir").await;
    restoring.assert_completed(&ended);
    let before = restoring.databases(&living.name[..20]).await;
    assert!(before[&living.name]);
    trap.release.notify_one();
    let ended = restoring.harness.ended(paused, "paused").await;
    assert_ne!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(restoring.databases(&living.name[..20]).await, before);
    assert_eq!(rows(&restoring, &living).await, "500");
    assert_eq!(restoring.status()["podUID"], "heir");
    restoring.drop_databases(&living.name[..20]).await;
}

/// Databases whose name begins so, and which they are.
async fn oids(restoring: &Restoring, part: &str) -> BTreeMap<String, i64> {
    let mut session = restoring.admin().await;
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT datname::text, oid::bigint FROM pg_database WHERE strpos(datname, $1) > 0")
            .bind(part)
            .fetch_all(&mut session)
            .await
            .unwrap();
    rows.into_iter().collect()
}

/// A pod that is paused before a statement of its own undo, until its heir has restored the database. Says whether it has
/// come to such a statement.
async fn paused_in_its_undo(place: usize) -> bool {
    let (living, mut restoring) = emptied().await;
    let gate = Gate::new();
    gate.fill_for_ever();
    restoring.harness.client_folder = gate.clients().to_str().unwrap().to_owned();
    let mut paused = restoring.pod("paused", &[]);
    gate.filling().await;
    gate.stop_at(place);
    terminate(&paused).await;
    let held = tokio::select! {
        () = gate.bitten() => true,
        _ = paused.wait() => false,
    };
    if held {
        restoring.harness.client_folder = "/usr/lib/postgresql".into();
        let trap = Trap::new("Swapping", Moment::Before);
        restoring.harness.api.set_trap(Some(trap.clone()));
        let heir = restoring.pod("heir", &[]);
        trap.bitten.notified().await;
        let named = format!("valerix-restore-{}-heir", restoring.uid());
        let mut session = PgConnection::connect_with(&restoring.harness.server.clone().application_name(&named))
            .await
            .unwrap();
        let before = oids(&restoring, &living.name[..20]).await;
        assert_eq!(before.len(), 2, "{place}: the old one, and the heir's: {before:?}");
        gate.release().await;
        let ended = restoring.harness.ended(paused, "paused").await;
        assert_eq!(ended.code, Some(10), "{place}: {}", ended.log);
        assert_eq!(oids(&restoring, &living.name[..20]).await, before, "{place}");
        session
            .execute("SELECT 1")
            .await
            .unwrap_or_else(|error| panic!("{place}: the heir's sessions go on: {error}"));
        trap.release.notify_one();
        let ended = restoring.harness.ended(heir, "heir").await;
        restoring.assert_completed(&ended);
        assert_eq!(rows(&restoring, &living).await, "500", "{place}");
        assert_eq!(restoring.databases(&living.name[..20]).await.len(), 2, "{place}");
    }
    restoring.drop_databases(&living.name[..20]).await;
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_paused_in_its_undo_takes_nothing_of_its_heir() {
    const MORE_THAN_THERE_ARE: usize = 9;
    // Each statement has two places, of which the second is the first of the next one.
    let statements = futures::stream::iter((0..MORE_THAN_THERE_ARE).map(|statement| statement * 2 + 1));
    let held: Vec<_> = statements.map(paused_in_its_undo).buffer_unordered(3).collect().await;
    let held = held.into_iter().filter(|held| *held).count();
    assert!((6..MORE_THAN_THERE_ARE).contains(&held), "{held} statements");
}
