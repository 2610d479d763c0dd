//! The controller against a fake API server: what is on the wire, in which order, and what is left after a crash.

use super::*;
use crate::fake_api::{FakeApi, Fault, Recorded};
use crate::resilient_service::{PodReport, ReportStore, Stores};
use crate::runtime::{Clients, Fence, Identity, Scope};
use chrono::{DateTime, Utc};
use clap::Parser;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use valerix_policy::{FaultReport, FaultState, FaultType, Faults, PolicyReport, Report};

mod interference;
mod kinds;

const EXPERIMENTS: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/chaosexperiments";
const EXPERIMENT: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/chaosexperiments/test";
const SERVICE: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/resilientservices/inventory";
const DOCUMENT: &str = "/api/v1/namespaces/shop/configmaps/inventory-policy";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const SAFETY: &str = "/api/v1/namespaces/valerix-system/configmaps/valerix-safety";

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: crate::settings::Settings,
}

/// A shop with one service of two pods, whose Deployment replaces what is killed and whose pods obey the document.
struct Shop {
    api: FakeApi,
    reports: ReportStore,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Shop {
    fn open() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api = FakeApi::default();
        let group = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop";
        api.create(
            &format!("{group}/resilientservices"),
            json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService",
                "metadata": {"name": "inventory"},
                "spec": {"image": "inventory:1", "replicas": 2, "chaos": {"admission": "Allowed"},
                         "probes": {"liveness": {"path": "/_healthz"}}},
                "status": {"conditions": [{
                    "type": "ConfigApplied", "status": "True", "reason": "Applied", "message": "",
                    "observedGeneration": 1, "lastTransitionTime": "2026-11-21T10:00:00Z",
                }]},
            }),
        );
        api.create(
            "/apis/apps/v1/namespaces/shop/deployments",
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "inventory"},
                "spec": {"replicas": 2, "selector": {}, "template": {}},
                "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
            }),
        );
        let labels = json!({"app.kubernetes.io/managed-by": "valerix", "resilience.valerix.io/service": "inventory"});
        api.create(
            "/api/v1/namespaces/shop/configmaps",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inventory-policy", "labels": labels},
                "data": {"policy.v1.json": "{}", "runtime.json": "{}"},
            }),
        );
        for number in 0..2 {
            pod(&api, number);
        }
        let reports = ReportStore::default();
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(replace(api.clone()))),
            AbortOnDropHandle::new(tokio::spawn(obey(api.clone(), reports.clone()))),
        ];
        Self {
            api,
            reports,
            _tasks: tasks,
        }
    }

    /// An operator that leads.
    fn operator(&self) -> AbortOnDropHandle<()> {
        let mut settings = Arguments::parse_from(["test"]).settings;
        settings.chaos_namespaces = vec!["shop".into()];
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(self.api.client()), vec![Scope::Cluster]);
        runtime.leadership.set(Some(Fence {
            lease: "lease".into(),
            term: 1,
        }));
        let ctx = Arc::new(Context {
            stores: Stores::watch(&runtime),
            reports: self.reports.clone(),
            runtime,
            settings,
        });
        AbortOnDropHandle::new(tokio::spawn(run(ctx)))
    }

    fn experiment(&self, spec: Value) {
        let mut spec = spec;
        spec["target"] = json!({"service": "inventory"});
        self.api.create(
            EXPERIMENTS,
            json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
                "metadata": {"name": "test"}, "spec": spec,
            }),
        );
    }

    async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.api.until(EXPERIMENT, |found| wanted(&found["status"])).await["status"].clone()
    }

    async fn over(&self) -> Value {
        let over = |found: &Value| {
            let finalizers = found.pointer("/metadata/finalizers").and_then(Value::as_array);
            let phase = found
                .pointer("/status/phase")
                .and_then(Value::as_str)
                .unwrap_or_default();
            matches!(phase, "Completed" | "Stopped" | "Failed" | "Skipped") && finalizers.is_none_or(Vec::is_empty)
        };
        self.api.until(EXPERIMENT, over).await["status"].clone()
    }

    fn evictions(&self) -> Vec<Recorded> {
        self.api
            .requests()
            .into_iter()
            .filter(|request| request.path.ends_with("/eviction"))
            .collect()
    }

    fn entries(&self) -> usize {
        let map = self.api.get(DOCUMENT).unwrap();
        map.pointer("/data/faults.json")
            .and_then(Value::as_str)
            .map_or(0, |text| Faults::parse(text.as_bytes()).unwrap().document.faults.len())
    }
}

