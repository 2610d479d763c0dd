use super::*;
use crate::chaos_experiment::report::history;
use crate::chaos_experiment::testing::at;

fn editor(generation: i64) -> StatusEditor {
    StatusEditor {
        generation,
        spec_hash: format!("hash-{generation}"),
        now: at(0),
    }
}

#[test]
fn the_time_to_recover_is_read_at_a_glance() {
    for (milliseconds, text) in [(1_440, "1.4s"), (75_000, "75.0s"), (0, "0.0s"), (-5, "0.0s")] {
        assert_eq!(course::time_to_recover(TimeDelta::milliseconds(milliseconds)), text);
    }
}

#[test]
fn a_decided_verdict_is_read_back() {
    let editor = editor(1);
    let ending = Ending::new(Reason::SteadyStateDeviated, "status 503");
    let status = editor.recovering(&editor.decide(&ChaosExperimentStatus::default(), &ending), None);
    assert_eq!(decided(&status), Some(ending));
    assert_eq!(decided(&ChaosExperimentStatus::default()), None);
    let stopped = Ending::new(Reason::NotAdmitted, "withdrawn").stopped();
    assert_eq!(decided(&editor.decide(&status, &stopped)), Some(stopped));
}

#[test]
fn a_new_run_keeps_nothing_of_the_old_but_its_plan() {
    let editor = editor(2);
    let old = ChaosExperimentStatus {
        last_requested_run: Some("a".into()),
        last_scheduled_at: Some(at(-60)),
        injected_at: Some(at(-50)),
        completed_at: Some(at(-40)),
        time_to_recover: Some("1.0s".into()),
        history: vec![history::skipped(
            &ChaosExperimentStatus::default(),
            at(-60),
            Reason::RunUnderWay,
        )],
        ..ChaosExperimentStatus::default()
    };
    let start = Start {
        run: "r".into(),
        tick: None,
        requested: None,
        skipped: None,
        next: Some(at(60)),
    };
    let status = editor.begin(&old, "Latency", &start);
    assert_eq!(
        (status.last_requested_run.as_deref(), status.last_scheduled_at),
        (Some("a"), Some(at(-60)))
    );
    assert_eq!(
        (status.injected_at, status.completed_at, status.time_to_recover),
        (None, None, None)
    );
    let summary = status.summary.unwrap();
    assert_eq!(
        (summary.next.as_str(), summary.history.as_str()),
        ("1970-01-01T00:02:40Z", "-")
    );
}

/// The version before this one knew of no text of the history.
#[test]
fn what_an_earlier_version_has_remembered_is_shown() {
    let editor = editor(1);
    let old = ChaosExperimentStatus {
        run: Some("r".into()),
        summary: Some(ChaosSummary::default()),
        history: vec![history::skipped(
            &ChaosExperimentStatus::default(),
            at(-60),
            Reason::RunUnderWay,
        )],
        ..ChaosExperimentStatus::default()
    };
    let shown = |status: ChaosExperimentStatus| status.summary.unwrap().history;
    assert_eq!(shown(editor.idle(&old, Some("Latency"), None)), "-");
    let never = ChaosExperimentStatus { run: None, ..old };
    assert_eq!(shown(editor.idle(&never, Some("Latency"), None)), "-");
}
