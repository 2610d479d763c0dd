//! What changes while a run is under way: consent, the pods, the spec, who has the target.

use super::silent::lasting;
use super::truth::{over, reason, until};
use super::*;

/// The victim was marked by a process that is gone; what allowed it is asked again.
#[test]
fn a_mark_is_no_leave_to_evict_later() {
    let marked = || {
        let mut cluster = Cluster::new(pod_kill());
        let injecting = |target: &valerix_crds::TargetStatus| target.state == TargetState::Injecting;
        until(&mut cluster, |status| status.targets.iter().any(injecting));
        assert!(cluster.requests.is_empty());
        cluster.restart(TimeDelta::seconds(1));
        cluster
    };
    let mut cluster = marked();
    let victim = cluster.status().targets[0].uid.clone();
    let other = cluster.pods.iter_mut().find(|pod| pod.view.uid != victim).unwrap();
    (other.view.removal, other.gone_at) = (Removal::Deleted(at(100)), Some(at(100_000)));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Skipped), "NotEnoughPods"));
    assert_eq!(cluster.status().targets[0].refused_by, Some(RefusedBy::MinAvailable));
    assert_eq!((cluster.requests.len(), cluster.status().fault_ended_at), (0, None));

    let mut cluster = marked();
    cluster.service.admitted = false;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Stopped), "NotAdmitted"));
    assert_eq!((cluster.requests.len(), cluster.status().fault_ended_at), (0, None));
}

#[test]
fn what_breaks_after_the_first_eviction_spares_the_others() {
    let mut spec = pod_kill();
    (spec["count"], spec["safety"]) = (json!(2), json!({"minAvailable": 0}));
    spec["steadyState"]["probes"][0]["failureThreshold"] = json!(1);
    let mut cluster = Cluster::new(spec);
    cluster.answer = |cluster, _| cluster.evicted.is_empty() || cluster.status().phase == Some(ChaosPhase::Recovering);
    until(&mut cluster, |status| status.injected_at.is_some());
    // The API server is slow.
    cluster.pass(TimeDelta::seconds(2));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Fail), "SteadyStateDeviated"));
    assert_eq!(cluster.evicted.len(), 1);
    assert_eq!(cluster.status().summary.as_ref().unwrap().injected, "1/2");
}

#[test]
fn a_fault_that_never_was_has_no_end() {
    // Another experiment took the target first.
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Running));
    let other = EntryName {
        experiment: "other".into(),
        ..cluster.name()
    };
    let plan = validate(&cluster.experiment.as_ref().unwrap().spec, &limits()).unwrap();
    let entry = crate::chaos_experiment::entry::taken(&plan, &other, vec![], vec![], cluster.now);
    cluster.document = Some(entry.unwrap());
    let cluster = over(cluster);
    assert_eq!(reason(&cluster).1, "TargetBusy");
    assert_eq!(cluster.status().fault_ended_at, None);
    // Nobody got it.
    let mut cluster = Cluster::new(latency());
    cluster
        .pods
        .iter_mut()
        .for_each(|pod| pod.reads_after = TimeDelta::seconds(60));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "NotDelivered"));
    assert_eq!(cluster.status().fault_ended_at, None);
    // Nobody obeyed it, and before that was seen the run was stopped.
    let mut cluster = Cluster::new(latency());
    for pod in &mut cluster.pods {
        pod.reads_after = TimeDelta::seconds(1);
        pod.refuses = Some("this image was built without faults");
    }
    until(&mut cluster, |status| {
        let mut states = status.targets.iter().map(|target| target.state);
        states.len() == 2 && states.all(|state| state == TargetState::Injecting)
    });
    cluster.pass(TimeDelta::seconds(2));
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Stopped), "AbortedByUser"));
    assert_eq!(cluster.status().fault_ended_at, None, "{:#?}", cluster.status().targets);
}

#[test]
fn a_scheduled_run_that_waits_has_an_end_of_its_hour_without_the_schedule_too() {
    let mut spec = pod_kill();
    (spec["schedule"], spec["safety"]) = (json!("0 0 1 1 *"), json!({"minPodAge": "12h"}));
    let mut cluster = Cluster::new(spec);
    cluster.look(&mut fine);
    let tick = cluster.status().next_run_at.unwrap();
    cluster.now = tick;
    for pod in &mut cluster.pods {
        pod.view.created_at = tick - TimeDelta::hours(1);
    }
    cluster.run(3, &mut fine);
    cluster.experiment.as_mut().unwrap().spec.schedule = None;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Skipped), "MissedSchedule"));
    assert!(cluster.now - tick < TimeDelta::minutes(6));
}