fn pod(api: &FakeApi, number: usize) {
    api.create(
        PODS,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("inventory-{number}"), "uid": format!("pod-uid-{number}"),
                "labels": {"resilience.valerix.io/service": "inventory"},
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }),
    );
}

fn pods(api: &FakeApi) -> Vec<Value> {
    (0..200)
        .filter_map(|number| api.get(&format!("{PODS}/inventory-{number}")))
        .collect()
}

/// The Deployment: what goes is replaced.
async fn replace(api: FakeApi) {
    let mut next = 2;
    loop {
        for pod in pods(&api) {
            if pod.pointer("/metadata/deletionTimestamp").is_some() {
                api.delete(&format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap()));
            }
        }
        while pods(&api).len() < 2 {
            self::pod(&api, next);
            next += 1;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The pods: each reads the document, obeys it on its own clock, and reports.
async fn obey(api: FakeApi, reports: ReportStore) {
    let mut known: HashMap<(String, String), DateTime<Utc>> = HashMap::new();
    loop {
        let text = api
            .get(DOCUMENT)
            .and_then(|map| Some(map.pointer("/data/faults.json")?.as_str()?.to_owned()));
        let parsed = text.as_ref().and_then(|text| Faults::parse(text.as_bytes()).ok());
        let entry = parsed.and_then(|parsed| parsed.document.faults.into_iter().next());
        for pod in pods(&api) {
            let (name, uid) = (
                pod["metadata"]["name"].as_str().unwrap(),
                pod["metadata"]["uid"].as_str().unwrap(),
            );
            let now = Utc::now();
            if let Some(entry) = entry
                .as_ref()
                .filter(|entry| entry.pod_uids.iter().any(|other| other == uid) && entry.fault.pod_kill.is_none())
            {
                let until = now + chrono::TimeDelta::from_std(entry.duration.get()).unwrap();
                known
                    .entry((uid.to_owned(), entry.run.clone()))
                    .or_insert(until.min(entry.not_after));
            }
            for ((of, run), until) in &mut known {
                if of == uid && entry.as_ref().is_none_or(|entry| entry.run != *run) {
                    *until = now.min(*until);
                }
            }
            let faults = known
                .iter()
                .filter(|((of, _), _)| of == uid)
                .map(|((_, run), until)| FaultReport {
                    run: run.clone(),
                    fault_type: FaultType::Latency,
                    state: if now < *until {
                        FaultState::Active
                    } else {
                        FaultState::Ended
                    },
                    reason: None,
                    remaining_ms: u64::try_from((*until - now).num_milliseconds().max(0)).unwrap(),
                    hits: Some(1),
                });
            let report = Report {
                pod_uid: uid.into(),
                service: "inventory".into(),
                now,
                policy: PolicyReport {
                    versions: vec![1],
                    hash: None,
                    source: valerix_policy::PolicySource::Document,
                    loaded_at: None,
                    error: None,
                    ignored_fields: vec![],
                },
                faults_hash: text.as_ref().map(|text| valerix_policy::hash(text.as_bytes())),
                circuit_breakers: vec![],
                limits: vec![],
                faults: faults.collect(),
            };
            let report = PodReport {
                namespace: "shop".into(),
                service: "inventory".into(),
                pod: name.into(),
                report,
                received_at: now,
            };
            reports.put(uid, report);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn pod_kill() -> Value {
    json!({"podKill": {"gracePeriodSeconds": 5}})
}

fn latency(duration: &str) -> Value {
    json!({"latency": {"delay": "1s"}, "duration": duration, "count": "100%"})
}

#[tokio::test]
async fn a_pod_kill_writes_ahead_and_carries_the_recorded_uid() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(pod_kill());
    let status = shop.over().await;
    assert_eq!(
        (&status["verdict"], &status["reason"]),
        (&json!("NotEvaluated"), &json!("NoProbes")),
        "{status:#}"
    );
    assert!(status["timeToRecover"].as_str().unwrap().ends_with('s'));
    let victim = &status["targets"][0];
    let evictions = shop.evictions();
    assert_eq!(evictions.len(), 1);
    assert_eq!(
        evictions[0].path,
        format!("{PODS}/{}/eviction", victim["pod"].as_str().unwrap())
    );
    assert_eq!(
        evictions[0].body["deleteOptions"],
        json!({"preconditions": {"uid": victim["uid"]}, "gracePeriodSeconds": 5})
    );
    assert_eq!(shop.entries(), 0);

    // Begin, finalizer, intent, lock, mark, eviction, answer, recovering, recovered, finalizer, release, end; nothing else.
    let status_write = format!("PATCH {EXPERIMENT}/status");
    let object_write = format!("PATCH {EXPERIMENT}");
    let expected = [
        status_write.clone(),
        object_write.clone(),
        status_write.clone(),
        format!("PATCH {DOCUMENT}"),
        status_write.clone(),
        format!("POST {}", evictions[0].path),
        status_write.clone(),
        status_write.clone(),
        status_write.clone(),
        object_write,
        format!("PATCH {DOCUMENT}"),
        status_write,
        format!("PATCH {SERVICE}/status"),
    ];
    shop.api
        .until(SERVICE, |service| {
            service.pointer("/status/lastExperiment/verdict") == Some(&json!("NotEvaluated"))
        })
        .await;
    assert_eq!(shop.api.writes(), expected);
    let claims = shop
        .api
        .requests()
        .into_iter()
        .filter(|request| request.is_write() && (request.path.starts_with(EXPERIMENT) || request.path == DOCUMENT));
    for claim in claims {
        assert!(
            claim
                .body
                .pointer("/metadata/resourceVersion")
                .is_some_and(Value::is_string),
            "{claim:?}"
        );
        if claim.path == DOCUMENT {
            assert!(claim.query.contains("fieldManager=valerix-chaos"), "{}", claim.query);
        }
    }

    // It is over: nothing but watches from here on.
    shop.api.forget_requests();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let asked: Vec<_> = shop
        .api
        .requests()
        .into_iter()
        .filter(|request| !request.query.contains("watch=true"))
        .collect();
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_victim_deleted_while_the_request_is_held_is_gone_and_nobody_takes_its_place() {
    let shop = Shop::open();
    let held = Arc::new(Notify::new());
    let signal = held.clone();
    shop.api.inject(move |request| {
        request.path.ends_with("/eviction").then(|| {
            signal.notify_one();
            Fault::Delay(Duration::from_millis(500))
        })
    });
    let _operator = shop.operator();
    shop.experiment(pod_kill());
    held.notified().await;
    let victim = shop.evictions()[0].path.trim_end_matches("/eviction").to_owned();
    // As a StatefulSet would do it: another pod of the same name.
    let number = victim.rsplit('-').next().unwrap().to_owned();
    shop.api.delete(&victim);
    shop.api.create(PODS, json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("inventory-{number}"), "uid": "stranger", "labels": {"resilience.valerix.io/service": "inventory"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let status = shop.over().await;
    assert_eq!(
        (&status["targets"][0]["state"], &status["reason"]),
        (&json!("Gone"), &json!("TargetsLost")),
        "{status:#}"
    );
    assert_eq!(shop.evictions().len(), 1);
    assert!(
        pods(&shop.api)
            .iter()
            .all(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
    );
}

#[tokio::test]
async fn latency_is_written_read_back_and_taken_out() {
    let shop = Shop::open();
    let _operator = shop.operator();
    shop.experiment(latency("2s"));
    let running = shop.until(|status| status["injectedAt"].is_string()).await;
    assert_eq!(
        (shop.entries(), &running["summary"]["injected"]),
        (1, &json!("2/2")),
        "{running:#}"
    );
    let map = shop.api.get(DOCUMENT).unwrap();
    let run = format!(
        "test/{}/{}/{}",
        shop.api.get(EXPERIMENT).unwrap()["metadata"]["uid"].as_str().unwrap(),
        running["intentAt"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap()
            .timestamp_millis(),
        running["run"].as_str().unwrap()
    );
    let entry = Faults::parse(map["data"]["faults.json"].as_str().unwrap().as_bytes())
        .unwrap()
        .document
        .faults
        .remove(0);
    assert_eq!(
        (entry.run.clone(), entry.pod_uids.len(), entry.duration.as_millis()),
        (run, 2, 2_000)
    );
    assert_eq!(map["data"]["policy.v1.json"], json!("{}"), "the other keys stay");
    assert_eq!(entry.spared_paths, ["/_healthz"], "the kubelet's probes are not hurt");
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["verdict"]),
        (&json!("Completed"), &json!("NotEvaluated")),
        "{status:#}"
    );
    let at = |field: &str| status[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let lasted = at("faultEndedAt") - at("injectedAt");
    assert!((1_500..2_500).contains(&lasted.num_milliseconds()), "{lasted}");
    assert_eq!((shop.entries(), shop.evictions().len()), (0, 0));
}

#[tokio::test]
async fn stop_and_deletion_end_the_fault_at_once() {
    for delete in [false, true] {
        let shop = Shop::open();
        let _operator = shop.operator();
        shop.experiment(latency("10m"));
        shop.until(|status| status["injectedAt"].is_string()).await;
        if delete {
            shop.api.delete(EXPERIMENT);
            tokio::time::timeout(Duration::from_secs(10), async {
                while shop.api.get(EXPERIMENT).is_some() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await
            .expect("the finalizer goes");
        } else {
            shop.api.merge(EXPERIMENT, json!({"spec": {"desired": "Stop"}}));
            let status = shop.over().await;
            assert_eq!(
                (&status["phase"], &status["verdict"], &status["reason"]),
                (&json!("Stopped"), &json!("Stopped"), &json!("AbortedByUser"))
            );
        }
        assert_eq!(shop.entries(), 0);
    }
}

#[tokio::test]
async fn without_consent_nothing_is_touched_and_the_remedy_is_named() {
    let shop = Shop::open();
    shop.api
        .merge(SERVICE, json!({"spec": {"chaos": {"admission": "Denied"}}}));
    let _operator = shop.operator();
    shop.experiment(pod_kill());
    let status = shop.over().await;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Skipped"), &json!("NotAdmitted"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("spec.chaos.admission: Allowed")
    );
    assert_eq!(
        shop.api.writes(),
        [
            format!("PATCH {EXPERIMENT}/status"),
            format!("PATCH {EXPERIMENT}/status")
        ]
    );
}

/// Kill -9 at every write: before it is done, and after it was done but before anybody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write_leaves_one_kill_and_nothing_else() {
    let reference = {
        let shop = Shop::open();
        let _operator = shop.operator();
        shop.experiment(pod_kill());
        shop.over().await;
        shop.api.writes().len()
    };
    assert!(reference >= 12, "{reference}");
    let crash = |at: usize, done: bool| async move {
        let shop = Shop::open();
        let reached = Arc::new(Notify::new());
        let (signal, count) = (reached.clone(), AtomicUsize::new(0));
        shop.api.inject(move |request| {
            let counts = request.is_write() && !request.path.contains("/events");
            if !counts || count.fetch_add(1, Ordering::Relaxed) != at {
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
        shop.experiment(pod_kill());
        tokio::time::timeout(Duration::from_secs(20), reached.notified())
            .await
            .expect("the write is reached");
        first.abort();
        let _ = first.await;
        let _second = shop.operator();
        let status = shop.over().await;
        let context = format!("crash at write {at}, done: {done}: {status:#}");
        assert_eq!(status["verdict"], json!("NotEvaluated"), "{context}");
        assert_eq!(shop.entries(), 0, "{context}");
        let victims: Vec<_> = shop
            .evictions()
            .iter()
            .map(|eviction| eviction.body["deleteOptions"]["preconditions"]["uid"].clone())
            .collect();
        assert!(
            !victims.is_empty() && victims.iter().all(|uid| *uid == status["targets"][0]["uid"]),
            "{context}: {victims:?}"
        );
        let killed = ["pod-uid-0", "pod-uid-1"]
            .iter()
            .filter(|uid| pods(&shop.api).iter().all(|pod| pod["metadata"]["uid"] != **uid))
            .count();
        assert_eq!(killed, 1, "{context}");
    };
    let crashes = (0..reference - 1)
        .flat_map(|at| [(at, false), (at, true)])
        .map(|(at, done)| crash(at, done));
    // Not all at once: each would wait for the work of twenty others, and on a busy machine longer than `over` does.
    futures::stream::iter(crashes)
        .buffer_unordered(12)
        .collect::<Vec<()>>()
        .await;
}

#[tokio::test]
async fn a_fault_without_an_experiment_is_swept_up() {
    let shop = Shop::open();
    let orphan = |run: &str| {
        json!({"version": 1, "faults": [{
            "run": run, "fault": {"latency": {"delay": "1s"}}, "podUIDs": ["pod-uid-0"], "duration": "10m",
            "notAfter": "2126-01-01T00:00:00Z", "intentAt": "2026-01-01T00:00:00Z",
        }]})
        .to_string()
    };
    shop.api.merge(
        DOCUMENT,
        json!({"data": {"faults.json": orphan("gone/some-uid/0/some-run")}}),
    );
    let _operator = shop.operator();
    shop.api
        .until(DOCUMENT, |map| {
            map["data"]["faults.json"]
                .as_str()
                .is_some_and(|text| text.contains("\"faults\":[]"))
        })
        .await;

    // A run under way keeps its entry when something else is swept.
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    let clients = Clients::single(shop.api.client());
    assert_eq!(sweep::sweep(&clients, &[Scope::Cluster]).await.unwrap(), 0);
    assert_eq!(shop.entries(), 1);
    // A finalizer that was forced away leaves the entry behind; the deletion is noticed.
    shop.api.merge(EXPERIMENT, json!({"metadata": {"finalizers": null}}));
    shop.api.delete(EXPERIMENT);
    shop.api
        .until(DOCUMENT, |map| {
            map["data"]["faults.json"]
                .as_str()
                .is_some_and(|text| text.contains("\"faults\":[]"))
        })
        .await;
}

fn removal(seconds: u64) -> drain::Removal<'static> {
    drain::Removal {
        namespace: "valerix-system",
        deployment: None,
        timeout: Duration::from_secs(seconds),
    }
}

#[tokio::test]
async fn drain_ends_what_runs_keeps_the_experiments_and_lifts_the_stop() {
    let shop = Shop::open();
    let clients = Clients::single(shop.api.client());
    let _operator = shop.operator();
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    drain::drain(&clients, &[Scope::Cluster], removal(15)).await.unwrap();
    let status = shop.api.get(EXPERIMENT).unwrap()["status"].clone();
    assert_eq!(
        (&status["verdict"], &status["reason"]),
        (&json!("Stopped"), &json!("SafetyLever"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("the operator is being removed")
    );
    assert_eq!((shop.entries(), shop.api.get(SAFETY)), (0, None));
}

#[tokio::test]
async fn drain_names_what_it_could_not_end_and_leaves_somebody_elses_order() {
    let shop = Shop::open();
    let operator = shop.operator();
    shop.experiment(latency("10m"));
    shop.until(|status| status["injectedAt"].is_string()).await;
    // Nobody is there to recover it.
    drop(operator);
    let clients = Clients::single(shop.api.client());
    let error = drain::drain(&clients, &[Scope::Cluster], removal(1)).await.unwrap_err();
    assert!(error.to_string().contains("shop/test (Running)"), "{error}");
    let order = shop.api.get(SAFETY).unwrap();
    assert_eq!(order["data"]["stop"], json!("true"), "what runs is still to be stopped");

    shop.api.merge(SAFETY, json!({"data": {"reason": "incident 7"}}));
    let _operator = shop.operator();
    drain::drain(&clients, &[Scope::Cluster], removal(15)).await.unwrap();
    assert_eq!(
        shop.api.get(SAFETY).unwrap()["data"]["reason"],
        json!("incident 7"),
        "it was not ours to lift"
    );
}

#[tokio::test]
async fn drain_lifts_the_stop_only_when_the_operator_has_ended() {
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/valerix-system/deployments";
    const PODS: &str = "/api/v1/namespaces/valerix-system/pods";
    let deployment = format!("{DEPLOYMENTS}/valerix-operator");
    let shop = Shop::open();
    let clients = Clients::single(shop.api.client());
    let labels = json!({"app.kubernetes.io/name": "valerix-operator"});
    shop.api.create(
        DEPLOYMENTS,
        json!({"metadata": {"name": "valerix-operator"},
               "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {}}}),
    );
    shop.api.create(
        PODS,
        json!({"metadata": {"name": "valerix-operator-1", "labels": labels}}),
    );
    let removal = |seconds| drain::Removal {
        deployment: Some("valerix-operator"),
        ..removal(seconds)
    };
    let error = drain::drain(&clients, &[Scope::Cluster], removal(1)).await.unwrap_err();
    assert!(error.to_string().contains("pods of it are left"), "{error}");
    assert_eq!(shop.api.get(&deployment).unwrap()["spec"]["replicas"], json!(0));
    assert_eq!(
        shop.api.get(SAFETY).unwrap()["data"]["stop"],
        json!("true"),
        "a pod that is still there must start nothing"
    );

    shop.api.delete(&format!("{PODS}/valerix-operator-1"));
    drain::drain(&clients, &[Scope::Cluster], removal(5)).await.unwrap();
    assert_eq!(shop.api.get(SAFETY), None);
}
