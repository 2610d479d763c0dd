//! Three replicas on a simulated clock, drawing from the real script in a real Redis (`TEST_REDIS_URL`): answers late,
//! lost, executed after all, callers that give back, replicas that believe in other numbers, clocks that jump.

mod settlement;
#[cfg(feature = "redis-tls")]
mod tls;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use valerix_policy::LimitAlgorithm;

use self::world::{Act, Redis, World, acts, load, quota};
use super::super::level::Quota;
use super::lease::{Draw, Step, Terms};
use super::script;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_replicas_accept_at_most_burst_and_rate(acts in acts(), requests in 1_u32..400, window in 100_u64..3_000, burst in 1_u32..260) {
        let mut world = World::new(quota(requests, window, burst, LimitAlgorithm::GCRA), 3);
        acts.iter().for_each(|act| world.act(act));
        world.used.sort_unstable();
        for (index, start) in world.used.iter().enumerate() {
            for (count, end) in (1_u64..).zip(&world.used[index..]) {
                // In whole numbers: count <= burst + requests * time / window.
                let passed = u128::from(end - start) * u128::from(requests);
                let most = u128::from(burst) * u128::from(window) * 1_000_000 + passed;
                prop_assert!(u128::from(count) * u128::from(window) * 1_000_000 <= most, "{count} in {} us", (end - start) / 1_000);
            }
        }
    }

    #[test]
    fn three_replicas_never_pass_more_than_requests_in_any_window(acts in acts(), requests in 1_u32..260, window in 100_u64..6_000) {
        let mut world = World::new(quota(requests, window, 1, LimitAlgorithm::Window), 3);
        // Without leases a Window too counts what was used, not what was drawn.
        for act in &acts {
            world.act(act);
            world.replicas.iter_mut().for_each(|replica| replica.drawn = None);
        }
        world.used.sort_unstable();
        for (index, start) in world.used.iter().enumerate() {
            let within = world.used[index..].iter().take_while(|time| **time < start + window * 1_000_000).count();
            prop_assert!(within <= requests as usize, "{within} of {requests} in {window} ms");
        }
    }
}

