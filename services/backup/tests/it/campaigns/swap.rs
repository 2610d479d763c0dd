//! Restore killed or paused at every statement of its swap, before it is sent and after it was answered, with an heir that
//! finds whatever there is and may be killed at a statement itself. Whatever happens: the old database or the restored one
//! has the name and is open, the other one is kept or gone, and a pod that was taken for dead disturbs nobody.

use crate::{
    api::{Moment, Trap},
    gate::Gate,
    harness::{Database, SMALL},
    restore::harness::Restoring,
};
use futures::StreamExt;
use sqlx::Executor;
use valerix_kit::testing::chance::{Chance, rounds};

/// Rounds of the daily slice.
const SLICE: usize = 8;
/// Rounds at a time: each makes databases.
const AT_ONCE: usize = 3;
/// As many statements as an heir makes before it restores anew.
const OF_THE_HEIR: usize = 12;

/// What becomes of the pod at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Killed; a statement that was not sent never is.
    Killed,
    /// Killed; the statement is with the server and takes before the heir starts.
    KilledAndTaken,
    /// Paused until the heir has ended.
    Paused,
}

const FAULTS: [Fault; 3] = [Fault::Killed, Fault::KilledAndTaken, Fault::Paused];

#[derive(Clone, Copy, Debug)]
struct Round {
    /// The place that the pod does not pass, counted from 1 and from its word that it swaps.
    place: usize,
    fault: Fault,
    /// The place at which its heir is killed, too.
    heirs_place: Option<usize>,
}

async fn emptied() -> (Database, Restoring, Gate) {
    let living = Database::new("living", SMALL).await;
    let mut restoring = Restoring::of(&[("orders", &living)]).await;
    restoring.execute(&living.name, "TRUNCATE t").await;
    restoring.replacing("orders", &living.name);
    let gate = Gate::new();
    restoring.harness.client_folder = gate.clients().to_str().unwrap().to_owned();
    (living, restoring, gate)
}

async fn oid(restoring: &Restoring, name: &str) -> String {
    let query = format!("SELECT oid::text FROM pg_database WHERE datname = '{name}'");
    restoring.text("postgres", &query).await
}

/// A pod that has said that it swaps, and will not come past this place.
async fn swapping(restoring: &Restoring, gate: &Gate, place: usize) -> tokio::process::Child {
    let trap = Trap::new("Swapping", Moment::After);
    restoring.harness.api.set_trap(Some(trap.clone()));
    let pod = restoring.pod("victim", &[]);
    trap.bitten.notified().await;
    gate.stop_at(place);
    trap.release.notify_one();
    pod
}

impl Round {
    async fn play(self) {
        let case = format!("{self:?}");
        let (living, mut restoring, gate) = emptied().await;
        let old = oid(&restoring, &living.name).await;
        let mut victim = swapping(&restoring, &gate, self.place).await;
        gate.bitten().await;
        match self.fault {
            Fault::Killed => {
                victim.kill().await.unwrap();
                gate.kill().await;
            }
            Fault::KilledAndTaken => {
                victim.kill().await.unwrap();
                gate.release().await;
            }
            Fault::Paused => {}
        }
        if let Some(place) = self.heirs_place {
            let second = Gate::new();
            restoring.harness.client_folder = second.clients().to_str().unwrap().to_owned();
            second.stop_at(place);
            let mut heir = restoring.pod("first-heir", &[]);
            tokio::select! {
                () = second.bitten() => {
                    heir.kill().await.unwrap();
                    second.kill().await;
                }
                _ = heir.wait() => {}
            }
        }
        restoring.harness.client_folder = "/usr/lib/postgresql".into();
        let ended = restoring.run("heir").await;
        restoring.assert_completed(&ended);

        let previous = valerix_crds::restore_runner::previous_name(&living.name, "2026-08-21");
        let expected = [(living.name.clone(), true), (previous.clone(), false)].into();
        assert_eq!(restoring.databases(&living.name[..20]).await, expected, "{case}");
        assert_eq!(oid(&restoring, &previous).await, old, "{case}");
        let mut client = restoring.harness.connect(&living.name).await;
        if self.fault == Fault::Paused {
            let before = restoring.status();
            gate.release().await;
            let ended = restoring.harness.ended(victim, "victim").await;
            assert_ne!(ended.code, Some(0), "{case}: {}", ended.log);
            assert_eq!(restoring.status(), before, "{case}");
            assert_eq!(restoring.databases(&living.name[..20]).await, expected, "{case}");
            assert_eq!(oid(&restoring, &previous).await, old, "{case}");
        }
        client
            .execute("SELECT 1")
            .await
            .unwrap_or_else(|error| panic!("{case}: who works in the restored database goes on: {error}"));
        drop(client);
        assert_eq!(
            restoring.text(&living.name, "SELECT count(*)::text FROM t").await,
            "500",
            "{case}"
        );
        restoring.drop_databases(&living.name[..20]).await;
    }
}

/// Places of a swap that nobody disturbs.
async fn places() -> usize {
    let (living, restoring, gate) = emptied().await;
    let pod = swapping(&restoring, &gate, usize::MAX).await;
    let ended = restoring.harness.ended(pod, "victim").await;
    restoring.assert_completed(&ended);
    restoring.drop_databases(&living.name[..20]).await;
    gate.passed()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_paused_at_any_statement_of_the_swap_the_name_has_one_open_database() {
    let (mut chance, seed) = Chance::seeded(20_260_822);
    let places = places().await;
    let mut all: Vec<_> = (1..=places)
        .flat_map(|place| FAULTS.map(|fault| (place, fault)))
        .collect();
    chance.shuffle(&mut all);
    let chosen: Vec<_> = all.iter().cycle().take(rounds(SLICE)).copied().collect();
    println!(
        "seed {seed}: {} of {} rounds over {places} places",
        chosen.len(),
        all.len()
    );
    let drawn: Vec<_> = chosen
        .into_iter()
        .map(|(place, fault)| Round {
            place,
            fault,
            heirs_place: (chance.below(3) == 0).then(|| 1 + chance.below(OF_THE_HEIR * 2)),
        })
        .collect();
    futures::stream::iter(drawn)
        .for_each_concurrent(AT_ONCE, Round::play)
        .await;
}
