//! Whatever the way, the end is the same: every field comes and goes, children are edited at random, objects cannot be
//! read, and what stands at last is what a fresh service has.

use super::*;

/// Each field of the full specification alone: some of these contradict others, and the way back must be found from there
/// too.
fn changes() -> Vec<Value> {
    let spec = fixtures::full_spec();
    let fields = spec.as_object().unwrap().iter();
    fields.map(|(field, value)| json!({field: value})).collect()
}

#[tokio::test(start_paused = true)]
async fn a_field_that_came_and_went_leaves_no_trace() {
    let api = FakeApi::default();
    with_monitors(&api);
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    operator.rest().await;
    let reference = children(&api);
    assert_eq!(reference.len(), 5, "{:?}", reference.keys());
    let mut touched = 0;
    for change in changes() {
        let spec = order()["spec"].clone();
        let mut changed = spec.clone();
        json_patch::merge(&mut changed, &change);
        // A merge patch would keep what the specification of before had below a field.
        api.merge(ORDER, json!({"spec": null}));
        api.merge(ORDER, json!({"spec": changed}));
        operator.rest().await;
        touched += usize::from(children(&api) != reference);
        api.merge(ORDER, json!({"spec": null}));
        api.merge(ORDER, json!({"spec": spec}));
        operator.rest().await;
        let found = children(&api);
        for path in CHILDREN {
            assert_eq!(found.get(path), reference.get(path), "{path} after {change}");
        }
    }
    assert!(touched > 25, "{touched} of the changes changed anything at all");
}

/// Every leaf of the full specification taken away, and every number another one: what a service becomes on the way is
/// what a fresh one would be, and the way back leads to what was.
#[tokio::test(start_paused = true)]
async fn what_a_changed_leaf_makes_of_a_service_is_what_a_fresh_one_has() {
    let full = fixtures::full_spec();
    let mut paths = Vec::new();
    leaves(&full, "", &mut paths);
    let mut changed = Vec::new();
    for path in &paths {
        let (parent, field) = path.rsplit_once('/').unwrap();
        let field = field.replace("~1", "/").replace("~0", "~");
        let mut without = full.clone();
        match without.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(&field)),
            Value::Array(items) => drop(items.remove(field.parse().unwrap())),
            other => panic!("{path} is below {other}"),
        }
        changed.push((format!("without {path}"), without));
        if let Some(number) = full.pointer(path).and_then(Value::as_i64) {
            let mut other = full.clone();
            *other.pointer_mut(path).unwrap() = json!(number + 1);
            changed.push((format!("another {path}"), other));
        }
    }
    // So many of them, by chance; a campaign tries them all.
    let (rounds, seed) = (number("VALERIX_ROUNDS", 40), number("VALERIX_SEED", 2_026));
    changed.shuffle(&mut StdRng::seed_from_u64(seed));
    changed.truncate(usize::try_from(rounds).unwrap());

    let api = FakeApi::default();
    with_monitors(&api);
    write(&api, &full);
    let operator = Operator::start(&api);
    settle(&api, SHORT_REST).await;
    let reference = state(&api);
    let (mut other, mut refused) = (0, 0);
    for (name, spec) in &changed {
        let fresh = FakeApi::default();
        with_monitors(&fresh);
        write(&fresh, spec);
        let first = Operator::start(&fresh);
        settle(&fresh, SHORT_REST).await;
        drop(first);
        write(&api, spec);
        settle(&api, SHORT_REST).await;
        let said = reason(&fresh.get(ORDER).unwrap(), "ResourcesReady");
        let wanted = match said.starts_with("True/") {
            true => state(&fresh),
            // Refused, or not even read: what was good stays.
            false => reference.clone(),
        };
        refused += usize::from(!said.starts_with("True/"));
        other += usize::from(wanted != reference);
        if let Some(difference) = difference(&state(&api), &wanted) {
            panic!("{name}: {difference}");
        }
        write(&api, &full);
        settle(&api, SHORT_REST).await;
        if let Some(difference) = difference(&state(&api), &reference) {
            panic!("after {name}: {difference}");
        }
    }
    drop(operator);
    assert!(other > refused, "{other} are another service, {refused} refused");
}

