//! The life of a service under faults, each plan from a seed: whatever happens, the end is that of an undisturbed life.
//!
//! `VALERIX_ROUNDS` plans are run and `VALERIX_SEED` draws them; without, there are as many as a test run can spare.

use super::*;
use crate::runtime::drift;
use http::Method;
use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;
use valerix_crds::names::APPLIED_ANNOTATION;

mod cut;
mod deletion;
mod edits;
mod errors;
mod fields;
mod lost;
mod specs;
mod spellings;
mod stale;

/// Longer than a failed object waits, unless it has failed often.
const REST: Duration = Duration::from_secs(20);
/// Long enough where nothing fails.
const SHORT_REST: Duration = Duration::from_secs(3);
/// Longer than any object waits.
const LONG_REST: Duration = Duration::from_secs(150);

/// The number that a campaign is told by this variable, else its own.
pub(super) fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}

/// Everything that a service may own.
const CHILDREN: [&str; 9] = [
    "/api/v1/namespaces/shop/serviceaccounts/order",
    CONFIG_MAP,
    SERVICE,
    "/api/v1/namespaces/shop/services/order-pods",
    "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/order",
    "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/order",
    DEPLOYMENT,
    "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/order",
    "/apis/monitoring.coreos.com/v1/namespaces/shop/servicemonitors/order",
];

/// What counts of the children: not who wrote them when, and how often.
fn children(api: &FakeApi) -> BTreeMap<&'static str, Value> {
    let found = CHILDREN.into_iter().filter_map(|path| Some((path, api.get(path)?)));
    found
        .map(|(path, mut child)| {
            let metadata = child["metadata"].as_object_mut().unwrap();
            metadata.retain(|field, _| ["name", "labels", "annotations", "ownerReferences"].contains(&field.as_str()));
            child.as_object_mut().unwrap().remove("status");
            (path, child)
        })
        .collect()
}

fn with_monitors(api: &FakeApi) {
    api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "servicemonitors.monitoring.coreos.com"}}),
    );
}

/// What a service with every child has.
fn with_every_child() -> Value {
    let mut service = order();
    let spec = json!({
        "replicas": 1, "disruption": {}, "networkPolicy": {"egressTo": []}, "monitoring": {"port": "http"},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4}, "resources": {"requests": {"cpu": "100m"}}
    });
    json_patch::merge(&mut service["spec"], &spec);
    service
}

