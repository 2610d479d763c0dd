//! The pods' clocks, the process's absences and the probes' answers as they come, and what the run must be called then.

use super::*;

pub(super) fn over(mut cluster: Cluster) -> Cluster {
    cluster.run(2_000, &mut fine);
    cluster.assert_clean();
    cluster
}

pub(super) fn reason(cluster: &Cluster) -> (Option<Verdict>, &str) {
    let status = cluster.status();
    (status.verdict, status.reason.as_deref().unwrap_or_default())
}

/// Looks until `wanted` is true of the status.
pub(super) fn until(cluster: &mut Cluster, wanted: impl Fn(&valerix_crds::ChaosExperimentStatus) -> bool) {
    for _ in 0..500 {
        if cluster
            .experiment
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .is_some_and(&wanted)
        {
            return;
        }
        let wait = cluster.look(&mut fine).unwrap_or(TimeDelta::seconds(1));
        cluster.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
    }
    panic!("it never comes: {:#?}", cluster.experiment);
}

pub(super) fn end_early(cluster: &mut Cluster, pods: std::ops::Range<usize>, why: Option<&str>) {
    let now = cluster.now;
    for pod in &mut cluster.pods[pods] {
        pod.ended_early = why.map(str::to_owned);
        pod.faults.values_mut().for_each(|(_, until)| *until = now);
    }
}

#[test]
fn a_fault_that_ended_early_is_lost_whatever_the_reason() {
    for (pods, why) in [
        (0..2, Some("the process restarted")),
        (0..1, Some("the process restarted")),
        (0..2, None),
    ] {
        let mut cluster = Cluster::new(latency());
        until(&mut cluster, |status| status.injected_at.is_some());
        end_early(&mut cluster, pods, why);
        let cluster = over(cluster);
        assert_eq!(reason(&cluster), (Some(Verdict::Error), "TargetsLost"), "{why:?}");
        let message = cluster.status().message.clone().unwrap();
        assert!(message.contains(why.unwrap_or("early")), "{message}");
    }
}

#[test]
fn consent_that_is_withdrawn_stops_the_run() {
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.injected_at.is_some());
    cluster.service.admitted = false;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Stopped), "NotAdmitted"));
    assert_eq!(cluster.status().phase, Some(ChaosPhase::Stopped));
}

#[test]
fn a_run_of_a_name_that_was_used_before_hurts_again() {
    let mut cluster = Cluster::new(latency());
    for name in ["again", "other", "again"] {
        let experiment = cluster.experiment.as_mut().unwrap();
        experiment.annotations_mut().insert(RUN_ANNOTATION.into(), name.into());
        until(&mut cluster, |status| status.run.as_deref() == Some(name));
        cluster = over(cluster);
        assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"), "{name}");
        let status = cluster.status();
        let lasted = status.fault_ended_at.unwrap() - status.injected_at.unwrap();
        assert!(lasted > TimeDelta::seconds(9), "{name}: {lasted}");
    }
}

#[test]
fn an_end_is_no_evidence_of_a_beginning() {
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Running));
    cluster.run(1, &mut fine);
    let run = cluster.name().text();
    for pod in &mut cluster.pods {
        pod.faults.insert(run.clone(), (cluster.now, cluster.now));
    }
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "ObservationGap"));
    assert_eq!(cluster.status().summary.as_ref().unwrap().injected, "0/2");
}

#[test]
fn a_fault_that_no_request_met_passes_nobody() {
    let mut cluster = Cluster::new(latency());
    cluster.hits = 0;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::NotEvaluated), "NoRequestAffected"));
}

/// An operator that dies right after the lock and comes back later has not seen the beginning.
#[test]
fn time_that_nobody_watched_is_a_gap_wherever_it_lies() {
    let slow = json!({"duration": "60s"});
    let mut spec = latency();
    spec["duration"] = slow["duration"].clone();
    // Between the lock and the first report.
    let mut cluster = Cluster::new(spec.clone());
    while cluster.document.is_none() {
        cluster.run(1, &mut fine);
    }
    cluster.restart(TimeDelta::seconds(20));
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Error), "ObservationGap"));
    // Over the end, with a first answer that comes late.
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| status.injected_at.is_some());
    let left = cluster.status().injected_at.unwrap() + TimeDelta::seconds(63) - cluster.now;
    cluster.run(20, &mut fine);
    cluster.first_answer_after = TimeDelta::seconds(3);
    cluster.restart(left);
    assert_eq!(reason(&over(cluster)), (Some(Verdict::Error), "ObservationGap"));
    // After it.
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Recovering));
    cluster.restart(TimeDelta::seconds(40));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "ObservationGap"));
    assert_eq!(cluster.status().time_to_recover, None, "nobody saw when");
}

