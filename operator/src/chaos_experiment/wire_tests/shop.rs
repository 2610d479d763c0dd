//! A shop with one service, against a fake API server: what the tests of the wire stand on.

use super::super::*;
use crate::fake_api::{FakeApi, Recorded};
use crate::resilient_service::{PodReport, ReportStore, Stores};
use crate::runtime::{Clients, Identity, Scope};
use chrono::{DateTime, SubsecRound, Utc};
use clap::Parser;
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio_util::task::AbortOnDropHandle;
use valerix_policy::{FaultReport, FaultState, FaultType, Faults, PolicyReport, Report};

pub const EXPERIMENTS: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/chaosexperiments";
pub const EXPERIMENT: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/chaosexperiments/test";
pub const SERVICE: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/resilientservices/inventory";
pub const DOCUMENT: &str = "/api/v1/namespaces/shop/configmaps/inventory-policy";
pub const PODS: &str = "/api/v1/namespaces/shop/pods";
pub const SAFETY: &str = "/api/v1/namespaces/valerix-system/configmaps/valerix-safety";

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: crate::settings::Settings,
}

/// A shop whose services have two pods each, which their Deployment replaces when they are killed and which obey their
/// document.
pub struct Shop {
    pub api: FakeApi,
    pub reports: ReportStore,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Shop {
    /// A shop of inventory alone.
    pub fn open() -> Self {
        Self::of(&["inventory"])
    }

    /// A shop of these services.
    pub fn of(services: &[&'static str]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut shop = Self {
            api: FakeApi::default(),
            reports: ReportStore::default(),
            _tasks: Vec::new(),
        };
        for service in services {
            shop.add(service);
        }
        shop
    }

    fn add(&mut self, service: &'static str) {
        self.create_service(service, 2);
        let replacing = replace(self.api.clone(), service);
        let obeying = obey(self.api.clone(), self.reports.clone(), service);
        self._tasks.push(AbortOnDropHandle::new(tokio::spawn(replacing)));
        self._tasks.push(AbortOnDropHandle::new(tokio::spawn(obeying)));
    }

    /// A service that consents and runs what its spec says, with so many pods.
    pub fn create_service(&self, service: &str, replicas: usize) {
        let api = &self.api;
        let group = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop";
        api.create(
            &format!("{group}/resilientservices"),
            json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService",
                "metadata": {"name": service},
                "spec": {"image": "app:1", "replicas": replicas, "chaos": {"admission": "Allowed"},
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
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": service},
                "spec": {"replicas": replicas, "selector": {}, "template": {}},
                "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas},
            }),
        );
        self.create_map(service);
        for number in 0..replicas {
            pod(api, service, number);
        }
    }

