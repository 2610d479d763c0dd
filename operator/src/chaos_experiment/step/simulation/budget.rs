//! Two experiments that kill pods of one service at once: what its disruption budget keeps is kept.

use super::*;
use crate::chaos_experiment::testing::{rounds, seed};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Pods that serve at least, of three.
const KEPT: usize = 2;

/// The experiment that is not looked at at this moment, and what the process remembers of it.
struct Other {
    experiment: Option<ChaosExperiment>,
    samples: Option<Samples>,
    evictions: HashMap<String, EvictionResult>,
}

fn swap(cluster: &mut Cluster, other: &mut Other) {
    std::mem::swap(&mut cluster.experiment, &mut other.experiment);
    std::mem::swap(&mut cluster.samples, &mut other.samples);
    std::mem::swap(&mut cluster.evictions, &mut other.evictions);
}

/// A deletion respects no budget, so there the experiment's own limit keeps as many.
fn kill(random: &mut StdRng) -> Value {
    let deletes = random.random_bool(0.5);
    let (method, least) = if deletes { ("Delete", KEPT) } else { ("Evict", 0) };
    let mut spec = pod_kill();
    (spec["podKill"], spec["count"]) = (json!({"method": method}), json!(random.random_range(1..=2)));
    spec["safety"] = json!({"minAvailable": least});
    spec
}

fn two(random: &mut StdRng) -> (Cluster, Other) {
    let mut cluster = Cluster::new(kill(random));
    (cluster.replicas, cluster.kept) = (3, KEPT);
    cluster.pods.push(pod(2, at(0)));
    let mut second = experiment(kill(random));
    (second.metadata.name, second.metadata.uid) = (Some("other".into()), Some("other-uid".into()));
    let other = Other {
        experiment: Some(second),
        samples: None,
        evictions: HashMap::new(),
    };
    (cluster, other)
}

#[test]
fn two_kills_never_leave_fewer_than_the_budget_keeps() {
    let mishaps = [
        Mishap::Conflict,
        Mishap::Refused,
        Mishap::AnswerLost,
        Mishap::KilledBefore,
        Mishap::KilledAfter,
    ];
    let mut killed = 0;
    for round in 0..rounds(60) {
        let mut random = StdRng::seed_from_u64(seed().wrapping_add(round));
        let (mut cluster, mut other) = two(&mut random);
        let context = |cluster: &Cluster| format!("seed {}, round {round}: {:#?}", seed(), cluster.experiment);
        let mut over = [false, false];
        for _ in 0..4_000 {
            if random.random_bool(0.5) {
                swap(&mut cluster, &mut other);
                over.swap(0, 1);
            }
            let processes = cluster.away.len();
            let mishap = if random.random_bool(0.05) {
                *mishaps.choose(&mut random).unwrap()
            } else {
                Mishap::None
            };
            cluster.look(&mut |_| mishap);
            if cluster.away.len() > processes {
                (other.samples, other.evictions) = (None, HashMap::new());
            }
            assert!(
                cluster.serving() >= KEPT,
                "{} serve: {}",
                cluster.serving(),
                context(&cluster)
            );
            over[0] = cluster.is_over();
            if over == [true, true] {
                break;
            }
            cluster.pass(TimeDelta::milliseconds(random.random_range(10..600)));
        }
        assert_eq!(over, [true, true], "it does not end: {}", context(&cluster));
        for _ in 0..2 {
            cluster.assert_clean();
            swap(&mut cluster, &mut other);
        }
        killed += cluster.evicted.len();
    }
    assert!(killed > 0, "nobody was killed at all, so nothing was shown");
}
