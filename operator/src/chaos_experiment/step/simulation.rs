//! A model of a cluster in which `decide` is run as the controller runs it: with crashes, lost answers and refusals.

use super::action::Action;
use super::situation::{entry_name, has_finalizer};
use super::{Idle, decide, idle};
use crate::chaos_experiment::entry::{Lock, lock};
use crate::chaos_experiment::faults::pod_kill::EvictionResult;
use crate::chaos_experiment::identity::EntryName;
use crate::chaos_experiment::limits::Limits;
use crate::chaos_experiment::observed::{
    Document, FaultView, Observed, PodView, Removal, ReportView, ServiceView, WorkloadView,
};
use crate::chaos_experiment::probes::samples::{ProbeResult, ProbeSamples, Sample, Samples};
use crate::chaos_experiment::testing::{at, experiment, limits};
use crate::chaos_experiment::validate::{schedule, validate};
use crate::runtime::conditions::is_true;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use valerix_crds::names::condition::{COMPLETED, RECOVERED};
use valerix_crds::names::{CHAOS_FINALIZER, RUN_ANNOTATION};
use valerix_crds::{ChaosExperiment, ChaosPhase, DesiredState, RefusedBy, TargetState, Verdict};
use valerix_policy::{FaultState, Faults};

mod budget;
mod campaign;
mod changed;
mod choice;
mod cluster;
mod late;
mod modes;
mod process;
mod remembered;
mod silent;
mod table;
mod truth;

use cluster::*;

fn pod_kill() -> Value {
    json!({
        "target": {"service": "inventory"}, "podKill": {},
        "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
    })
}

fn latency() -> Value {
    json!({
        "target": {"service": "inventory"}, "latency": {"delay": "1s"}, "duration": "10s", "count": "100%",
        "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
    })
}

fn fine(_: usize) -> Mishap {
    Mishap::None
}

#[test]
fn a_pod_kill_passes_and_names_victim_and_time() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    let status = cluster.status();
    assert_eq!(
        (status.phase, status.verdict),
        (Some(ChaosPhase::Completed), Some(Verdict::Pass)),
        "{status:#?}"
    );
    assert_eq!(cluster.evicted, [status.targets[0].uid.clone()]);
    assert_eq!(status.targets[0].state, TargetState::Recovered);
    assert_eq!(status.summary.as_ref().unwrap().injected, "1/1");
    let seconds: f64 = status
        .time_to_recover
        .as_ref()
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!(
        (3.0..4.0).contains(&seconds),
        "the successor is ready after 3 s, not {seconds}"
    );
    assert!(status.probes[0].passed > 3 && status.probes[0].failed == 0);
}

#[test]
fn latency_passes_and_is_over_when_the_pods_say_so() {
    let mut cluster = Cluster::new(latency());
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    let status = cluster.status();
    assert_eq!(
        (status.phase, status.verdict),
        (Some(ChaosPhase::Completed), Some(Verdict::Pass)),
        "{status:#?}"
    );
    assert_eq!(status.summary.as_ref().unwrap().injected, "2/2");
    let lasted = status.fault_ended_at.unwrap() - status.injected_at.unwrap();
    assert!(
        (lasted - TimeDelta::seconds(10)).abs() < TimeDelta::seconds(1),
        "{lasted}"
    );
    assert!(cluster.requests.is_empty());
}

#[test]
fn a_deviation_ends_the_fault_early_and_fails() {
    let mut cluster = Cluster::new(latency());
    cluster.answer = |cluster, _| {
        cluster
            .pods
            .iter()
            .all(|pod| pod.faults.values().all(|(_, until)| *until <= cluster.now))
    };
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    let status = cluster.status();
    assert_eq!(
        (status.verdict, status.reason.as_deref()),
        (Some(Verdict::Fail), Some("SteadyStateDeviated")),
        "{status:#?}"
    );
    assert!(
        status.fault_ended_at.unwrap() - status.injected_at.unwrap() < TimeDelta::seconds(6),
        "stopOnFailure"
    );
    assert!(
        status.time_to_recover.is_some(),
        "the recovery is measured all the same"
    );
}

#[test]
fn a_system_that_does_not_come_back_fails() {
    let mut cluster = Cluster::new(latency());
    cluster
        .experiment
        .as_mut()
        .unwrap()
        .spec
        .steady_state
        .as_mut()
        .unwrap()
        .recovery_timeout = Some("5s".parse().unwrap());
    cluster.answer = |cluster, now| {
        cluster
            .experiment
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .is_none_or(|status| {
                status.fault_ended_at.is_none() && status.injected_at.is_none_or(|at| now - at < TimeDelta::seconds(9))
            })
    };
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    assert_eq!(cluster.status().reason.as_deref(), Some("DidNotRecover"));
    assert_eq!(cluster.status().time_to_recover, None);
}

#[test]
fn a_baseline_that_does_not_hold_skips_the_run() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.answer = |_, _| false;
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().phase, cluster.status().reason.as_deref()),
        (Some(ChaosPhase::Skipped), Some("SteadyStateNotMet"))
    );
    assert!(cluster.requests.is_empty() && cluster.document.is_none());
}