    /// What the controller of the service makes, also when somebody removed it.
    pub fn create_map(&self, service: &str) {
        let labels = json!({"app.kubernetes.io/managed-by": "valerix", "resilience.valerix.io/service": service});
        self.api.create(
            "/api/v1/namespaces/shop/configmaps",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("{service}-policy"), "labels": labels},
                "data": {"policy.v1.json": "{}", "runtime.json": "{}"},
            }),
        );
    }

    /// An operator that leads.
    pub fn operator(&self) -> AbortOnDropHandle<()> {
        let mut settings = Arguments::parse_from(["test"]).settings;
        settings.chaos_namespaces = vec!["shop".into()];
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(self.api.client()), vec![Scope::Cluster]);
        runtime.leadership.set(true);
        let ctx = Arc::new(Context {
            stores: Stores::watch(&runtime),
            reports: self.reports.clone(),
            runtime,
            settings,
        });
        AbortOnDropHandle::new(tokio::spawn(run(ctx)))
    }

    /// An experiment on inventory by the name of `test`.
    pub fn experiment(&self, spec: Value) {
        self.experiment_on("inventory", "test", spec);
    }

    /// An experiment of this name on this service.
    pub fn experiment_on(&self, service: &str, name: &str, mut spec: Value) {
        spec["target"] = json!({"service": service});
        self.api.create(
            EXPERIMENTS,
            json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ChaosExperiment",
                "metadata": {"name": name}, "spec": spec,
            }),
        );
    }

    pub async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.api.until(EXPERIMENT, |found| wanted(&found["status"])).await["status"].clone()
    }

    /// Waits for the end of `test`.
    pub async fn over(&self) -> Value {
        self.end_of("test").await
    }

    /// Waits for the end of the experiment of this name.
    pub async fn end_of(&self, name: &str) -> Value {
        let over = |found: &Value| {
            let finalizers = found.pointer("/metadata/finalizers").and_then(Value::as_array);
            let phase = found
                .pointer("/status/phase")
                .and_then(Value::as_str)
                .unwrap_or_default();
            matches!(phase, "Completed" | "Stopped" | "Failed" | "Skipped") && finalizers.is_none_or(Vec::is_empty)
        };
        self.api.until(&format!("{EXPERIMENTS}/{name}"), over).await["status"].clone()
    }

    pub fn evictions(&self) -> Vec<Recorded> {
        self.api
            .requests()
            .into_iter()
            .filter(|request| request.path.ends_with("/eviction"))
            .collect()
    }

    /// Faults that stand in inventory's document.
    pub fn entries(&self) -> usize {
        self.entries_of("inventory")
    }

    /// Faults that stand in the document of this service.
    pub fn entries_of(&self, service: &str) -> usize {
        let map = self.api.get(&document(service)).unwrap();
        map.pointer("/data/faults.json")
            .and_then(Value::as_str)
            .and_then(|text| Faults::parse(text.as_bytes()).ok())
            .map_or(0, |parsed| parsed.document.faults.len())
    }
}

/// Where the document of a service stands.
pub fn document(service: &str) -> String {
    format!("/api/v1/namespaces/shop/configmaps/{service}-policy")
}

fn pod(api: &FakeApi, service: &str, number: usize) {
    api.create(
        PODS,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{service}-{number}"), "uid": format!("{service}-uid-{number}"),
                "labels": {"resilience.valerix.io/service": service},
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }),
    );
}

/// The pods of inventory.
pub fn pods(api: &FakeApi) -> Vec<Value> {
    pods_of(api, "inventory")
}

/// The pods of a service: two, and those that are on their way out, one number after another.
fn pods_of(api: &FakeApi, service: &str) -> Vec<Value> {
    (0..40)
        .filter_map(|number| api.get(&format!("{PODS}/{service}-{number}")))
        .collect()
}