#[test]
fn a_fault_that_is_changed_while_it_waits_is_called_what_it_is() {
    let mut spec = latency();
    spec["safety"] = json!({"minPodAge": "3m"});
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| {
        status.reason.as_deref() == Some("WaitingForPodAge")
    });
    cluster.experiment.as_mut().unwrap().spec = crate::chaos_experiment::testing::spec(pod_kill());
    let cluster = over(cluster);
    assert_eq!((reason(&cluster).0, cluster.evicted.len()), (Some(Verdict::Pass), 1));
    assert_eq!(cluster.status().summary.as_ref().unwrap().kind, "PodKill");
    assert_eq!(cluster.status().history[0].kind, "PodKill");
}

#[test]
fn a_duration_that_the_operator_cut_is_told_to_the_end() {
    let mut cluster = lasting("20m");
    let cut = "spec.duration is cut to 600s, the operator's chaos.maxDuration";
    until(&mut cluster, |status| status.reason.as_deref() == Some("FaultActive"));
    assert!(
        cluster.status().message.as_ref().unwrap().contains(cut),
        "{:?}",
        cluster.status().message
    );
    cluster.run(6_000, &mut fine);
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"));
    let status = cluster.status();
    assert!(status.message.as_ref().unwrap().contains(cut), "{:?}", status.message);
    assert!(status.history[0].message.as_ref().unwrap().contains(cut));
}

#[test]
fn a_spec_that_is_not_valid_any_more_while_it_recovers_is_called_so() {
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Recovering));
    // What the operator allows was changed.
    let probes = json!([{"name": "errors", "prometheus": {"url": "http://elsewhere", "query": "up", "comparator": "==", "value": 1.0}}]);
    cluster
        .experiment
        .as_mut()
        .unwrap()
        .spec
        .steady_state
        .as_mut()
        .unwrap()
        .probes = serde_json::from_value(probes).unwrap();
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Error), "InvalidSpec"));
}

/// No document and no document read are not the same document.
#[test]
fn a_pod_that_never_read_a_document_may_still_get_the_one_that_is_gone() {
    let mut cluster = Cluster::new(latency());
    cluster
        .pods
        .iter_mut()
        .for_each(|pod| pod.reads_after = TimeDelta::hours(1));
    while cluster.document.is_none() {
        cluster.run(1, &mut fine);
    }
    cluster.map_removed = true;
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
    let stopped_at = cluster.now;
    let cluster = over(cluster);
    assert!(cluster.now - stopped_at > TimeDelta::seconds(45));
}

/// What was refused waits to be asked for, whatever makes it right later: the operator's settings, or the user.
#[test]
fn a_refused_spec_never_fires_by_itself() {
    let mut spec = pod_kill();
    let address = "http://prometheus.monitoring:9090";
    spec["steadyState"]["probes"] = json!([
        {"name": "errors", "prometheus": {"url": address, "query": "up", "comparator": "==", "value": 1.0}},
    ]);
    let mut cluster = over(Cluster::new(spec));
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "InvalidSpec"));
    let status = cluster.status();
    assert_eq!(status.run.as_deref(), Some("experiment-uid"), "a run that was refused");
    let message = status.message.as_ref().unwrap();
    assert!(
        message.contains("chaos.probeUrls") && message.contains(RUN_ANNOTATION),
        "{message}"
    );
    let rests = |cluster: &mut Cluster| {
        for _ in 0..10 {
            cluster.look(&mut fine);
            cluster.pass(TimeDelta::seconds(1));
        }
        assert_eq!(
            (cluster.status().run.as_deref(), cluster.attempts),
            (Some("experiment-uid"), 0)
        );
        assert!(cluster.is_over());
    };
    rests(&mut cluster);
    assert!(is_true(&cluster.status().conditions, COMPLETED));
    let allowed = crate::allowed_url::AllowedUrl::parse(address);
    cluster.limits.probe_urls = vec![allowed.unwrap()];
    rests(&mut cluster);
    let experiment = cluster.experiment.as_mut().unwrap();
    (experiment.spec.steady_state, experiment.metadata.generation) = (None, Some(2));
    rests(&mut cluster);
    let experiment = cluster.experiment.as_mut().unwrap();
    experiment.annotations_mut().insert(RUN_ANNOTATION.into(), "now".into());
    until(&mut cluster, |status| status.run.as_deref() == Some("now"));
    assert_eq!(over(cluster).evicted.len(), 1);
}
