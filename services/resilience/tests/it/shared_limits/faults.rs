//! Redis stopped, restarted, emptied, slow, hanging, demoted: never more than the documented bound, never a long wait,
//! back as soon as it answers. Where counts are exact, nothing drains: the windows are a day.

use std::time::{Duration, Instant};

use valerix_resilience::policy::LimitAlgorithm;
use valerix_resilience::{RedisLimits, SharedLimiter};

use super::redis_server::{Mode, Proxy, RedisServer};
use super::{PATIENT, owner, quota};
use crate::support::eventually;

const DAY: Duration = Duration::from_secs(86_400);
const BURST: usize = 301;

/// How often one who waits twice as long after each vain attempt, up to half a second, has tried by then.
fn most_attempts(elapsed: Duration) -> usize {
    8 + usize::try_from(elapsed.as_millis() / 400).unwrap()
}

/// Three replicas of a limit that does not drain.
struct Replicas {
    redis: Vec<RedisLimits>,
    limiters: Vec<SharedLimiter>,
}

impl Replicas {
    async fn new(url: &str, timeout: Duration) -> Self {
        let owner = owner();
        let quota = quota(301, DAY, 301, LimitAlgorithm::GCRA);
        let redis: Vec<_> = (0..3)
            .map(|_| RedisLimits::open_with_timeout(url, timeout).unwrap())
            .collect();
        for redis in &redis {
            assert!(redis.connected(PATIENT).await);
        }
        let limiters = redis
            .iter()
            .map(|redis| redis.limiter(&owner, "rule", quota, 3))
            .collect();
        Self { redis, limiters }
    }

    /// Asks `count` times in turn; how many passed.
    async fn ask(&self, count: usize) -> usize {
        let mut accepted = 0;
        for limiter in self.limiters.iter().cycle().take(count) {
            accepted += usize::from(limiter.take("all").await.allowed);
        }
        accepted
    }

    fn locally(&self) -> u64 {
        self.limiters.iter().map(SharedLimiter::local_decisions).sum()
    }

    async fn all_are_down(&self, down: bool) {
        // Whether Redis was lost is found out by asking.
        eventually("lost or found", || {
            self.redis.iter().all(|redis| redis.is_down() == down)
        })
        .await;
    }
}

#[tokio::test]
async fn stopped_and_restarted_redis_costs_no_second_burst_and_one_anew() {
    let mut server = RedisServer::start();
    let replicas = Replicas::new(&server.url(), PATIENT).await;
    assert_eq!(replicas.ask(240).await, 240);
    server.kill();
    // What each holds may be used; then the share of 100 each, of which 80 or more are used.
    let more = replicas.ask(900).await;
    assert!(more <= BURST - 240, "{more}");
    assert!(more >= 45, "{more}: the local share lets some pass");
    assert!(replicas.redis.iter().all(RedisLimits::is_down));
    assert!(replicas.locally() >= 700);
    server.restart();
    replicas.all_are_down(false).await;
    let before = replicas.locally();
    let anew = replicas.ask(900).await;
    assert_eq!(replicas.locally(), before, "Redis decides again");
    assert!(
        (BURST - 150..=BURST).contains(&anew),
        "{anew}: it forgot, the limit begins anew and is one limit"
    );
}

#[tokio::test]
async fn an_emptied_redis_begins_anew_and_nobody_notices() {
    let server = RedisServer::start();
    let replicas = Replicas::new(&server.url(), PATIENT).await;
    assert_eq!(replicas.ask(200).await, 200);
    server.command(&["FLUSHALL"]);
    server.command(&["SCRIPT", "FLUSH"]);
    let anew = replicas.ask(1_200).await;
    let leases = 3 * (BURST - 1) / 6;
    assert!((BURST - leases..=BURST + leases).contains(&anew), "{anew}");
    assert_eq!(replicas.locally(), 0);
}

