//! The life of a service under faults, each plan from a seed: whatever happens, the end is that of an undisturbed life.
//!
//! `VALERIX_ROUNDS` plans are run and `VALERIX_SEED` draws them; without, there are as many as a test run can spare.

use super::{
    campaign::{CHILDREN, children, leaves, with_every_child, with_monitors},
    specs::number,
    *,
};
use crate::runtime::drift;
use http::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;
use valerix_crds::names::APPLIED_ANNOTATION;

mod cut;
mod deletion;
mod errors;
mod lost;
mod stale;

/// Longer than a failed object waits, unless it has failed often.
const REST: Duration = Duration::from_secs(20);
/// Longer than any object waits.
const LONG_REST: Duration = Duration::from_secs(150);

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
    json_patch::merge(&mut few, &json!({"ports": null, "replicas": 3, "monitoring": {"mode": "None"}}));
    [with_every_child, few, changed]
}

/// The children as far as they count, whichever object of the name owns them.
type State = BTreeMap<&'static str, Value>;

fn state(api: &FakeApi) -> State {
    let owner = api.get(ORDER).map(|service| service["metadata"]["uid"].clone());
    let mut state = children(api);
    for child in state.values_mut() {
        if let Some(annotations) = child["metadata"]["annotations"].as_object_mut() {
            annotations.remove(APPLIED_ANNOTATION);
        }
        for reference in child["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
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
    wanted.iter().find_map(|(path, wanted)| {
        let seen = drift::project(wanted, &found[path]);
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
    let Some(service) = api.get(ORDER) else {
        let mut service = order();
        service["spec"] = spec.clone();
        api.create(SERVICES, service);
        return;
    };
    let mut patch = json!({});
    for field in service["spec"].as_object().into_iter().flatten().map(|(field, _)| field) {
        patch[field] = json!(null);
    }
    json_patch::merge(&mut patch, &json!({}));
    for (field, value) in spec.as_object().into_iter().flatten() {
        patch[field] = value.clone();
    }
    api.merge(ORDER, json!({"spec": patch}));
}

fn is_operators(request: &crate::fake_api::Recorded) -> bool {
    request.is_write() && !request.path.contains("/events") && !request.path.contains("/leases")
}

/// Waits until nothing was written for so long.
async fn settle(api: &FakeApi, rest: Duration) {
    let writes = || api.requests().iter().filter(|request| is_operators(request)).count();
    let mut before = usize::MAX;
    while before != writes() {
        before = writes();
        tokio::time::sleep(rest).await;
    }
}

fn uids(api: &FakeApi) -> BTreeMap<&'static str, Value> {
    let there = CHILDREN.into_iter().filter_map(|path| Some((path, api.get(path)?)));
    there.map(|(path, child)| (path, child["metadata"]["uid"].clone())).collect()
}
