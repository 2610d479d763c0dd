use super::*;
use crate::chaos_experiment::probes::plan::ProbePlan;
use crate::chaos_experiment::testing::{at, probe_plan};
use chrono::TimeDelta;
use std::time::Duration;
use valerix_crds::ProbeMode;

/// One sample a second from second `from`: `+` passed, `-` failed, `?` not asked, ` ` nobody asked.
fn story(from: i64, text: &str) -> ProbeSamples {
    let mut own = ProbeSamples::default();
    for (second, letter) in (from..).zip(text.chars()) {
        let result = match letter {
            '+' => ProbeResult::Passed,
            '-' => ProbeResult::Failed("status 503".into()),
            '?' => ProbeResult::NotAsked("no address".into()),
            _ => continue,
        };
        own.push(Sample {
            started: at(second),
            finished: at(second) + TimeDelta::milliseconds(20),
            result,
        });
    }
    own
}

/// From `from` until `until`, looked at in the moment in which the last sample was answered.
fn window(from: i64, until: Option<i64>, own: &ProbeSamples) -> Window {
    let last = own.samples.last().map_or(at(from), |sample| sample.finished);
    Window {
        from: at(from),
        until: until.map(at),
        now: until.map_or(last, |until| last.max(at(until))),
    }
}

#[test]
fn before_needs_a_pass_and_forgives_a_blip() {
    let plans = [probe_plan("checkout")];
    for (text, expected) in [
        ("", Before::Awaited),
        ("--", Before::Awaited),
        ("--+", Before::Met),
        ("+", Before::Met),
        ("+---", Before::NotMet("probe checkout: status 503".into())),
        ("???", Before::NotAsked("probe checkout: no address".into())),
    ] {
        assert_eq!(before(&plans, &[story(0, text)]), expected, "{text:?}");
    }
}

#[test]
fn during_counts_failures_in_a_row() {
    let plans = [probe_plan("checkout")];
    let broken = During::Broken("probe checkout: status 503".into());
    for (text, expected) in [
        ("+++++", During::Within),
        ("+--+--+", During::Within),
        ("+---+++", broken.clone()),
        ("+-?-", broken.clone()),
        ("+???", During::NotAsked("probe checkout: no address".into())),
        ("++    ++", During::Gap("probe checkout: nobody asked for 5.0s".into())),
        ("++   ++", During::Gap("probe checkout: nobody asked for 4.0s".into())),
        ("++  ++", During::Within),
        ("++    ---", broken),
    ] {
        let own = story(10, text);
        let window = window(10, None, &own);
        assert_eq!(during(&plans, &[own], window), expected, "{text:?}");
    }
}

#[test]
fn only_the_window_counts() {
    let plans = [probe_plan("checkout")];
    let own = story(0, "---+++---");
    let (short, open) = (window(3, Some(5), &own), window(3, None, &own));
    let all = window(0, None, &own);
    let own = [own];
    assert_eq!(during(&plans, &own, short), During::Within);
    assert!(matches!(during(&plans, &own, open), During::Broken(_)));
    let mut edge = probe_plan("checkout");
    edge.mode = ProbeMode::Edge;
    assert_eq!(
        during(&[edge], &own, all),
        During::Within,
        "an edge probe does not judge the fault"
    );
}

#[test]
fn a_process_that_took_over_late_leaves_a_gap() {
    let plans = [probe_plan("checkout")];
    let resumed = |last: i64| {
        let mut own = story(20, "+++");
        own.recorded.last_at = Some(at(last));
        own
    };
    let judge = |own: ProbeSamples, until: Option<i64>| {
        let window = window(10, until, &own);
        during(&plans, &[own], window)
    };
    assert_eq!(judge(resumed(18), None), During::Within);
    assert!(matches!(judge(resumed(12), None), During::Gap(_)));
    assert!(matches!(judge(story(20, "+"), None), During::Gap(_)));
    assert!(
        matches!(judge(story(20, "+"), Some(12)), During::Gap(_)),
        "the fault was short, and nobody saw anything of it"
    );
}

