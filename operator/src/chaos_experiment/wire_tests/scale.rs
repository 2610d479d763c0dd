//! Thousands of pods: how long it takes, what it costs the API server, and how much of it a status holds.

use super::*;
use crate::chaos_experiment::testing::rounds;
use crate::resilient_service::ReportStore;
use std::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use valerix_policy::{FaultReport, FaultState};

/// The most that one run may hurt, by the schema.
const VICTIMS: usize = 100;
/// In which everything is hurt and whole again.
const LONGEST: Duration = Duration::from_secs(60);

fn name(number: usize) -> String {
    format!("service-{number}")
}

/// All pods of these services: each begins a fault when its document names it, and ends it when it does so no more.
async fn obey(api: FakeApi, reports: ReportStore, services: usize, pods: usize) {
    let mut read: Vec<Option<Option<String>>> = vec![None; services];
    let mut on = vec![None; services];
    loop {
        for number in 0..services {
            let service = name(number);
            let map = api.get(&document(&service)).unwrap();
            let text = map
                .pointer("/data/faults.json")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if read[number].as_ref() == Some(&text) {
                continue;
            }
            let parsed = text.as_ref().map(|text| Faults::parse(text.as_bytes()).unwrap());
            let entry = parsed.and_then(|parsed| parsed.document.faults.into_iter().next());
            let known = entry.clone().or(on[number].take());
            for pod in 0..pods {
                let (pod, uid) = (format!("{service}-{pod}"), format!("{service}-uid-{pod}"));
                let own = known.iter().filter(|entry| entry.pod_uids.contains(&uid));
                let faults = own.map(|known| FaultReport {
                    run: known.run.clone(),
                    fault_type: known.fault.fault_type(),
                    state: if entry.is_some() {
                        FaultState::Active
                    } else {
                        FaultState::Ended
                    },
                    reason: None,
                    remaining_ms: 0,
                    hits: Some(1),
                });
                reports.put(&uid, report(&service, &pod, &uid, text.as_deref(), faults.collect()));
            }
            on[number] = known;
            read[number] = Some(text);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Shop {
    /// The experiments, once each of them is as wanted.
    async fn all(&self, runs: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let found = tokio::time::timeout(LONGEST, async {
            loop {
                let found = (0..runs).filter_map(|number| self.api.get(&format!("{EXPERIMENTS}/{}", name(number))));
                let found: Vec<_> = found.filter(&wanted).collect();
                if found.len() == runs {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("not all of {runs} runs are {what} within {LONGEST:?}"))
    }

    /// How many requests came since they were forgotten, without those that last.
    fn asked(&self) -> usize {
        self.api.requests().iter().filter(|request| !request.is_watch()).count()
    }

    /// Waits until every event has been told.
    async fn falls_quiet(&self) {
        let told = || {
            self.api
                .requests()
                .iter()
                .filter(|request| request.path.ends_with("/events"))
                .count()
        };
        let quiet = tokio::time::timeout(LONGEST, async {
            let mut before = usize::MAX;
            while before != told() {
                before = told();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        quiet.await.expect("everything is told");
    }
}

/// Hurts `VICTIMS` pods of each of these services, watches, and stops.
async fn hurt(services: usize, pods: usize) {
    let shop = Shop::of(&[]);
    for number in 0..services {
        shop.create_service(&name(number), pods);
    }
    let obeying = obey(shop.api.clone(), shop.reports.clone(), services, pods);
    let _pods = AbortOnDropHandle::new(tokio::spawn(obeying));
    let _operator = shop.operator();
    for number in 0..services {
        let spec = json!({"latency": {"delay": "1s"}, "duration": "10m", "count": VICTIMS});
        shop.experiment_on(&name(number), &name(number), spec);
    }
    let began = Instant::now();
    let running = shop
        .all(services, "injected", |found| found["status"]["injectedAt"].is_string())
        .await;
    let injecting = began.elapsed();
    for experiment in &running {
        let status = &experiment["status"];
        assert_eq!(status["summary"]["injected"], json!(format!("{VICTIMS}/{VICTIMS}")));
        assert_eq!(status["targets"].as_array().unwrap().len(), VICTIMS);
    }

    // What is waited for costs the same however many wait.
    shop.falls_quiet().await;
    shop.api.forget_requests();
    let watching = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (asked, seconds) = (shop.asked(), watching.elapsed().as_secs_f64());
    assert!(
        asked as f64 <= 2.0 * seconds + 1.0,
        "{asked} requests in {seconds:.1}s while {services} runs only wait"
    );

    let stopping = Instant::now();
    for number in 0..services {
        let path = format!("{EXPERIMENTS}/{}", name(number));
        shop.api.merge(&path, json!({"spec": {"desired": "Stop"}}));
    }
    let over = shop
        .all(services, "recovered", |found| {
            let finalizers = found.pointer("/metadata/finalizers").and_then(Value::as_array);
            found["status"]["phase"] == json!("Stopped") && finalizers.is_none_or(Vec::is_empty)
        })
        .await;
    let took = injecting + stopping.elapsed();
    eprintln!(
        "{services} services of {pods} pods: hurt and whole again in {took:?}, {asked} requests in {seconds:.1}s"
    );
    assert!(took < LONGEST, "{took:?}");
    for experiment in over {
        assert_eq!(shop.entries_of(experiment["metadata"]["name"].as_str().unwrap()), 0);
        let size = experiment.to_string().len();
        assert!(size < 64 * 1_024, "{size} bytes");
    }
}

/// A hundred pods in each of so many services. `VALERIX_ROUNDS=60` are the 6,000 that the design asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_hurt_and_heal_within_a_minute_and_wait_as_cheaply_as_one() {
    hurt(usize::try_from(rounds(6)).unwrap(), VICTIMS).await;
}

/// The same number of pods, all of one service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_pods_of_one_service_a_run_hurts_as_many_as_it_may() {
    hurt(1, usize::try_from(rounds(6)).unwrap() * VICTIMS).await;
}
