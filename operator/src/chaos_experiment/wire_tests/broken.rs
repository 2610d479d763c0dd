//! The operator is killed while the system does not withstand the fault: whatever is lost with a process, nobody passes.

use super::campaign::{AT_ONCE, assert_clean, counts, end_of_one_killed_at};
use super::*;
use crate::chaos_experiment::testing::{every_fault, rounds, seed};
use futures::StreamExt;
use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// What the probe asks about, and nobody else.
const STEADY: &str = "/apis/apps/v1/namespaces/shop/deployments/steady";
/// Longer than it takes until what was decided to be so stands there.
const SETTLING: Duration = Duration::from_millis(300);

/// Every fault, and a probe that fails under it.
fn specs() -> Vec<Value> {
    let whole = |(kind, mut spec): (&str, Value)| {
        if kind != "PodKill" {
            spec["duration"] = json!("4s");
        }
        spec["steadyState"] = json!({"recoveryTimeout": "5s", "probes": [{
            "name": "steady", "interval": "200ms", "failureThreshold": 1,
            "condition": {"kind": "Deployment", "name": "steady", "type": "Available"},
        }]});
        spec
    };
    every_fault().into_iter().map(whole).collect()
}

fn available(steady: bool) -> Value {
    let status = if steady { "True" } else { "False" };
    json!({"status": {"conditions": [{"type": "Available", "status": status}]}})
}

fn open() -> Shop {
    let shop = Shop::open();
    let mut steady = available(true);
    steady["apiVersion"] = json!("apps/v1");
    steady["kind"] = json!("Deployment");
    steady["metadata"] = json!({"name": "steady"});
    steady["spec"] = json!({"selector": {}, "template": {}});
    shop.api.create("/apis/apps/v1/namespaces/shop/deployments", steady);
    shop
}

/// The system: not steady from the moment in which a fault is written until it is taken out. A fault that is over at once
/// breaks it for good: it may be taken out before anybody has asked.
fn broken_under(spec: &Value, api: &FakeApi) -> impl FnMut(&Recorded) -> Option<Fault> + Send + 'static {
    let for_good = spec.get("podKill").or(spec.get("crash")).is_some();
    let (changes, mut changed) = tokio::sync::mpsc::unbounded_channel();
    let api = api.clone();
    tokio::spawn(async move {
        while let Some(steady) = changed.recv().await {
            api.merge(STEADY, available(steady));
        }
    });
    let (mut steady, mut since) = (true, None::<tokio::time::Instant>);
    move |request| {
        let written = request.body.pointer("/data/faults.json").and_then(Value::as_str);
        if let Some(text) = written.filter(|_| request.is_write() && request.path == DOCUMENT) {
            let parsed = Faults::parse(text.as_bytes()).unwrap();
            let next = parsed.document.faults.is_empty() && (steady || !for_good);
            if std::mem::replace(&mut steady, next) != next {
                since = Some(tokio::time::Instant::now());
                changes.send(next).unwrap();
            }
        }
        let settles = since.is_some_and(|since| since.elapsed() < SETTLING);
        (settles && request.path == STEADY).then_some(Fault::Delay(SETTLING))
    }
}

/// Runs undisturbed, fails, and says with how many writes.
async fn writes_of(spec: Value) -> usize {
    let shop = open();
    shop.api.inject(broken_under(&spec, &shop.api));
    let _operator = shop.operator();
    shop.experiment(spec.clone());
    let status = shop.over().await;
    assert_eq!(status["verdict"], json!("Fail"), "{spec}: {status:#}");
    let writes = shop.api.requests().into_iter().filter(counts);
    writes.filter(|request| !request.path.starts_with(SERVICE)).count()
}

async fn killed_at(spec: Value, at: usize, done: bool) {
    let shop = open();
    let status = end_of_one_killed_at(&shop, spec.clone(), (at, done), broken_under(&spec, &shop.api)).await;
    let context = format!("killed at write {at}, done: {done}, {spec}: {status:#}");
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(
        ["SteadyStateDeviated", "DidNotRecover", "ObservationGap"].contains(&reason),
        "{context}"
    );
    assert_clean(&shop, &status, &context);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_write_passes_nobody_who_broke_under_the_fault() {
    let counted = futures::stream::iter(specs())
        .map(|spec| async move { (spec.clone(), writes_of(spec).await) })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let of = |(spec, writes): (Value, usize)| {
        (0..writes).flat_map(move |at| [(spec.clone(), at, false), (spec.clone(), at, true)])
    };
    let moments: Vec<_> = counted.into_iter().flat_map(of).collect();
    let mut random = StdRng::seed_from_u64(seed());
    let chosen: Vec<_> = moments
        .sample(&mut random, usize::try_from(rounds(24)).unwrap())
        .cloned()
        .collect();
    futures::stream::iter(chosen)
        .map(|(spec, at, done)| killed_at(spec, at, done))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}