#[test]
fn time_that_nobody_has_seen_yet_counts_at_the_end_too() {
    let plans = [probe_plan("checkout")];
    let mut own = ProbeSamples::default();
    own.recorded.last_at = Some(at(20));
    let look = |own: &ProbeSamples, until, now| {
        during(
            &plans,
            std::slice::from_ref(own),
            Window {
                from: at(0),
                until,
                now: at(now),
            },
        )
    };
    assert_eq!(look(&own, None, 23), During::Within);
    // The fault was over at 60, and whoever took over has only just begun to ask.
    assert!(matches!(look(&own, Some(at(60)), 62), During::Gap(_)));
    own.asking_since = Some(at(62));
    assert!(matches!(look(&own, Some(at(60)), 65), During::Gap(_)));
    // A slow answer is not silence: its question was asked in time.
    own.asking_since = Some(at(21));
    assert_eq!(look(&own, None, 26), During::Within);
}

#[test]
fn after_is_met_since_the_last_failure() {
    let plans = [probe_plan("checkout")];
    let since = |second: i64| After::Met(at(second) + TimeDelta::milliseconds(20));
    let after = |own: ProbeSamples, from: i64| after(&plans, &[own], at(from), at(20));
    assert_eq!(after(story(10, "++"), 10), since(10));
    assert_eq!(after(story(10, "--+-++"), 10), since(14));
    assert_eq!(after(story(9, "-++"), 10), since(10));
    assert!(matches!(
        after(story(10, "----------"), 10),
        After::NotYet {
            not_asked: false,
            watched: true,
            ..
        }
    ));
    assert!(matches!(
        after(story(5, "++"), 10),
        After::NotYet { watched: false, .. }
    ));
}

#[test]
fn who_was_well_all_the_time_recovered_at_once() {
    let plans = [probe_plan("checkout")];
    assert_eq!(after(&plans, &[story(8, "++++")], at(10), at(12)), After::Met(at(10)));
    let mut edge = probe_plan("checkout");
    edge.mode = ProbeMode::Edge;
    let later = After::Met(at(10) + TimeDelta::milliseconds(20));
    assert_eq!(
        after(&[edge], &[story(8, "++++")], at(10), at(12)),
        later,
        "nobody asked while the fault was on"
    );
}

#[test]
fn what_was_recorded_before_is_kept() {
    let mut own = ProbeSamples::resumed(ProbeStatus {
        name: "checkout".into(),
        passed: 5,
        failed: 1,
        first_failure: Some("old".into()),
        first_failure_at: Some(at(1)),
        last_at: Some(at(2)),
    });
    for sample in story(10, "+-").samples {
        own.push(sample);
    }
    let status = own.status();
    assert_eq!((status.passed, status.failed), (6, 2));
    assert_eq!(
        (status.first_failure.as_deref(), status.first_failure_at),
        (Some("old"), Some(at(1)))
    );
    assert_eq!(status.last_at, Some(at(11) + TimeDelta::milliseconds(20)));
}

#[test]
fn a_long_run_does_not_grow_without_bound() {
    let mut own = ProbeSamples::default();
    for second in 0..20_000 {
        own.push(Sample {
            started: at(second),
            finished: at(second),
            result: ProbeResult::Passed,
        });
    }
    assert!(own.samples.len() <= KEPT);
    assert_eq!(own.status().passed, 20_000);
}

#[test]
fn what_is_forgotten_leaves_no_gap_and_hides_none() {
    let plans = [probe_plan("checkout")];
    let steady = |hole: std::ops::Range<i64>| {
        let mut own = ProbeSamples::default();
        for second in (0..5_000).filter(|second| !hole.contains(second)) {
            own.push(Sample {
                started: at(second),
                finished: at(second),
                result: ProbeResult::Passed,
            });
        }
        let window = window(0, None, &own);
        during(&plans, &[own], window)
    };
    assert_eq!(steady(0..0), During::Within);
    assert!(matches!(steady(1_000..1_010), During::Gap(_)));
}

