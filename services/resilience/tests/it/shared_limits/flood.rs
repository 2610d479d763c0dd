//! Keys without end: what is live is bounded, and so is memory. A process of its own is measured.
//! `VALERIX_FLOOD_KEYS=10000000` floods with more.

use std::process::{Command, Stdio};
use std::time::Duration;

use valerix_resilience::policy::LimitAlgorithm;
use valerix_resilience::{MAX_KEYS, RateLimiter, RedisLimits};

use super::redis_server::RedisServer;
use super::{PATIENT, owner, quota};

const WORK: &str = "VALERIX_TEST_FLOOD";
const MARK: &str = "flood said: ";
const MOST_GROWTH: i64 = 32 << 20;
/// More than are live, so that the rest must share.
const KEYS: u64 = 130_000;
/// Each of these asks Redis, which takes its time.
const KEYS_ASKED: u64 = 20_000;

fn keys(otherwise: u64) -> u64 {
    let keys = std::env::var("VALERIX_FLOOD_KEYS").ok();
    keys.and_then(|keys| keys.parse().ok()).unwrap_or(otherwise)
}

/// Resident bytes of this process.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: i64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// The child: floods one kind of limiter and says how many keys are live and how much it grew.
#[tokio::test]
async fn flooded() {
    let Ok(work) = std::env::var(WORK) else { return };
    let (keys, work) = work.split_once(' ').unwrap();
    let keys: u64 = keys.parse().unwrap();
    // The largest levels: a Window of more than 127 requests.
    let quota = quota(200, Duration::from_secs(600), 1, LimitAlgorithm::Window);
    let (live, growth) = if work == "local" {
        let limiter = RateLimiter::new(quota);
        let before = resident();
        for key in 0..keys {
            limiter.take(&key.to_string());
        }
        (limiter.live_keys(), resident() - before)
    } else {
        let redis = RedisLimits::open_with_timeout(work, PATIENT).unwrap();
        redis.connected(Duration::from_secs(1)).await;
        let limiter = redis.limiter(&owner(), "rule", quota, 3);
        let before = resident();
        let calls = futures::stream::iter(0..keys).map(|key| {
            let limiter = limiter.clone();
            async move { limiter.take(&key.to_string()).await }
        });
        use futures::StreamExt;
        calls.buffer_unordered(256).for_each(|_| async {}).await;
        (limiter.live_keys(), resident() - before)
    };
    println!("\n{MARK}{live} {growth}");
}

fn flood(work: &str, keys: u64) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["shared_limits::flood::flooded", "--exact", "--nocapture"])
        .env(WORK, format!("{keys} {work}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = text.lines().find_map(|line| line.strip_prefix(MARK));
    let said = said.unwrap_or_else(|| panic!("the flood said nothing:\n{text}"));
    let (live, growth) = said.split_once(' ').unwrap();
    let (live, growth): (usize, i64) = (live.parse().unwrap(), growth.parse().unwrap());
    let expected = MAX_KEYS.min(usize::try_from(keys).unwrap());
    assert!((expected / 2..=expected).contains(&live), "{live} keys are live");
    // In proportion, and something for what the first calls set up.
    let most = MOST_GROWTH.min(MOST_GROWTH * i64::try_from(expected).unwrap() / 100_000 + (4 << 20));
    assert!(growth <= most, "grew by {} KiB of {}", growth >> 10, most >> 10);
}

#[test]
fn a_flood_of_keys_stays_within_its_memory() {
    flood("local", keys(KEYS));
}

#[test]
fn a_flood_of_keys_of_a_shared_limit_stays_within_its_memory() {
    let mut server = RedisServer::start();
    let url = server.url();
    // By the local share first: nobody answers.
    server.kill();
    flood(&url, keys(KEYS));
    server.restart();
    flood(&url, keys(KEYS_ASKED));
}
