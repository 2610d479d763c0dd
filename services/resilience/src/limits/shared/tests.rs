//! Three replicas on a simulated clock, drawing from the real script in a real Redis (`TEST_REDIS_URL`): answers late,
//! lost, executed after all, callers that give back, replicas that believe in other numbers, clocks that jump.

use std::time::Duration;

use proptest::prelude::*;
use valerix_policy::LimitAlgorithm;

use super::super::level::Quota;
use super::lease::{Draw, Lease, Reply, Step, Terms};
use super::script;

/// Redis' clock when a test begins, in microseconds.
const EPOCH: u64 = 1_800_000_000_000_000;

/// The script with a clock of its own, by which keys expire too.
struct Redis {
    connection: redis::Connection,
    digest: String,
    key: String,
    /// Microseconds that the clock was set forward or back.
    step: i64,
    calls: u64,
}

impl Redis {
    fn new() -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL must name a Redis");
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let replaced = |text: &str, from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, to)
        };
        let text = replaced(script::TEXT, "redis.call('TIME')", "{ ARGV[10], ARGV[11] }");
        let text = replaced(
            &text,
            "'PX', string.format('%.0f', math.max(1, math.ceil(milliseconds))))",
            "'PX', 60000) redis.call('SET', KEYS[1] .. ':end', string.format('%.0f', now + milliseconds * 1000), 'PX', 60000)",
        );
        let text = replaced(
            &text,
            "local state = {}",
            "local ends = redis.call('GET', KEYS[1] .. ':end') if ends and now > tonumber(ends) then redis.call('DEL', KEYS[1]) end local state = {}",
        );
        let digest = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(text)
            .query(&mut connection)
            .unwrap();
        Self {
            connection,
            digest,
            key: format!("test:{}", uuid::Uuid::new_v4()),
            step: 0,
            calls: 0,
        }
    }

    fn time(&self, now: u64) -> u64 {
        (EPOCH + now / 1_000).checked_add_signed(self.step).unwrap()
    }

    fn run(&mut self, terms: &Terms, draw: &Draw, now: u64) -> Reply {
        self.calls += 1;
        let time = self.time(now);
        let mut command = script::command("EVALSHA", &self.digest, &self.key, terms, draw);
        command.arg(time / 1_000_000).arg(time % 1_000_000);
        script::reply(command.query(&mut self.connection).unwrap()).unwrap()
    }

    fn set(&mut self, command: &str, arguments: &[&str]) {
        let () = redis::cmd(command)
            .arg(&self.key)
            .arg(arguments)
            .query(&mut self.connection)
            .unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _: Result<(), _> = redis::cmd("DEL")
            .arg(&self.key)
            .arg(format!("{}:end", self.key))
            .query(&mut self.connection);
    }
}

fn quota(requests: u32, window_millis: u64, burst: u32, algorithm: LimitAlgorithm) -> Quota {
    Quota {
        requests,
        window: Duration::from_millis(window_millis),
        burst,
        algorithm,
    }
}

/// A draw on its way.
#[derive(Clone, Copy)]
enum Way {
    There(Draw),
    /// With the moment at which Redis answered.
    Back(Draw, Reply, u64),
}

struct Replica {
    lease: Lease,
    terms: Terms,
    way: Option<Way>,
    waiting: u32,
    /// When what it holds was drawn, where it is no lease.
    drawn: Option<u64>,
}

struct World {
    redis: Redis,
    quota: Quota,
    replicas: Vec<Replica>,
    /// Draws that a replica gave up, and that Redis may see after all.
    late: Vec<(Draw, Terms)>,
    now: u64,
    used: Vec<u64>,
}

impl World {
    fn new(quota: Quota, replicas: u32) -> Self {
        let replica = |_| Replica {
            lease: Lease::default(),
            terms: Terms::new(quota, replicas),
            way: None,
            waiting: 0,
            drawn: None,
        };
        Self {
            redis: Redis::new(),
            quota,
            replicas: (0..replicas).map(replica).collect(),
            late: Vec::new(),
            now: 5_000_000_000,
            used: Vec::new(),
        }
    }

    /// A caller comes. Whether it is told at once, and what.
    fn take(&mut self, index: usize) -> Option<bool> {
        let now = self.now;
        let replica = &mut self.replicas[index];
        match replica.lease.take(now) {
            Step::Allowed(_) => {
                self.used.push(replica.drawn.unwrap_or(now));
                if replica.lease.is_low(now) {
                    replica.way = Some(Way::There(replica.lease.draw(&replica.terms, 0, now)));
                }
                Some(true)
            }
            Step::Refused(decision) => {
                assert!(!decision.reset.is_zero());
                Some(false)
            }
            Step::Ask => {
                replica.waiting += 1;
                if !replica.lease.is_in_flight() {
                    replica.way = Some(Way::There(replica.lease.draw(&replica.terms, 1, now)));
                }
                None
            }
        }
    }

