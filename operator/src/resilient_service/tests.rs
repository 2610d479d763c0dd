//! The controller against the fake API server: the order of writes, strangers, drift, rest, bad objects.

use super::*;
use crate::{
    fake_api::{FakeApi, Fault},
    runtime::{Clients, Identity, Runtime, Scope},
    settings::Settings,
};
use clap::Parser;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

mod admin;
mod adoption;
mod campaigns;
mod guard;
mod monitoring;
mod passing_time;
mod recovery;
mod rolls;
mod scale;
mod scaling;
mod skew;
mod unresolved;
mod volumes;

const SERVICES: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/resilientservices";
const ORDER: &str = "/apis/resilience.valerix.io/v1alpha1/namespaces/shop/resilientservices/order";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/order";
const CONFIG_MAP: &str = "/api/v1/namespaces/shop/configmaps/order-policy";
const SERVICE: &str = "/api/v1/namespaces/shop/services/order";

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

struct Operator {
    api: FakeApi,
    ctx: Arc<Context>,
    task: AbortOnDropHandle<()>,
}

/// As if killed: nothing is finished, and no watch is left.
impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
        self.ctx.runtime.shutdown.cancel();
    }
}

impl Operator {
    /// The controller, leading, on this API server.
    fn start(api: &FakeApi) -> Self {
        let operator = Self::stand_by(api);
        operator.lead();
        operator
    }

    /// From now on it leads.
    fn lead(&self) {
        self.ctx.runtime.leadership.set(true);
    }

    /// The controller with its caches, which does not lead.
    fn stand_by(api: &FakeApi) -> Self {
        let settings = Arguments::parse_from(["test"]).settings;
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        let ctx = Arc::new(Context {
            stores: Stores::watch(&runtime),
            reports: ReportStore::default(),
            runtime,
            settings,
        });
        Self {
            api: api.clone(),
            ctx: ctx.clone(),
            task: AbortOnDropHandle::new(tokio::spawn(run(ctx))),
        }
    }

    /// Waits until nothing was written for a while.
    async fn rest(&self) {
        let mut before = usize::MAX;
        loop {
            let now = self.api.requests().iter().filter(|request| request.is_write()).count();
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }

    fn count(&self, result: &str) -> u64 {
        self.ctx
            .runtime
            .metrics
            .reconciles
            .with_label_values(&[CONTROLLER, result])
            .get()
    }
}

fn order() -> Value {
    json!({
        "apiVersion": "resilience.valerix.io/v1alpha1",
        "kind": "ResilientService",
        "metadata": {"name": "order"},
        "spec": {
            "image": "order:1",
            "replicas": 1,
            "terminationGracePeriodSeconds": 45,
            "ports": [{"name": "http", "containerPort": 3001, "servicePort": 80}],
            "resilience": {"protocol": "None"}
        }
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn reason(object: &Value, kind: &str) -> String {
    condition(object, kind).map_or(String::new(), |condition| {
        format!(
            "{}/{}",
            condition["status"].as_str().unwrap(),
            condition["reason"].as_str().unwrap()
        )
    })
}

/// Does what Kubernetes would: every pod of the Deployment is ready.
async fn all_pods_ready(api: &FakeApi, name: &str) {
    let path = format!("/apis/apps/v1/namespaces/shop/deployments/{name}");
    let deployment = api.until(&path, |_| true).await;
    pods_come_up(api, name, &deployment);
}

fn pods_come_up(api: &FakeApi, name: &str, deployment: &Value) {
    let path = format!("/apis/apps/v1/namespaces/shop/deployments/{name}");
    let (generation, uid) = (&deployment["metadata"]["generation"], &deployment["metadata"]["uid"]);
    let revision = json!({"deployment.kubernetes.io/revision": "1"});
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid, "controller": true});
    api.create(
        "/apis/apps/v1/namespaces/shop/replicasets",
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {
            "name": format!("{name}-one"), "annotations": revision, "ownerReferences": [owner],
            "labels": {"resilience.valerix.io/service": name, "pod-template-hash": "one"}}}),
    );
    api.merge(
        &path,
        json!({"metadata": {"annotations": revision}, "status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}}),
    );
    one_ready_pod(api, name);
}

fn one_ready_pod(api: &FakeApi, name: &str) {
    let labels = json!({"resilience.valerix.io/service": name, "pod-template-hash": "one"});
    let uid = format!("pod-of-{name}");
    api.create(
        "/api/v1/namespaces/shop/pods",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-1"), "uid": uid, "labels": labels}, "status": {"podIP": "127.0.0.1"}
        }),
    );
    api.create(
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-pods-x"), "labels": {
                "kubernetes.io/service-name": format!("{name}-pods"), "resilience.valerix.io/service": name}},
            "addressType": "IPv4", "ports": [],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": format!("{name}-1"), "uid": format!("pod-of-{name}")}}]
        }),
    );
}

