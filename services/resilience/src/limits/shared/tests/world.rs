//! The world of these tests: Redis with a clock of its own, replicas that draw from it, and what may happen to them.

use proptest::prelude::*;
use valerix_policy::LimitAlgorithm;

use super::super::super::level::Quota;
use super::super::lease::{Draw, Lease, Reply, Step, Terms};
use super::super::script;

/// Redis' clock when a test begins, in microseconds.
pub(super) const EPOCH: u64 = 1_800_000_000_000_000;

/// The script with a clock of its own, by which keys expire too.
pub(super) struct Redis {
    pub(super) connection: redis::Connection,
    pub(super) digest: String,
    pub(super) key: String,
    /// Microseconds that the clock was set forward or back.
    pub(super) step: i64,
    pub(super) calls: u64,
}

impl Redis {
    pub(super) fn new() -> Self {
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

    pub(super) fn time(&self, now: u64) -> u64 {
        (EPOCH + now / 1_000).checked_add_signed(self.step).unwrap()
    }

    pub(super) fn run(&mut self, terms: &Terms, draw: &Draw, now: u64) -> Reply {
        self.calls += 1;
        let time = self.time(now);
        let mut command = script::command("EVALSHA", &self.digest, &self.key, terms, draw);
        command.arg(time / 1_000_000).arg(time % 1_000_000);
        script::reply(command.query(&mut self.connection).unwrap()).unwrap()
    }

    pub(super) fn set(&mut self, command: &str, arguments: &[&str]) {
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

pub(super) fn quota(requests: u32, window_millis: u64, burst: u32, algorithm: LimitAlgorithm) -> Quota {
    Quota {
        requests,
        window: Duration::from_millis(window_millis),
        burst,
        algorithm,
    }
}

/// A draw on its way.
#[derive(Clone, Copy)]
pub(super) enum Way {
    There(Draw),
    /// With the moment at which Redis answered.
    Back(Draw, Reply, u64),
}

pub(super) struct Replica {
    pub(super) lease: Lease,
    pub(super) terms: Terms,
    pub(super) way: Option<Way>,
    pub(super) waiting: u32,
    /// When what it holds was drawn, where it is no lease.
    pub(super) drawn: Option<u64>,
}

pub(super) struct World {
    pub(super) redis: Redis,
    pub(super) quota: Quota,
    pub(super) replicas: Vec<Replica>,
    /// Draws that a replica gave up, and that Redis may see after all.
    pub(super) late: Vec<(Draw, Terms)>,
    pub(super) now: u64,
    pub(super) used: Vec<u64>,
}

impl World {
    pub(super) fn new(quota: Quota, replicas: u32) -> Self {
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
    pub(super) fn take(&mut self, index: usize) -> Option<bool> {
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
    pub(super) fn travel(&mut self, index: usize) {
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
    pub(super) fn lose(&mut self, index: usize) {
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
    pub(super) fn settle(&mut self) {
        while let Some(index) = self.replicas.iter().position(|replica| replica.way.is_some()) {
            self.travel(index);
        }
    }

    /// Leases that are over go back.
    pub(super) fn return_unused(&mut self) {
        let now = self.now;
        for replica in &mut self.replicas {
            if replica.lease.is_over(now) {
                replica.way = Some(Way::There(replica.lease.end(now)));
            }
        }
    }

    pub(super) fn act(&mut self, act: &Act) {
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
pub(super) enum Act {
    Take(usize),
    Many(usize, u32),
    Travel(usize),
    Lose(usize),
    Late,
    GiveBack(usize),
    Wait(u64),
    Believe(usize, u32),
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
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

/// `per_step` callers at each replica every millisecond; whatever is drawn arrives at once.
pub(super) fn load(world: &mut World, millis: u64, per_step: u32) -> u64 {
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
