//! A shop with one service, against a fake API server: what the tests of the wire stand on.

use super::super::*;
use crate::fake_api::{FakeApi, Recorded};
use crate::resilient_service::{PodReport, ReportStore, Stores};
use crate::runtime::{Clients, Fence, Identity, Scope};
use chrono::{DateTime, Utc};
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

/// A shop with one service of two pods, whose Deployment replaces what is killed and whose pods obey the document.
pub struct Shop {
    pub api: FakeApi,
    reports: ReportStore,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Shop {
    pub fn open() -> Self {
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
    pub fn operator(&self) -> AbortOnDropHandle<()> {
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

    pub fn experiment(&self, spec: Value) {
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

    pub async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.api.until(EXPERIMENT, |found| wanted(&found["status"])).await["status"].clone()
    }

    pub async fn over(&self) -> Value {
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

    pub fn evictions(&self) -> Vec<Recorded> {
        self.api
            .requests()
            .into_iter()
            .filter(|request| request.path.ends_with("/eviction"))
            .collect()
    }

    pub fn entries(&self) -> usize {
        let map = self.api.get(DOCUMENT).unwrap();
        map.pointer("/data/faults.json")
            .and_then(Value::as_str)
            .map_or(0, |text| Faults::parse(text.as_bytes()).unwrap().document.faults.len())
    }
}

pub fn pod(api: &FakeApi, number: usize) {
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

pub fn pods(api: &FakeApi) -> Vec<Value> {
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

pub fn pod_kill() -> Value {
    json!({"podKill": {"gracePeriodSeconds": 5}})
}

pub fn latency(duration: &str) -> Value {
    json!({"latency": {"delay": "1s"}, "duration": duration, "count": "100%"})
}
