//! Campaigns: every fault, everything that can go wrong, at every moment, by lots that a seed repeats.
//!
//! The model knows what was really done to whom and when, and who watched; the run knows what it saw. What is asserted
//! everywhere is that the second never says more than the first, and that nothing is left behind.

use super::*;
use crate::chaos_experiment::testing::{every_fault, rounds, seed};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::collections::{BTreeMap, BTreeSet};

/// One experiment for every kind of fault, with a probe, of which those that last do so for `duration`.
pub(super) fn specs(duration: &str) -> Vec<Value> {
    let whole = |(kind, fault): (&str, Value)| {
        let mut spec = json!({
            "target": {"service": "inventory"},
            "steadyState": {"probes": [{"name": "checkout", "http": {"service": "order"}}]},
        });
        spec.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
        if kind != "PodKill" {
            spec["duration"] = json!(duration);
        }
        spec
    };
    every_fault().into_iter().map(whole).collect()
}

fn kills(cluster: &Cluster) -> usize {
    usize::from(cluster.experiment.as_ref().unwrap().spec.pod_kill.is_some())
}

/// Whether the process was away while somebody was hurt, or had not been seen to be well again.
fn was_unwatched(cluster: &Cluster) -> bool {
    let status = cluster.status();
    let run = cluster.name().text();
    let hurt = cluster.pods.iter().filter_map(|pod| pod.faults.get(&run));
    // Whoever ends its process may have done so at any time since the intent.
    let crashes = cluster.experiment.as_ref().unwrap().spec.crash.is_some();
    let since_intent = status.intent_at.filter(|_| crashes);
    let began = hurt.map(|(from, _)| *from);
    let began = began
        .chain(status.targets.iter().filter_map(|target| target.active_at))
        .min()
        .map(|began| since_intent.unwrap_or(began));
    cluster.away.iter().any(|(since, until)| {
        began.is_some_and(|began| began < *until) && status.completed_at.is_none_or(|at| at > *since)
    })
}

/// What a verdict claims, held against what the model knows.
fn assert_honest(cluster: &Cluster, context: &str) {
    let status = cluster.status();
    let victims: BTreeSet<_> = status.targets.iter().map(|target| target.uid.clone()).collect();
    let evicted: BTreeSet<_> = cluster.evicted.iter().cloned().collect();
    assert_eq!(evicted.len(), cluster.evicted.len(), "evicted twice: {context}");
    assert!(evicted.is_subset(&victims), "a stranger was evicted: {context}");
    assert!(cluster.evicted.len() <= kills(cluster), "{context}");
    let processes = 1 + cluster.away.len();
    assert!(
        cluster.attempts <= kills(cluster) * processes,
        "one process sent it twice: {context}"
    );
    if status.verdict != Some(Verdict::Pass) {
        return;
    }
    assert!(!was_unwatched(cluster), "Pass of what nobody watched: {context}");
    assert!(!victims.is_empty(), "Pass without a target: {context}");
    if kills(cluster) > 0 {
        // Who goes by somebody else's hand at the moment of the kill is as gone.
        let gone = |uid: &String| evicted.contains(uid) || cluster.removed.contains(uid);
        assert!(victims.iter().all(gone), "Pass without a kill: {context}");
        return;
    }
    let run = cluster.name().text();
    let wanted = cluster.experiment.as_ref().unwrap().spec.duration.as_ref();
    let wanted = TimeDelta::from_std(wanted.unwrap().value().unwrap()).unwrap();
    for uid in &victims {
        let pod = cluster.pods.iter().find(|pod| pod.view.uid == *uid);
        let lasted = pod
            .and_then(|pod| pod.faults.get(&run))
            .map(|(from, until)| *until - *from);
        let lasted = lasted.unwrap_or_else(|| panic!("Pass without a fault in {uid}: {context}"));
        let enough =
            cluster.experiment.as_ref().unwrap().spec.crash.is_some() || lasted + TimeDelta::seconds(1) > wanted;
        assert!(enough, "Pass of a fault that lasted {lasted}: {context}");
    }
}