/// Each child, deleted and edited: what is wanted stands again within a second.
#[tokio::test(start_paused = true)]
async fn each_child_that_is_deleted_or_edited_stands_again_within_a_second() {
    let api = FakeApi::default();
    with_monitors(&api);
    api.create(SERVICES, with_every_child());
    let operator = Operator::start(&api);
    settle(&api, REST).await;
    let wanted = state(&api);
    assert_eq!(wanted.len(), CHILDREN.len(), "{:?}", wanted.keys());
    for path in CHILDREN {
        for is_deleted in [true, false] {
            match is_deleted {
                true => api.delete(path),
                false => drop(api.merge(
                    path,
                    json!({"metadata": {"labels": {"app.kubernetes.io/name": "another"}}}),
                )),
            }
            let begun = tokio::time::Instant::now();
            while let Some(difference) = difference(&state(&api), &wanted) {
                assert!(begun.elapsed() <= Duration::from_secs(1), "{path}: {difference}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            settle(&api, SHORT_REST).await;
        }
    }
    drop(operator);
}

/// Does to a child what no field of its own is: takes its owner away or makes him a mere one, says another status of it,
/// or keeps it from going when it is deleted, for a while.
async fn meddle(api: &FakeApi, path: &str, random: &mut StdRng) -> String {
    let Some(child) = api.get(path) else {
        return format!("{path} is not there");
    };
    let owners = |owners: Value| {
        api.merge(path, json!({"metadata": {"ownerReferences": null}}));
        api.merge(path, json!({"metadata": {"ownerReferences": owners}}));
    };
    let mut references = child["metadata"]["ownerReferences"].clone();
    match random.random_range(0..5) {
        0 => {
            owners(json!([]));
            format!("no owner of {path}")
        }
        1 => {
            references[0]["controller"] = json!(false);
            owners(references);
            format!("no controller of {path}")
        }
        2 => {
            let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other"});
            owners(json!([references[0], other]));
            format!("one more owner of {path}")
        }
        3 => {
            let number = random.random_range(0..9);
            api.merge(
                path,
                json!({"status": {"replicas": number, "observedGeneration": number}}),
            );
            format!("another status of {path}")
        }
        _ => {
            api.merge(path, json!({"metadata": {"finalizers": ["example.com/keep"]}}));
            api.delete(path);
            tokio::time::sleep(Duration::from_secs(random.random_range(1..20))).await;
            assert_eq!(
                reason(&api.get(ORDER).unwrap(), "ResourcesReady"),
                "False/Terminating",
                "{path} is kept"
            );
            assert_eq!(
                api.get(path).unwrap()["metadata"]["uid"],
                child["metadata"]["uid"],
                "{path} is kept"
            );
            api.merge(path, json!({"metadata": {"finalizers": null}}));
            format!("finalizer of {path}")
        }
    }
}

/// Does to a child as somebody might: deletes it, or changes or removes one of its fields.
fn edit(api: &FakeApi, path: &str, random: &mut StdRng) -> String {
    let Some(mut child) = api.get(path) else {
        return format!("{path} is not there");
    };
    if random.random_bool(0.1) {
        api.delete(path);
        return format!("delete {path}");
    }
    let mut paths = Vec::new();
    leaves(&child, "", &mut paths);
    // These can never change, or are the API server's own.
    let fixed = [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/uid",
        "/metadata/resourceVersion",
        "/metadata/namespace",
        "/metadata/generation",
        "/metadata/creationTimestamp",
        "/metadata/managedFields",
        // Whoever makes it another's makes it a stranger's, which is left alone; see `meddle` for the rest.
        "/metadata/ownerReferences",
        "/status",
    ];
    paths.retain(|leaf| !fixed.iter().any(|fixed| leaf.starts_with(fixed)));
    if path == DEPLOYMENT {
        // The first can never change, the second is the autoscaler's.
        paths.retain(|leaf| !leaf.starts_with("/spec/selector") && leaf != "/spec/replicas");
    }
    let leaf = paths.choose(random).unwrap().clone();
    let (parent, field) = leaf.rsplit_once('/').unwrap();
    let field = field.replace("~1", "/").replace("~0", "~");
    if random.random_bool(0.3) {
        match child.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(&field)),
            Some(Value::Array(items)) => drop(items.remove(field.parse().unwrap())),
            _ => {}
        }
    } else if let Some(place) = child.pointer_mut(&leaf) {
        *place = match &*place {
            Value::Number(_) => json!(random.random_range(1..60_000)),
            Value::Bool(yes) => json!(!yes),
            _ => json!(format!("edited-{}", random.random_range(0..1_000))),
        };
    }
    // As a whole, since a merge would keep what was removed.
    let (top, _) = leaf[1..].split_once('/').unwrap_or((&leaf[1..], ""));
    let whole = child[top].clone();
    if top != "metadata" {
        api.merge(path, json!({top: null}));
        api.merge(path, json!({top: whole}));
    } else {
        let part = leaf["/metadata/".len()..].split('/').next().unwrap().to_owned();
        api.merge(path, json!({"metadata": {&part: null}}));
        api.merge(path, json!({"metadata": {&part: child["metadata"][&part]}}));
    }
    format!("edit {leaf} of {path}")
}

