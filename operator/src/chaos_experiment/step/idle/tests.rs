use super::*;
use crate::chaos_experiment::testing::{at, experiment, limits};
use crate::chaos_experiment::validate::{schedule, validate};
use crate::runtime::conditions::{ConditionUpdate, find_condition, is_true, set_condition};
use serde_json::{Value, json};
use valerix_crds::names::condition::COMPLETED;
use valerix_crds::{ChaosPhase, ConditionStatus, Verdict};

fn look(experiment: &ChaosExperiment, now: DateTime<Utc>) -> Idle {
    let plan = validate(&experiment.spec, &limits());
    let schedule = schedule(&experiment.spec);
    idle(experiment, plan.as_ref(), schedule.as_ref().map(Option::as_ref), now)
}

/// Looks until it rests; every status that was written, and the wake-up.
fn settle(experiment: &mut ChaosExperiment, now: DateTime<Utc>) -> (Vec<ChaosExperimentStatus>, Option<DateTime<Utc>>) {
    let mut written = Vec::new();
    for _ in 0..5 {
        match look(experiment, now) {
            Idle::Write(status) => {
                written.push((*status).clone());
                experiment.status = Some(*status);
            }
            Idle::Rest { until } => return (written, until),
            Idle::Active => return (written, None),
        }
    }
    panic!("it never rests: {written:#?}");
}

fn one(mut spec: Value) -> ChaosExperiment {
    spec["target"] = json!({"service": "inventory"});
    spec["podKill"] = json!({});
    experiment(spec)
}

fn end(experiment: &mut ChaosExperiment) {
    let status = experiment.status.as_mut().unwrap();
    status.phase = Some(ChaosPhase::Completed);
    status.verdict = Some(Verdict::Pass);
    let update = ConditionUpdate {
        kind: COMPLETED,
        status: ConditionStatus::True,
        reason: &status.reason.clone().unwrap(),
        message: status.message.clone().unwrap(),
    };
    set_condition(&mut status.conditions, update, status.observed_generation, at(0));
}

#[test]
fn without_a_schedule_it_runs_once_under_its_uid() {
    let mut experiment = one(json!({}));
    let (written, _) = settle(&mut experiment, at(0));
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].run.as_deref(), Some("experiment-uid"));
    end(&mut experiment);
    let (written, until) = settle(&mut experiment, at(1_000));
    assert_eq!((written.len(), until), (0, None), "it is done and costs nothing");
}

#[test]
fn the_annotation_asks_for_one_more_run_per_value() {
    let mut experiment = one(json!({}));
    settle(&mut experiment, at(0));
    end(&mut experiment);
    for (value, runs) in [("a", 1), ("a", 0), ("b", 1), ("b", 0), ("a", 1)] {
        experiment.annotations_mut().insert(RUN_ANNOTATION.into(), value.into());
        let (written, _) = settle(&mut experiment, at(10));
        assert_eq!(written.len(), runs, "{value}");
        end(&mut experiment);
        assert_eq!(experiment.status.as_ref().unwrap().run.as_deref(), Some(value));
    }
    experiment.annotations_mut().clear();
    assert_eq!(
        settle(&mut experiment, at(20)).0.len(),
        0,
        "taking the annotation away is no request"
    );
}

/// Status holds 256 characters of it, and two values may have those in common.
#[test]
fn two_long_values_are_two_runs() {
    let mut experiment = one(json!({}));
    settle(&mut experiment, at(0));
    end(&mut experiment);
    let long = |end: &str| format!("{}{end}", "ä".repeat(256));
    let mut ask = |value: String, runs: usize| {
        experiment.annotations_mut().insert(RUN_ANNOTATION.into(), value);
        assert_eq!(settle(&mut experiment, at(10)).0.len(), runs);
        end(&mut experiment);
        experiment.status.clone().unwrap()
    };
    ask(long("one"), 1);
    ask(long("one"), 0);
    let mut status = ask(long("two"), 1);
    assert!(status.last_requested_run.as_ref().unwrap().chars().count() <= 256);
    // Earlier versions kept the beginning: what has run does not run again for it, and what has not does.
    status.last_requested_run = Some(long(""));
    for (value, handled) in [("two", true), ("one", false)] {
        assert_eq!(is_handled(&long(value), &status), handled, "{value}");
    }
}