/// `VALERIX_MODEL_CASES` tries more.
fn cases() -> u32 {
    let cases = std::env::var("VALERIX_MODEL_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    cases.unwrap_or(40)
}

#[test]
fn what_the_bound_allows_is_let_pass_but_for_one_lease_each() {
    for (requests, burst, replicas) in [
        (300, 301, 3_u32),
        (1_000, 400, 3),
        (50, 100, 2),
        (20, 20, 3),
        (10, 5, 3),
    ] {
        let mut world = World::new(quota(requests, 1_000, burst, LimitAlgorithm::GCRA), replicas);
        let seconds = 4;
        load(&mut world, seconds * 1_000, 2);
        let bound = u64::from(burst) + u64::from(requests) * seconds;
        let lease = u64::from(((burst - 1) / (2 * replicas)).min(64));
        let accepted = world.used.len() as u64;
        let least = bound - u64::from(replicas) * lease.max(1);
        assert!(
            (least..=bound).contains(&accepted),
            "{accepted} of {least}..={bound} with burst {burst}"
        );
    }
}

#[test]
fn a_burst_is_whole_for_a_single_replica_and_when_rested() {
    let mut world = World::new(quota(100, 10_000, 100, LimitAlgorithm::GCRA), 3);
    for round in 1..=3 {
        for _ in 0..150 {
            let _ = world.take(0);
            world.settle();
        }
        assert_eq!(world.used.len(), 100 * round, "round {round}");
        world.act(&Act::Wait(12_000_000));
        world.settle();
    }
}

/// One replica holds a lease almost to its end and uses it then; another takes what it can get all the time.
fn used_late(quota: Quota, phase: u64) -> Vec<u64> {
    let mut world = World::new(quota, 2);
    world.now += phase;
    // Leases grow while they are used up; then the other takes the rest.
    for _ in 0..40 {
        let _ = world.take(0);
        world.settle();
    }
    let life = Duration::from_secs(1).min(match quota.algorithm {
        LimitAlgorithm::GCRA => Duration::from_secs(1),
        LimitAlgorithm::Window => (quota.window / 16).max(Duration::from_millis(40)),
    });
    let until = world.now + u64::try_from(life.as_nanos()).unwrap() - 11_000_000;
    let other = |world: &mut World| {
        for _ in 0..quota.requests {
            if world.take(1) == Some(false) {
                break;
            }
            world.settle();
        }
    };
    while world.now < until {
        other(&mut world);
        world.act(&Act::Wait(500.min((until - world.now) / 1_000).max(1)));
        world.settle();
    }
    while let Step::Allowed(_) = world.replicas[0].lease.take(world.now) {
        world.used.push(world.now);
    }
    let end = world.now + 2 * u64::try_from(quota.window.as_nanos()).unwrap();
    while world.now < end {
        other(&mut world);
        world.act(&Act::Wait(500));
        world.settle();
    }
    world.used.sort_unstable();
    world.used
}

#[test]
fn tokens_used_at_the_last_moment_count_as_used_then() {
    for phase in 0..8 {
        for (requests, window) in [(100, 200), (120, 1_600)] {
            let nanos = window * 1_000_000;
            let used = used_late(quota(requests, window, 1, LimitAlgorithm::Window), phase * nanos / 100);
            for (index, start) in used.iter().enumerate() {
                let within = used[index..].iter().take_while(|time| **time < start + nanos).count();
                assert!(
                    within <= requests as usize,
                    "{within} of {requests} in {window} ms, phase {phase}"
                );
            }
        }
    }
    let (requests, burst) = (50, 100);
    let used = used_late(quota(requests, 1_000, burst, LimitAlgorithm::GCRA), 0);
    for (index, start) in used.iter().enumerate() {
        for (count, end) in (1_u64..).zip(&used[index..]) {
            let bound = f64::from(burst) + f64::from(requests) * (end - start) as f64 / 1e9;
            assert!(count as f64 <= bound, "{count} of {bound}");
        }
    }
}

#[test]
fn twenty_times_fewer_trips_below_the_limit_and_above_it() {
    // Each of three replicas is asked 100 times a second, then 2,000 times; it admits 100/s either way.
    for (requests, every, per_step) in [(600, 10, 1), (300, 1, 2)] {
        let mut world = World::new(quota(requests, 1_000, 301, LimitAlgorithm::GCRA), 3);
        for step in 0..10_000 / every {
            let phase = step % 3;
            for index in 0..3 {
                for _ in 0..per_step {
                    let _ = world.take((index + phase as usize) % 3);
                    world.settle();
                }
            }
            world.act(&Act::Wait(every * 1_000));
            world.settle();
        }
        let (accepted, trips) = (world.used.len() as u64, world.redis.calls);
        assert!(accepted >= 3_000, "{accepted}");
        assert!(trips * 20 <= accepted, "{trips} trips for {accepted}");
    }
}

#[test]
fn what_a_replica_does_not_use_goes_back() {
    for algorithm in [LimitAlgorithm::GCRA, LimitAlgorithm::Window] {
        // An hour per window: nothing drains.
        let mut world = World::new(quota(200, 3_600_000, 200, algorithm), 3);
        for _ in 0..80 {
            let _ = world.take(0);
            world.settle();
        }
        world.act(&Act::Wait(1_100_000));
        world.settle();
        for _ in 0..300 {
            let _ = world.take(1);
            world.settle();
        }
        let used = world.used.len();
        assert_eq!(used, 200, "{algorithm:?}: all that the first left over");
    }
}

#[test]
fn an_answer_that_came_too_late_to_be_used_is_asked_for_again() {
    for algorithm in [LimitAlgorithm::GCRA, LimitAlgorithm::Window] {
        let mut world = World::new(quota(1, 60_000, 1, algorithm), 3);
        assert_eq!(world.take(0), None);
        world.travel(0);
        world.act(&Act::Wait(45_000));
        world.settle();
        assert_eq!(world.used.len(), 1, "{algorithm:?}: the token was not lost on the way");
    }
}

#[test]
fn a_clock_that_jumps_never_wedges_a_limit() {
    for algorithm in [LimitAlgorithm::GCRA, LimitAlgorithm::Window] {
        for burst in [5, 60] {
            let mut world = World::new(quota(burst, 1_000, burst, algorithm), 3);
            for step in [-3_600_000_000, 0, 7_200_000_000, -1] {
                world.redis.step = step;
                load(&mut world, 1_300, 1);
                let before = world.used.len();
                load(&mut world, 1_300, 1);
                let passed = world.used.len() - before;
                assert!(
                    passed >= burst as usize * 4 / 5,
                    "{algorithm:?} {burst} after {step}: {passed}"
                );
                assert!(
                    passed <= burst as usize * 5 / 2,
                    "{algorithm:?} {burst} after {step}: {passed}"
                );
            }
        }
    }
}

#[test]
fn whatever_stands_at_the_key_is_written_over() {
    for algorithm in [LimitAlgorithm::GCRA, LimitAlgorithm::Window] {
        for (command, arguments) in [
            ("SET", vec![""]),
            ("SET", vec!["1 2 3"]),
            ("SET", vec!["1 0 0 0 0 0 0 0 0 0"]),
            ("SET", vec!["2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"]),
            ("SET", vec!["inf nan -1 \u{fffd}"]),
            ("RPUSH", vec!["a", "b"]),
            ("HSET", vec!["field", "value"]),
        ] {
            let mut world = World::new(quota(3, 1_000, 3, algorithm), 3);
            world.redis.set(command, &arguments);
            for _ in 0..9 {
                let _ = world.take(0);
                world.settle();
            }
            assert_eq!(world.used.len(), 3, "{algorithm:?} over {command} {arguments:?}");
        }
    }
}

#[test]
fn a_reload_gives_nobody_a_second_burst() {
    let (first, second) = (LimitAlgorithm::GCRA, LimitAlgorithm::Window);
    for (before, after) in [(first, first), (first, second), (second, first), (second, second)] {
        let mut world = World::new(quota(40, 60_000, 40, before), 1);
        for _ in 0..30 {
            let _ = world.take(0);
            world.settle();
        }
        assert_eq!(world.used.len(), 30);
        world.act(&Act::Wait(1_100_000));
        world.settle();
        world.quota = quota(50, 90_000, 50, after);
        world.act(&Act::Believe(0, 1));
        for _ in 0..100 {
            let _ = world.take(0);
            world.settle();
        }
        let used = world.used.len();
        assert!((48..=52).contains(&used), "{before:?} to {after:?}: {used} of 50");
    }
}

#[test]
fn redis_keeps_a_key_no_longer_than_it_says_something() {
    for algorithm in [LimitAlgorithm::GCRA, LimitAlgorithm::Window] {
        let terms = Terms::new(quota(10, 500, 10, algorithm), 1);
        let Redis { connection, key, .. } = &mut Redis::new();
        let draw = Draw {
            wanted: 10,
            lease: true,
            ..Draw::default()
        };
        let value = script::command("EVAL", script::TEXT, key, &terms, &draw)
            .query(connection)
            .unwrap();
        let reply = script::reply(value).unwrap();
        assert_eq!((reply.granted, reply.left), (10, 0));
        let left: i64 = redis::cmd("PTTL").arg(&*key).query(connection).unwrap();
        assert!((1..=2_600).contains(&left), "{algorithm:?}: {left} ms");
    }
}
