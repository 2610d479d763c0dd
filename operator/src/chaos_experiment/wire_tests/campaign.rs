//! Campaigns on the wire: the real controller, every fault, killed and misled by lots that a seed repeats.
//!
//! The model of `step::simulation` knows more and is asked more often; what only this one shows is that what stands
//! between the decision and the API server keeps its promises too.

use super::*;
use crate::chaos_experiment::testing::{every_fault, rounds, seed};
use futures::StreamExt;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many runs are under way at once: each waits for the work of the others, and on a busy machine too long.
pub const AT_ONCE: usize = 8;

/// Every fault for so short a time that it is asked about all the same after a kill, with a probe that tolerates that nobody
/// asks for a while: what is left of a run is one verdict, whoever was killed.
fn specs() -> Vec<Value> {
    let whole = |(kind, mut spec): (&str, Value)| {
        if kind != "PodKill" {
            spec["duration"] = json!("4s");
        }
        spec["steadyState"] = json!({"probes": [{
            "name": "applied", "interval": "200ms", "failureThreshold": 100,
            "condition": {"name": "inventory", "type": "ConfigApplied"},
        }]});
        spec
    };
    every_fault().into_iter().map(whole).collect()
}

pub fn counts(request: &Recorded) -> bool {
    request.is_write() && !request.path.contains("/events")
}

fn is_victim_of(request: &Recorded, status: &Value) -> bool {
    let uid = request
        .body
        .pointer("/deleteOptions/preconditions/uid")
        .or_else(|| request.body.pointer("/preconditions/uid"));
    status["targets"]
        .as_array()
        .unwrap()
        .iter()
        .any(|target| Some(&target["uid"]) == uid)
}

/// What must be true of inventory and its experiment `test` when the run is over.
pub fn assert_clean(shop: &Shop, status: &Value, context: &str) {
    if shop.api.get(DOCUMENT).is_some() {
        assert_eq!(shop.entries(), 0, "a fault is left: {context}");
    }
    let conditions = status["conditions"].as_array().unwrap();
    let recovered = conditions.iter().find(|found| found["type"] == json!("Recovered"));
    assert!(
        recovered.is_none_or(|found| found["status"] == json!("True")),
        "{context}"
    );
    let requests = shop.api.requests();
    let kills = requests.iter().filter(|request| {
        let deletes_a_pod = request.method == http::Method::DELETE && request.path.starts_with(PODS);
        request.path.ends_with("/eviction") || deletes_a_pod
    });
    for kill in kills {
        assert!(is_victim_of(kill, status), "a stranger: {kill:?}: {context}");
    }
    // Those that were there at first and are not any more.
    let left: Vec<_> = pods(&shop.api)
        .iter()
        .map(|pod| pod["metadata"]["uid"].clone())
        .collect();
    let first = [json!("inventory-uid-0"), json!("inventory-uid-1")];
    let gone: Vec<_> = first.iter().filter(|uid| !left.contains(uid)).collect();
    assert!(gone.len() <= 1, "{gone:?} are gone: {context}");
    if status["verdict"] == json!("Pass") {
        let kills = status["summary"]["type"] == json!("PodKill");
        assert_eq!(gone.len(), usize::from(kills), "{context}");
        let targets = status["targets"].as_array().unwrap();
        let all = targets.iter().all(|target| target["state"] == json!("Recovered"));
        assert!(
            all && targets.iter().all(|target| target["activeAt"].is_string()),
            "{context}"
        );
    }
}

/// Kill -9 of the operator at one write, before it is done or after it was done but before anybody knows: what becomes of the
/// run under the next one. What `system` says to a request comes first.
pub async fn end_of_one_killed_at(
    shop: &Shop,
    spec: Value,
    (at, done): (usize, bool),
    mut system: impl FnMut(&Recorded) -> Option<Fault> + Send + 'static,
) -> Value {
    let reached = Arc::new(Notify::new());
    let (signal, count) = (reached.clone(), AtomicUsize::new(0));
    shop.api.inject(move |request| {
        if let Some(answer) = system(request) {
            return Some(answer);
        }
        if !counts(request) || count.fetch_add(1, Ordering::Relaxed) != at {
            return None;
        }
        signal.notify_one();
        Some(if done {
            Fault::LoseAnswer
        } else {
            Fault::Delay(Duration::from_secs(3_600))
        })
    });
    let first = shop.operator();
    shop.experiment(spec);
    // How often the probes' answers are written differs from run to run: the last writes may not come.
    tokio::select! {
        () = reached.notified() => {}
        _ = shop.over() => {}
    }
    first.abort();
    let _ = first.await;
    let _second = shop.operator();
    shop.over().await
}