#[test]
fn an_annotation_from_the_start_is_one_run_not_two() {
    let mut experiment = one(json!({}));
    experiment
        .annotations_mut()
        .insert(RUN_ANNOTATION.into(), "a b\n".into());
    let (written, _) = settle(&mut experiment, at(0));
    assert!(written[0].run.as_ref().unwrap().starts_with("sha256-"));
    end(&mut experiment);
    assert_eq!(settle(&mut experiment, at(1)).0.len(), 0);
}

#[test]
fn a_tick_runs_once_and_the_next_is_planned() {
    let mut experiment = one(json!({"schedule": "* * * * *"}));
    let (written, until) = settle(&mut experiment, at(5));
    assert_eq!(
        (written.len(), until),
        (1, Some(at(20))),
        "second 100 of 1970 is 40 s past the minute"
    );
    assert_eq!(written[0].reason.as_deref(), Some("Scheduled"));
    assert_eq!(settle(&mut experiment, at(19)).0.len(), 0);
    let (written, _) = settle(&mut experiment, at(20));
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].run.as_deref(), Some("1970-01-01T00:02:00Z"));
    assert_eq!(
        (written[0].last_scheduled_at, written[0].next_run_at),
        (Some(at(20)), Some(at(80)))
    );
    end(&mut experiment);
    // The plan was lost: the tick is not run again all the same.
    experiment.status.as_mut().unwrap().next_run_at = Some(at(20));
    let (written, until) = settle(&mut experiment, at(21));
    assert_eq!((written.len(), until), (1, Some(at(80))));
    assert_eq!(written[0].phase, Some(ChaosPhase::Completed));
}

#[test]
fn a_time_in_an_excluded_window_is_skipped_with_a_trace_and_another_run_is_untouched() {
    // Second 100 of 1970 is 00:01:40 on a Thursday.
    let mut experiment = one(json!({
        "schedule": "* * * * *", "excludedWindows": [{"days": ["Thu"], "from": "00:02", "to": "00:04"}],
    }));
    settle(&mut experiment, at(5));
    let (written, until) = settle(&mut experiment, at(20));
    assert_eq!((written.len(), until), (1, Some(at(80))));
    assert_eq!(
        (written[0].run.clone(), written[0].reason.as_deref()),
        (None, Some("Scheduled"))
    );
    settle(&mut experiment, at(80));
    let history = &experiment.status.as_ref().unwrap().history;
    assert_eq!(history.len(), 1);
    assert_eq!(
        (history[0].run.as_str(), history[0].reason.as_str(), history[0].times),
        ("1970-01-01T00:03:00Z", "ExcludedWindow", Some(2))
    );
    settle(&mut experiment, at(140));
    let status = experiment.status.as_ref().unwrap();
    assert_eq!(
        status.run.as_deref(),
        Some("1970-01-01T00:04:00Z"),
        "the end is not excluded"
    );
    assert_eq!(
        status.history.len(),
        1,
        "what was skipped is not forgotten when a run begins"
    );
}