/// The Deployment: what goes is replaced.
async fn replace(api: FakeApi, service: &str) {
    let mut next = 2;
    loop {
        for pod in pods_of(&api, service) {
            if pod.pointer("/metadata/deletionTimestamp").is_some() {
                api.delete(&format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap()));
            }
        }
        while pods_of(&api, service).len() < 2 {
            self::pod(&api, service, next);
            next += 1;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The kubelet: the process ended and the next one is ready, as the status of its pod says, to the second.
fn restart(api: &FakeApi, pod: &str, now: DateTime<Utc>) {
    let now = now.trunc_subsecs(0);
    api.merge(
        &format!("{PODS}/{pod}"),
        json!({"status": {
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            "containerStatuses": [{
                "name": "app", "image": "app:1", "imageID": "", "ready": true, "restartCount": 1,
                "lastState": {"terminated": {"exitCode": 134, "finishedAt": now}},
            }],
        }}),
    );
}

/// What the pods know of faults: of which pod and run, of what kind, and until when.
type Known = HashMap<(String, String), (FaultType, DateTime<Utc>)>;

/// Whether the operator has seen the fault of this entry in every pod.
fn is_seen(api: &FakeApi, run: &str) -> bool {
    let experiment = run.split('/').next().unwrap_or_default();
    let found = api.get(&format!("{EXPERIMENTS}/{experiment}"));
    found.is_some_and(|found| found["status"]["injectedAt"].is_string())
}

/// The pods: each reads the document as long as there is one, obeys it on its own clock, and reports. Their clocks stand
/// still until the operator has seen the fault, so that a busy machine changes no verdict.
async fn obey(api: FakeApi, reports: ReportStore, service: &str) {
    let mut known = Known::new();
    let mut text = None;
    loop {
        if let Some(map) = api.get(&document(service)) {
            let found = map.pointer("/data/faults.json").and_then(Value::as_str);
            text = found.map(str::to_owned);
        }
        let parsed = text
            .as_ref()
            .and_then(|text: &String| Faults::parse(text.as_bytes()).ok());
        // What cannot be read changes nothing.
        let unreadable = text.is_some() && parsed.is_none();
        let entry = parsed.and_then(|parsed| parsed.document.faults.into_iter().next());
        for pod in pods_of(&api, service) {
            let (name, uid) = (
                pod["metadata"]["name"].as_str().unwrap(),
                pod["metadata"]["uid"].as_str().unwrap(),
            );
            let now = Utc::now();
            if let Some(entry) = entry
                .as_ref()
                .filter(|entry| entry.pod_uids.iter().any(|other| other == uid) && entry.fault.pod_kill.is_none())
            {
                let key = (uid.to_owned(), entry.run.clone());
                let lasts = chrono::TimeDelta::from_std(entry.duration.get()).unwrap();
                let kind = entry.fault.fault_type();
                let until = match kind {
                    FaultType::Crash => now,
                    _ => (now + lasts).min(entry.not_after),
                };
                if kind == FaultType::Crash && !known.contains_key(&key) {
                    restart(&api, name, now);
                }
                known.entry(key).or_insert((kind, until));
            }
            for ((of, run), (kind, until)) in &mut known {
                let entry = entry.as_ref().filter(|entry| entry.run == *run);
                if let Some(entry) = entry.filter(|_| of == uid && *kind != FaultType::Crash && !is_seen(&api, run)) {
                    *until = now + chrono::TimeDelta::from_std(entry.duration.get()).unwrap();
                }
                if of == uid && !unreadable && entry.is_none() {
                    *until = now.min(*until);
                }
            }
            let own = known.iter().filter(|((of, _), _)| of == uid);
            let faults = own.map(|((_, run), (kind, until))| FaultReport {
                run: run.clone(),
                fault_type: *kind,
                state: if now < *until {
                    FaultState::Active
                } else {
                    FaultState::Ended
                },
                reason: None,
                remaining_ms: u64::try_from((*until - now).num_milliseconds().max(0)).unwrap(),
                hits: Some(1),
            });
            reports.put(uid, report(service, name, uid, text.as_deref(), faults.collect()));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// What a pod says at this moment that has read this document of faults.
pub fn report(service: &str, pod: &str, uid: &str, document: Option<&str>, faults: Vec<FaultReport>) -> PodReport {
    let now = Utc::now();
    let report = Report {
        pod_uid: uid.into(),
        service: service.into(),
        now,
        policy: PolicyReport {
            versions: vec![1],
            hash: None,
            source: valerix_policy::PolicySource::Document,
            loaded_at: None,
            error: None,
            ignored_fields: vec![],
        },
        faults_hash: document.map(|text| valerix_policy::hash(text.as_bytes())),
        circuit_breakers: vec![],
        limits: vec![],
        faults,
    };
    PodReport {
        namespace: "shop".into(),
        service: service.into(),
        pod: pod.into(),
        report,
        received_at: now,
    }
}

pub fn pod_kill() -> Value {
    json!({"podKill": {"gracePeriodSeconds": 5}})
}

pub fn latency(duration: &str) -> Value {
    json!({"latency": {"delay": "1s"}, "duration": duration, "count": "100%"})
}
