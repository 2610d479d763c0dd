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

fn keys() -> u64 {
    let keys = std::env::var("VALERIX_FLOOD_KEYS").ok();
    keys.and_then(|keys| keys.parse().ok()).unwrap_or(130_000)
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
    // The largest levels: a Window of more than 127 requests.
    let quota = quota(200, Duration::from_secs(600), 1, LimitAlgorithm::Window);
    let (live, growth) = if work == "local" {
        let limiter = RateLimiter::new(quota);
        let before = resident();
        for key in 0..keys() {
            limiter.take(&key.to_string());
        }
        (limiter.live_keys(), resident() - before)
    } else {
        let redis = RedisLimits::open_with_timeout(&work, PATIENT).unwrap();
        redis.connected(Duration::from_secs(1)).await;
        let limiter = redis.limiter(&owner(), "rule", quota, 3);
        let before = resident();
        let calls = futures::stream::iter(0..keys()).map(|key| {
            let limiter = limiter.clone();
            async move { limiter.take(&key.to_string()).await }
        });
        use futures::StreamExt;
        calls.buffer_unordered(256).for_each(|_| async {}).await;
        (limiter.live_keys(), resident() - before)
    };
    println!("\n{MARK}{live} {growth}");
}

fn flood(work: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["shared_limits::flood::flooded", "--exact", "--nocapture"])
        .env(WORK, work)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = text.lines().find_map(|line| line.strip_prefix(MARK));
    let said = said.unwrap_or_else(|| panic!("the flood said nothing:\n{text}"));
    let (live, growth) = said.split_once(' ').unwrap();
    let (live, growth): (usize, i64) = (live.parse().unwrap(), growth.parse().unwrap());
    assert!(live > MAX_KEYS / 2 && live <= MAX_KEYS, "{live} keys are live");
    assert!(growth <= MOST_GROWTH, "grew by {} KiB", growth >> 10);
}

#[test]
fn a_flood_of_keys_stays_within_its_memory() {
    flood("local");
}

#[test]
fn a_flood_of_keys_of_a_shared_limit_stays_within_its_memory() {
    let mut server = RedisServer::start();
    let url = server.url();
    // By the local share first: nobody answers.
    server.kill();
    flood(&url);
    server.restart();
    flood(&url);
}
