//! What is measured, and how it is told.

use crate::{
    api::{Moment, Trap},
    by_hand::{self, Place},
    harness::{Database, Harness},
    restoring::Restoring,
    store::{ACCESS_KEY, BUCKET, Store},
    trial::{verification, verifier},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tokio::process::Child;

/// How often the trial's scratch is weighed.
const WEIGHED: Duration = Duration::from_millis(100);

/// A peer with its figure, or why it has none.
type Peer = (&'static str, Result<f64, String>);

/// One line; every figure is one of this round alone.
fn tell(row: &str, unit: &str, ours: f64, peers: Vec<Peer>) {
    let figures = |value: f64| json!({"min": value, "median": value, "max": value});
    let peers: Vec<Value> = peers
        .into_iter()
        .map(|(name, figure)| {
            let mut peer = match figure {
                Ok(value) => figures(value),
                Err(reason) => json!({"missing": reason}),
            };
            peer["name"] = name.into();
            peer["version"] = "".into();
            peer
        })
        .collect();
    println!(
        "{}",
        json!({"suite": "backup", "row": row, "unit": unit, "ours": figures(ours), "peers": peers, "bound": ""})
    );
}

/// Ours is held to a part of a peer's figure.
fn tell_ratio(row: &str, ours: f64, peer: &Peer, bound: &str) {
    if let (_, Ok(value)) = peer {
        let ratio = ours / value;
        println!(
            "{}",
            json!({"suite": "backup", "row": format!("{row} / {}", peer.0), "unit": "x", "ours": {"min": ratio, "median": ratio, "max": ratio}, "peers": [], "bound": bound})
        );
    }
}

fn given(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| otherwise.into())
}

/// Half of it in one table, the rest in seven; what a shop has: numbers, words and hashes.
fn tables(megabytes: u64) -> String {
    // About 150 bytes a row.
    let rows = megabytes * 1_000_000 / 150;
    let table = |name: &str, rows: u64| {
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, customer int, state text, placed timestamptz, note text); \
             INSERT INTO {name} SELECT i, i % 5000, (ARRAY['paid', 'sent', 'returned'])[1 + i % 3], \
             '2026-01-01'::timestamptz + i * interval '7 s', 'order ' || i || ' ' || md5(i::text) || ' ' || md5((i * 7)::text) \
             FROM generate_series(1, {rows}) i; CREATE INDEX ON {name} (customer); "
        )
    };
    (1..8).fold(table("t", rows / 2), |text, number| {
        text + &table(&format!("t{number}"), rows / 14)
    })
}

