//! The runner killed or paused at every request of its run, before it takes and before its answer arrives, with an heir
//! that finds whatever there is, over a store that may misbehave as well. Whatever happens: at most one PUT and one archive,
//! the record tells what lies there, and the next day has its archive.

use crate::{
    bucket::{Bucket, KEY},
    harness::{Database, SMALL},
    store::Habit,
};
use futures::StreamExt;
use serde_json::Value;
use std::process::Stdio;
use valerix_kit::testing::chance::{Chance, rounds};

/// Rounds of the daily slice.
const SLICE: usize = 7;
/// Rounds at a time: most of their time they wait.
const AT_ONCE: usize = 5;
const NEXT_DAY_KEY: &str = "pg/shop/nightly/20260822.tar.zst";

/// What becomes of the pod, and of the request that it has sent.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Killed; the request never takes.
    KilledAndLost,
    /// Killed; the request takes before the heir starts.
    KilledAndTaken,
    /// Killed; the request takes when the heir has ended.
    KilledAndLate,
    /// Paused with its answer in its pocket, until the heir has ended.
    Paused,
    /// Paused, and its request with it, until the heir has ended.
    PausedWithItsRequest,
}

const FAULTS: [Fault; 5] = [
    Fault::KilledAndLost,
    Fault::KilledAndTaken,
    Fault::KilledAndLate,
    Fault::Paused,
    Fault::PausedWithItsRequest,
];

#[derive(Clone, Copy, Debug)]
struct Round {
    /// Whether the archive goes in parts.
    in_parts: bool,
    /// The place that the pod does not pass, counted from 1.
    place: usize,
    fault: Fault,
    habit: Habit,
    ignores_conditions: bool,
    lists_late: bool,
}

fn draw(chance: &mut Chance, (in_parts, place, fault): (bool, usize, Fault)) -> Round {
    let answer = |stores, status, code| Habit::Answer { stores, status, code };
    // What hangs is never known to have taken, so it goes with the fault that does not wait for that.
    let lost = |stores| match fault {
        Fault::KilledAndLost => Habit::Hang { stores },
        _ => Habit::Cut { stores },
    };
    let bad = [
        lost(true),
        lost(false),
        answer(true, 503, "SlowDown"),
        answer(false, 503, "SlowDown"),
        answer(true, 409, "ConditionalRequestConflict"),
        answer(false, 409, "ConditionalRequestConflict"),
        answer(true, 412, "PreconditionFailed"),
    ];
    let misbehaves = chance.below(3) == 0;
    Round {
        in_parts,
        place,
        fault,
        habit: if misbehaves {
            bad[chance.below(bad.len())]
        } else {
            Habit::Good
        },
        ignores_conditions: chance.below(2) == 0,
        lists_late: chance.below(3) == 0,
    }
}

fn signal(pod: &tokio::process::Child, name: &str) {
    let mut kill = std::process::Command::new("kill");
    kill.args([name, &pod.id().unwrap().to_string()]).stdin(Stdio::null());
    assert!(kill.status().unwrap().success());
}

impl Round {
    async fn play(self, database: &Database) {
        let case = format!("{self:?}");
        let mut bucket = Bucket::new(database).await;
        if self.in_parts {
            bucket.send_in_parts();
        }
        bucket.store.take_habit(self.habit);
        if self.ignores_conditions {
            bucket.store.ignore_conditions();
        }
        if self.lists_late {
            bucket.store.list_late();
        }
        let steps = bucket.steps.clone();
        steps.stop_at(self.place);
        let mut victim = bucket.harness.pod("victim");
        let held = tokio::select! {
            () = steps.bitten() => true,
            _ = victim.wait() => false,
        };
        steps.disarm();
        if held {
            self.strike(&bucket, victim, &case).await;
        }

        // The day comes to rest: one more pod changes nothing that is stored, and stores what is not.
        bucket.assert_agreement();
        let ended = bucket.harness.run("afterwards").await;
        bucket.assert_agreement();
        let stored = bucket.store.object(KEY).is_some();
        assert_eq!(ended.code, Some(if stored { 0 } else { 30 }), "{case}: {}", ended.log);
        let status = bucket.status();
        let phase = if stored { "Completed" } else { "Unknown" };
        assert_eq!(status["phase"], phase, "{case}: {status}");

        next_day(&mut bucket, &case).await;
        let status = bucket.status();
        let phase = if stored { "Completed" } else { "Failed" };
        assert_eq!(status["phase"], phase, "{case}: {status}");
        assert!(bucket.store.puts(KEY) <= 1, "{case}");
        assert_eq!(bucket.store.left_uploads(), 0, "{case}: parts that nobody needs");
    }

