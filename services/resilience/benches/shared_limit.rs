//! The limit that replicas share through Redis, beside one `EVALSHA` for every call, in the same run on the same Redis.
//!
//! Three replicas, each with its own runtime and connection, are asked at a steady pace for ten seconds: below the
//! limit and above it. Prints one JSON object a line. `TEST_REDIS_URL` names the Redis, else one of its own is started;
//! `BENCH_QUICK` takes a second instead of ten. Both wait five seconds for Redis instead of the library's 20 ms: a machine
//! that stands still for a moment would otherwise be measured as a lost Redis.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for developers"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use valerix_resilience::policy::LimitAlgorithm;
use valerix_resilience::{Quota, RateLimiter, RedisLimits};

const REPLICAS: u32 = 3;
const BURST: u32 = 100 * REPLICAS + 1;
/// Calls whose time is taken together for the amortised figure.
const BLOCK: usize = 64;
const FLOOD: &str = "--flood";
const FLOOD_KEYS: u64 = 10_000_000;

/// One `EVALSHA` a call: GCRA as it is usually written.
const PLAIN: &str = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2]
local spacing, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + spacing
if tat - now > spacing * burst then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
return 1";

/// What one replica saw: for each call when it began, when it ended, whether it passed.
type Calls = Vec<(Instant, Instant, bool)>;

#[derive(Clone, Copy)]
struct Load {
    /// Of all replicas together.
    per_second: u32,
    /// At each replica.
    asked_per_second: u32,
    lasting: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Ours,
    Plain,
    /// Each replica's own limit, without Redis.
    Local,
    /// No limit: what the measuring itself takes.
    Nothing,
}

/// Runs the replicas and gathers what they saw, with the scripts that Redis ran for it.
fn run(url: &str, who: Who, load: Load) -> (Vec<Calls>, u64) {
    let name = format!("bench/{}", uuid::Uuid::new_v4());
    let before = script_calls(url);
    let calls = std::thread::scope(|scope| {
        let replica = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                match who {
                    Who::Ours => ours(url, &name, load).await,
                    Who::Plain => plain(url, &name, load).await,
                    Who::Local => {
                        let limiter = RateLimiter::new(quota(load));
                        paced(load, async || limiter.take("all").allowed).await
                    }
                    Who::Nothing => paced(load, async || std::hint::black_box(true)).await,
                }
            })
        };
        let threads: Vec<_> = (0..REPLICAS).map(|_| scope.spawn(replica)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (calls, script_calls(url) - before)
}

fn quota(load: Load) -> Quota {
    Quota {
        requests: load.per_second,
        window: Duration::from_secs(1),
        burst: BURST,
        algorithm: LimitAlgorithm::GCRA,
    }
}

async fn ours(url: &str, name: &str, load: Load) -> Calls {
    // A machine that stands still for a moment must not look like a lost Redis.
    let redis = RedisLimits::open_with_timeout(url, Duration::from_secs(5)).unwrap();
    assert!(redis.connected(Duration::from_secs(5)).await, "no Redis at {url}");
    let limiter = redis.limiter(name, "rule", quota(load), REPLICAS);
    let calls = paced(load, async || limiter.take("all").await.allowed).await;
    assert_eq!(limiter.local_decisions(), 0, "Redis was lost");
    calls
}

async fn plain(url: &str, name: &str, load: Load) -> Calls {
    let client = redis::Client::open(url).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let script = redis::Script::new(PLAIN);
    let spacing = 1_000_000.0 / f64::from(load.per_second);
    paced(load, async || {
        let mut connection = connection.clone();
        let mut call = script.key(name);
        let allowed: u8 = call
            .arg(spacing)
            .arg(BURST)
            .invoke_async(&mut connection)
            .await
            .unwrap();
        allowed == 1
    })
    .await
}

/// The rule of the shop: five in ten seconds for each customer. So small a limit is never leased: the first calls of a
/// customer are a trip each, and only refusals are answered at home. A thousand customers, three calls each, one
/// after the other: the median call in nanoseconds, and calls for each trip.
fn customers(url: &str, who: Who) -> (f64, f64) {
    const CUSTOMERS: u32 = 1_000;
    let name = format!("bench/{}", uuid::Uuid::new_v4());
    let before = script_calls(url);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let times = runtime.block_on(async {
        let quota = Quota {
            requests: 5,
            window: Duration::from_secs(10),
            burst: 5,
            algorithm: LimitAlgorithm::Window,
        };
        let redis = RedisLimits::open_with_timeout(url, Duration::from_secs(5)).unwrap();
        assert!(redis.connected(Duration::from_secs(5)).await, "no Redis at {url}");
        let limiter = redis.limiter(&name, "rule", quota, REPLICAS);
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let script = redis::Script::new(PLAIN);
        let mut times = Vec::new();
        for call in 0..3 * CUSTOMERS {
            let customer = format!("customer-{}", call % CUSTOMERS);
            let began = Instant::now();
            if who == Who::Ours {
                assert!(limiter.take(&customer).await.allowed);
            } else {
                let mut call = script.key(format!("{name}/{customer}"));
                let allowed: u8 = call.arg(2_000_000).arg(5).invoke_async(&mut connection).await.unwrap();
                assert_eq!(allowed, 1);
            }
            times.push(began.elapsed().as_nanos() as f64);
        }
        times
    });
    let calls = times.len() as f64;
    (median(times), calls / (script_calls(url) - before).max(1) as f64)
}

