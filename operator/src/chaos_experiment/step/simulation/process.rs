//! Faults that act on the process, and those that pods only count otherwise: what a run of them comes to.

use super::*;

impl PodModel {
    /// Its process ends; the next one starts after `pause`.
    pub(super) fn crash(&mut self, now: DateTime<Utc>, pause: TimeDelta) {
        self.crashes_left -= 1;
        self.reachable = false;
        if !self.seems_ready {
            (self.view.ready, self.view.ready_since) = (false, None);
        }
        self.view.process_ended_at = DateTime::from_timestamp(now.timestamp(), 0);
        self.starts_at = Some(now + pause);
    }

    /// A process starts, and ends at once if it still has to.
    pub(super) fn start(&mut self, now: DateTime<Utc>) {
        self.starts_at = None;
        if self.crashes_left > 0 {
            return self.crash(now, TimeDelta::seconds(10));
        }
        self.reachable = true;
        self.ready_at = now + REPLACEMENT;
    }
}

fn of(fault: Value) -> Value {
    let mut spec = json!({
        "target": {"service": "inventory"}, "duration": "10s",
        "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
    });
    spec.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
    spec
}

fn over(mut cluster: Cluster) -> Cluster {
    cluster.run(2_000, &mut fine);
    cluster.assert_clean();
    cluster
}

fn verdict(cluster: &Cluster) -> (Option<Verdict>, &str) {
    let status = cluster.status();
    (status.verdict, status.reason.as_deref().unwrap_or_default())
}

fn seconds(cluster: &Cluster) -> f64 {
    let text = cluster.status().time_to_recover.as_ref().unwrap();
    text.trim_end_matches('s').parse().unwrap()
}

#[test]
fn a_crash_passes_and_is_over_when_the_same_pod_is_ready_again() {
    let cluster = over(Cluster::new(of(json!({"crash": {}}))));
    assert_eq!(
        verdict(&cluster),
        (Some(Verdict::Pass), "SteadyStateHeld"),
        "{:#?}",
        cluster.status()
    );
    let status = cluster.status();
    assert_eq!(status.targets[0].state, TargetState::Recovered);
    assert_eq!(status.summary.as_ref().unwrap().injected, "1/1");
    assert!(cluster.requests.is_empty(), "nobody is evicted");
    let time = seconds(&cluster);
    assert!(
        (4.0..=6.0).contains(&time),
        "down for 1 s and ready 3 s later, to the second: {time}"
    );
}

#[test]
fn a_process_that_is_ended_three_times_is_awaited_longer_than_a_delivery() {
    let mut cluster = Cluster::new(of(json!({"crash": {"times": 3}, "duration": "20s"})));
    cluster
        .pods
        .iter_mut()
        .for_each(|pod| pod.reads_after = TimeDelta::seconds(36));
    let cluster = over(cluster);
    assert_eq!(
        verdict(&cluster),
        (Some(Verdict::Pass), "SteadyStateHeld"),
        "{:#?}",
        cluster.status()
    );
    assert!(cluster.status().injected_at.unwrap() - cluster.status().intent_at.unwrap() > TimeDelta::seconds(45));
}

/// The process ends late in the second of the intent, and Kubernetes keeps the second alone. The last answer before that is a
/// good one, and the next one comes long afterwards.
#[test]
fn an_answer_from_before_the_end_is_no_sign_of_a_recovery() {
    let mut spec = of(json!({"crash": {}}));
    spec["steadyState"]["probes"][0]["interval"] = json!("5s");
    let mut seen = 0;
    for delay in 0..10 {
        let mut cluster = Cluster::new(spec.clone());
        cluster.interval = TimeDelta::seconds(5);
        cluster.pass(TimeDelta::milliseconds(700));
        for pod in &mut cluster.pods {
            (pod.reads_after, pod.seems_ready) = (TimeDelta::milliseconds(100 * delay), true);
        }
        cluster.answer = |cluster, _| cluster.pods.iter().all(|pod| pod.reachable);
        let cluster = over(cluster);
        let status = cluster.status();
        assert_eq!(
            verdict(&cluster),
            (Some(Verdict::Pass), "SteadyStateHeld"),
            "{status:#?}"
        );
        let ended = status.targets[0].active_at.unwrap();
        seen += usize::from(ended == status.intent_at.unwrap());
        let asked = cluster.samples.iter().flatten().flat_map(|own| &own.samples);
        let last = asked.map(|sample| sample.started).max().unwrap();
        assert!(
            last >= DateTime::from_timestamp(ended.timestamp() + 1, 0).unwrap(),
            "delay {delay}: nobody asked after the end"
        );
        assert!(seconds(&cluster) > 0.0, "delay {delay}: {status:#?}");
    }
    assert!(seen > 0, "no process ended in the second of its intent");
}