/// What a pod says that is behind.
fn old_report() -> PodReport {
    let report = json!({"podUID": "pod-of-order", "service": "order", "now": Utc::now(), "policy": {"versions": [1], "hash": "old"}});
    PodReport {
        namespace: "shop".into(),
        service: "order".into(),
        pod: "order-1".into(),
        report: serde_json::from_value(report).unwrap(),
        received_at: Utc::now(),
    }
}

#[tokio::test]
async fn children_are_applied_in_order_and_the_service_becomes_ready_and_then_all_is_quiet() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    let service = api
        .until(ORDER, |service| reason(service, "Ready") == "True/AllPodsCurrent")
        .await;
    assert_eq!(service["status"]["observedGeneration"], 1);
    assert_eq!(
        service["status"]["summary"],
        json!({"replicas": "1/1", "config": "1/1", "circuits": "-", "image": "order:1"})
    );
    // Nothing but the clock brings the count of ready pods into the map.
    api.until(CONFIG_MAP, |map| {
        map["data"]["runtime.json"]
            .as_str()
            .is_some_and(|text| serde_json::from_str::<Value>(text).unwrap()["readyReplicas"] == 1)
    })
    .await;
    operator.rest().await;

    let applied: Vec<String> = api
        .writes()
        .into_iter()
        .filter(|write| !write.ends_with("/status"))
        .collect();
    let first_of_each = [
        "PATCH /api/v1/namespaces/shop/serviceaccounts/order",
        "PATCH /api/v1/namespaces/shop/configmaps/order-policy",
        "PATCH /api/v1/namespaces/shop/services/order",
        "PATCH /api/v1/namespaces/shop/services/order-pods",
        "PATCH /apis/apps/v1/namespaces/shop/deployments/order",
    ];
    assert_eq!(applied[..5], first_of_each);
    // One more write of the map: the count of ready pods settled.
    assert!(
        applied[5..].iter().all(|write| *write == first_of_each[1]),
        "{applied:?}"
    );

    // Every watch tells everything again: nothing differs, so nothing is requested.
    api.forget_requests();
    let before = operator.count("Success");
    operator.ctx.stores.services.triggers().trigger_all();
    while operator.count("Success") == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(api.requests().len(), 0, "{:?}", api.requests());
}

#[tokio::test]
async fn a_restarted_operator_finds_everything_in_place_and_writes_nothing() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let first = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(ORDER, |service| reason(service, "Ready") == "True/AllPodsCurrent")
        .await;
    first.rest().await;
    drop(first);
    api.forget_requests();
    let second = Operator::start(&api);
    while second.count("Success") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.rest().await;
    assert_eq!(api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn drift_is_put_back_and_a_deleted_child_comes_again() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    operator.rest().await;

    let good = api.get(CONFIG_MAP).unwrap()["data"].clone();
    api.merge(
        CONFIG_MAP,
        json!({"data": {"policy.v1.json": "garbage", "faults.json": "{}"}}),
    );
    let map = api
        .until(CONFIG_MAP, |map| {
            map["data"]["policy.v1.json"] == good["policy.v1.json"]
        })
        .await;
    assert_eq!(map["data"]["faults.json"], "{}", "a key of another writer was touched");

    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 7}}));
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 1)
        .await;

    for child in [
        DEPLOYMENT,
        CONFIG_MAP,
        SERVICE,
        "/api/v1/namespaces/shop/serviceaccounts/order",
    ] {
        let before = api.get(child).unwrap()["metadata"]["uid"].clone();
        api.delete(child);
        api.until(child, |object| object["metadata"]["uid"] != before).await;
    }
    // Somebody takes our label off: the object leaves our watch, and is still ours.
    let uid = api.get(SERVICE).unwrap()["metadata"]["uid"].clone();
    api.merge(
        SERVICE,
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
    );
    let service = api
        .until(SERVICE, |service| {
            service["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "valerix"
        })
        .await;
    assert_eq!(service["metadata"]["uid"], uid);
}

#[tokio::test]
async fn a_stranger_is_never_adopted_and_the_workload_waits() {
    let api = FakeApi::default();
    let stranger = api.create(
        "/api/v1/namespaces/shop/services",
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "order"}, "spec": {"ports": [{"port": 1}]}}),
    );
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    let service = api
        .until(ORDER, |service| reason(service, "Ready") == "False/NotOwned")
        .await;
    let message = condition(&service, "ResourcesReady").unwrap()["message"]
        .as_str()
        .unwrap();
    assert!(
        message.starts_with("Service order exists and belongs to somebody else; rename"),
        "{message}"
    );
    assert_eq!(reason(&service, "Stalled"), "True/NotOwned");
    assert_eq!(api.get(SERVICE).unwrap(), stranger);
    assert_eq!(api.get(DEPLOYMENT), None);

    api.delete(SERVICE);
    api.until(DEPLOYMENT, |_| true).await;
    assert!(operator.count("NotOwned") > 0);
}

