use proptest::prelude::*;

use super::*;

fn quota(requests: u32, window_millis: u64, burst: u32, algorithm: LimitAlgorithm) -> Quota {
    Quota {
        requests,
        window: Duration::from_millis(window_millis),
        burst,
        algorithm,
    }
}

/// Times of requests, as gaps in microseconds that mix rushes and pauses.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![4 => 0_u64..50, 3 => 0_u64..20_000, 1 => 0_u64..900_000];
    proptest::collection::vec(gap, 1..150)
}

fn accepted(quota: &Quota, gaps: &[u64]) -> Vec<u64> {
    let mut level = Level::empty(quota);
    let mut now = 5_000_000_000;
    let mut times = Vec::new();
    for gap in gaps {
        now += gap * 1_000;
        let peeked = level.peek(quota, now);
        let decision = level.take(quota, now);
        assert_eq!(peeked, decision, "peeking tells what taking does");
        if decision.allowed {
            times.push(now);
        } else {
            assert!(!decision.reset.is_zero());
        }
    }
    times
}

/// Three times what is allowed, dealt out to replicas that know of each other only how many they are.
#[test]
fn replicas_with_a_share_each_let_pass_within_a_tenth_of_the_limit() {
    for (replicas, algorithm) in [2_u32, 5, 10]
        .into_iter()
        .flat_map(|replicas| [LimitAlgorithm::Window, LimitAlgorithm::GCRA].map(|algorithm| (replicas, algorithm)))
    {
        let share = quota(1_000, 1_000, 100, algorithm).divided(replicas);
        let mut levels: Vec<Level> = (0..replicas).map(|_| Level::empty(&share)).collect();
        let mut passed = 0;
        for request in 0..30_000_u64 {
            let now = 5_000_000_000 + request * 1_000_000_000 / 3_000;
            let level = &mut levels[usize::try_from(request % u64::from(replicas)).unwrap()];
            passed += u32::from(level.take(&share, now).allowed);
        }
        // In ten seconds.
        assert!(
            (9_000..=11_000).contains(&passed),
            "{replicas} replicas, {algorithm:?}: {passed}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_more_than_requests_in_any_window(gaps in gaps(), requests in prop_oneof![1_u32..8, 100_u32..140], window in 100_u64..2_000) {
        let quota = quota(requests, window, 1, LimitAlgorithm::Window);
        let times = accepted(&quota, &gaps);
        for (index, start) in times.iter().enumerate() {
            let within = times[index..].iter().take_while(|time| **time < start + window * 1_000_000).count();
            prop_assert!(within <= requests as usize, "{within} of {requests} in {window} ms");
        }
    }

    #[test]
    fn gcra_accepts_at_most_burst_and_rate(gaps in gaps(), requests in 1_u32..500, window in 100_u64..2_000, burst in 1_u32..50) {
        let quota = quota(requests, window, burst, LimitAlgorithm::GCRA);
        let times = accepted(&quota, &gaps);
        // From every accepted request on, not only from the first.
        for (index, start) in times.iter().enumerate() {
            for (count, time) in times[index..].iter().enumerate() {
                let passed = (time - start) as f64 / 1e6;
                let allowed = f64::from(burst) + f64::from(requests) * passed / window as f64;
                prop_assert!((count + 1) as f64 <= allowed + 1e-6 * requests as f64 + 1e-9);
            }
        }
    }

    #[test]
    fn a_large_window_is_a_list_of_the_slots_in_which_requests_passed(
        rushes in proptest::collection::vec((0_u64..400_000, 1_usize..20, any::<bool>()), 1..60),
        requests in 128_u32..200,
    ) {
        let quota = quota(requests, 1_000, 1, LimitAlgorithm::Window);
        let (slot, slots) = (quota.slot_nanos(), LARGE_SLOTS as u64);
        let (mut level, mut passed) = (Level::empty(&quota), Vec::new());
        let mut now = 5_000_000_000;
        for (gap, times, give_back) in rushes {
            now += gap * 1_000;
            for _ in 0..times {
                let epoch = now / slot;
                passed.retain(|passed: &u64| passed + slots > epoch);
                let allowed = passed.len() < requests as usize;
                if allowed {
                    passed.push(epoch);
                }
                let remaining = requests - u32::try_from(passed.len()).unwrap();
                let reset = Duration::from_nanos((passed[0] + slots) * slot - now);
                prop_assert_eq!(level.take(&quota, now), Decision { allowed, remaining, reset });
                if allowed && give_back {
                    passed.pop();
                    level.give_back(&quota, now);
                }
            }
        }
    }

    #[test]
    fn what_is_refused_passes_after_the_reset(gaps in gaps(), requests in 1_u32..200, algorithm in prop_oneof![Just(LimitAlgorithm::Window), Just(LimitAlgorithm::GCRA)]) {
        let quota = quota(requests, 1_000, 3, algorithm);
        let mut level = Level::empty(&quota);
        let mut now = 5_000_000_000;
        for gap in gaps {
            now += gap * 1_000;
            let decision = level.take(&quota, now);
            if !decision.allowed {
                let later = now + u64::try_from(decision.reset.as_nanos()).unwrap();
                prop_assert!(level.peek(&quota, later).allowed);
                prop_assert!(later - now <= 1_200_000_000, "never longer than the window and a slot");
            }
        }
    }

    #[test]
    fn given_back_is_as_if_never_taken(gaps in gaps(), requests in 1_u32..200, algorithm in prop_oneof![Just(LimitAlgorithm::Window), Just(LimitAlgorithm::GCRA)]) {
        let quota = quota(requests, 1_000, 5, algorithm);
        let (mut level, mut twin) = (Level::empty(&quota), Level::empty(&quota));
        let mut now = 5_000_000_000;
        for gap in gaps {
            now += gap * 1_000;
            if twin.take(&quota, now).allowed {
                twin.give_back(&quota, now);
            }
            prop_assert_eq!(twin.peek(&quota, now).allowed, level.peek(&quota, now).allowed);
            // Both take for real every time the first may.
            prop_assert_eq!(level.take(&quota, now).allowed, twin.take(&quota, now).allowed);
        }
    }

    #[test]
    fn a_reload_gives_nobody_more_than_either_limit(gaps in gaps(), first in 1_u32..300, second in 1_u32..300) {
        let before = quota(first, 1_000, 1, LimitAlgorithm::Window);
        let after = quota(second, 1_000, 1, LimitAlgorithm::Window);
        let mut level = Level::empty(&before);
        let mut now = 5_000_000_000;
        for gap in gaps {
            now += gap * 1_000;
            level.take(&before, now);
        }
        let used = level.clone().used(&before, now);
        level.convert(&before, &after, now);
        let mut more = 0;
        while level.take(&after, now).allowed {
            more += 1;
        }
        prop_assert_eq!(more, second.saturating_sub(used));
    }
}

#[test]
fn nothing_passes_too_early_on_a_clock_that_moves_in_steps() {
    const MILLISECOND: u64 = 1_000_000;
    for (requests, millis, step) in [(3, 197, 1), (3, 197, 4), (3, 203, 10), (130, 211, 4), (130, 223, 10)] {
        let window = millis * MILLISECOND;
        let quota = quota(requests, millis, 1, LimitAlgorithm::Window);
        let read = |now: u64| now - now % (step * MILLISECOND);
        // Every place within a slot, in tenths of a millisecond.
        for start in (0..40 * MILLISECOND)
            .step_by(100_000)
            .map(|place| 5_000 * MILLISECOND + place)
        {
            let mut level = Level::empty(&quota);
            for _ in 0..requests {
                assert!(level.take(&quota, read(start)).allowed);
            }
            let early = (start + window - 12 * MILLISECOND..start + window)
                .step_by(100_000)
                .find(|now| level.peek(&quota, read(*now)).allowed);
            assert_eq!(
                early, None,
                "{requests} in {millis} ms from {start}, steps of {step} ms"
            );
        }
    }
}

#[test]
fn what_was_used_counts_under_any_other_numbers() {
    use LimitAlgorithm::{GCRA, Window};
    let quotas = [
        quota(10, 1_000, 10, GCRA),
        quota(20, 5_000, 20, GCRA),
        quota(15, 500, 1, Window),
        quota(200, 3_000, 1, Window),
    ];
    for (before, after) in quotas
        .iter()
        .flat_map(|before| quotas.iter().map(move |after| (before, after)))
    {
        let what = format!("{before:?} to {after:?}");
        let (mut level, mut now) = (Level::empty(before), 5_000_000_000);
        for _ in 0..7 {
            assert!(level.take(before, now).allowed, "{what}");
        }
        // What has begun to drain still counts as a whole one.
        now += 1;
        level.convert(before, after, now);
        let more = (0..1_000).take_while(|_| level.take(after, now).allowed).count();
        assert_eq!(more, after.at_once() as usize - 7, "{what}");

        // However much was used: what is too much under the new numbers is forgotten.
        let mut level = Level::empty(before);
        while level.take(before, now).allowed {}
        level.convert(before, after, now);
        let end = after.window + Duration::from_nanos(after.slot_nanos());
        assert!(level.peek(after, now).reset <= end, "{what}");
    }
}

#[test]
fn a_level_is_idle_when_it_is_as_good_as_new_and_no_sooner() {
    use LimitAlgorithm::{GCRA, Window};
    for quota in [
        quota(10, 1_000, 10, GCRA),
        quota(15, 500, 1, Window),
        quota(200, 3_000, 1, Window),
    ] {
        let (mut level, now) = (Level::empty(&quota), 5_000_000_000);
        assert!(level.is_idle(&quota, now));
        level.take(&quota, now);
        assert!(!level.is_idle(&quota, now + 1), "{quota:?}");
        assert!(level.is_idle(&quota, now + 2 * quota.window_nanos()), "{quota:?}");
    }
}

#[test]
fn what_comes_back_in_a_later_slot_takes_nothing_from_others() {
    for requests in [15, 200] {
        let quota = quota(requests, 1_000, 1, LimitAlgorithm::Window);
        let (mut level, mut now) = (Level::empty(&quota), 5_000_000_000);
        level.take(&quota, now);
        now += quota.slot_nanos();
        level.give_back(&quota, now);
        assert_eq!(level.used(&quota, now), 1);
    }
}

#[test]
fn the_demo_limit_lets_five_pass_and_says_when_to_come_back() {
    let quota = quota(5, 10_000, 1, LimitAlgorithm::Window);
    let mut level = Level::empty(&quota);
    let start = 60_000_000_000;
    for remaining in (0..5).rev() {
        let decision = level.take(&quota, start);
        assert_eq!((decision.allowed, decision.remaining), (true, remaining));
    }
    let refused = level.take(&quota, start);
    assert!(!refused.allowed);
    assert!(
        refused.reset >= Duration::from_secs(10) && refused.reset <= Duration::from_secs(12),
        "{refused:?}"
    );
}

#[test]
fn a_key_that_comes_back_after_any_time_owes_nothing() {
    let quota = quota(5, 1_000, 1, LimitAlgorithm::Window);
    let began = 5_000_000_000;
    // Powers of two are where a number of few bits comes round.
    for bits in 3..31 {
        for slots in (1_u64 << bits) - 6..=(1 << bits) + 6 {
            let mut level = Level::empty(&quota);
            while level.take(&quota, began).allowed {}
            let passed = slots * quota.slot_nanos();
            assert_eq!(
                level.take(&quota, began + passed).allowed,
                slots >= u64::from(SMALL_SLOTS),
                "{slots} slots later"
            );
        }
    }
}