    /// The draw goes one step on: to Redis, or back.
    fn travel(&mut self, index: usize) {
        let now = self.now;
        let replica = &mut self.replicas[index];
        match replica.way.take() {
            None => {}
            Some(Way::There(draw)) => {
                let reply = self.redis.run(&replica.terms, &draw, now);
                assert!(reply.granted <= draw.wanted);
                replica.way = Some(Way::Back(draw, reply, now));
            }
            Some(Way::Back(draw, reply, answered)) => {
                replica.lease.answered(&replica.terms, &draw, &reply, now);
                replica.drawn = (!draw.lease).then_some(answered);
                while replica.waiting > 0 {
                    match replica.lease.take(now) {
                        Step::Allowed(_) => self.used.push(replica.drawn.unwrap_or(now)),
                        Step::Refused(_) => {}
                        Step::Ask => {
                            let draw = replica.lease.draw(&replica.terms, replica.waiting, now);
                            replica.way = Some(Way::There(draw));
                            return;
                        }
                    }
                    replica.waiting -= 1;
                }
                if replica.lease.is_over(now) {
                    replica.way = Some(Way::There(replica.lease.end(now)));
                }
            }
        }
    }

    /// The answer does not come in time; the draw may be on its way to Redis still.
    fn lose(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        match replica.way.take() {
            None => return,
            Some(Way::There(draw)) => self.late.push((draw, replica.terms)),
            Some(Way::Back(..)) => {}
        }
        replica.lease.lost();
        replica.waiting = 0;
    }

    /// Everything that is on its way arrives at once.
    fn settle(&mut self) {
        while let Some(index) = self.replicas.iter().position(|replica| replica.way.is_some()) {
            self.travel(index);
        }
    }

