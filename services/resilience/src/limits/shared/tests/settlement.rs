//! What of a lease goes back to Redis, and what does not come back to the lease.

use valerix_policy::LimitAlgorithm;

use super::super::lease::{Draw, Lease, Reply, Step, Terms};
use super::world::{World, quota};

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
