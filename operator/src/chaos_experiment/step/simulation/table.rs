//! The table of verdicts, row by row, for every kind of fault, through all of a run.

use super::campaign::specs;
use super::*;

type Answer = fn(&Cluster, DateTime<Utc>) -> bool;

/// What somebody does in the course of the run.
type Deed = fn(&mut Cluster);

/// Whether anybody is hurt at this moment, or missed.
fn is_hurt(cluster: &Cluster) -> bool {
    let on = |pod: &PodModel| {
        pod.faults
            .values()
            .any(|(from, until)| *from <= cluster.now && cluster.now < *until)
    };
    let serving = cluster.pods.iter().filter(|pod| pod.view.serves()).count();
    cluster.pods.iter().any(on) || serving < 2
}

fn has_begun(cluster: &Cluster) -> bool {
    let status = cluster
        .experiment
        .as_ref()
        .and_then(|experiment| experiment.status.as_ref());
    status.is_some_and(|status| status.intent_at.is_some())
}

fn always(_: &Cluster, _: DateTime<Utc>) -> bool {
    true
}

fn never(_: &Cluster, _: DateTime<Utc>) -> bool {
    false
}

fn unless_hurt(cluster: &Cluster, _: DateTime<Utc>) -> bool {
    !is_hurt(cluster)
}

/// As long as it has not begun, and while somebody is hurt: not when all are well again. Of a pod that went or was ended
/// not from a little before that either, or the run would be over with its return.
fn not_afterwards(cluster: &Cluster, now: DateTime<Utc>) -> bool {
    let status = cluster
        .experiment
        .as_ref()
        .and_then(|experiment| experiment.status.as_ref());
    let recovering = status.is_some_and(|status| status.phase == Some(ChaosPhase::Recovering));
    let ended_at = status.and_then(|status| status.fault_ended_at);
    let soon = ended_at.is_some_and(|at| now - at > TimeDelta::milliseconds(2_500));
    !recovering || (is_hurt(cluster) && !soon)
}

fn nothing(_: &mut Cluster) {}

fn stop(cluster: &mut Cluster) {
    cluster.experiment.as_mut().unwrap().spec.desired = DesiredState::Stop;
}

fn lever(cluster: &mut Cluster) {
    cluster.stop_order = Some("maintenance".into());
}

fn unready(cluster: &mut Cluster) {
    for pod in &mut cluster.pods {
        (pod.view.ready, pod.ready_at) = (false, at(100_000));
    }
}

fn without_probes(cluster: &mut Cluster) {
    cluster.experiment.as_mut().unwrap().spec.steady_state = None;
}

/// When the deed is done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    AtFirst,
    WhenIntended,
}

struct Row {
    called: &'static str,
    answer: Answer,
    askable: Answer,
    deed: (When, Deed),
    threshold: u32,
    verdict: Verdict,
    reason: &'static str,
    /// Whether anybody is hurt.
    hurts: bool,
}

const WELL: Row = Row {
    called: "all well",
    answer: always,
    askable: always,
    deed: (When::AtFirst, nothing),
    threshold: 2,
    verdict: Verdict::Pass,
    reason: "SteadyStateHeld",
    hurts: true,
};

fn rows() -> Vec<Row> {
    vec![
        WELL,
        Row {
            called: "not met before",
            answer: never,
            verdict: Verdict::Skipped,
            reason: "SteadyStateNotMet",
            hurts: false,
            ..WELL
        },
        Row {
            called: "broken while somebody is hurt",
            answer: unless_hurt,
            verdict: Verdict::Fail,
            reason: "SteadyStateDeviated",
            ..WELL
        },
        Row {
            called: "not met in time afterwards",
            answer: not_afterwards,
            threshold: 4,
            verdict: Verdict::Fail,
            reason: "DidNotRecover",
            ..WELL
        },
        Row {
            called: "no question before",
            askable: never,
            verdict: Verdict::Error,
            reason: "ProbeError",
            hurts: false,
            ..WELL
        },
        Row {
            called: "no question while somebody is hurt",
            askable: unless_hurt,
            verdict: Verdict::Error,
            reason: "ProbeError",
            ..WELL
        },
        Row {
            called: "no question afterwards",
            askable: not_afterwards,
            threshold: 4,
            verdict: Verdict::Error,
            reason: "ProbeError",
            ..WELL
        },
        Row {
            called: "nobody to hurt",
            deed: (When::AtFirst, unready),
            verdict: Verdict::Error,
            reason: "NoTargets",
            hurts: false,
            ..WELL
        },
        Row {
            called: "nothing to judge by",
            deed: (When::AtFirst, without_probes),
            verdict: Verdict::NotEvaluated,
            reason: "NoProbes",
            ..WELL
        },
        Row {
            called: "stopped by the user",
            deed: (When::WhenIntended, stop),
            verdict: Verdict::Stopped,
            reason: "AbortedByUser",
            hurts: false,
            ..WELL
        },
        Row {
            called: "stopped for everybody",
            deed: (When::WhenIntended, lever),
            verdict: Verdict::Stopped,
            reason: "SafetyLever",
            hurts: false,
            ..WELL
        },
    ]
}