#[tokio::test(start_paused = true)]
async fn children_that_somebody_edits_at_random_are_as_desired_again() {
    let (rounds, seed) = (number("VALERIX_ROUNDS", 150), number("VALERIX_SEED", 2_026));
    let api = FakeApi::default();
    with_monitors(&api);
    api.create(SERVICES, with_every_child());
    let operator = Operator::start(&api);
    operator.rest().await;
    let reference = children(&api);
    assert_eq!(reference.len(), CHILDREN.len(), "{:?}", reference.keys());
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let path = *CHILDREN.choose(&mut random).unwrap();
        let done = if random.random_ratio(1, 4) {
            meddle(&api, path, &mut random).await
        } else {
            edit(&api, path, &mut random)
        };
        operator.rest().await;
        let found = children(&api);
        for (path, wanted) in &reference {
            // The autoscaler may say how many there are; what others add may stay.
            let Some(live) = found.get(path) else {
                panic!("seed {seed}, round {round}: {path} is missing after {done}")
            };
            assert_eq!(
                &drift::project(wanted, live),
                wanted,
                "seed {seed}, round {round}: {path} after {done}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn objects_that_cannot_be_read_stop_no_other_not_even_at_a_new_list() {
    let api = FakeApi::default();
    api.create(SERVICES, order());
    let operator = Operator::start(&api);
    api.until(DEPLOYMENT, |_| true).await;
    operator.rest().await;
    let poison = |name: &str, spec: Value| json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService", "metadata": {"name": name}, "spec": spec});
    for (index, spec) in [
        json!(null),
        json!(7),
        json!({"image": 3}),
        json!({"image": "a", "replicas": "many"}),
        json!({"image": "a", "ports": {}}),
    ]
    .into_iter()
    .enumerate()
    {
        api.create(SERVICES, poison(&format!("poison-{index}"), spec));
    }
    let children_of = [
        (
            "/apis/apps/v1/namespaces/shop/deployments",
            json!({"spec": {"replicas": "x"}}),
        ),
        ("/api/v1/namespaces/shop/pods", json!({"status": {"podIPs": "none"}})),
        (
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
            json!({"endpoints": 3}),
        ),
    ];
    for (collection, mut object) in children_of {
        object["metadata"] = json!({"name": "poison", "labels": {
            "resilience.valerix.io/service": "order", "app.kubernetes.io/managed-by": "valerix"}});
        api.create(collection, object);
    }
    // What was good is bad now: the last good version stands.
    api.merge(ORDER, json!({"spec": {"replicas": "two"}}));
    api.break_watches();
    operator.rest().await;
    api.create(SERVICES, {
        let mut other = order();
        other["metadata"]["name"] = json!("other");
        other
    });
    api.until("/apis/apps/v1/namespaces/shop/deployments/other", |_| true)
        .await;
    api.delete(SERVICE);
    api.until(SERVICE, |_| true).await;
    api.merge(ORDER, json!({"spec": {"replicas": 2}}));
    api.until(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] == 2)
        .await;
}
