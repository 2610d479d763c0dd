//! The lock against a Redis of its own, which may lose everything.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use valerix_kit::args::BusArgs;
use valerix_kit::lock::{DistributedLock, LockError};
use valerix_kit::metrics::Metrics;
use valerix_kit::testing::{bus_args, eventually, free_port, patient_redis};

/// Long enough for this machine at its slowest, short enough to be waited for.
/// A third of it may a busy machine stand still before a lock that is renewed is lost.
const TIME_TO_LIVE: Duration = Duration::from_secs(2);

struct OwnRedis {
    process: Child,
    url: String,
}

impl OwnRedis {
    async fn start() -> Self {
        let port = free_port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("redis://127.0.0.1:{port}/");
        let server = Self { process, url };
        eventually("Redis answers", || async { server.try_run("PING").await.ok() }).await;
        server
    }

    async fn try_run(&self, command: &str) -> redis::RedisResult<()> {
        let client = redis::Client::open(self.url.as_str())?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&patient_redis())
            .await?;
        redis::cmd(command)
            .query_async::<redis::Value>(&mut connection)
            .await
            .map(drop)
    }

    async fn loses_everything(&self) {
        self.try_run("FLUSHALL").await.unwrap();
    }

    fn lock(&self) -> (DistributedLock, Metrics) {
        let args = BusArgs {
            redis_url: self.url.clone().into(),
            ..bus_args()
        };
        lock_of(&BusArgs {
            redis_prefix: "test:".to_owned(),
            ..args
        })
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lock_of(args: &BusArgs) -> (DistributedLock, Metrics) {
    let metrics = Metrics::new().unwrap();
    (
        DistributedLock::new(args, "stock", TIME_TO_LIVE, &metrics).unwrap(),
        metrics,
    )
}

#[tokio::test]
async fn one_holds_it_at_a_time_and_each_has_a_greater_number() {
    let redis = OwnRedis::start().await;
    let ((one, _), (other, metrics)) = (redis.lock(), redis.lock());
    let first = one.acquire(0).await.unwrap();
    let refused = other.acquire(0).await.unwrap_err();
    let LockError::Held { retry_after, .. } = refused else {
        panic!("{refused}")
    };
    assert!(retry_after <= TIME_TO_LIVE, "{retry_after:?}");
    assert!(
        metrics
            .render()
            .unwrap()
            .contains("lock_contentions_total{lock=\"stock\"} 1")
    );
    let fence = first.fence().clone();
    one.release(first).await.unwrap();
    let second = other.acquire(0).await.unwrap();
    assert!(second.fence().passes(&fence) && !fence.passes(second.fence()));
    assert_eq!(second.fence().token.to_string().len(), 16, "microseconds since 1970");
}

#[tokio::test]
async fn the_number_grows_although_redis_has_lost_everything_and_its_clock_is_behind() {
    let redis = OwnRedis::start().await;
    let (lock, _) = redis.lock();
    // What the row has seen is far in the future: a clock was wrong once.
    let mark = 8_000_000_000_000_000;
    let mut last = lock.acquire(mark).await.unwrap().fence().clone();
    assert_eq!(last.token, mark + 1);
    for _ in 0..3 {
        redis.loses_everything().await;
        let held = lock.acquire(last.token).await.unwrap();
        assert!(held.fence().passes(&last), "{held:?} after {last:?}");
        last = held.fence().clone();
    }
    // Without the loss the counter alone suffices.
    eventually("the lock is free", || async {
        let held = lock.acquire(0).await.ok()?;
        assert!(held.fence().passes(&last));
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_holder_keeps_it_as_long_as_it_lives_and_one_who_stands_still_loses_it() {
    let redis = OwnRedis::start().await;
    let ((one, _), (other, _)) = (redis.lock(), redis.lock());
    let alive = one.acquire(0).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < TIME_TO_LIVE * 2 {
        assert!(matches!(other.acquire(0).await, Err(LockError::Held { .. })));
        tokio::time::sleep(TIME_TO_LIVE / 10).await;
    }
    one.release(alive).await.unwrap();
    let still = one.acquire_once(0).await.unwrap();
    let next = eventually("it is over", || async { other.acquire(0).await.ok() }).await;
    assert!(next.fence().passes(still.fence()) && !still.fence().passes(next.fence()));
    // A release by one who has lost it takes it from nobody.
    one.release(still).await.unwrap();
    assert!(matches!(one.acquire(0).await, Err(LockError::Held { .. })));
}

#[tokio::test]
async fn a_holder_hears_that_it_was_lost() {
    let redis = OwnRedis::start().await;
    let ((one, _), (other, _)) = (redis.lock(), redis.lock());
    let first = one.acquire(0).await.unwrap();
    redis.loses_everything().await;
    let _second = other.acquire(first.fence().token).await.unwrap();
    tokio::time::timeout(TIME_TO_LIVE * 10, first.lost())
        .await
        .expect("it is told");
}

#[tokio::test]
async fn without_redis_it_is_not_acquired_and_nobody_waits_long() {
    let args = BusArgs {
        redis_url: "redis://127.0.0.1:1/".to_owned().into(),
        ..bus_args()
    };
    let begun = Instant::now();
    let refused = lock_of(&args).0.acquire(0).await.unwrap_err();
    assert_eq!(refused.category(), "unavailable");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn it_is_acquired_in_about_a_round_trip() {
    let redis = OwnRedis::start().await;
    let (lock, _) = redis.lock();
    let mut times = vec![];
    for _ in 0..300 {
        let begun = Instant::now();
        let held = lock.acquire_once(0).await.unwrap();
        times.push(begun.elapsed());
        lock.release(held).await.unwrap();
    }
    times.sort();
    eprintln!("acquired in {:?} (p50), {:?} (p99)", times[150], times[297]);
    // Less than 1 ms where the machine has nothing else to do.
    assert!(times[150] < Duration::from_millis(100), "{:?}", times[150]);
}