/// Kill -9 at every write of every fault's run, before it leaves and after it was done.
#[test]
fn a_kill_at_any_write_changes_nothing_but_who_watched() {
    for spec in specs("10s") {
        let mut reference = Cluster::new(spec.clone());
        reference.run(500, &mut fine);
        let writes = reference.mutations;
        assert!(writes >= 7, "{writes}");
        for victim in 0..writes {
            for mishap in [Mishap::KilledBefore, Mishap::KilledAfter] {
                let mut cluster = Cluster::new(spec.clone());
                cluster.run(800, &mut |count| if count == victim { mishap } else { Mishap::None });
                let context = format!("{mishap:?} at write {victim}: {:#?}", cluster.experiment);
                assert!(cluster.is_over(), "{context}");
                cluster.assert_clean();
                assert_honest(&cluster, &context);
                assert_eq!(cluster.evicted.len(), kills(&cluster), "{context}");
                assert!(
                    cluster.requests.len() <= kills(&cluster),
                    "one request is enough: {context}"
                );
                let expected = if was_unwatched(&cluster) {
                    "ObservationGap"
                } else {
                    "SteadyStateHeld"
                };
                assert_eq!(cluster.status().reason.as_deref(), Some(expected), "{context}");
            }
        }
    }
}

/// A tick hurts once, whoever is killed when; the next one comes all the same.
#[test]
fn a_tick_hurts_once_whatever_is_killed() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut specs = specs("10s");
    for spec in &mut specs {
        (spec["schedule"], spec["safety"]) = (json!("*/2 * * * *"), json!({"cooldown": "0s", "minPodAge": "0s"}));
    }
    for round in 0..rounds(10) {
        let spec = &specs[usize::try_from(round).unwrap() % specs.len()];
        let mut cluster = Cluster::new(spec.clone());
        // By the scheduled time: the identities under which somebody was hurt, and who was evicted.
        let mut hurt: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let until = cluster.now + TimeDelta::minutes(9);
        while cluster.now < until {
            let before = cluster.evicted.len();
            let wait = cluster.look(&mut |_| match random.random_range(0..12) {
                0 => Mishap::KilledBefore,
                1 => Mishap::KilledAfter,
                2 => Mishap::AnswerLost,
                _ => Mishap::None,
            });
            for uid in &cluster.evicted[before..] {
                let run = cluster.status().run.clone().unwrap();
                hurt.entry(run).or_default().insert(uid.clone());
            }
            let wait = wait.unwrap_or(TimeDelta::seconds(1));
            cluster.pass(wait.clamp(TimeDelta::milliseconds(1), TimeDelta::seconds(5)));
            for text in cluster.pods.iter().flat_map(|pod| pod.faults.keys()) {
                let entry = EntryName::parse(text).unwrap();
                hurt.entry(entry.run.clone()).or_default().insert(text.clone());
            }
        }
        let context = format!("seed {}, round {round}, {spec}: {hurt:#?}", seed());
        assert!(hurt.values().all(|once| once.len() == 1), "{context}");
        assert!((2..=5).contains(&hurt.len()), "{context}");
        let next = cluster.status().next_run_at.unwrap();
        assert!(
            next > cluster.now - TimeDelta::minutes(6),
            "the schedule goes on: {context}"
        );
    }
}

/// What somebody else does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meddling {
    RemoveMap,
    ScribbleInMap,
    ClearMap,
    DeletePod(usize),
    SilencePod(usize),
    EndEarly(usize),
    WithdrawConsent,
    StopEverything,
    BreakSteadyState,
    HideQuestion,
    Unmeasured,
}