/// Seconds from its start until it is about to say that it is in this phase; then it goes on.
async fn until(harness: &Harness, phase: &'static str, begun: Instant, work: impl Future<Output = ()>) -> f64 {
    let trap = Trap::new(phase, Moment::Before);
    harness.api.set_trap(Some(trap.clone()));
    work.await;
    tokio::time::timeout(Duration::from_secs(3600), trap.bitten.notified())
        .await
        .expect("it comes to its phase");
    let took = begun.elapsed().as_secs_f64();
    trap.release.notify_one();
    took
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Every row once.
pub async fn all(megabytes: u64) {
    let database = Database::new("orders", &tables(megabytes)).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    let small = Store::default().serve().await;
    let (endpoint, bucket) = (given("TEST_S3_ENDPOINT", &small), given("TEST_S3_BUCKET", BUCKET));
    let (access_key, secret_key) = (
        given("TEST_S3_ACCESS_KEY", ACCESS_KEY),
        given("TEST_S3_SECRET_KEY", "secret"),
    );
    harness.s3_secret("credentials", "accessKeyId", &access_key);
    harness.s3_secret("credentials", "secretAccessKey", &secret_key);
    harness.variables = vec![("VALERIX_BACKUP_S3_REQUEST_SECONDS", "60".into())];
    harness.spec["compression"]["zstdLevel"] = 9.into();
    harness.spec["destination"] = json!({"s3": {
        "bucket": bucket, "prefix": format!("bench-{}", uuid::Uuid::new_v4().simple()), "endpoint": endpoint,
        "credentialsSecretRef": {"name": "store"},
    }});
    let place = Place {
        endpoint: &endpoint,
        bucket: &bucket,
        access_key: &access_key,
        secret_key: &secret_key,
    };
    let archive = harness.folder.path().join("by-hand.zst");

    // A database that was never read comes from the disk: once for all.
    let warm = by_hand::dump(&harness, &database.name, &archive).await;
    let by_hand = (
        "pg_dump -Fc -Z0 | zstd -9 -T2",
        match warm {
            Ok(_) => {
                by_hand::settled(&harness).await;
                by_hand::dump(&harness, &database.name, &archive).await
            }
            missing => missing,
        },
    );
    by_hand::settled(&harness).await;
    let (mut pod, begun) = (None, Instant::now());
    let stored = until(&harness, "Uploading", begun, async { pod = Some(harness.pod("pod")) }).await;
    let row = "dump, archive and checks";
    tell_ratio(row, stored, &by_hand, "<= 1.1 x");
    tell(row, "s", stored, vec![by_hand]);

    let begun = Instant::now();
    let uploaded = until(&harness, "Completed", begun, async {}).await;
    let ended = harness.ended(pod.take().unwrap(), "pod").await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    by_hand::settled(&harness).await;
    let curl = ("curl --aws-sigv4", by_hand::curl(&place, &archive).await);
    by_hand::settled(&harness).await;
    let aws = ("aws s3 cp", by_hand::aws(&place, &archive).await);
    let row = "upload, and what lies there";
    tell_ratio(row, uploaded, &curl, "");
    tell_ratio(row, uploaded, &aws, "<= 1.1 x");
    tell(row, "s", uploaded, vec![curl, aws]);

    let mut restoring = Restoring::stored(harness);
    let (ours, theirs) = (restoring.named("ours"), restoring.named("theirs"));
    restoring.make_new(&[("orders", &ours)]);
    by_hand::settled(&restoring.harness).await;
    let (mut pod, begun) = (None::<Child>, Instant::now());
    let restored = until(&restoring.harness, "Completed", begun, async {
        pod = Some(restoring.pod("restore", &[]));
    })
    .await;
    let ended = restoring.harness.ended(pod.take().unwrap(), "restore").await;
    restoring.assert_completed(&ended);
    by_hand::settled(&restoring.harness).await;
    let peer = (
        "zstd -d, createdb, pg_restore -j2",
        by_hand::restore(&restoring.harness, &theirs, &archive).await,
    );
    let row = "restore, fetched and compared";
    tell_ratio(row, restored, &peer, "<= 1.1 x");
    tell(row, "s", restored, vec![peer]);
    restoring.drop_databases(&restoring.mark).await;

    let size = format!("SELECT pg_database_size('{}')::text", database.name);
    let size = restoring.text("postgres", &size).await.parse().unwrap();
    by_hand::settled(&restoring.harness).await;
    trial(&restoring.harness, size).await;
    database.drop().await;
}

/// Seconds, and the most that its scratch held, beside the size of what is restored.
async fn trial(harness: &Harness, size: f64) {
    let begun = Instant::now();
    let mut pod = verifier(harness, "verifier");
    let mut most = 0;
    while pod.try_wait().unwrap().is_none() {
        most = most.max(bytes_below(&harness.scratch("verifier")));
        tokio::time::sleep(WEIGHED).await;
    }
    let took = begun.elapsed().as_secs_f64();
    let found = verification(harness);
    assert_eq!(found["state"], "Restored", "{found}");
    tell("trial restore", "s", took, Vec::new());
    let row = "trial restore: most on scratch";
    let restored = ("what is restored", Ok(size / 1e6));
    tell_ratio(row, most as f64 / 1e6, &restored, "<= 1.2 x");
    tell(row, "MB", most as f64 / 1e6, vec![restored]);
}