#[test]
fn what_breaks_until_the_process_is_back_fails_the_run() {
    let mut cluster = Cluster::new(of(json!({"crash": {}})));
    cluster.answer = |cluster, _| cluster.pods.iter().all(|pod| pod.view.ready);
    let cluster = over(cluster);
    assert_eq!(
        verdict(&cluster),
        (Some(Verdict::Fail), "SteadyStateDeviated"),
        "{:#?}",
        cluster.status()
    );
}

#[test]
fn a_process_that_ended_for_another_reason_is_lost() {
    let mut cluster = Cluster::new(of(json!({"crash": {}})));
    cluster
        .pods
        .iter_mut()
        .for_each(|pod| pod.ended_early = Some("the process is younger than the experiment".into()));
    let cluster = over(cluster);
    assert_eq!(verdict(&cluster), (Some(Verdict::Error), "TargetsLost"));
    let message = cluster.status().message.clone().unwrap();
    assert!(
        message.contains("was not ended by the fault: the process is younger"),
        "{message}"
    );
}

#[test]
fn a_crash_that_the_pods_status_does_not_show_is_not_believed() {
    let mut cluster = Cluster::new(of(json!({"crash": {}})));
    for pod in &mut cluster.pods {
        pod.reads_after = TimeDelta::seconds(1);
    }
    while cluster.document.is_none() {
        cluster.run(1, &mut fine);
    }
    let run = cluster.name().text();
    for pod in &mut cluster.pods {
        pod.faults.insert(run.clone(), (cluster.now, cluster.now));
    }
    let cluster = over(cluster);
    assert_eq!(verdict(&cluster), (Some(Verdict::Error), "NotDelivered"));
}

#[test]
fn only_what_pods_count_can_have_met_no_request() {
    for (fault, expected) in [
        (json!({"abort": {}}), "NoRequestAffected"),
        (json!({"partition": {"peer": "order"}}), "NoRequestAffected"),
        (json!({"refuse": {}}), "SteadyStateHeld"),
        (json!({"cpuStress": {}}), "SteadyStateHeld"),
        (json!({"memoryStress": {"size": "64Mi"}}), "SteadyStateHeld"),
    ] {
        let mut cluster = Cluster::new(of(fault.clone()));
        cluster.hits = 0;
        assert_eq!(verdict(&over(cluster)).1, expected, "{fault}");
    }
}

#[test]
fn a_service_that_would_be_left_with_nobody_is_not_cut_off() {
    for fault in [
        json!({"refuse": {}}),
        json!({"partition": {"peer": "order"}}),
        json!({"crash": {}}),
    ] {
        let mut spec = of(fault.clone());
        spec["count"] = json!("100%");
        let cluster = {
            let mut cluster = Cluster::new(spec);
            cluster.run(500, &mut fine);
            cluster
        };
        assert_eq!(verdict(&cluster), (Some(Verdict::Skipped), "NotEnoughPods"), "{fault}");
        assert_eq!(cluster.document, None, "nothing was written");
    }
}

#[test]
fn a_process_that_restarted_under_stress_is_lost() {
    let mut cluster = Cluster::new(of(json!({"memoryStress": {"size": "1Gi"}})));
    while cluster
        .experiment
        .as_ref()
        .unwrap()
        .status
        .as_ref()
        .is_none_or(|status| status.injected_at.is_none())
    {
        cluster.run(1, &mut fine);
    }
    let now = cluster.now;
    for pod in &mut cluster.pods {
        pod.ended_early = Some("the process restarted while it was on".into());
        pod.faults.values_mut().for_each(|(_, until)| *until = now);
    }
    assert_eq!(verdict(&over(cluster)), (Some(Verdict::Error), "TargetsLost"));
}
