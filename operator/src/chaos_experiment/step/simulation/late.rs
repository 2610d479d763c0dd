//! Looks that come late, and what a run must be called all the same: by the times of the events.

use super::truth::{over, reason, until};
use super::*;

/// A fault after which nobody looks for a while, and the system is not itself again for so many seconds.
fn broken_for(answer: fn(&Cluster, DateTime<Utc>) -> bool) -> Cluster {
    let mut cluster = Cluster::new(latency());
    cluster.answer = answer;
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Recovering));
    cluster.pass(TimeDelta::seconds(70));
    over(cluster)
}

fn back_after(cluster: &Cluster, now: DateTime<Utc>, seconds: i64) -> bool {
    let ended = cluster
        .experiment
        .as_ref()
        .unwrap()
        .status
        .as_ref()
        .unwrap()
        .fault_ended_at;
    ended.is_none_or(|at| now >= at + TimeDelta::seconds(seconds))
}

#[test]
fn a_late_look_tells_how_long_it_took_and_judges_by_that() {
    let cluster = broken_for(|cluster, now| back_after(cluster, now, 65));
    assert_eq!(reason(&cluster), (Some(Verdict::Fail), "DidNotRecover"));
    let message = cluster.status().message.as_ref().unwrap();
    assert!(message.contains("it took 65."), "{message}");

    let cluster = broken_for(|cluster, now| back_after(cluster, now, 40));
    assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"));
    let time = cluster.status().time_to_recover.as_ref().unwrap();
    assert!(time.starts_with("40."), "{time}");
}

#[test]
fn a_time_to_recover_that_is_shorter_than_between_two_questions_is_enough_where_nothing_broke() {
    let mut spec = latency();
    spec["duration"] = json!("30s");
    spec["steadyState"]["recoveryTimeout"] = json!("5s");
    spec["steadyState"]["probes"][0]["interval"] = json!("10s");
    let mut cluster = Cluster::new(spec);
    cluster.interval = TimeDelta::seconds(10);
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"));
    assert_eq!(cluster.status().time_to_recover.as_deref(), Some("0.0s"));
}

/// The third failure in a row comes between two looks, and in the second everybody is back.
#[test]
fn what_broke_between_two_looks_counts() {
    let mut cluster = Cluster::new(json!({
        "target": {"service": "inventory"}, "duration": "10s", "crash": {},
        "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
    }));
    cluster.answer = |cluster, _| cluster.pods.iter().all(|pod| pod.view.ready);
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Recovering));
    assert!(cluster.status().probes[0].failed < 3, "it is not decided yet");
    cluster.pass(TimeDelta::seconds(8));
    assert!(cluster.pods.iter().all(|pod| pod.view.ready));
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Fail), "SteadyStateDeviated"));
}

#[test]
fn a_process_with_other_settings_goes_on_with_what_the_pods_were_told() {
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.injected_at.is_some());
    cluster.limits.max_duration = std::time::Duration::from_secs(5);
    cluster.restart(TimeDelta::seconds(2));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"));
    let lasted = cluster.status().fault_ended_at.unwrap() - cluster.status().injected_at.unwrap();
    assert!(
        (lasted - TimeDelta::seconds(10)).abs() < TimeDelta::seconds(1),
        "{lasted}"
    );
}

/// A short restart is tolerated as a gap; what was seen before it is not forgotten by that.
#[test]
fn failures_in_a_row_over_a_change_of_hands_pass_nobody() {
    let mut spec = latency();
    spec["duration"] = json!("30s");
    let mut cluster = Cluster::new(spec);
    cluster.answer = |cluster, now| {
        let injected = cluster
            .experiment
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .unwrap()
            .injected_at;
        injected.is_none_or(|at| !(4..9).contains(&(now - at).num_seconds()))
    };
    until(&mut cluster, |status| {
        status.probes.first().is_some_and(|probe| probe.failed == 2)
    });
    cluster.restart(TimeDelta::milliseconds(2_000));
    // One more failure, and then it is well again.
    cluster.answer = |cluster, _| cluster.samples.iter().flatten().all(|own| !own.samples.is_empty());
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Error), "ObservationGap"));
}

#[test]
fn a_stop_before_it_began_names_the_way_to_run_it() {
    let mut spec = pod_kill();
    spec["safety"] = json!({"minPodAge": "3m"});
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| {
        status.reason.as_deref() == Some("WaitingForPodAge")
    });
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
    let mut cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Stopped), "AbortedByUser"));
    let message = cluster.status().message.clone().unwrap();
    assert!(
        message.contains("to run it again, set it to Run and annotation"),
        "{message}"
    );
    assert!(message.contains(RUN_ANNOTATION), "{message}");
    cluster.pass(TimeDelta::minutes(5));
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Run;
    cluster.look(&mut fine);
    assert!(cluster.is_over(), "Run alone starts nothing again");
    let experiment = cluster.experiment.as_mut().unwrap();
    experiment
        .annotations_mut()
        .insert(RUN_ANNOTATION.into(), "again".into());
    until(&mut cluster, |status| status.run.as_deref() == Some("again"));
    assert_eq!(over(cluster).evicted.len(), 1);
}