/// The first pod is over when the last one begins: what broke in between counts.
#[test]
fn the_judgement_begins_with_the_first_pod() {
    let mut spec = latency();
    spec["duration"] = json!("5s");
    let mut cluster = Cluster::new(spec);
    cluster.pods[1].reads_after = TimeDelta::seconds(7);
    cluster.answer = |cluster, _| {
        let hurt = |(from, until): &(DateTime<Utc>, DateTime<Utc>)| *from <= cluster.now && cluster.now < *until;
        !cluster.pods[0].faults.values().any(hurt)
    };
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Fail), "SteadyStateDeviated"));
}

#[test]
fn a_partial_eviction_passes_nobody() {
    let mut spec = pod_kill();
    (spec["count"], spec["safety"]) = (json!(2), json!({"minAvailable": 0}));
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| status.injected_at.is_some());
    cluster.budget = true;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::NotEvaluated), "PartlyInjected"));
    assert_eq!(cluster.evicted.len(), 1);
    assert_eq!(cluster.status().summary.as_ref().unwrap().injected, "1/2");
}

#[test]
fn nobody_is_evicted_whom_the_service_needs_by_now() {
    let mut cluster = Cluster::new(pod_kill());
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Running));
    let victim = cluster.status().targets[0].uid.clone();
    let other = cluster.pods.iter_mut().find(|pod| pod.view.uid != victim).unwrap();
    (other.view.removal, other.gone_at) = (Removal::Deleted(at(100)), Some(at(100_000)));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Skipped), "NotEnoughPods"));
    assert!(cluster.requests.is_empty());
    assert_eq!(cluster.status().fault_ended_at, None, "nothing began, so nothing ended");
}

#[test]
fn a_document_that_nobody_can_read_holds_up_no_stop() {
    let mut cluster = Cluster::new(latency());
    until(&mut cluster, |status| status.injected_at.is_some());
    cluster.document = Some("{edited by hand".into());
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
    // Pods go on with the document before it: what they report of the fault is still true.
    for pod in &mut cluster.pods {
        pod.document.clone_from(&cluster.document);
    }
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Stopped), "AbortedByUser"));
    let text = cluster.document.as_deref().unwrap();
    assert!(
        Faults::parse(text.as_bytes()).is_ok(),
        "pods are given something to read: {text}"
    );
}

/// Its pods have read the document of an earlier run and never see another: they are asked until it is too late to begin.
#[test]
fn a_config_map_that_is_gone_holds_up_no_stop_for_ever() {
    let mut cluster = Cluster::new(latency());
    cluster.document = Some(crate::chaos_experiment::entry::released("an earlier run"));
    cluster.pass(TimeDelta::seconds(1));
    for pod in &mut cluster.pods {
        pod.reads_after = TimeDelta::hours(1);
    }
    until(&mut cluster, |status| status.phase == Some(ChaosPhase::Running));
    while !is_ours(&cluster, &cluster.name()) {
        cluster.run(1, &mut fine);
    }
    cluster.map_removed = true;
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
    let stopped_at = cluster.now;
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Stopped), "AbortedByUser"));
    let waited = cluster.now - stopped_at;
    assert!(
        waited > TimeDelta::seconds(45),
        "a pod might still have begun: {waited}"
    );
}

#[test]
fn the_time_to_recover_is_that_of_the_event_and_not_of_the_look() {
    // Nothing broke, so there was nothing to recover from.
    let cluster = over(Cluster::new(latency()));
    assert_eq!(cluster.status().time_to_recover.as_deref(), Some("0.0s"));
    // Nobody looked for a while, and the pods say since when they are ready.
    let mut spec = pod_kill();
    spec["steadyState"] = Value::Null;
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| status.injected_at.is_some());
    cluster.restart(TimeDelta::seconds(50));
    let cluster = over(cluster);
    let text = cluster.status().time_to_recover.clone().unwrap();
    let seconds: f64 = text.trim_end_matches('s').parse().unwrap();
    assert!((2.9..=4.1).contains(&seconds), "{text}");
}