/// The operator was away when the time came, and is back in an hour in which nothing may start.
#[test]
fn a_time_before_an_excluded_window_starts_nothing_within_it() {
    let mut experiment = one(json!({
        "schedule": "59 9 * * *", "excludedWindows": [{"from": "10:00", "to": "17:00"}],
    }));
    settle(&mut experiment, at(5));
    let tick = 36_000 - 60 - 100;
    for (late, run) in [(120, None), (59, Some("1970-01-01T09:59:00Z"))] {
        let mut experiment = experiment.clone();
        settle(&mut experiment, at(tick + late));
        let status = experiment.status.as_ref().unwrap();
        assert_eq!(status.run.as_deref(), run, "{late}s late");
        let reasons: Vec<_> = status.history.iter().map(|past| past.reason.as_str()).collect();
        assert_eq!(reasons, if run.is_none() { vec!["ExcludedWindow"] } else { vec![] });
    }
}

#[test]
fn how_late_a_run_may_start_is_what_the_spec_says() {
    for (seconds, late, phase) in [
        (json!(10), 11, ChaosPhase::Skipped),
        (json!(10), 10, ChaosPhase::Pending),
        (json!(86_400), 3_600, ChaosPhase::Pending),
        (Value::Null, 301, ChaosPhase::Skipped),
    ] {
        let mut experiment = one(json!({"schedule": "0 10 * * *", "startingDeadlineSeconds": seconds}));
        settle(&mut experiment, at(5));
        let (written, _) = settle(&mut experiment, at(36_000 - 100 + late));
        assert_eq!(written[0].phase, Some(phase), "{seconds} {late}");
    }
}

#[test]
fn a_hundred_missed_ticks_run_once() {
    let mut experiment = one(json!({"schedule": "* * * * *"}));
    settle(&mut experiment, at(5));
    let (written, _) = settle(&mut experiment, at(20 + 101 * 60 + 7));
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].last_scheduled_at, Some(at(20 + 101 * 60)));
    assert_eq!(written[0].next_run_at, Some(at(20 + 102 * 60)));
}

#[test]
fn a_tick_missed_by_hours_is_skipped_and_the_next_planned() {
    let mut experiment = one(json!({"schedule": "0 10 * * *"}));
    settle(&mut experiment, at(5));
    let (written, until) = settle(&mut experiment, at(86_400 / 2 + 3_600));
    assert_eq!(written.len(), 1);
    assert_eq!(
        (written[0].phase, written[0].reason.as_deref()),
        (Some(ChaosPhase::Skipped), Some("MissedSchedule"))
    );
    assert_eq!(until, Some(at(34 * 3_600 - 100)));
}

#[test]
fn suspending_plans_nothing_and_resuming_does_not_burst() {
    let mut experiment = one(json!({"schedule": "* * * * *", "suspend": true}));
    let (written, until) = settle(&mut experiment, at(5));
    assert_eq!((written.len(), until), (1, None));
    assert_eq!(written[0].reason.as_deref(), Some("Suspended"));
    assert_eq!(
        settle(&mut experiment, at(5_000)).0.len(),
        0,
        "time passes without a write"
    );
    experiment.spec.suspend = false;
    let (written, until) = settle(&mut experiment, at(5_005));
    assert_eq!((written.len(), until), (1, Some(at(5_060))));
}

#[test]
fn another_schedule_makes_another_plan() {
    let mut experiment = one(json!({"schedule": "30 * * * *"}));
    let (_, until) = settle(&mut experiment, at(0));
    assert_eq!(until, Some(at(1_700)));
    experiment.spec.schedule = Some("45 * * * *".into());
    let (_, until) = settle(&mut experiment, at(0));
    assert_eq!(until, Some(at(2_600)));
}

#[test]
fn stop_keeps_it_from_starting() {
    let mut experiment = one(json!({"desired": "Stop"}));
    let (written, until) = settle(&mut experiment, at(0));
    assert_eq!((written.len(), until), (1, None));
    assert_eq!(
        (written[0].run.clone(), written[0].reason.as_deref()),
        (None, Some("NotStarted"))
    );
    experiment.spec.desired = DesiredState::Run;
    assert!(settle(&mut experiment, at(1)).0[0].run.is_some());
}