    /// Leases that are over go back.
    fn return_unused(&mut self) {
        let now = self.now;
        for replica in &mut self.replicas {
            if replica.lease.is_over(now) {
                replica.way = Some(Way::There(replica.lease.end(now)));
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Take(index) => {
                let index = index % self.replicas.len();
                let _ = self.take(index);
            }
            Act::Many(index, count) => {
                for _ in 0..count {
                    let index = index % self.replicas.len();
                    let _ = self.take(index);
                    self.travel(index);
                    self.travel(index);
                }
            }
            Act::Travel(index) => self.travel(index % self.replicas.len()),
            Act::Lose(index) => self.lose(index % self.replicas.len()),
            Act::Late => {
                if let Some((draw, terms)) = self.late.pop() {
                    self.redis.run(&terms, &draw, self.now);
                }
            }
            Act::GiveBack(index) => {
                let index = index % self.replicas.len();
                let replica = &mut self.replicas[index];
                let before = replica.lease;
                if let Step::Allowed(_) = replica.lease.take(self.now) {
                    replica.lease.give_back(self.now);
                } else {
                    replica.lease = before;
                }
            }
            Act::Wait(micros) => {
                self.now += micros * 1_000;
                self.return_unused();
            }
            Act::Believe(index, replicas) => {
                let index = index % self.replicas.len();
                self.replicas[index].terms = Terms::new(self.quota, replicas);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Take(usize),
    Many(usize, u32),
    Travel(usize),
    Lose(usize),
    Late,
    GiveBack(usize),
    Wait(u64),
    Believe(usize, u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let replica = 0_usize..3;
    let act = prop_oneof![
        8 => replica.clone().prop_map(Act::Take),
        4 => (replica.clone(), 1_u32..60).prop_map(|(replica, count)| Act::Many(replica, count)),
        8 => replica.clone().prop_map(Act::Travel),
        1 => replica.clone().prop_map(Act::Lose),
        1 => Just(Act::Late),
        1 => replica.clone().prop_map(Act::GiveBack),
        3 => (0_u64..300).prop_map(Act::Wait),
        3 => (0_u64..30_000).prop_map(Act::Wait),
        2 => (0_u64..700_000).prop_map(Act::Wait),
        1 => Just(Act::Wait(989_000)),
        1 => (replica, 1_u32..6).prop_map(|(replica, count)| Act::Believe(replica, count)),
    ];
    proptest::collection::vec(act, 1..120)
}

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

/// `per_step` callers at each replica every millisecond; whatever is drawn arrives at once.
fn load(world: &mut World, millis: u64, per_step: u32) -> u64 {
    let mut asked = 0;
    for _ in 0..millis {
        for index in 0..world.replicas.len() {
            for _ in 0..per_step {
                asked += 1;
                let _ = world.take(index);
                world.settle();
            }
        }
        world.act(&Act::Wait(1_000));
        world.settle();
    }
    asked
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

/// A replica's state, with so many tokens of a lease drawn at `now`.
fn leased(terms: &Terms, granted: u32, now: u64) -> Lease {
    let mut lease = Lease::default();
    let draw = lease.draw(terms, granted, now);
    let reply = Reply {
        granted,
        left: 1,
        reset: 1,
        retry: 0,
        at: EPOCH,
    };
    lease.answered(terms, &draw, &reply, now);
    lease
}

#[test]
fn a_token_comes_back_to_the_lease_it_was_drawn_with_or_not_at_all() {
    let now = 5_000_000_000;
    let terms = Terms::new(quota(100, 60_000, 100, LimitAlgorithm::GCRA), 1);
    let mut lease = leased(&terms, 1, now);
    assert!(!lease.give_back(now), "all that was drawn is there");
    assert!(matches!(lease.take(now), Step::Allowed(_)));
    assert!(!lease.give_back(now + 1_000_000_000), "too late to be used");
    assert!(lease.give_back(now));
    assert!(matches!(lease.take(now), Step::Allowed(_)));
    assert_eq!(lease.take(now), Step::Ask);
}

#[test]
fn what_is_sent_back_is_not_used_too() {
    let now = 5_000_000_000;
    let terms = Terms::new(quota(100, 60_000, 100, LimitAlgorithm::GCRA), 1);
    let mut lease = leased(&terms, 8, now);
    // The limit shrank: no leases any more, and less is drawn than comes back.
    let less = Terms::new(quota(2, 60_000, 2, LimitAlgorithm::GCRA), 1);
    let draw = lease.draw(&less, 1, now);
    assert_eq!((draw.wanted, draw.ended, draw.returned), (1, 8, 8));
    assert_eq!(lease.take(now), Step::Ask);
}

#[test]
fn what_an_unanswered_draw_settled_is_not_settled_again() {
    let now = 5_000_000_000;
    let terms = Terms::new(quota(100, 60_000, 100, LimitAlgorithm::GCRA), 1);
    let mut lease = leased(&terms, 4, now);
    let draw = lease.draw(&terms, 1, now);
    assert_eq!((draw.drawn_at, draw.ended, draw.returned), (EPOCH, 4, 4));
    lease.lost();
    let again = lease.draw(&terms, 1, now + 1);
    assert_eq!((again.drawn_at, again.ended, again.returned), (0, 0, 0));

    let mut lease = leased(&terms, 4, now);
    lease.forget();
    assert_eq!((lease.unused(), lease.take(now)), (None, Step::Ask));
}

#[test]
fn a_settlement_of_what_redis_has_forgotten_returns_nothing() {
    for algorithm in [LimitAlgorithm::GCRA, LimitAlgorithm::Window] {
        let (mut redis, now) = (Redis::new(), 5_000_000_000);
        let terms = Terms::new(quota(10, 3_600_000, 10, algorithm), 1);
        let others = Draw {
            wanted: 2,
            ..Draw::default()
        };
        assert_eq!(redis.run(&terms, &others, now).granted, 2);
        let forgotten = Draw {
            wanted: 10,
            drawn_at: redis.time(now),
            ended: 4,
            returned: 4,
            ..Draw::default()
        };
        assert_eq!(redis.run(&terms, &forgotten, now).granted, 8, "{algorithm:?}");
    }
}

#[test]
fn what_drained_meanwhile_does_not_come_back() {
    let (mut redis, now) = (Redis::new(), 5_000_000_000);
    let terms = Terms::new(quota(10, 1_000, 10, LimitAlgorithm::GCRA), 1);
    let draw = |wanted| Draw {
        wanted,
        ..Draw::default()
    };
    assert_eq!(redis.run(&terms, &draw(3), now).granted, 3);
    let drawn_at = redis.time(now);
    assert_eq!(redis.run(&terms, &draw(7), now).granted, 7);
    // Two of ten have drained; of the three that come back one has not.
    let back = Draw {
        drawn_at,
        returned: 3,
        ..draw(10)
    };
    assert_eq!(redis.run(&terms, &back, now + 200_000_000).granted, 3);
}

#[test]
fn a_token_that_drains_counts_whole_when_the_limit_becomes_a_window() {
    let (mut redis, now) = (Redis::new(), 5_000_000_000);
    let wanted = Draw {
        wanted: 10,
        ..Draw::default()
    };
    let terms = |algorithm| Terms::new(quota(10, 10_000, 10, algorithm), 1);
    let first = Draw { wanted: 4, ..wanted };
    assert_eq!(redis.run(&terms(LimitAlgorithm::GCRA), &first, now).granted, 4);
    let window = terms(LimitAlgorithm::Window);
    assert_eq!(redis.run(&window, &wanted, now + 500_000_000).granted, 6);
}