#[test]
fn every_row_holds_for_every_fault() {
    for mut spec in specs("5s") {
        spec["steadyState"]["recoveryTimeout"] = json!("8s");
        for row in rows() {
            spec["steadyState"]["probes"][0]["failureThreshold"] = json!(row.threshold);
            let mut cluster = Cluster::new(spec.clone());
            (cluster.answer, cluster.askable) = (row.answer, row.askable);
            let (when, deed) = row.deed;
            if when == When::AtFirst {
                deed(&mut cluster);
            }
            let mut awaited = true;
            for _ in 0..600 {
                if when == When::WhenIntended && has_begun(&cluster) {
                    deed(&mut cluster);
                }
                cluster.run(1, &mut fine);
                let over = cluster.status().phase.is_some_and(ChaosPhase::is_terminal);
                awaited &= over || cluster.status().verdict != Some(Verdict::Pass);
            }
            let status = cluster.status();
            let context = format!("{}: {spec}: {status:#?}", row.called);
            assert_eq!(
                (status.verdict, status.reason.as_deref()),
                (Some(row.verdict), Some(row.reason)),
                "{context}"
            );
            assert!(awaited, "it passed before it was over: {context}");
            assert!(is_true(&status.conditions, COMPLETED), "{context}");
            let hurt = !cluster.evicted.is_empty() || cluster.pods.iter().any(|pod| !pod.faults.is_empty());
            assert_eq!(hurt, row.hurts, "{context}");
        }
    }
}

/// Without `stopOnFailure` the fault goes on for its whole time, and the verdict is the same.
#[test]
fn a_deviation_is_one_also_where_the_fault_goes_on() {
    for mut spec in specs("8s") {
        spec["steadyState"]["stopOnFailure"] = json!(false);
        spec["steadyState"]["probes"][0]["failureThreshold"] = json!(2);
        let mut cluster = Cluster::new(spec.clone());
        cluster.answer = unless_hurt;
        cluster.run(600, &mut fine);
        let status = cluster.status();
        assert_eq!(
            (status.verdict, status.reason.as_deref()),
            (Some(Verdict::Fail), Some("SteadyStateDeviated")),
            "{spec}: {status:#?}"
        );
        if spec.get("duration").is_some() && spec.get("crash").is_none() {
            let lasted = status.fault_ended_at.unwrap() - status.injected_at.unwrap();
            assert!(lasted > TimeDelta::seconds(7), "{spec}: {lasted}");
        }
    }
}

/// The fault leaves time for fewer questions than the threshold wants, and each of them fails.
#[test]
fn a_fault_that_is_shorter_than_its_threshold_can_fail() {
    for spec in specs("2s")
        .into_iter()
        .filter(|spec| spec.get("crash").is_none() && spec.get("podKill").is_none())
    {
        let mut cluster = Cluster::new(spec.clone());
        cluster.answer = unless_hurt;
        cluster.run(600, &mut fine);
        let status = cluster.status();
        assert!(status.probes[0].failed < 3, "{spec}: {status:#?}");
        assert_eq!(
            (status.verdict, status.reason.as_deref()),
            (Some(Verdict::Fail), Some("SteadyStateDeviated")),
            "{spec}: {status:#?}"
        );
    }
}