#[test]
fn what_is_asked_for_while_it_is_stopped_runs_once_when_it_may() {
    let mut experiment = one(json!({}));
    settle(&mut experiment, at(0));
    end(&mut experiment);
    experiment.spec.desired = DesiredState::Stop;
    experiment.annotations_mut().insert(RUN_ANNOTATION.into(), "a".into());
    assert!(
        settle(&mut experiment, at(10))
            .0
            .iter()
            .all(|written| written.run.as_deref() != Some("a"))
    );
    experiment.spec.desired = DesiredState::Run;
    let (written, _) = settle(&mut experiment, at(20));
    assert_eq!(written.last().unwrap().run.as_deref(), Some("a"));
    end(&mut experiment);
    assert_eq!(settle(&mut experiment, at(30)).0.len(), 0);
}

#[test]
fn a_spec_that_cannot_be_acted_on_says_so_once_and_can_be_corrected() {
    let mut experiment = one(json!({"schedule": "0 10 * * *", "timeZone": "Mars/Base"}));
    let (written, until) = settle(&mut experiment, at(0));
    assert_eq!((written.len(), until), (1, None));
    assert_eq!(written[0].phase, Some(ChaosPhase::Failed));
    assert!(
        written[0]
            .message
            .as_ref()
            .unwrap()
            .starts_with("spec.timeZone: is `Mars/Base`")
    );
    experiment.spec.time_zone = None;
    experiment.metadata.generation = Some(2);
    let (written, until) = settle(&mut experiment, at(0));
    assert_eq!(written.len(), 1);
    assert!(until.is_some());
}

#[test]
fn a_run_under_way_is_not_idle() {
    let mut experiment = one(json!({}));
    settle(&mut experiment, at(0));
    assert_eq!(look(&experiment, at(1)), Idle::Active);
}

/// A spec that is wrong for a while changes nothing about the last run, and its correction begins none.
#[test]
fn a_corrected_spec_never_fires_by_itself() {
    for spec in [json!({}), json!({"schedule": "0 10 * * *"})] {
        let mut experiment = one(spec);
        experiment.annotations_mut().insert(RUN_ANNOTATION.into(), "one".into());
        settle(&mut experiment, at(0));
        end(&mut experiment);
        let schedule = experiment.spec.schedule.clone();
        let run = experiment.status.clone().unwrap();
        (experiment.spec.schedule, experiment.spec.time_zone) = (Some("0 10 * * *".into()), Some("Mars/Base".into()));
        experiment.metadata.generation = Some(2);
        let (written, until) = settle(&mut experiment, at(10));
        assert_eq!((written.len(), until), (1, None), "it is said once");
        let wrong = &written[0];
        assert_eq!(
            (wrong.phase, wrong.verdict, &wrong.reason, &wrong.run),
            (run.phase, run.verdict, &run.reason, &run.run),
            "what has run has run"
        );
        let completed = find_condition(&wrong.conditions, COMPLETED).unwrap();
        assert_eq!(
            (completed.status.as_str(), completed.reason.as_str()),
            ("False", "InvalidSpec")
        );
        assert!(completed.message.contains("spec.timeZone"), "{}", completed.message);

        (experiment.spec.schedule, experiment.spec.time_zone) = (schedule, None);
        experiment.metadata.generation = Some(3);
        let (written, _) = settle(&mut experiment, at(20));
        assert_eq!(written.len(), 1);
        assert_eq!((written[0].phase, written[0].verdict), (run.phase, run.verdict));
        assert!(is_true(&written[0].conditions, COMPLETED));
        assert!(matches!(look(&experiment, at(21)), Idle::Rest { .. }));
    }
}