async fn killed_at(spec: Value, at: usize, done: bool) {
    let shop = Shop::open();
    let status = end_of_one_killed_at(&shop, spec.clone(), (at, done), |_| None).await;
    let context = format!("killed at write {at}, done: {done}, {spec}: {status:#}");
    assert_eq!(
        (&status["verdict"], &status["reason"]),
        (&json!("Pass"), &json!("SteadyStateHeld")),
        "{context}"
    );
    assert_clean(&shop, &status, &context);
}

/// Runs undisturbed and says with how many writes.
async fn writes_of(spec: Value) -> usize {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(spec.clone());
    let status = shop.over().await;
    assert_eq!(status["verdict"], json!("Pass"), "{spec}: {status:#}");
    assert_clean(&shop, &status, "undisturbed");
    let writes = shop.api.requests().into_iter().filter(counts);
    // What is told of a run when it is over is no part of it.
    writes.filter(|request| !request.path.starts_with(SERVICE)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_write_of_any_fault_leaves_one_fault_one_verdict_and_nothing_else() {
    let specs = specs();
    let counted = futures::stream::iter(specs.iter().cloned())
        .map(writes_of)
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut moments = Vec::new();
    for (spec, writes) in specs.iter().zip(counted) {
        assert!(writes >= 10, "{writes} writes of {spec}");
        moments.extend((0..writes).flat_map(|at| [(spec.clone(), at, false), (spec.clone(), at, true)]));
    }
    let mut random = StdRng::seed_from_u64(seed());
    let chosen: Vec<_> = moments
        .sample(&mut random, usize::try_from(rounds(32)).unwrap())
        .cloned()
        .collect();
    futures::stream::iter(chosen)
        .map(|(spec, at, done)| killed_at(spec, at, done))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

/// What an API server may answer to a request at any time.
fn any_answer(random: &mut StdRng, request: &Recorded) -> Fault {
    let (refusal, missing) = ([409, 429, 500, 503], [404, 409, 429, 500, 503]);
    match random.random_range(0..4) {
        0 if request.is_write() => Fault::LoseAnswer,
        1 => Fault::Delay(Duration::from_millis(random.random_range(0..400))),
        _ if request.is_write() => Fault::Refuse(*missing.choose(random).unwrap()),
        _ => Fault::Refuse(*refusal.choose(random).unwrap()),
    }
}

/// A run of any fault, for which the API server answers at random for a while, whose document somebody breaks or removes,
/// and which somebody stops or deletes at some time.
async fn misled(round: u64) {
    let mut random = StdRng::seed_from_u64(seed().wrapping_mul(1_000_003).wrapping_add(round));
    let spec = specs().choose(&mut random).unwrap().clone();
    let shop = Shop::open();
    let (mut answers, mut left) = (StdRng::seed_from_u64(random.random()), random.random_range(0..25));
    shop.api.inject(move |request| {
        let share = if request.is_write() { 0.25 } else { 0.03 };
        if left == 0 || request.is_watch() || request.path.contains("/events") || !answers.random_bool(share) {
            return None;
        }
        left -= 1;
        Some(any_answer(&mut answers, request))
    });
    let _operator = shop.operator();
    shop.experiment(spec.clone());
    tokio::time::sleep(Duration::from_millis(random.random_range(0..3_000))).await;
    let meddling = random.random_range(0..4);
    match meddling {
        0 => {
            shop.api
                .merge(DOCUMENT, json!({"data": {"faults.json": "{edited by hand"}}));
        }
        1 => shop.api.delete(DOCUMENT),
        _ => {}
    }
    let deletes = random.random_bool(0.3);
    if deletes {
        shop.api.delete(EXPERIMENT);
    } else {
        shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
    }
    // The controller of the service sees to that.
    if meddling == 1 {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
        shop.create_map("inventory");
    }
    let context = format!("seed {}, round {round}, meddling {meddling}, {spec}", seed());
    if deletes {
        let gone = tokio::time::timeout(Duration::from_secs(40), async {
            while shop.api.get(EXPERIMENT).is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        gone.await
            .unwrap_or_else(|_| panic!("it does not go: {context}: {:#?}", shop.api.get(EXPERIMENT)));
        assert_eq!(shop.entries(), 0, "{context}");
        return;
    }
    let stopped_before_it_began = |found: &Value| {
        let finalizers = found.pointer("/metadata/finalizers").and_then(Value::as_array);
        let status = &found["status"];
        let never = status["reason"] == json!("NotStarted");
        let over = ["Completed", "Stopped", "Failed", "Skipped"]
            .iter()
            .any(|phase| status["phase"] == json!(phase));
        (never || over) && finalizers.is_none_or(Vec::is_empty)
    };
    let status = shop.api.until(EXPERIMENT, stopped_before_it_began).await["status"].clone();
    let context = format!("{context}: {status:#}");
    if status["reason"] != json!("NotStarted") {
        assert_clean(&shop, &status, &context);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_ends_any_run_whatever_was_answered() {
    // In round 31 of the usual seed many failures in a row meet a run that is to end.
    futures::stream::iter((0..rounds(16)).chain([31]))
        .map(misled)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

fn time(status: &Value, field: &str) -> DateTime<Utc> {
    status[field].as_str().unwrap().parse().unwrap()
}

/// Both are asked for at once, and the operator is killed meanwhile: one after the other, or one alone.
#[tokio::test]
async fn two_experiments_on_one_target_never_hurt_it_together() {
    for (first, second) in [(2, 0), (0, 1), (7, 5)] {
        let shop = Shop::open();
        let operator = shop.operator();
        let specs = specs();
        shop.experiment_on("inventory", "test", specs[first].clone());
        shop.experiment_on("inventory", "second", specs[second].clone());
        shop.api
            .until(DOCUMENT, |map| map.pointer("/data/faults.json").is_some())
            .await;
        operator.abort();
        let _ = operator.await;
        let _operator = shop.operator();
        let (one, other) = tokio::join!(shop.end_of("test"), shop.end_of("second"));
        let context = format!("{one:#} {other:#}");
        let hurt: Vec<_> = [&one, &other]
            .into_iter()
            .filter(|status| status["injectedAt"].is_string())
            .collect();
        for status in &hurt {
            assert_eq!(status["verdict"], json!("Pass"), "{context}");
        }
        match hurt[..] {
            [_] => {
                let spared = if one["injectedAt"].is_string() { &other } else { &one };
                assert_eq!(spared["reason"], json!("TargetBusy"), "{context}");
            }
            [one, other] => {
                let apart = time(one, "completedAt") <= time(other, "intentAt")
                    || time(other, "completedAt") <= time(one, "intentAt");
                assert!(apart, "{context}");
            }
            _ => panic!("nobody was hurt: {context}"),
        }
        assert_eq!(shop.entries(), 0, "{context}");
    }
}

/// Each is cut off from the other. Stopping one run leaves the other alone, and each has a verdict of its own.
#[tokio::test]
async fn two_experiments_on_targets_that_need_each_other_end_apart() {
    let shop = Shop::of(&["inventory", "order"]);
    let _operator = shop.operator();
    let cut = |peer: &str, duration: &str| {
        let probe = json!({
            "name": "applied", "interval": "200ms", "failureThreshold": 100,
            "condition": {"name": peer, "type": "ConfigApplied"},
        });
        json!({"partition": {"peer": peer}, "duration": duration, "steadyState": {"probes": [probe]}})
    };
    shop.experiment_on("inventory", "test", cut("order", "10m"));
    shop.experiment_on("order", "other", cut("inventory", "4s"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    let other = format!("{EXPERIMENTS}/other");
    shop.api
        .until(&other, |found| found["status"]["injectedAt"].is_string())
        .await;
    assert_eq!((shop.entries(), shop.entries_of("order")), (1, 1));
    shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
    let stopped = shop.over().await;
    assert_eq!(stopped["verdict"], json!("Stopped"), "{stopped:#}");
    let ended = shop.end_of("other").await;
    assert_eq!(ended["verdict"], json!("Pass"), "{ended:#}");
    assert!(
        time(&ended, "faultEndedAt") - time(&ended, "injectedAt") > chrono::TimeDelta::milliseconds(3_500),
        "the other one lasted: {ended:#}"
    );
    assert_eq!((shop.entries(), shop.entries_of("order")), (0, 0));
}
