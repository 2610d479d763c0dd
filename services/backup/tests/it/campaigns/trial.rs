//! The trial restore killed at every statement and at every request: never does a record say more than was found, and the
//! next pod of the Job finds it.

use crate::{
    gate::Gate,
    harness::{Database, Harness, SMALL},
    trial::{trial, verification, verifier},
};
use futures::StreamExt;
use std::{fs, process::Command};
use valerix_kit::testing::chance::{Chance, rounds};

/// Rounds of the daily slice.
const SLICE: usize = 6;
/// Rounds at a time: each has a PostgreSQL server of its own.
const AT_ONCE: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Place {
    /// At a statement, counted as [`Gate`] counts.
    Statement(usize),
    /// At a request to the API server, counted as `steps` counts.
    Request(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Kill,
    Term,
}

fn signal(pid: &str, name: &str) {
    // Nobody may be there any more.
    let _ = Command::new("kill").args([name, pid]).status();
}

/// In a cluster the server ends with its pod.
fn end_server(harness: &Harness, uid: &str) {
    let pid = harness.scratch(uid).join("verify/server/data/postmaster.pid");
    if let Some(pid) = fs::read_to_string(pid)
        .ok()
        .as_deref()
        .and_then(|text| text.lines().next())
    {
        signal(pid, "-KILL");
    }
}

async fn stored(database: &Database) -> (Harness, Gate) {
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    assert_eq!(harness.run("backup").await.code, Some(0));
    let gate = Gate::new();
    harness.client_folder = gate.clients().to_str().unwrap().to_owned();
    (harness, gate)
}

async fn play(database: &Database, place: Place, sent: Signal) {
    let case = format!("{place:?} {sent:?}");
    let (mut harness, gate) = stored(database).await;
    let before = harness.record()["status"].clone();
    let steps = harness.api.steps();
    match place {
        Place::Statement(place) => gate.stop_at(place),
        Place::Request(place) => steps.stop_at(place),
    }
    let mut victim = verifier(&harness, "victim");
    tokio::select! {
        () = gate.bitten() => {}
        () = steps.bitten() => {}
        // How often a server is asked whether it has started is never the same.
        _ = victim.wait() => {
            assert!(matches!(place, Place::Statement(_)), "{case}: it came past its place");
            assert_eq!(verification(&harness)["state"], "Restored", "{case}");
            return;
        }
    }
    match sent {
        Signal::Kill => {
            victim.kill().await.unwrap();
            end_server(&harness, "victim");
            match place {
                Place::Statement(_) => gate.kill().await,
                Place::Request(_) => steps.release().await,
            }
        }
        Signal::Term => {
            signal(&victim.id().unwrap().to_string(), "-TERM");
            if matches!(place, Place::Request(_)) {
                steps.release().await;
            }
            let ended = harness.ended(victim, "victim").await;
            // It may have had its answer already.
            let answered = verification(&harness)["state"] == "Restored";
            assert_eq!(ended.code, Some(if answered { 0 } else { 10 }), "{case}: {}", ended.log);
            let left = fs::read_dir(harness.scratch("victim")).unwrap().count();
            assert_eq!(left, 0, "{case}");
            if matches!(place, Place::Statement(_)) {
                gate.kill().await;
            }
        }
    }
    let status = harness.record()["status"].clone();
    let state = status["verification"]["state"].as_str().unwrap_or("none").to_owned();
    assert!(
        ["none", "Running", "Restored"].contains(&state.as_str()),
        "{case}: {status}"
    );
    let verified = if state == "Restored" { "Restored" } else { "Local" };
    assert_eq!(status["verified"], verified, "{case}");

    harness.client_folder = "/usr/lib/postgresql".into();
    let ended = trial(&harness, "heir").await;
    assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
    let status = harness.record()["status"].clone();
    assert_eq!(
        (&status["verified"], &status["verification"]["state"]),
        (&"Restored".into(), &"Restored".into()),
        "{case}: {status}"
    );
    for field in ["phase", "upload", "databases", "completedAt"] {
        assert_eq!(status[field], before[field], "{case}: {field}");
    }
}

/// Places of a trial that nobody disturbs: statements and requests.
async fn places(database: &Database) -> (usize, usize) {
    let (harness, gate) = stored(database).await;
    gate.stop_at(usize::MAX);
    harness.api.steps().stop_at(usize::MAX);
    assert_eq!(trial(&harness, "undisturbed").await.code, Some(0));
    (gate.passed(), harness.api.steps().passed())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_asked_to_end_anywhere_a_trial_says_nothing_that_it_has_not_found() {
    let database = Database::new("orders", SMALL).await;
    let (mut chance, seed) = Chance::seeded(20_260_823);
    let (statements, requests) = places(&database).await;
    let places = (1..=statements)
        .map(Place::Statement)
        .chain((1..=requests).map(Place::Request));
    let mut all: Vec<_> = places
        .flat_map(|place| [(place, Signal::Kill), (place, Signal::Term)])
        .collect();
    chance.shuffle(&mut all);
    let chosen: Vec<_> = all.iter().cycle().take(rounds(SLICE)).copied().collect();
    println!(
        "seed {seed}: {} of {} rounds over {statements} places of statements and {requests} of requests",
        chosen.len(),
        all.len()
    );
    futures::stream::iter(chosen)
        .for_each_concurrent(AT_ONCE, |(place, sent)| play(&database, place, sent))
        .await;
    database.drop().await;
}
