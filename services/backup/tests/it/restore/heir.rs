//! What an heir finds half done stays known until somebody has put it back; what a pod does under its heir it takes back.

use super::{
    harness::Restoring,
    killed::{emptied, rows, terminate},
};
use crate::{
    api::{Moment, Trap},
    gate::Gate,
    harness::{Database, quoted},
};
use futures::StreamExt;
use sqlx::{Connection, Executor, PgConnection};
use valerix_crds::restore_runner::{drop_by_hand, dropped_name};

/// As a pod leaves it that is killed when it has closed the old database, before it has renamed it.
async fn killed_when_closed(restoring: &Restoring, living: &Database) {
    let trap = Trap::new("Swapping", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let mut victim = restoring.pod("victim", &[]);
    trap.bitten.notified().await;
    victim.kill().await.unwrap();
    trap.release.notify_one();
    let close = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", quoted(&living.name));
    restoring.execute("postgres", &close).await;
}

/// Name and value of what is wrong with an heir's Secrets, and what it says then; without a text it waits for a server, and
/// is asked to end.
const UNREACHED: [(&str, &str, Option<&str>); 3] = [
    ("port", "nonsense", Some("port")),
    ("username", "nobody_of_that_name", Some("does not exist")),
    ("port", "1", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_heir_that_does_not_reach_the_server_leaves_the_record_to_the_next_one() {
    let (living, restoring) = emptied().await;
    killed_when_closed(&restoring, &living).await;
    let begun = restoring.status()["databases"].clone();
    for (index, (key, value, said)) in UNREACHED.into_iter().enumerate() {
        let right = match key {
            "port" => restoring.harness.server.get_port().to_string(),
            _ => restoring.harness.server.get_username().to_owned(),
        };
        (0..2).for_each(|secret| restoring.secret(secret, key, value));
        let uid = format!("unreached-{index}");
        let heir = restoring.pod(&uid, &[]);
        if said.is_none() {
            let waits = async {
                let log = || std::fs::read_to_string(restoring.harness.log(&uid)).unwrap_or_default();
                while !log().contains("trying again") {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(60), waits)
                .await
                .unwrap();
            terminate(&heir).await;
        }
        let ended = restoring.harness.ended(heir, &uid).await;
        let status = restoring.status();
        assert_eq!(ended.code, Some(10), "{key}={value}: {status}\n{}", ended.log);
        assert_eq!(status["reason"], "NotUndone", "{key}={value}: {status}");
        assert_eq!(status["phase"], "Swapping", "{key}={value}: {status}");
        assert_eq!(status["databases"], begun, "{key}={value}");
        let open = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted(&living.name));
        let (staged, oid) = (begun[0]["staged"].as_str().unwrap(), begun[0]["oid"].as_i64());
        // Who was killed on its way may have renamed it already.
        let drop = drop_by_hand(staged, oid);
        assert!(drop.contains(&dropped_name(staged, oid.unwrap())), "{drop}");
        for text in [said.unwrap_or("SIGTERM"), &open, &drop] {
            let message = restoring.message();
            assert!(message.contains(text), "`{text}` in `{message}`");
        }
        (0..2).for_each(|secret| restoring.secret(secret, key, &right));
    }
    // The next one gets no further than to put it back: the old one is open, and nothing else is there.
    let trap = Trap::new("Fetching", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let heir = restoring.pod("heir", &[]);
    trap.bitten.notified().await;
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true)].into()
    );
    trap.release.notify_one();
    let ended = restoring.harness.ended(heir, "heir").await;
    restoring.assert_completed(&ended);
    assert_eq!(rows(&restoring, &living).await, "500");
    restoring.drop_databases(&living.name[..20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_about_to_be_dropped_goes_also_when_its_name_was_taken_again() {
    let (living, restoring) = emptied().await;
    killed_when_closed(&restoring, &living).await;
    let database = restoring.status()["databases"][0].clone();
    let (staged, oid) = (database["staged"].as_str().unwrap(), database["oid"].as_i64().unwrap());
    let dropped = dropped_name(staged, oid);
    for statement in [
        format!("ALTER DATABASE {} RENAME TO {}", quoted(staged), quoted(&dropped)),
        format!("CREATE DATABASE {}", quoted(staged)),
    ] {
        restoring.execute("postgres", &statement).await;
    }
    let trap = Trap::new("Fetching", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let mut heir = restoring.pod("heir", &[]);
    tokio::time::timeout(std::time::Duration::from_secs(60), trap.bitten.notified())
        .await
        .expect("it is put back");
    assert_eq!(
        restoring.databases(&living.name[..20]).await,
        [(living.name.clone(), true), (staged.to_owned(), true)].into(),
        "another one's stays"
    );
    heir.kill().await.unwrap();
    restoring.drop_databases(&living.name[..20]).await;
}

/// A pod that is paused before a statement of its swap, until its heir has put back what it had begun by then. Says whether
/// that was a statement up to the renames.
async fn paused_in_its_swap(place: usize) -> bool {
    let (living, mut restoring) = emptied().await;
    let gate = Gate::new();
    restoring.harness.client_folder = gate.clients().to_str().unwrap().to_owned();
    let trap = Trap::new("Swapping", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let mut paused = restoring.pod("paused", &[]);
    trap.bitten.notified().await;
    gate.stop_at(place);
    trap.release.notify_one();
    let held = tokio::select! {
        () = gate.bitten() => true,
        _ = paused.wait() => false,
    };
    if held {
        restoring.harness.client_folder = "/usr/lib/postgresql".into();
        let trap = Trap::new("Restoring", Moment::Before);
        restoring.harness.api.set_trap(Some(trap.clone()));
        let mut heir = restoring.pod("heir", &[]);
        let swapped = tokio::select! {
            () = trap.bitten.notified() => false,
            _ = heir.wait() => true,
        };
        if swapped {
            // It was paused behind its renames: the heir had but to say so, and nothing is to be taken back.
            let before = restoring.databases(&living.name[..20]).await;
            assert!(before.len() == 2 && before[&living.name], "{place}: {before:?}");
            gate.release().await;
            restoring.harness.ended(paused, "paused").await;
            assert_eq!(restoring.databases(&living.name[..20]).await, before, "{place}");
            assert_eq!(rows(&restoring, &living).await, "500", "{place}");
            restoring.drop_databases(&living.name[..20]).await;
            return false;
        }
        let named = format!("valerix-restore-{}-paused", restoring.uid());
        let mut session = PgConnection::connect_with(&restoring.harness.server.clone().application_name(&named))
            .await
            .unwrap();
        gate.release().await;
        let ended = restoring.harness.ended(paused, "paused").await;
        assert_ne!(ended.code, Some(0), "{place}: {}", ended.log);
        assert_eq!(
            restoring.databases(&living.name[..20]).await,
            [(living.name.clone(), true)].into(),
            "{place}: open, and nothing of the paused one is left"
        );
        assert!(session.execute("SELECT 1").await.is_err(), "{place}: nor at work");
        trap.release.notify_one();
        let ended = restoring.harness.ended(heir, "heir").await;
        restoring.assert_completed(&ended);
        assert_eq!(rows(&restoring, &living).await, "500", "{place}");
    }
    restoring.drop_databases(&living.name[..20]).await;
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_paused_in_its_swap_leaves_nothing_closed_under_its_heir() {
    const MORE_THAN_THERE_ARE: usize = 10;
    let statements = futures::stream::iter((0..MORE_THAN_THERE_ARE).map(|statement| statement * 2 + 1));
    let held: Vec<_> = statements.map(paused_in_its_swap).buffer_unordered(3).collect().await;
    let held = held.into_iter().filter(|held| *held).count();
    assert!((4..MORE_THAN_THERE_ARE).contains(&held), "{held} statements");
}