/// Asks at a steady pace, what is due every millisecond.
async fn paced(load: Load, mut ask: impl AsyncFnMut() -> bool) -> Calls {
    let tick = Duration::from_millis(1);
    let mut ticks = tokio::time::interval(tick);
    let (began, mut calls) = (Instant::now(), Vec::new());
    while began.elapsed() < load.lasting {
        ticks.tick().await;
        let due = began.elapsed().as_secs_f64() * f64::from(load.asked_per_second);
        while (calls.len() as f64) < due {
            let before = Instant::now();
            let allowed = ask().await;
            calls.push((before, Instant::now(), allowed));
        }
    }
    calls
}

fn script_calls(url: &str) -> u64 {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    let calls = |name: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
        line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok())
            .unwrap_or_default()
    };
    calls("evalsha") + calls("eval")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// For each replica, the median over blocks of calls of what a call of the block took, in nanoseconds.
fn amortised(replicas: &[Calls]) -> Vec<f64> {
    let block = |block: &[(Instant, Instant, bool)]| {
        let taken: Duration = block.iter().map(|(before, after, _)| *after - *before).sum();
        taken.as_nanos() as f64 / block.len() as f64
    };
    replicas
        .iter()
        .map(|calls| median(calls.chunks(BLOCK).map(block).collect()))
        .collect()
}

/// For each replica, the median call, in nanoseconds.
fn single(replicas: &[Calls]) -> Vec<f64> {
    let call = |(before, after, _): &(Instant, Instant, bool)| (*after - *before).as_nanos() as f64;
    replicas
        .iter()
        .map(|calls| median(calls.iter().map(call).collect()))
        .collect()
}

fn admitted(replicas: &[Calls]) -> usize {
    replicas.iter().flatten().filter(|(_, _, allowed)| *allowed).count()
}

/// By how many requests the bound was surely passed, from any request on, at worst.
fn above_the_bound(replicas: &[Calls], per_second: u32) -> f64 {
    let mut accepted: Vec<_> = replicas.iter().flatten().filter(|(_, _, allowed)| *allowed).collect();
    accepted.sort_unstable();
    let mut worst = 0.0_f64;
    for (index, (start, ..)) in accepted.iter().enumerate() {
        let mut ends: Vec<Instant> = accepted[index..].iter().map(|(_, after, _)| *after).collect();
        ends.sort_unstable();
        for (count, end) in (1_u32..).zip(ends) {
            let bound = f64::from(BURST) + f64::from(per_second) * (end - *start).as_secs_f64();
            worst = worst.max(f64::from(count) - bound);
        }
    }
    worst.ceil()
}

/// One row.
fn say(row: &str, unit: &str, bound: &str, ours: Vec<f64>, plain: Option<Vec<f64>>) {
    let summary = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[0], values[values.len() / 2], values[values.len() - 1])
    };
    let (min, middle, max) = summary(ours);
    let limit: Option<f64> = bound.split(' ').nth(1).and_then(|number| number.parse().ok());
    let holds = limit.is_none_or(|limit| {
        if bound.starts_with("<=") {
            middle <= limit
        } else {
            middle >= limit
        }
    });
    let peers: Vec<_> = plain
        .into_iter()
        .map(|values| {
            let (min, median, max) = summary(values);
            serde_json::json!({"name": "EVALSHA per call", "version": "", "min": min, "median": median, "max": max})
        })
        .collect();
    let line = serde_json::json!({
        "suite": "shared_limit", "row": row, "unit": unit,
        "ours": {"min": min, "median": middle, "max": max}, "peers": peers, "bound": bound, "holds": holds,
    });
    println!("{line}");
}