#[test]
fn a_run_that_cannot_begin_in_time_does_not_begin_at_all() {
    let mut spec = pod_kill();
    (spec["schedule"], spec["safety"]) = (json!("0 0 1 1 *"), json!({"minPodAge": "12h"}));
    let mut cluster = Cluster::new(spec);
    cluster.look(&mut fine);
    let tick = cluster.status().next_run_at.unwrap();
    cluster.now = tick;
    for pod in &mut cluster.pods {
        pod.view.created_at = tick - TimeDelta::hours(1);
    }
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Skipped), "MissedSchedule"));
    assert!(cluster.now - tick < TimeDelta::minutes(6));
    assert!(
        cluster.status().message.as_ref().unwrap().contains("minPodAge"),
        "{:?}",
        cluster.status()
    );
}

/// It waits into an hour in which nothing may start, before its intent or between the intent and the fault.
#[test]
fn a_run_that_waits_into_an_excluded_window_hurts_nobody() {
    for fault in [pod_kill(), latency()] {
        for waits in [true, false] {
            let mut spec = fault.clone();
            spec["schedule"] = json!("59 23 31 12 *");
            spec["excludedWindows"] = json!([{"from": "00:00", "to": "17:00"}]);
            let mut cluster = Cluster::new(spec);
            cluster.look(&mut fine);
            let tick = cluster.status().next_run_at.unwrap();
            cluster.now = tick + TimeDelta::seconds(50);
            if waits {
                for pod in &mut cluster.pods {
                    pod.view.created_at = cluster.now;
                }
            } else {
                until(&mut cluster, |status| status.intent_at.is_some());
                cluster.restart(TimeDelta::seconds(15));
            }
            let cluster = over(cluster);
            let context = format!("{fault}, waits: {waits}: {:#?}", cluster.status());
            assert_eq!(
                reason(&cluster),
                (Some(Verdict::Skipped), "ExcludedWindow"),
                "{context}"
            );
            assert_eq!(
                (cluster.attempts, cluster.status().fault_ended_at),
                (0, None),
                "{context}"
            );
            assert!(cluster.pods.iter().all(|pod| pod.faults.is_empty()), "{context}");
            assert_eq!(cluster.status().history[0].reason, "ExcludedWindow", "{context}");
        }
    }
}

#[test]
fn a_tick_that_comes_during_a_run_is_skipped_and_the_next_is_planned() {
    let mut spec = latency();
    (spec["schedule"], spec["duration"], spec["safety"]) =
        (json!("* * * * *"), json!("90s"), json!({"cooldown": "0s"}));
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, |status| status.injected_at.is_some());
    let run = cluster.status().scheduled_at.unwrap();
    until(&mut cluster, |status| {
        status.last_scheduled_at.is_some_and(|last| last > run)
    });
    let status = cluster.status();
    assert_eq!(
        (status.scheduled_at, status.phase),
        (Some(run), Some(ChaosPhase::Running))
    );
    assert!(status.next_run_at.unwrap() > cluster.now);
}

#[test]
fn what_the_api_server_refuses_for_good_fails_the_run_and_not_the_next_one() {
    let refusal = "this pod has more than one PodDisruptionBudget; leave one PodDisruptionBudget that selects this pod";
    let mut cluster = Cluster::new(pod_kill());
    cluster.refusal = Some(refusal);
    let mut cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Error), "InjectionFailed"));
    let status = cluster.status();
    assert_eq!(status.phase, Some(ChaosPhase::Failed));
    assert!(status.message.as_ref().unwrap().contains(refusal), "{status:#?}");
    assert_eq!(
        (status.targets[0].state, status.targets[0].refused_by),
        (TargetState::Refused, Some(RefusedBy::ApiServer))
    );
    assert_eq!((cluster.requests.len(), cluster.evicted.len()), (1, 0));

    cluster.refusal = None;
    // The process keeps answers by run.
    cluster.evictions.clear();
    let experiment = cluster.experiment.as_mut().unwrap();
    experiment
        .annotations_mut()
        .insert(RUN_ANNOTATION.into(), "again".into());
    until(&mut cluster, |status| status.run.as_deref() == Some("again"));
    let cluster = over(cluster);
    assert_eq!(reason(&cluster), (Some(Verdict::Pass), "SteadyStateHeld"));
    assert_eq!(cluster.evicted.len(), 1);
}