#[test]
fn a_probe_of_the_fault_judges_while_it_is_on_and_never_else() {
    let mut plan = probe_plan("open");
    plan.mode = ProbeMode::OnFault;
    let plans = [plan];
    let broken = During::Broken("probe open: status 503".into());
    assert_eq!(before(&plans, &[story(0, "")]), Before::Met);
    assert_eq!(after(&plans, &[story(0, "---")], at(10), at(20)), After::Met(at(10)));
    assert!(watched(
        &plans,
        &[story(0, "")],
        Window {
            from: at(0),
            until: None,
            now: at(99)
        }
    ));
    let of = |text, until| {
        let own = story(10, text);
        let window = window(10, until, &own);
        during(&plans, &[own], window)
    };
    assert_eq!(of("++++", None), During::Within);
    assert_eq!(of("+---", None), broken);
    assert_eq!(of("++++", Some(13)), During::Within);
    // Not asked yet is not bad; never asked is.
    assert_eq!(of("", None), During::Within);
    assert!(matches!(of("", Some(11)), During::Gap(why) if why.contains("was not asked while the fault was on")));
    // A process before this one asked.
    let mut own = ProbeSamples::default();
    own.recorded.last_at = Some(at(11));
    let window = Window {
        from: at(10),
        until: Some(at(12)),
        now: at(12),
    };
    assert_eq!(during(&plans, &[own], window), During::Within);
}

/// However few the questions were that a fault left time for, and however high the threshold is.
#[test]
fn a_fault_of_which_nothing_good_was_seen_passes_nobody() {
    let lasts = probe_plan("checkout");
    let mut once = probe_plan("checkout");
    once.fault_lasts = false;
    let broken = During::Broken("probe checkout: status 503".into());
    let judge = |plan: &ProbePlan, text: &str, until: Option<i64>| {
        let own = story(10, text);
        let window = window(10, until, &own);
        during(std::slice::from_ref(plan), &[own], window)
    };
    for (text, expected) in [
        ("--", broken.clone()),
        ("-", broken.clone()),
        ("-?", broken.clone()),
        ("??", During::NotAsked("probe checkout: no address".into())),
        ("-+", During::Within),
        ("+", During::Within),
    ] {
        assert_eq!(judge(&lasts, text, Some(12)), expected, "{text:?}");
        assert_eq!(judge(&lasts, text, None), During::Within, "{text:?}: it goes on");
        assert_eq!(judge(&once, text, Some(12)), During::Within, "{text:?}: tolerated");
    }
    assert!(matches!(judge(&lasts, "  +", Some(11)), During::Gap(why) if why.contains("was not asked")));
    assert_eq!(judge(&once, "  +", Some(11)), During::Within);

    // The last answer may still be a good one.
    let mut own = story(10, "-");
    let seen = window(10, Some(12), &own);
    let look = |own: &ProbeSamples| during(std::slice::from_ref(&lasts), std::slice::from_ref(own), seen);
    own.asking_since = Some(at(11));
    assert_eq!(look(&own), During::Within);
    own.asking_since = Some(at(13));
    assert_eq!(look(&own), broken);

    // What the process before this one saw was bad too, or some of it good: nobody knows.
    own.recorded.last_at = Some(at(10));
    (own.recorded.passed, own.recorded.failed) = (4, 1);
    own.recorded.first_failure_at = Some(at(10));
    assert!(matches!(look(&own), During::Gap(why) if why.contains("changed hands")));
    own.recorded.failed = 0;
    assert_eq!(look(&own), During::Within, "it was good");
}

