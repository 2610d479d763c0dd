//! When a probe has its say: the rows of the truth table for each mode, through the whole of a run.

use super::*;
use rstest::rstest;

/// Whether the fault is on, as far as the run has come.
fn on(cluster: &Cluster) -> bool {
    cluster.status().phase == Some(ChaosPhase::Running)
}

fn always(_: &Cluster, _: DateTime<Utc>) -> bool {
    true
}

fn only_meanwhile(cluster: &Cluster, _: DateTime<Utc>) -> bool {
    on(cluster)
}

fn only_otherwise(cluster: &Cluster, _: DateTime<Utc>) -> bool {
    !on(cluster)
}

fn only_before(cluster: &Cluster, _: DateTime<Utc>) -> bool {
    cluster.status().phase == Some(ChaosPhase::Pending)
}

type Answer = fn(&Cluster, DateTime<Utc>) -> bool;

#[rstest]
#[case::all_well("Continuous", always, Verdict::Pass, "SteadyStateHeld")]
#[case::broken_meanwhile("Continuous", only_otherwise, Verdict::Fail, "SteadyStateDeviated")]
#[case::bad_before("Continuous", only_meanwhile, Verdict::Skipped, "SteadyStateNotMet")]
#[case::edges_well("Edge", only_otherwise, Verdict::Pass, "SteadyStateHeld")]
#[case::edge_bad_before("Edge", only_meanwhile, Verdict::Skipped, "SteadyStateNotMet")]
#[case::edge_bad_after("Edge", only_before, Verdict::Fail, "DidNotRecover")]
#[case::seen_meanwhile("OnFault", only_meanwhile, Verdict::Pass, "SteadyStateHeld")]
#[case::not_seen_meanwhile("OnFault", only_otherwise, Verdict::Fail, "SteadyStateDeviated")]
fn each_mode_judges_its_own_time(
    #[case] mode: &str,
    #[case] answer: Answer,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    let mut cluster = Cluster::new(json!({
        "target": {"service": "inventory"}, "latency": {"delay": "1s"}, "duration": "20s",
        "steadyState": {"probes": [{"name": "checkout", "mode": mode, "http": {"service": "order"}}]},
    }));
    cluster.answer = answer;
    cluster.run(3_000, &mut |_| Mishap::None);
    let status = cluster.status();
    assert_eq!(
        (status.verdict, status.reason.as_deref()),
        (Some(verdict), Some(reason)),
        "{status:#?}"
    );
}