const MEDDLINGS: [Meddling; 14] = [
    Meddling::RemoveMap,
    Meddling::ScribbleInMap,
    Meddling::ClearMap,
    Meddling::DeletePod(0),
    Meddling::DeletePod(1),
    Meddling::SilencePod(0),
    Meddling::SilencePod(1),
    Meddling::EndEarly(0),
    Meddling::EndEarly(1),
    Meddling::WithdrawConsent,
    Meddling::StopEverything,
    Meddling::BreakSteadyState,
    Meddling::HideQuestion,
    Meddling::Unmeasured,
];

impl Cluster {
    fn meddle(&mut self, what: Meddling) {
        let now = self.now;
        match what {
            Meddling::RemoveMap => self.map_removed = true,
            Meddling::ScribbleInMap if !self.map_removed => self.document = Some("{edited by hand".into()),
            Meddling::ClearMap if !self.map_removed => self.document = None,
            Meddling::ScribbleInMap | Meddling::ClearMap => {}
            Meddling::DeletePod(index) => {
                if let Some(pod) = self.pods.get_mut(index) {
                    pod.view.removal = Removal::Deleted(now);
                    pod.gone_at = Some(now + TimeDelta::seconds(1));
                    self.removed.push(pod.view.uid.clone());
                }
            }
            Meddling::SilencePod(index) => {
                if let Some(pod) = self.pods.get_mut(index) {
                    pod.reachable = false;
                }
            }
            Meddling::EndEarly(index) => {
                if let Some(pod) = self.pods.get_mut(index) {
                    let until = pod.faults.values_mut().map(|(_, until)| until);
                    until.for_each(|until| *until = (*until).min(now));
                }
            }
            Meddling::WithdrawConsent => self.service.admitted = false,
            Meddling::StopEverything => self.stop_order = Some("maintenance".into()),
            Meddling::BreakSteadyState => self.answer = |cluster, _| cluster.now.timestamp() % 7 < 3,
            Meddling::HideQuestion => self.askable = |cluster, _| cluster.now.timestamp() % 7 < 3,
            Meddling::Unmeasured => self.hits = 0,
        }
    }

    /// What must end by itself ends: pods answer again, and the ConfigMap that a controller owns is made anew.
    fn mend(&mut self, random: &mut StdRng) {
        self.pods.iter_mut().for_each(|pod| pod.reachable = true);
        if self.map_removed && random.random_bool(0.5) {
            (self.map_removed, self.document) = (false, None);
        }
    }
}

fn mishap(random: &mut StdRng, share: f64) -> Mishap {
    if !random.random_bool(share) {
        return Mishap::None;
    }
    *[
        Mishap::Conflict,
        Mishap::Refused,
        Mishap::AnswerLost,
        Mishap::KilledBefore,
        Mishap::KilledAfter,
    ]
    .choose(random)
    .unwrap()
}

/// Some experiment, some of whose pods may have read the document of a run before it.
fn any_cluster(random: &mut StdRng, duration: &str) -> Cluster {
    let mut cluster = Cluster::new(specs(duration).choose(random).unwrap().clone());
    if random.random_bool(0.3) {
        cluster.document = Some(crate::chaos_experiment::entry::released("an earlier run"));
    }
    cluster
}