#[test]
fn a_percentile_of_no_answer_is_none() {
    for (fault_lasts, expected) in [(true, "status 503"), (false, "whose time could be judged")] {
        let mut plan = probe_plan("checkout");
        (plan.percentile, plan.failure_threshold) = (Some((95, Duration::from_millis(300))), 100);
        plan.fault_lasts = fault_lasts;
        let own = story(10, "------");
        let window = window(10, Some(15), &own);
        let text = match during(&[plan], &[own], window) {
            During::Broken(text) if fault_lasts => text,
            During::Gap(text) if !fault_lasts => text,
            other => panic!("{other:?}"),
        };
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_percentile_is_that_of_the_good_answers_while_the_fault_was_on() {
    let mut plan = probe_plan("checkout");
    plan.percentile = Some((90, Duration::from_millis(100)));
    // Ten answers from second 10 on, of which the last took long; one before the fault took longer.
    let story = |slow: i64| {
        let mut own = ProbeSamples::default();
        for second in 9..20 {
            let took = if second == 9 || second >= 20 - slow { 900 } else { 50 };
            own.push(Sample {
                started: at(second),
                finished: at(second) + TimeDelta::milliseconds(took),
                result: ProbeResult::Passed,
            });
        }
        own
    };
    let judged = |own: ProbeSamples, until: Option<i64>| {
        let window = window(10, until, &own);
        during(&[plan.clone()], &[own], window)
    };
    assert_eq!(judged(story(1), Some(20)), During::Within);
    let message = "probe checkout: 90 % of 10 answers took up to 900ms, more than 100ms";
    assert_eq!(judged(story(2), Some(20)), During::Broken(message.into()));
    assert_eq!(
        judged(story(2), None),
        During::Within,
        "it is judged when the fault is over"
    );
    assert_eq!(
        judged(story(2), Some(17)),
        During::Within,
        "what came later is not counted"
    );
}

/// A process that takes over knows the sums of the one before it, and not in which order it saw what.
#[test]
fn what_the_process_before_saw_is_not_taken_for_nothing() {
    let plans = [probe_plan("checkout")];
    let judge = |failed: u32, first_failure: i64, text: &str| {
        let mut own = ProbeSamples::resumed(ProbeStatus {
            passed: 4,
            failed,
            first_failure_at: (failed > 0).then(|| at(first_failure)),
            last_at: Some(at(16)),
            ..ProbeStatus::default()
        });
        own.samples = story(18, text).samples;
        let window = window(10, Some(22), &own);
        during(&plans, &[own], window)
    };
    // Failures at 15 and 16, and one more in a row after the change of hands.
    assert!(matches!(judge(2, 15, "-+++++"), During::Gap(why) if why.contains("in a row")));
    assert_eq!(judge(2, 15, "++++++"), During::Within, "two were too few");
    assert_eq!(judge(0, 0, "--++++"), During::Within, "there was none before");
    assert!(
        matches!(judge(3, 14, "++++++"), During::Gap(_)),
        "three may have been a row that nobody judged"
    );
    assert_eq!(judge(3, 30, "++++++"), During::Within, "the first came after the fault");
    assert!(
        matches!(judge(2, 15, "---+++"), During::Broken(_)),
        "what was seen was seen"
    );
}

#[test]
fn a_percentile_of_half_the_answers_is_none() {
    let mut plan = probe_plan("checkout");
    plan.percentile = Some((90, Duration::from_millis(100)));
    let mut own = ProbeSamples::resumed(ProbeStatus {
        passed: 100,
        last_at: Some(at(16)),
        ..ProbeStatus::default()
    });
    own.samples = story(18, "+++").samples;
    let window = window(10, Some(20), &own);
    assert!(matches!(during(&[plan], &[own], window), During::Gap(why) if why.contains("answers took")));
}

#[test]
fn what_is_forgotten_is_judged_all_the_same() {
    let mut plan = probe_plan("checkout");
    plan.percentile = Some((95, Duration::from_millis(300)));
    // Slow for six minutes, quick for the rest, five times a second.
    let mut slow = ProbeSamples::default();
    for tick in 0..3_000 {
        let started = at(0) + TimeDelta::milliseconds(200 * tick);
        let took = TimeDelta::milliseconds(if tick < 1_800 { 2_000 } else { 50 });
        slow.push(Sample {
            started,
            finished: started + took,
            result: ProbeResult::Passed,
        });
    }
    let seen = window(0, Some(600), &slow);
    let message = "probe checkout: 95 % of 3000 answers took up to 2000ms, more than 300ms";
    assert_eq!(
        during(&[plan.clone()], &[slow.clone()], seen),
        During::Broken(message.into())
    );
    let late = window(400, Some(600), &slow);
    assert_eq!(
        during(&[plan], &[slow], late),
        During::Within,
        "what was before is not counted"
    );

    // Three failures in a row, and nobody could record them until they were not kept any more.
    let plans = [probe_plan("checkout")];
    for bad in [3, 2] {
        let mut own = ProbeSamples::default();
        for second in 0..3_000 {
            let failed = (100..100 + bad).contains(&second);
            own.push(Sample {
                started: at(second),
                finished: at(second),
                result: if failed {
                    ProbeResult::Failed("status 503".into())
                } else {
                    ProbeResult::Passed
                },
            });
        }
        let all = window(0, None, &own);
        let expected = if bad == 3 {
            During::Broken("probe checkout: status 503".into())
        } else {
            During::Within
        };
        assert_eq!(during(&plans, &[own.clone()], all), expected);
        let later = window(200, None, &own);
        assert_eq!(during(&plans, &[own], later), During::Within);
    }
}
