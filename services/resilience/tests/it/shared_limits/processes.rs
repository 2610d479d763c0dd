//! Three processes, one limit. This test's own executable is the replica: [`replica`] does its work where the parent
//! says so by environment.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use valerix_resilience::RedisLimits;
use valerix_resilience::policy::LimitAlgorithm;

use super::redis_server::RedisServer;
use super::{PATIENT, owner, quota};

const WORK: &str = "VALERIX_TEST_REPLICA";
const MARK: &str = "replica said: ";

/// What a replica does.
#[derive(Clone, Serialize, Deserialize)]
struct Work {
    url: String,
    owner: String,
    requests: u32,
    window: Duration,
    burst: u32,
    algorithm: LimitAlgorithm,
    replicas: u32,
    lasting: Duration,
}

/// What it says: for each accepted request a time before and one after, in nanoseconds of the machine's clock.
#[derive(Serialize, Deserialize)]
struct Said {
    began: u64,
    ended: u64,
    accepted: Vec<(u64, u64)>,
    locally: u64,
}

fn nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Asks without rest, and at the end until it is refused: nothing is left over that it could have had.
#[tokio::test]
async fn replica() {
    let Ok(work) = std::env::var(WORK) else { return };
    let work: Work = serde_json::from_str(&work).unwrap();
    let redis = RedisLimits::open_with_timeout(&work.url, PATIENT).unwrap();
    assert!(redis.connected(PATIENT).await);
    let quota = quota(work.requests, work.window, work.burst, work.algorithm);
    let limiter = redis.limiter(&work.owner, "rule", quota, work.replicas);
    let (began, start) = (nanos(), Instant::now());
    let mut accepted = Vec::new();
    loop {
        let before = nanos();
        let allowed = limiter.take("all").await.allowed;
        let after = nanos();
        if allowed {
            accepted.push((before, after));
        } else if start.elapsed() >= work.lasting {
            break;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let said = Said {
        began,
        ended: nanos(),
        accepted,
        locally: limiter.local_decisions(),
    };
    println!("\n{MARK}{}", serde_json::to_string(&said).unwrap());
}

/// Runs `count` replicas and gathers what they say.
fn run(work: &Work, count: usize) -> Vec<Said> {
    let children: Vec<_> = (0..count)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["shared_limits::processes::replica", "--exact", "--nocapture"])
                .env(WORK, serde_json::to_string(work).unwrap())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let said = |child: std::process::Child| {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(MARK));
        serde_json::from_str(line.unwrap_or_else(|| panic!("a replica said nothing:\n{text}"))).unwrap()
    };
    children.into_iter().map(said).collect()
}

/// The most that were surely accepted between two moments, against what may be: `most(nanoseconds)`.
fn within(said: &[Said], most: impl Fn(u64) -> f64) {
    let mut accepted: Vec<(u64, u64)> = said.iter().flat_map(|said| said.accepted.clone()).collect();
    accepted.sort_unstable();
    for (index, (start, _)) in accepted.iter().enumerate().step_by(7) {
        let mut ends: Vec<u64> = accepted[index..].iter().map(|(_, after)| *after).collect();
        ends.sort_unstable();
        for (count, end) in (1_u32..).zip(ends) {
            let allowed = most(end - start);
            assert!(
                f64::from(count) <= allowed,
                "{count} in {} ns, {allowed} allowed",
                end - start
            );
        }
    }
}

fn counts(said: &[Said]) -> (f64, f64) {
    assert!(
        said.iter().all(|said| said.locally == 0),
        "Redis was there all the time"
    );
    let accepted: usize = said.iter().map(|said| said.accepted.len()).sum();
    let began = said.iter().map(|said| said.began).min().unwrap();
    let ended = said.iter().map(|said| said.ended).max().unwrap();
    (accepted as f64, (ended - began) as f64 / 1e9)
}

#[test]
fn three_processes_accept_what_gcra_allows_and_no_more() {
    let redis = RedisServer::start();
    let work = Work {
        url: redis.url(),
        owner: owner(),
        requests: 300,
        window: Duration::from_secs(1),
        burst: 301,
        algorithm: LimitAlgorithm::GCRA,
        replicas: 3,
        lasting: Duration::from_secs(2),
    };
    let said = run(&work, 3);
    within(&said, |nanos| 301.0 + 300.0 * nanos as f64 / 1e9);
    let (accepted, seconds) = counts(&said);
    let bound = 301.0 + 300.0 * seconds;
    let lease = f64::from((301_u32 - 1) / 6);
    assert!(
        (bound - 3.0 * lease..=bound).contains(&accepted),
        "{accepted} of {bound}"
    );
    let trips = redis.script_calls() as f64;
    assert!(
        trips <= accepted / 4.0,
        "{trips} trips for {accepted}: leases are drawn, not single tokens"
    );
}

#[test]
fn three_processes_pass_no_more_than_requests_in_any_window() {
    let redis = RedisServer::start();
    let window = Duration::from_millis(800);
    let work = Work {
        url: redis.url(),
        owner: owner(),
        requests: 100,
        window,
        burst: 1,
        algorithm: LimitAlgorithm::Window,
        // More than they believe: that must not matter.
        replicas: 2,
        lasting: Duration::from_millis(2_500),
    };
    let said = run(&work, 3);
    let nanos = u64::try_from(window.as_nanos()).unwrap();
    within(&said, |passed| if passed < nanos { 100.0 } else { f64::INFINITY });
    let (accepted, seconds) = counts(&said);
    // A request is remembered for the window, a sixteenth and a slot: at least that many whole windows were filled.
    let windows = (seconds / (0.8 * (1.0 + 1.0 / 16.0) * (1.0 + 1.0 / 15.0))).floor();
    let lease = f64::from((100_u32 - 1) / 4);
    assert!(
        accepted >= windows * (100.0 - 3.0 * lease),
        "{accepted} in {windows} windows"
    );
}