#[tokio::test]
async fn ports_that_go_take_their_service_with_them_and_only_ours() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let _operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    // Carries our labels and another owner: not ours to remove.
    api.create(
        "/api/v1/namespaces/shop/services",
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "foreign",
            "labels": {"app.kubernetes.io/managed-by": "valerix", "resilience.valerix.io/service": "order"}}, "spec": {}}),
    );
    // Ours by owner and label, of an earlier version.
    let map = api.get(CONFIG_MAP).unwrap();
    let left = "/api/v1/namespaces/shop/configmaps/left-over";
    api.create(
        "/api/v1/namespaces/shop/configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left-over",
            "labels": map["metadata"]["labels"], "ownerReferences": map["metadata"]["ownerReferences"]}}),
    );
    api.merge(ORDER, json!({"spec": {"ports": null}}));
    let gone = tokio::time::timeout(Duration::from_secs(10), async {
        while api.get(SERVICE).is_some() || api.get(left).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.expect("the Service goes");
    assert!(api.get("/api/v1/namespaces/shop/services/foreign").is_some());
    api.delete(ORDER);
    assert_eq!(api.get(DEPLOYMENT), None);
}

#[tokio::test]
async fn a_bad_object_hurts_itself_alone() {
    let api = FakeApi::default();
    let mut unreadable = order();
    unreadable["metadata"]["name"] = json!("bad");
    unreadable["spec"]["replicas"] = json!("many");
    api.create(SERVICES, unreadable);
    let mut contradictory = order();
    contradictory["metadata"]["name"] = json!("wrong");
    contradictory["spec"]["probes"] = json!({"readiness": {"path": "/", "port": "nowhere"}});
    api.create(SERVICES, contradictory);
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    let wrong = api
        .until(&format!("{SERVICES}/wrong"), |service| {
            reason(service, "Ready") == "False/InvalidSpec"
        })
        .await;
    let message = condition(&wrong, "Ready").unwrap()["message"].as_str().unwrap();
    assert_eq!(
        message,
        "spec.probes.readiness.port: no port is named `nowhere`; add it to spec.ports or name one of them"
    );
    let metrics = &operator.ctx.runtime.metrics;
    assert!(metrics.invalid_objects.with_label_values(&["resilientservices"]).get() > 0);
}

#[tokio::test]
async fn faults_of_the_api_server_are_waited_out() {
    let api = FakeApi::default();
    let mut count = 0;
    api.inject(move |request| {
        count += 1;
        match (request.is_write(), count % 3) {
            (true, 0) => Some(Fault::Refuse(503)),
            (true, 1) => Some(Fault::LoseAnswer),
            _ => None,
        }
    });
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(ORDER, |service| reason(service, "Ready") == "True/AllPodsCurrent")
        .await;
    assert!(operator.count("ApiServerError") + operator.count("ApiUnreachable") > 0);
}

#[tokio::test]
async fn a_pod_that_stays_behind_is_nudged_again_without_any_other_news() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    // There from the start, so that no count of ready pods has to settle and no other look comes in between.
    one_ready_pod(&api, "order");
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    operator.ctx.reports.put("pod-of-order", old_report());
    operator.ctx.stores.services.triggers().trigger_all();
    let nudges = || {
        let is_nudge = |write: &&String| **write == "PATCH /api/v1/namespaces/shop/pods/order-1/status";
        api.writes().iter().filter(is_nudge).count()
    };
    let twice = tokio::time::timeout(Duration::from_secs(30), async {
        while nudges() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    twice.await.expect("a second nudge");
}

#[tokio::test]
async fn a_service_that_goes_gets_nothing_any_more() {
    let api = FakeApi::default();
    let mut going = order();
    going["metadata"] =
        json!({"name": "going", "deletionTimestamp": "2026-08-21T11:00:00Z", "finalizers": ["example.com/wait"]});
    api.create(SERVICES, going);
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    operator.rest().await;
    let writes = api.writes();
    assert!(writes.iter().all(|write| !write.contains("going")), "{writes:?}");
}

#[tokio::test]
async fn a_paused_service_is_left_alone_and_still_judged() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    all_pods_ready(&api, "order").await;
    api.until(ORDER, |service| reason(service, "Ready") == "True/AllPodsCurrent")
        .await;
    operator.rest().await;
    api.merge(ORDER, json!({"spec": {"paused": true}}));
    api.until(ORDER, |service| reason(service, "Warning") == "True/Paused")
        .await;
    api.forget_requests();
    api.merge(DEPLOYMENT, json!({"spec": {"replicas": 5}}));
    let service = api
        .until(ORDER, |service| reason(service, "Progressing") == "True/RollingOut")
        .await;
    assert_eq!(reason(&service, "ResourcesReady"), "True/Paused");
    assert_eq!(api.get(DEPLOYMENT).unwrap()["spec"]["replicas"], 5);
    api.merge(ORDER, json!({"spec": {"paused": false}}));
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 1)
        .await;
}