#[tokio::test]
async fn a_hanging_redis_is_waited_for_once() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.address()).await;
    let limiter_of = |redis: &RedisLimits| redis.limiter(&owner(), "rule", quota(5, DAY, 5, LimitAlgorithm::Window), 1);
    let redis = RedisLimits::open(&proxy.url()).unwrap();
    assert!(redis.connected(PATIENT).await);
    let limiter = limiter_of(&redis);
    let connections = proxy.accepted();
    proxy.set(Mode::Hang);
    let began = Instant::now();
    for number in 0..2_000 {
        limiter.take(&number.to_string()).await;
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "{took:?}; a wait of 20 ms each would be 40 s"
    );
    assert!(redis.is_down());
    assert_eq!(limiter.local_decisions(), 2_000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let attempts = proxy.accepted() - connections;
    assert!(
        (1..=most_attempts(began.elapsed())).contains(&attempts),
        "{attempts} connections in {:?}",
        began.elapsed()
    );
    proxy.set(Mode::Pass);
    eventually("found again", || !redis.is_down()).await;
    let known = RedisLimits::open_with_timeout(&server.url(), PATIENT).unwrap();
    assert!(known.connected(PATIENT).await);
    assert!(limiter_of(&known).take("new").await.allowed);
}

#[tokio::test]
async fn cut_connections_are_made_again_without_a_rush() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.address()).await;
    let replicas = Replicas::new(&proxy.url(), PATIENT).await;
    assert_eq!(replicas.ask(90).await, 90);
    let connections = proxy.accepted();
    proxy.set(Mode::Cut);
    let began = Instant::now();
    let during = replicas.ask(600).await;
    assert!(during <= BURST - 90 + 100, "{during}");
    replicas.all_are_down(true).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let each = (proxy.accepted() - connections) / 3;
    assert!(
        each <= most_attempts(began.elapsed()),
        "{each} attempts of each in {:?}",
        began.elapsed()
    );
    proxy.set(Mode::Pass);
    replicas.all_are_down(false).await;
    let after = replicas.ask(900).await;
    // Redis kept its counters: what the shares let pass meanwhile comes on top, at most once.
    assert!(90 + during + after <= 2 * BURST, "{during} and {after}");
}

#[tokio::test]
async fn slow_answers_count_and_too_slow_ones_do_not() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.address()).await;
    let patient = Replicas::new(&proxy.url(), PATIENT).await;
    proxy.set(Mode::Delay(Duration::from_millis(8)));
    let accepted = patient.ask(1_200).await;
    assert!((BURST - 150..=BURST).contains(&accepted), "{accepted}");
    assert_eq!(patient.locally(), 0);

    proxy.set(Mode::Pass);
    let hasty = Replicas::new(&proxy.url(), Duration::from_millis(20)).await;
    proxy.set(Mode::Delay(Duration::from_millis(200)));
    let accepted = hasty.ask(2_000).await;
    assert!(hasty.locally() >= 1_000);
    assert!(accepted <= 2 * BURST, "{accepted}");
    assert!(accepted >= 250, "{accepted}: the local shares");
}

#[tokio::test]
async fn a_demoted_redis_is_no_use_until_it_is_promoted() {
    let server = RedisServer::start();
    let replicas = Replicas::new(&server.url(), PATIENT).await;
    assert_eq!(replicas.ask(30).await, 30);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let during = replicas.ask(900).await;
    assert!(replicas.locally() > 0, "READONLY is no answer");
    assert!(during <= BURST, "{during}");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    // Connected it was all the time; that it decides again is seen by its calls.
    let calls = server.script_calls();
    let began = Instant::now();
    while server.script_calls() == calls {
        assert!(began.elapsed() < crate::support::PATIENCE, "never asked again");
        replicas.ask(3).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_thousand_callers_of_one_key_share_few_trips_and_exactly_the_limit() {
    for (burst, algorithm) in [
        (7, LimitAlgorithm::GCRA),
        (7, LimitAlgorithm::Window),
        (301, LimitAlgorithm::GCRA),
    ] {
        let server = RedisServer::start();
        let redis = RedisLimits::open_with_timeout(&server.url(), PATIENT).unwrap();
        assert!(redis.connected(PATIENT).await);
        let limiter = redis.limiter(&owner(), "rule", quota(burst, DAY, burst, algorithm), 3);
        let callers: Vec<_> = (0..1_000)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.take("all").await.allowed })
            })
            .collect();
        let mut accepted = 0;
        for caller in callers {
            accepted += u32::from(caller.await.unwrap());
        }
        assert_eq!(accepted, burst, "{algorithm:?}");
        let trips = server.script_calls();
        assert!(trips <= 30, "{trips} trips for 1,000 callers of one key");
        assert_eq!(limiter.local_decisions(), 0);
    }
}