/// From any state, whatever is answered and whoever meddles, Stop reaches Recovered in bounded steps.
#[test]
fn stop_always_recovers() {
    for round in 0..rounds(150) {
        let mut random = StdRng::seed_from_u64(seed().wrapping_mul(1_000_003).wrapping_add(round));
        // Long enough that most end because they were stopped, and short enough to outlast a ConfigMap that is gone.
        let mut cluster = any_cluster(&mut random, "2m");
        let share = random.random_range(0.0..0.4);
        let mut done = Vec::new();
        for _ in 0..random.random_range(0..3) {
            cluster.run(random.random_range(0..60), &mut |_| mishap(&mut random, share));
            let what = *MEDDLINGS.choose(&mut random).unwrap();
            done.push(what);
            cluster.meddle(what);
        }
        cluster.run(random.random_range(0..60), &mut |_| mishap(&mut random, share));
        let deletes = random.random_bool(0.2);
        if let Some(experiment) = cluster.experiment.as_mut() {
            experiment.spec.desired = DesiredState::Stop;
            // What the next version made of the spec cannot be acted on; what was begun is undone all the same.
            if random.random_bool(0.1) {
                experiment.spec.count = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(0);
            }
            if deletes && has_finalizer(experiment) {
                let time = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
                experiment.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
            }
        }
        let name = cluster.name();
        let mut left = random.random_range(0..20);
        let mut troubled = |random: &mut StdRng| {
            left = u32::saturating_sub(left, 1);
            if left > 0 { mishap(random, share) } else { Mishap::None }
        };
        cluster.run(40, &mut |_| troubled(&mut random));
        cluster.mend(&mut random);
        let steps = cluster.run(2_500, &mut |_| troubled(&mut random));
        let context = format!("seed {}, round {round}, {done:?}: {:#?}", seed(), cluster.experiment);
        for pod in &cluster.pods {
            let hurt = pod
                .faults
                .get(&name.text())
                .is_some_and(|(_, until)| *until > cluster.now);
            assert!(!hurt, "a pod is still hurt: {context}");
        }
        assert!(
            cluster.map_removed || !is_ours(&cluster, &name),
            "the lock is left: {context}"
        );
        let Some(experiment) = &cluster.experiment else {
            continue;
        };
        let began = experiment.status.as_ref().is_some_and(|status| status.run.is_some());
        if !began {
            assert!(!has_finalizer(experiment), "{context}");
            continue;
        }
        assert!(steps < 2_500, "it never ends: {context}");
        let status = cluster.status();
        assert!(
            is_true(&status.conditions, RECOVERED) && is_true(&status.conditions, COMPLETED),
            "{context}"
        );
        assert_honest(&cluster, &context);
    }
}

/// Left alone after any mishaps and meddling, a run ends with a verdict that says no more than was seen.
#[test]
fn a_run_always_ends_and_never_says_more_than_was_seen() {
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..rounds(150) {
        let mut random = StdRng::seed_from_u64(seed().wrapping_mul(1_000_033).wrapping_add(round));
        let mut cluster = any_cluster(&mut random, "10s");
        let (share, meddles) = (random.random_range(0.0..0.2), random.random_bool(0.6));
        let before = random.random_range(0..90);
        let mut left = random.random_range(0..40_u32);
        let mut troubled = |random: &mut StdRng| {
            left = left.saturating_sub(1);
            if left > 0 { mishap(random, share) } else { Mishap::None }
        };
        cluster.run(before, &mut |_| troubled(&mut random));
        let what = *MEDDLINGS.choose(&mut random).unwrap();
        if meddles {
            cluster.meddle(what);
        }
        cluster.run(100, &mut |_| troubled(&mut random));
        cluster.mend(&mut random);
        let steps = cluster.run(2_500, &mut |_| troubled(&mut random));
        let context = format!(
            "seed {}, round {round}, {:?}: {:#?}",
            seed(),
            meddles.then_some(what),
            cluster.experiment
        );
        assert!(steps < 2_500, "it never ends: {context}");
        let status = cluster.status();
        assert!(is_true(&status.conditions, RECOVERED), "{context}");
        assert_honest(&cluster, &context);
        if status.verdict == Some(Verdict::Fail) {
            assert!(
                meddles && what == Meddling::BreakSteadyState,
                "Fail of what held: {context}"
            );
        }
        *verdicts.entry(status.reason.clone().unwrap_or_default()).or_default() += 1;
    }
    let passed = verdicts.contains_key("SteadyStateHeld");
    assert!(
        passed && verdicts.len() >= 4,
        "the lots come to too little: {verdicts:?}"
    );
}