/// Floods a limit with keys that are never seen again, and says how many are live and how much memory that took.
fn flood(kind: &str, keys: u64) {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4_096.0 / f64::from(1 << 20)
    };
    // The largest levels, and none that comes to rest: a Window of many requests in a long time.
    let quota = Quota {
        requests: 200,
        window: Duration::from_secs(600),
        burst: 1,
        algorithm: LimitAlgorithm::Window,
    };
    let (live, growth) = if kind == "local" {
        let limiter = RateLimiter::new(quota);
        let before = resident();
        for key in 0..keys {
            limiter.take(&key.to_string());
        }
        (limiter.live_keys(), resident() - before)
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let redis = RedisLimits::open_with_timeout(kind, Duration::from_secs(5)).unwrap();
            assert!(redis.connected(Duration::from_secs(5)).await, "no Redis at {kind}");
            let limiter = redis.limiter(&format!("bench/{}", uuid::Uuid::new_v4()), "flood", quota, REPLICAS);
            let before = resident();
            let calls = futures::stream::iter(0..keys).map(|key| {
                let limiter = limiter.clone();
                async move { limiter.take(&key.to_string()).await }
            });
            calls.buffer_unordered(256).for_each(|_| async {}).await;
            (limiter.live_keys(), resident() - before)
        })
    };
    println!("{live} {growth}");
}

/// The flood in a process of its own, because memory that was freed is not given back: live keys, and growth in MiB.
fn flooded(kind: &str, keys: u64) -> (f64, f64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--bench", FLOOD, kind, &keys.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (live, growth) = text.trim().split_once(' ').expect("two figures");
    (live.parse().unwrap(), growth.parse().unwrap())
}

/// A Redis of this run alone, where none is named.
struct OwnRedis(Child);

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis() -> (String, Option<OwnRedis>) {
    if let Ok(url) = std::env::var("TEST_REDIS_URL") {
        return (url, None);
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            "/tmp",
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server, or TEST_REDIS_URL");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    (format!("redis://127.0.0.1:{port}/"), Some(OwnRedis(child)))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == FLOOD) {
        return flood(&arguments[place + 1], arguments[place + 2].parse().unwrap());
    }
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let lasting = Duration::from_secs(if quick { 1 } else { 10 });
    let (url, _own) = redis();
    let mut worst = 0.0_f64;
    // A replica that is asked seldom is asked with cold caches; a busy one shows what a call costs.
    let loads = [
        ("below the limit", 600, 150),
        ("above the limit", 300, 300),
        ("busy", 30_000, 5_000),
    ];
    for (name, per_second, asked_per_second) in loads {
        let lasting = if name == "busy" { lasting / 5 } else { lasting };
        let load = Load {
            per_second,
            asked_per_second,
            lasting,
        };
        let (ours, trips) = run(&url, Who::Ours, load);
        let (plain, plain_trips) = run(&url, Who::Plain, load);
        worst = worst.max(above_the_bound(&ours, per_second));
        let per_trip = |replicas: &[Calls], trips: u64| vec![admitted(replicas) as f64 / trips as f64];
        say(
            &format!("admitted per trip, {name}"),
            "requests/trip",
            ">= 20 x",
            per_trip(&ours, trips),
            Some(per_trip(&plain, plain_trips)),
        );
        if name == "above the limit" {
            let admitted = |replicas: &[Calls]| vec![admitted(replicas) as f64];
            say(
                "admitted, above the limit",
                "requests",
                "",
                admitted(&ours),
                Some(admitted(&plain)),
            );
            continue;
        }
        let row = if name == "busy" {
            "p50 of a call".to_owned()
        } else {
            format!("p50 of a call, {asked_per_second}/s a replica")
        };
        say(&row, "ns", "", single(&ours), Some(single(&plain)));
        say(
            &format!("p50 amortised over {BLOCK} calls, {asked_per_second}/s a replica"),
            "ns",
            "<= 1000 ns",
            amortised(&ours),
            Some(amortised(&plain)),
        );
        for (who, what) in [(Who::Local, "a local limit"), (Who::Nothing, "nothing")] {
            let (calls, _) = run(&url, who, load);
            say(
                &format!("the same of {what}, {asked_per_second}/s a replica"),
                "ns",
                "",
                amortised(&calls),
                None,
            );
        }
    }
    let ((ours, ours_trips), (plain, plain_trips)) = (customers(&url, Who::Ours), customers(&url, Who::Plain));
    say(
        "p50 of a call, 5 in 10 s a customer",
        "ns",
        "",
        vec![ours],
        Some(vec![plain]),
    );
    say(
        "calls per trip, 5 in 10 s a customer",
        "calls/trip",
        "",
        vec![ours_trips],
        Some(vec![plain_trips]),
    );
    say(
        "admitted above the bound",
        "requests",
        "<= 0 requests",
        vec![worst],
        None,
    );
    let keys = if quick { FLOOD_KEYS / 10 } else { FLOOD_KEYS };
    for (name, kind) in [("keyed_flood, local", "local"), ("keyed_flood, shared", &url)] {
        let (live, growth) = flooded(kind, keys);
        say(
            &format!("{name}: live of {keys} keys"),
            "keys",
            "<= 100000 keys",
            vec![live],
            None,
        );
        say(&format!("{name}: growth"), "MiB", "<= 32 MiB", vec![growth], None);
    }
}
