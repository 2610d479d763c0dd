//! Pods that do not report for a while, or never again: what they have not said passes nobody.

use super::truth::{end_early, over, reason, until};
use super::*;

/// Looks until second `second` after `since`.
fn watch(cluster: &mut Cluster, since: DateTime<Utc>, second: i64) {
    while cluster.now < since + TimeDelta::seconds(second) && !cluster.is_over() {
        cluster.run(1, &mut fine);
    }
}

pub(super) fn lasting(duration: &str) -> Cluster {
    let mut spec = latency();
    spec["duration"] = json!(duration);
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| status.injected_at.is_some());
    cluster
}

#[test]
fn a_pod_that_is_silent_over_the_end_is_believed_when_it_says_how_it_ended() {
    // Its process ended under the fault, and the one after it is not ready before the fault's time is over.
    let mut cluster = lasting("20s");
    let began = cluster.now;
    watch(&mut cluster, began, 5);
    end_early(&mut cluster, 0..1, Some("the process restarted while it was on"));
    cluster.pods[0].reachable = false;
    watch(&mut cluster, began, 35);
    assert_eq!(cluster.status().phase, Some(ChaosPhase::Recovering));
    assert!(
        is_ours(&cluster, &cluster.name()),
        "it would not say any more how it ended"
    );
    cluster.pods[0].reachable = true;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "TargetsLost"));
    let message = cluster.status().message.clone().unwrap();
    assert!(message.contains("the process restarted"), "{message}");

    // It was only not ready for a while: its fault lasted as long as it should.
    let mut cluster = lasting("20s");
    let began = cluster.now;
    watch(&mut cluster, began, 15);
    cluster.pods[0].reachable = false;
    watch(&mut cluster, began, 35);
    assert_eq!(cluster.status().phase, Some(ChaosPhase::Recovering));
    cluster.pods[0].reachable = true;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"));
    assert_eq!(cluster.status().time_to_recover.as_deref(), Some("0.0s"));
    let lasted = cluster.status().fault_ended_at.unwrap() - cluster.status().injected_at.unwrap();
    assert!(
        (lasted - TimeDelta::seconds(20)).abs() < TimeDelta::seconds(1),
        "{lasted}"
    );
}

#[test]
fn a_pod_that_never_says_how_its_fault_ended_passes_nobody() {
    // Its node is lost; the pod goes minutes later.
    let mut cluster = lasting("20s");
    let began = cluster.now;
    watch(&mut cluster, began, 5);
    cluster.pods[0].reachable = false;
    watch(&mut cluster, began, 60);
    cluster.pods[0].gone_at = Some(cluster.now);
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Error), "TargetsLost"));

    // Somebody forces the end instead.
    let mut cluster = lasting("20s");
    let began = cluster.now;
    watch(&mut cluster, began, 5);
    cluster.pods[0].reachable = false;
    watch(&mut cluster, began, 30);
    let experiment = cluster.experiment.as_mut().unwrap();
    let force = valerix_crds::names::FORCE_FINALIZE_ANNOTATION;
    experiment.annotations_mut().insert(force.into(), "true".into());
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "TargetsLost"));
    let recovered = crate::runtime::conditions::find_condition(&cluster.status().conditions, RECOVERED).unwrap();
    assert_eq!(recovered.reason, "Forced");

    // A stop needs no word of it but that the fault is out.
    let mut cluster = lasting("20s");
    let began = cluster.now;
    watch(&mut cluster, began, 5);
    cluster.pods[0].reachable = false;
    watch(&mut cluster, began, 30);
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
    cluster.run(1, &mut fine);
    assert!(!is_ours(&cluster, &cluster.name()), "a stop takes it out at once");
    cluster.pods[0].reachable = true;
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Stopped), "AbortedByUser"));
}

#[test]
fn the_requests_that_met_the_fault_are_counted_when_every_pod_has_said_so() {
    for (hits, expected) in [
        (0, (Some(Verdict::NotEvaluated), "NoRequestAffected")),
        (3, (Some(Verdict::Pass), "SteadyStateHeld")),
    ] {
        let mut cluster = lasting("10s");
        let began = cluster.now;
        // What was counted by the beginning is not the whole.
        cluster.hits = 0;
        watch(&mut cluster, began, 8);
        cluster.pods[1].reachable = false;
        watch(&mut cluster, began, 20);
        (cluster.hits, cluster.pods[1].reachable) = (hits, true);
        assert_eq!(reason(&over(cluster)), expected, "{hits}");
    }
    // Whoever does not count for the rest of the time may have been met or not.
    let mut cluster = lasting("10s");
    cluster.hits = 0;
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Recovering));
    cluster.pods[1].reachable = false;
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Error), "ObservationGap"));
}
