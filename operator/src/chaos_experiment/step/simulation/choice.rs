//! Who is hurt and how, what a dry run leaves alone, and what becomes of a run for which another is due.

use super::*;
use valerix_crds::PastRun;

fn reason(cluster: &Cluster) -> &str {
    cluster.status().reason.as_deref().unwrap_or_default()
}

fn every_minute(mut spec: Value, policy: &str) -> Value {
    spec["schedule"] = json!("* * * * *");
    spec["concurrencyPolicy"] = json!(policy);
    spec
}

fn words(history: &[PastRun]) -> Vec<&str> {
    history.iter().map(|past| past.reason.as_str()).collect()
}

#[test]
fn a_dry_run_writes_the_status_and_nothing_else() {
    for mut spec in [pod_kill(), latency()] {
        spec["dryRun"] = json!(true);
        spec["count"] = json!(1);
        let mut cluster = Cluster::new(spec);
        let mut writes = 0;
        let completed = |cluster: &Cluster| {
            let status = cluster.experiment.as_ref().unwrap().status.as_ref();
            status.is_some_and(|status| status.completed_at.is_some())
        };
        while !completed(&cluster) {
            cluster.run(1, &mut |_| {
                writes += 1;
                Mishap::None
            });
        }
        assert_eq!(cluster.version, 1 + writes, "each write was one of the status");
        assert!(!has_finalizer(cluster.experiment.as_ref().unwrap()) && cluster.document.is_none());
        assert!(
            cluster.requests.is_empty() && cluster.samples.is_none(),
            "nobody is asked or hurt"
        );
        let status = cluster.status();
        assert_eq!(
            (status.verdict, reason(&cluster)),
            (Some(Verdict::NotEvaluated), "DryRun")
        );
        assert_eq!((status.targets.len(), status.spared.len()), (1, 1));
        assert_ne!(status.targets[0].pod, status.spared[0].pod);
        assert!(
            status.spared[0].reason.contains("the lot fell on others"),
            "{status:#?}"
        );
        assert_eq!(
            (status.intent_at, status.fault_ended_at),
            (None, None),
            "nothing has to cool down"
        );
    }
}

#[test]
fn a_dry_run_of_what_may_not_begin_says_why() {
    let mut spec = pod_kill();
    spec["dryRun"] = json!(true);
    spec["count"] = json!("100%");
    let mut cluster = Cluster::new(spec);
    cluster.run(100, &mut fine);
    assert_eq!(reason(&cluster), "NotEnoughPods");
}

#[test]
fn a_real_run_draws_the_lots_of_its_recorded_seed() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.run(500, &mut fine);
    let status = cluster.status();
    let seed = status.seed.clone().unwrap();
    let lot = |uid: &str| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(format!("{seed} {uid}")));
    let lowest = ["pod-uid-0", "pod-uid-1"]
        .into_iter()
        .min_by_key(|uid| lot(uid))
        .unwrap();
    assert_eq!(status.targets[0].uid, lowest);
}

#[test]
fn no_budget_hinders_a_deletion_and_it_is_ours_also_when_the_answer_was_lost() {
    for mishap in [Mishap::None, Mishap::AnswerLost, Mishap::KilledAfter] {
        let mut spec = pod_kill();
        spec["podKill"] = json!({"method": "Delete"});
        let mut cluster = Cluster::new(spec);
        cluster.budget = true;
        let mut met = false;
        for _ in 0..600 {
            if cluster.is_over() {
                break;
            }
            // Only the deletion meets it: whatever comes after the mark that it was begun.
            let begun = cluster
                .experiment
                .as_ref()
                .unwrap()
                .status
                .as_ref()
                .is_some_and(|status| {
                    status
                        .targets
                        .iter()
                        .any(|target| target.state == TargetState::Injecting)
                });
            let now = begun && !met;
            met |= begun;
            cluster.run(1, &mut |_| if now { mishap } else { Mishap::None });
        }
        cluster.assert_clean();
        assert_eq!(cluster.evicted.len(), 1, "{mishap:?}: {:#?}", cluster.status());
        assert!(
            ["SteadyStateHeld", "ObservationGap"].contains(&reason(&cluster)),
            "{mishap:?}: {}",
            reason(&cluster)
        );
        assert_eq!(cluster.status().targets[0].state, TargetState::Recovered);
    }
}

#[test]
fn a_run_that_is_replaced_is_stopped_and_the_next_begins() {
    let mut spec = every_minute(latency(), "Replace");
    spec["duration"] = json!("5m");
    let mut cluster = Cluster::new(spec);
    let runs = |cluster: &Cluster| {
        cluster
            .experiment
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .map_or(0, |status| status.history.len())
    };
    for _ in 0..5_000 {
        if runs(&cluster) == 2 {
            break;
        }
        let wait = cluster.look(&mut fine).unwrap_or(TimeDelta::seconds(1));
        cluster.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
    }
    let history = &cluster.status().history;
    assert_eq!(words(history), ["Replaced", "Replaced"]);
    assert_eq!(history[0].verdict, Verdict::Stopped);
    assert_eq!(cluster.status().summary.as_ref().unwrap().history, "SS");
    assert_eq!(
        (history[1].run.as_str(), history[0].run.as_str()),
        ("1970-01-01T00:04:00Z", "1970-01-01T00:05:00Z")
    );
}

#[test]
fn a_time_that_comes_during_a_run_is_skipped_and_stays_in_the_history() {
    let mut spec = every_minute(latency(), "Forbid");
    spec["duration"] = json!("150s");
    let mut cluster = Cluster::new(spec);
    cluster.run(5_000, &mut fine);
    let history = &cluster.status().history;
    assert_eq!(words(history), ["SteadyStateHeld", "RunUnderWay"], "{history:#?}");
    assert_eq!(
        (history[1].times, history[1].run.as_str()),
        (Some(2), "1970-01-01T00:06:00Z"),
        "one entry for both"
    );
    assert_eq!(history[0].recovery, cluster.status().time_to_recover);
    assert_eq!(cluster.status().summary.as_ref().unwrap().history, "-P");
}

#[test]
fn no_run_is_lost_to_the_next_and_twenty_are_kept() {
    let mut cluster = Cluster::new(pod_kill());
    for number in 0..23 {
        let experiment = cluster.experiment.as_mut().unwrap();
        experiment
            .annotations_mut()
            .insert(RUN_ANNOTATION.into(), format!("run-{number}"));
        for _ in 0..500 {
            cluster.run(1, &mut fine);
            let wait = cluster.look(&mut fine).unwrap_or(TimeDelta::seconds(1));
            cluster.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
            let status = cluster.status();
            if cluster.is_over() && status.run.as_deref() == Some(&*format!("run-{number}")) {
                break;
            }
        }
    }
    let history = &cluster.status().history;
    assert_eq!(history.len(), 20);
    assert_eq!((history[0].run.as_str(), history[19].run.as_str()), ("run-22", "run-3"));
    assert!(
        history
            .iter()
            .all(|past| past.kind == "PodKill" && past.recovery.is_some()),
        "{history:#?}"
    );
    assert_eq!(cluster.status().summary.as_ref().unwrap().history, "PPPPPPPPPP");
}