/// Whoever asks for a run of a schedule that cannot be read asks again once it can.
#[test]
fn a_request_that_was_refused_is_not_kept_for_later() {
    let mut experiment = one(json!({"schedule": "0 10 * * *", "timeZone": "Mars/Base"}));
    experiment.annotations_mut().insert(RUN_ANNOTATION.into(), "one".into());
    let (written, _) = settle(&mut experiment, at(0));
    assert_eq!((written.len(), written[0].reason.as_deref()), (1, Some("InvalidSpec")));
    experiment.spec.time_zone = None;
    experiment.metadata.generation = Some(2);
    let (written, until) = settle(&mut experiment, at(0));
    assert_eq!((written.len(), written[0].run.clone()), (1, None));
    assert!(until.is_some());
}

#[test]
fn a_changed_spec_does_not_show_the_old_verdict_as_its_own() {
    let mut experiment = one(json!({}));
    settle(&mut experiment, at(0));
    end(&mut experiment);
    experiment.spec.pod_kill = None;
    experiment.spec.latency = Some(serde_json::from_value(json!({"delay": "1s"})).unwrap());
    experiment.metadata.generation = Some(2);
    let (written, _) = settle(&mut experiment, at(10));
    assert_eq!(written.len(), 1);
    let status = &written[0];
    assert_eq!(status.observed_generation, 1, "it speaks of the spec that ran");
    assert_eq!(status.summary.as_ref().unwrap().kind, "PodKill");
    let completed = find_condition(&status.conditions, COMPLETED).unwrap();
    assert_eq!(
        (completed.status.as_str(), completed.reason.as_str()),
        ("False", "SpecChanged")
    );
    assert_eq!(completed.observed_generation, Some(2));
    assert!(completed.message.contains(RUN_ANNOTATION), "{}", completed.message);

    experiment
        .annotations_mut()
        .insert(RUN_ANNOTATION.into(), "again".into());
    let (written, _) = settle(&mut experiment, at(20));
    assert_eq!(written[0].summary.as_ref().unwrap().kind, "Latency");
    assert_eq!(written[0].observed_generation, 2);
}

#[test]
fn the_stop_button_is_no_other_spec() {
    let mut experiment = one(json!({}));
    settle(&mut experiment, at(0));
    end(&mut experiment);
    experiment.spec.desired = DesiredState::Stop;
    experiment.metadata.generation = Some(2);
    let (written, _) = settle(&mut experiment, at(10));
    assert_eq!((written.len(), written[0].observed_generation), (1, 2));
    let completed = find_condition(&written[0].conditions, COMPLETED).unwrap();
    assert_eq!(
        (completed.status.as_str(), completed.observed_generation),
        ("True", Some(2))
    );
    assert_eq!(written[0].phase, Some(ChaosPhase::Completed));
}

#[test]
fn a_tick_that_gives_way_to_a_run_by_hand_is_recorded() {
    let mut experiment = one(json!({"schedule": "* * * * *"}));
    settle(&mut experiment, at(5));
    experiment.annotations_mut().insert(RUN_ANNOTATION.into(), "a".into());
    let (written, _) = settle(&mut experiment, at(20));
    assert_eq!((written[0].run.as_deref(), written[0].scheduled_at), (Some("a"), None));
    assert_eq!(
        (written[0].last_scheduled_at, written[0].next_run_at),
        (Some(at(20)), Some(at(80)))
    );
}

/// The clock goes forward over the planned time: it runs at the first moment after, and only once.
#[test]
fn a_time_that_the_clock_skips_runs_once() {
    let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let mut experiment = one(json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin"}));
    let (_, until) = settle(&mut experiment, time("2026-03-28T12:00:00Z"));
    assert_eq!(until, Some(time("2026-03-29T01:00:00Z")));
    let (written, _) = settle(&mut experiment, time("2026-03-29T01:00:00.005Z"));
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].run.as_deref(), Some("2026-03-29T01:00:00Z"));
    end(&mut experiment);
    let (_, until) = settle(&mut experiment, time("2026-03-29T01:00:10Z"));
    assert_eq!(until, Some(time("2026-03-30T00:30:00Z")));
}

mod zones;