    /// The fault, the heir, and what is left of the first pod.
    async fn strike(self, bucket: &Bucket, mut victim: tokio::process::Child, case: &str) {
        match self.fault {
            Fault::KilledAndLost | Fault::KilledAndTaken | Fault::KilledAndLate => victim.kill().await.unwrap(),
            Fault::Paused | Fault::PausedWithItsRequest => signal(&victim, "-STOP"),
        }
        if matches!(self.fault, Fault::KilledAndTaken | Fault::Paused) {
            bucket.steps.release().await;
        }
        let heir = bucket.harness.run("heir").await;
        assert!(matches!(heir.code, Some(0 | 30)), "{case}: {}", heir.log);
        bucket.assert_one_put();
        if matches!(self.fault, Fault::KilledAndLate | Fault::PausedWithItsRequest) {
            bucket.steps.release().await;
        }
        if matches!(self.fault, Fault::Paused | Fault::PausedWithItsRequest) {
            signal(&victim, "-CONT");
            let ended = bucket.harness.ended(victim, "victim").await;
            assert!(matches!(ended.code, Some(0 | 30)), "{case}: {}", ended.log);
        }
    }
}

/// The run of the day after, once whoever held the first day's fence is certainly gone.
async fn next_day(bucket: &mut Bucket, case: &str) {
    let mut record = bucket.harness.record();
    if record["status"]["upload"]["startedAt"].is_string() {
        record["status"]["upload"]["startedAt"] = "2026-08-20T00:00:00Z".into();
    }
    let begun = record.pointer_mut("/status/openUploads");
    for upload in begun.and_then(Value::as_array_mut).into_iter().flatten() {
        upload["startedAt"] = "2026-08-20T00:00:00Z".into();
    }
    bucket.harness.api.put(record);
    bucket.harness.put_record("nightly-20260822", "2026-08-22");
    bucket.harness.minutes += 24 * 60;
    let ended = bucket.harness.run("next-day").await;
    assert_eq!(ended.code, Some(0), "{case}: {}", ended.log);
    assert!(bucket.store.object(NEXT_DAY_KEY).is_some(), "{case}");
    assert_eq!(bucket.store.puts(NEXT_DAY_KEY), 1, "{case}");
    let next = bucket.harness.api.record("nightly-20260822");
    assert_eq!(next["status"]["phase"], "Completed", "{case}: {next}");
}

/// Places of a run that nobody disturbs.
async fn places(database: &Database, in_parts: bool) -> usize {
    let mut bucket = Bucket::new(database).await;
    if in_parts {
        bucket.send_in_parts();
    }
    assert_eq!(bucket.harness.run("undisturbed").await.code, Some(0));
    bucket.steps.passed()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_paused_at_any_request_a_day_has_at_most_one_archive() {
    let database = Database::new("orders", SMALL).await;
    let (mut chance, seed) = Chance::seeded(20_260_821);
    let places = [places(&database, false).await, places(&database, true).await];
    let mut all: Vec<_> = [false, true]
        .into_iter()
        .zip(places)
        .flat_map(|(in_parts, places)| (1..=places).map(move |place| (in_parts, place)))
        .flat_map(|(in_parts, place)| FAULTS.map(|fault| (in_parts, place, fault)))
        .collect();
    chance.shuffle(&mut all);
    let chosen: Vec<_> = all.iter().cycle().take(rounds(SLICE)).collect();
    println!(
        "seed {seed}: {} of {} rounds over {places:?} places",
        chosen.len(),
        all.len()
    );
    let drawn: Vec<_> = chosen.into_iter().map(|place| draw(&mut chance, *place)).collect();
    futures::stream::iter(drawn)
        .for_each_concurrent(AT_ONCE, |round| round.play(&database))
        .await;
    database.drop().await;
}