#[test]
fn a_budget_that_refuses_skips_the_run() {
    let mut cluster = Cluster::new(pod_kill());
    cluster.budget = true;
    cluster.run(500, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().verdict, cluster.status().reason.as_deref()),
        (Some(Verdict::Skipped), Some("DisruptionBudget"))
    );
    assert_eq!(cluster.requests.len(), 1, "asked once");
}

#[test]
fn a_victim_that_vanishes_is_gone_and_nobody_takes_its_place() {
    let mut cluster = Cluster::new(pod_kill());
    for _ in 0..500 {
        let injecting = cluster
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
        if injecting && cluster.requests.is_empty() {
            // A StatefulSet would make a pod of the same name: its UID tells it apart.
            let victim = cluster.status().targets[0].uid.clone();
            let model = cluster.pods.iter_mut().find(|pod| pod.view.uid == victim).unwrap();
            let observed = cluster.experiment.clone();
            model.view.uid = "stranger".into();
            let name = model.view.name.clone();
            let answer = cluster.evict(&name, &victim, false);
            cluster.requests.push(victim.clone());
            cluster.evictions.insert(victim, answer);
            cluster.experiment = observed;
        }
        let wait = cluster.look(&mut fine).unwrap_or(TimeDelta::seconds(1));
        cluster.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
        if cluster.is_over() {
            break;
        }
    }
    cluster.assert_clean();
    assert_eq!(cluster.evicted, Vec::<String>::new());
    assert_eq!(cluster.status().targets[0].state, TargetState::Gone);
    assert_eq!(cluster.status().reason.as_deref(), Some("TargetsLost"));
}

#[test]
fn a_fault_that_is_not_delivered_is_undone() {
    let mut cluster = Cluster::new(latency());
    cluster.pods[1].reachable = false;
    cluster.run(150, &mut fine);
    let status = cluster.status();
    assert_eq!(status.reason.as_deref(), Some("NotDelivered"), "{status:#?}");
    assert!(!is_true(&status.conditions, RECOVERED), "a silent pod is not believed");
    assert_eq!(status.phase, Some(ChaosPhase::Recovering));
    assert!(!is_ours(&cluster, &cluster.name()));
    cluster.pods[1].reachable = true;
    cluster.run(50, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().verdict, cluster.status().phase),
        (Some(Verdict::Error), Some(ChaosPhase::Failed))
    );
}

#[test]
fn the_safety_lever_stops_what_runs_and_skips_what_has_not_begun() {
    let mut cluster = Cluster::new(latency());
    cluster.run(15, &mut fine);
    assert_eq!(
        cluster.status().phase,
        Some(ChaosPhase::Running),
        "{:#?}",
        cluster.status()
    );
    cluster.stop_order = Some("maintenance".into());
    cluster.run(200, &mut fine);
    cluster.assert_clean();
    assert_eq!(
        (cluster.status().verdict, cluster.status().reason.as_deref()),
        (Some(Verdict::Stopped), Some("SafetyLever"))
    );
    assert!(cluster.status().message.as_ref().unwrap().contains("maintenance"));

    let mut cluster = Cluster::new(pod_kill());
    cluster.stop_order = Some("maintenance".into());
    cluster.run(200, &mut fine);
    assert_eq!(
        (cluster.status().phase, cluster.status().verdict),
        (Some(ChaosPhase::Skipped), Some(Verdict::Skipped))
    );
    assert!(cluster.requests.is_empty());
}

/// Deleted at any look of its life, while pods read at once what is written for them, or only after a while.
#[test]
fn a_deleted_experiment_is_recovered_before_it_goes() {
    let lives = [0, 3]
        .into_iter()
        .flat_map(|delay| (0..60).map(move |steps| (delay, steps)));
    for (delay, steps) in lives {
        let mut cluster = Cluster::new(latency());
        for pod in &mut cluster.pods {
            pod.reads_after = TimeDelta::seconds(delay);
        }
        cluster.run(steps, &mut fine);
        let finalized = has_finalizer(cluster.experiment.as_ref().unwrap());
        if !finalized {
            continue;
        }
        let context = format!("after {steps} steps, where pods read after {delay} s");
        let name = cluster.name();
        let deletion = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        cluster.experiment.as_mut().unwrap().metadata.deletion_timestamp = Some(deletion);
        // It ends with the look at which the experiment goes.
        cluster.run(200, &mut fine);
        assert!(cluster.experiment.is_none(), "{context}: {:#?}", cluster.experiment);
        assert!(!is_ours(&cluster, &name), "{context}");
        for pod in &cluster.pods {
            assert!(
                pod.faults.values().all(|(_, until)| *until <= cluster.now),
                "{context} a pod is still hurt"
            );
        }
    }
}

#[test]
fn an_answer_that_is_lost_is_read_off_the_pod() {
    let mut reference = Cluster::new(pod_kill());
    reference.run(500, &mut fine);
    for victim in 0..reference.mutations {
        let mut cluster = Cluster::new(pod_kill());
        cluster.run(800, &mut |count| {
            if count == victim {
                Mishap::AnswerLost
            } else {
                Mishap::None
            }
        });
        cluster.assert_clean();
        assert_eq!(
            (cluster.evicted.len(), cluster.requests.len()),
            (1, 1),
            "lost answer at write {victim}"
        );
        assert_eq!(
            cluster.status().verdict,
            Some(Verdict::Pass),
            "lost answer at write {victim}: {:#?}",
            cluster.status()
        );
    }
}
