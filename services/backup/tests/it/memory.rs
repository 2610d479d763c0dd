//! What the runner keeps in memory does not grow with what it carries.

use crate::{
    api::{Moment, Trap},
    harness::{Database, Harness},
    restore::harness::Restoring,
    trial::verifier,
};
use std::fs;
use tokio::process::Child;

/// About 300 MB as a dump.
const LARGE: &str = "CREATE TABLE t (id int, note text); \
    INSERT INTO t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 310000) i;";
/// Unit: KiB.
const MOST: u64 = 64 * 1024;
/// As the policy has it that says nothing.
const DEFAULT_ZSTD_LEVEL: u8 = 9;

/// The most that a process has ever had in memory. Unit: KiB.
fn peak(pod: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pod.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// At its last word, when all is done.
async fn peak_at_the_end(harness: &Harness, uid: &str, start: impl FnOnce() -> Child) -> u64 {
    let trap = Trap::new("Completed", Moment::Before);
    harness.api.set_trap(Some(trap.clone()));
    let mut pod = start();
    tokio::select! {
        () = trap.bitten.notified() => {}
        _ = pod.wait() => panic!("{}", fs::read_to_string(harness.log(uid)).unwrap()),
    }
    let peak = peak(&pod);
    trap.release.notify_one();
    let ended = harness.ended(pod, uid).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_megabytes_pass_through_sixty_four() {
    let database = Database::new("orders", LARGE).await;
    let mut harness = Harness::new(&[("orders", &database.name)]).await;
    harness.spec["compression"]["zstdLevel"] = DEFAULT_ZSTD_LEVEL.into();
    let stored = peak_at_the_end(&harness, "pod", || harness.pod("pod")).await;
    let bytes = harness.record()["status"]["databases"][0]["bytes"].as_u64().unwrap();
    assert!(bytes > 300_000_000, "{bytes}");

    let mut restoring = Restoring::stored(harness);
    let new = restoring.named("back");
    restoring.make_new(&[("orders", &new)]);
    let restored = peak_at_the_end(&restoring.harness, "restore", || restoring.pod("restore", &[])).await;
    restoring.drop_databases(&restoring.mark).await;

    // A trial says first that it runs.
    let running = Trap::new("Completed", Moment::Before);
    restoring.harness.api.set_trap(Some(running.clone()));
    let pod = verifier(&restoring.harness, "trial");
    running.bitten.notified().await;
    let tried = peak_at_the_end(&restoring.harness, "trial", || {
        running.release.notify_one();
        pod
    })
    .await;
    println!("{bytes} bytes: {stored} KiB to store them, {restored} KiB to restore them, {tried} KiB to try them");
    for peak in [stored, restored, tried] {
        assert!(peak < MOST, "{peak} KiB");
    }
    database.drop().await;
}