#[tokio::test]
async fn what_a_replica_holds_and_does_not_use_goes_back_by_itself() {
    let server = RedisServer::start();
    let replicas = Replicas::new(&server.url(), PATIENT).await;
    let mut accepted = 0;
    for _ in 0..40 {
        accepted += usize::from(replicas.limiters[0].take("all").await.allowed);
    }
    // Nobody asks the first any more; the second has all the rest as soon as the lease is over.
    let began = Instant::now();
    while accepted < BURST {
        assert!(began.elapsed() < crate::support::PATIENCE, "{accepted} of {BURST}");
        let decision = replicas.limiters[1].take("all").await;
        if decision.allowed {
            accepted += 1;
        } else {
            assert!(
                decision.reset > Duration::from_secs(60),
                "what is known is told: {decision:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_caller_that_leaves_takes_nothing_along() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.address()).await;
    let redis = RedisLimits::open_with_timeout(&proxy.url(), PATIENT).unwrap();
    assert!(redis.connected(PATIENT).await);
    // No leases: seven for three replicas.
    let limiter = redis.limiter(&owner(), "rule", quota(7, DAY, 7, LimitAlgorithm::GCRA), 3);
    proxy.set(Mode::Hang);
    let callers: Vec<_> = (0..7)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.take("all").await.allowed })
        })
        .collect();
    tokio::task::yield_now().await;
    for caller in callers {
        caller.abort();
        let _ = caller.await;
    }
    proxy.set(Mode::Pass);
    let mut accepted = 0;
    let began = Instant::now();
    // What was drawn for those who left comes back by itself.
    while accepted < 7 {
        assert!(began.elapsed() < crate::support::PATIENCE, "{accepted} of 7");
        accepted += u32::from(limiter.take("all").await.allowed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Of a cluster no connection is made, lost and made again for each request.
#[tokio::test]
async fn a_cluster_is_left_alone_and_the_share_holds() {
    let server = RedisServer::start_in_cluster();
    let redis = RedisLimits::open_with_timeout(&server.url(), PATIENT).unwrap();
    assert!(redis.connected(PATIENT).await);
    let limiter = redis.limiter(&owner(), "rule", quota(2, DAY, 2, LimitAlgorithm::Window), 1);
    for allowed in [true, true, false] {
        assert_eq!(limiter.take("all").await.allowed, allowed);
    }
    assert!(limiter.is_degraded());
    assert_eq!(limiter.local_decisions(), 3);
    // Three times what is waited for another Redis that was lost.
    assert!(!redis.connected(Duration::from_millis(1_500)).await);
}

#[tokio::test]
async fn a_reload_gives_the_local_share_no_second_burst() {
    let nobody = RedisLimits::open("redis://127.0.0.1:1/").unwrap();
    let quota = |requests| quota(requests, Duration::from_secs(3_600), requests, LimitAlgorithm::GCRA);
    let limiter = nobody.limiter(&owner(), "orders", quota(10), 1);
    let accepted = async || {
        let mut accepted = 0;
        for _ in 0..40 {
            accepted += usize::from(limiter.take("key").await.allowed);
        }
        accepted
    };
    assert_eq!(accepted().await, 10);
    limiter.reconfigure(quota(15), 1);
    assert_eq!(accepted().await, 5);
}