/// Paths of all scalars below a value.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (field, below) in fields {
                let escaped = field.replace('~', "~0").replace('/', "~1");
                leaves(below, &format!("{path}/{escaped}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, below) in items.iter().enumerate() {
                leaves(below, &format!("{path}/{index}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// What the specification becomes, one after another: children come, change and go.
fn life() -> [Value; 3] {
    let with_every_child = with_every_child()["spec"].clone();
    let mut changed = with_every_child.clone();
    let changes = json!({
        "env": [{"name": "A", "value": "1"}], "serviceAccountName": "another", "disruption": null,
        "autoscaling": {"maxReplicas": 6}, "ports": [{"name": "http", "containerPort": 3002}]
    });
    json_patch::merge(&mut changed, &changes);
    let mut few = order()["spec"].clone();
    json_patch::merge(
        &mut few,
        &json!({"ports": null, "replicas": 3, "monitoring": {"mode": "None"}}),
    );
    [with_every_child, few, changed]
}

/// The children as far as they count, whichever object of the name owns them.
type State = BTreeMap<&'static str, Value>;

fn state(api: &FakeApi) -> State {
    let owner = api.get(ORDER).map(|service| service["metadata"]["uid"].clone());
    let mut state = children(api);
    // How many pods are ready, and how many there are where that is measured, is a matter of what was before.
    let is_scaled = state.keys().any(|path| path.contains("/horizontalpodautoscalers/"));
    if let Some(map) = state.get_mut(CONFIG_MAP).and_then(|map| map["data"].as_object_mut()) {
        map.remove("runtime.json");
    }
    if let Some(spec) = state
        .get_mut(DEPLOYMENT)
        .and_then(|deployment| deployment["spec"].as_object_mut())
        && is_scaled
    {
        spec.remove("replicas");
    }
    for child in state.values_mut() {
        if let Some(annotations) = child["metadata"]["annotations"].as_object_mut() {
            annotations.remove(APPLIED_ANNOTATION);
        }
        for reference in child["metadata"]["ownerReferences"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            if Some(&reference["uid"]) == owner.as_ref() {
                reference["uid"] = json!("of the service");
            }
        }
    }
    state
}

/// Where a state is not as wanted: other children, or another value of what is wanted of one.
fn difference(found: &State, wanted: &State) -> Option<String> {
    let names = |state: &State| state.keys().copied().collect::<Vec<_>>();
    if names(found) != names(wanted) {
        return Some(format!("there are {:?} instead of {:?}", names(found), names(wanted)));
    }
    lack(found, wanted)
}

/// The same, whatever there is beside what is wanted.
fn lack(found: &State, wanted: &State) -> Option<String> {
    wanted.iter().find_map(|(path, wanted)| {
        let seen = drift::project(wanted, found.get(path).unwrap_or(&Value::Null));
        (seen != *wanted).then(|| format!("{path} is {seen} instead of {wanted}"))
    })
}

/// The state that an undisturbed operator makes of each specification.
async fn references(specs: &[Value]) -> Vec<State> {
    let mut states = Vec::new();
    for spec in specs {
        let api = FakeApi::default();
        with_monitors(&api);
        write(&api, spec);
        let operator = Operator::start(&api);
        settle(&api, REST).await;
        states.push(state(&api));
        drop(operator);
    }
    states
}

/// Makes the service, or gives it this specification.
fn write(api: &FakeApi, spec: &Value) {
    let mut service = api.get(ORDER).unwrap_or_else(order);
    service["spec"] = spec.clone();
    match api.get(ORDER) {
        Some(_) => api.replace(ORDER, service),
        None => api.create(SERVICES, service),
    };
}

fn is_operators(request: &crate::fake_api::Recorded) -> bool {
    request.is_write() && !request.path.contains("/events") && !request.path.contains("/leases")
}

/// Waits until nothing was written for so long, which comes at last.
async fn settle(api: &FakeApi, rest: Duration) {
    let writes = || api.requests().iter().filter(|request| is_operators(request)).count();
    let mut before = usize::MAX;
    for _ in 0..300 {
        let now = writes();
        if before == now {
            return;
        }
        before = now;
        tokio::time::sleep(rest).await;
    }
    let writes = api.writes();
    panic!(
        "there is no end of writes: {:?}",
        &writes[writes.len().saturating_sub(10)..]
    );
}

/// Fields that keep an operator as these tests start it, which knows no image for guards, from making all that a service
/// says.
fn in_the_way(object: &Value) -> Vec<String> {
    let mut fields = refused(object);
    let guard = &object["spec"]["guard"];
    if guard["mode"] == "Sidecar" && guard["image"].is_null() {
        fields.push("spec.guard.image".to_owned());
    }
    // Nothing happens in a pause.
    if object["spec"]["paused"] == true {
        fields.push("spec.paused".to_owned());
    }
    fields
}

/// Fields of a service, as the API server would hand it out, that the operator refuses.
fn refused(object: &Value) -> Vec<String> {
    let service = Arc::new(serde_json::from_value(object.clone()).unwrap());
    violations(&service)
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

fn uids(api: &FakeApi) -> BTreeMap<&'static str, Value> {
    let there = CHILDREN.into_iter().filter_map(|path| Some((path, api.get(path)?)));
    there
        .map(|(path, child)| (path, child["metadata"]["uid"].clone()))
        .collect()
}

/// Whether the status says that everything of the newest specification stands.
fn says_all_stands(service: &Value) -> bool {
    service["status"]["observedGeneration"] == service["metadata"]["generation"]
        && reason(service, "ResourcesReady").starts_with("True/")
}
