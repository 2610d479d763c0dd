//! Caches against the fake API server: cold, relisted, unreadable, lost.

use super::*;
use crate::{
    fake_api::{FakeApi, Fault},
    runtime::{Clients, Identity, Options, controller, failure::Category},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::controller::Action;
use serde_json::json;
use std::{sync::Mutex, time::Duration};
use tokio::time::sleep;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl Category for Never {
    fn category(&self) -> &'static str {
        "Never"
    }
}

fn runtime(api: &FakeApi, scopes: Vec<Scope>) -> Runtime {
    let identity = Identity {
        pod: "one".into(),
        uid: "one".into(),
    };
    let runtime = Runtime::new(identity, Clients::single(api.client()), scopes);
    runtime.leadership.set(true);
    runtime
}

fn map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"owner": "order"}}})
}

/// Names, in the order in which they came.
type Noted = Arc<Mutex<Vec<String>>>;

/// Runs a controller that only notes what it is asked to look at.
fn looked_at(runtime: &Runtime, cache: &Cache<ConfigMap>) -> Noted {
    looked_at_or_gone(runtime, cache).0
}

/// The same, and what it is told to be gone.
fn looked_at_or_gone(runtime: &Runtime, cache: &Cache<ConfigMap>) -> (Noted, Noted) {
    let (seen, gone) = (Noted::default(), Noted::default());
    let (noted, missed) = (seen.clone(), gone.clone());
    let (runtime, cache) = (runtime.clone(), cache.clone());
    tokio::spawn(async move {
        let work = move |map: Arc<ConfigMap>| {
            let namespace = map.namespace().unwrap_or_default();
            noted.lock().unwrap().push(format!("{namespace}/{}", map.name_any()));
            async { Ok::<_, Never>(Action::await_change()) }
        };
        let forget = move |namespace: &str, name: &str| missed.lock().unwrap().push(format!("{namespace}/{name}"));
        controller::run(&runtime, Options::new("test"), &cache, work, forget).await;
    });
    (seen, gone)
}

#[tokio::test(start_paused = true)]
async fn no_work_begins_before_every_cache_of_its_scope_is_full() {
    let api = FakeApi::default();
    api.create(MAPS, map("order"));
    api.inject(|request| {
        let slow = request.path.ends_with("/secrets") && !request.is_watch();
        slow.then_some(Fault::Delay(Duration::from_secs(20)))
    });
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let _other = runtime.watch::<Secret>(WatchOptions::new("secrets"));
    let seen = looked_at(&runtime, &cache);
    sleep(Duration::from_secs(19)).await;
    assert!(cache.get("shop", "order").is_some());
    assert!(seen.lock().unwrap().is_empty(), "judged with an empty cache");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(*seen.lock().unwrap(), ["shop/order"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_be_absent_holds_up_nobody_where_it_cannot_be_listed() {
    let api = FakeApi::default();
    api.create(MAPS, map("order"));
    let is_broken = |path: &str| path.ends_with("/secrets");
    api.inject(move |request| is_broken(&request.path).then_some(Fault::Refuse(503)));
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let (_definition, presence) = tokio::sync::watch::channel(Presence::Present);
    let optional = runtime.watch::<Secret>(WatchOptions::new("secrets").only_while(presence));
    runtime.readiness.complete();
    let seen = looked_at(&runtime, &cache);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*seen.lock().unwrap(), ["shop/order"]);
    assert!(
        runtime.readiness.waiting().is_empty(),
        "{:?}",
        runtime.readiness.waiting()
    );
    assert!(!optional.is_served());
    api.inject(|_| None);
    sleep(Duration::from_secs(60)).await;
    assert!(optional.is_served());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_gone_stops_no_other_and_comes_back() {
    let api = FakeApi::default();
    api.create(MAPS, map("order"));
    api.create("/api/v1/namespaces/gone/configmaps", map("order"));
    api.inject(|request| request.path.contains("/namespaces/gone/").then_some(Fault::Refuse(403)));
    let runtime = runtime(&api, Scope::from_namespaces(&["gone".into(), "shop".into()]));
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    runtime.readiness.complete();
    let seen = looked_at(&runtime, &cache);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*seen.lock().unwrap(), ["shop/order"]);
    assert!(
        runtime.readiness.waiting().is_empty(),
        "{:?}",
        runtime.readiness.waiting()
    );
    let gauge = runtime.metrics.cached_objects.with_label_values(&["configmaps"]);
    assert_eq!(gauge.get(), 1);
    api.inject(|_| None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*seen.lock().unwrap(), ["shop/order", "gone/order"]);
    assert_eq!(gauge.get(), 2, "the gauge counts every namespace");
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_the_watch_was_down_is_found_by_the_next_list() {
    let api = FakeApi::default();
    for name in ["one", "two"] {
        api.create(MAPS, map(name));
    }
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps").indexed_by("owner"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cache.of("shop", "order").len(), 2);
    let (seen, gone) = looked_at_or_gone(&runtime, &cache);
    sleep(Duration::from_secs(1)).await;
    seen.lock().unwrap().clear();
    // Nobody is told of the deletion, and the version that the watch would go on from is too old.
    api.break_watches();
    api.delete(&format!("{MAPS}/two"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(cache.of("shop", "order").len(), 1);
    assert_eq!(
        *seen.lock().unwrap(),
        ["shop/one"],
        "a list asks for a look at everything"
    );
    assert_eq!(*gone.lock().unwrap(), ["shop/two"], "what is kept of it stays for ever");
    let index = cache.index.read().unwrap();
    assert_eq!(index.values().map(BTreeSet::len).sum::<usize>(), 1, "{index:?}");
}

fn lists(api: &FakeApi) -> Vec<String> {
    let lists = api
        .requests()
        .into_iter()
        .filter(|request| !request.is_watch() && request.path.ends_with("/configmaps"));
    lists.map(|request| request.query).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_is_one_list_and_is_begun_anew_when_its_pages_expire() {
    let api = FakeApi::default();
    for number in 0..1_100 {
        api.create(MAPS, map(&format!("map-{number}")));
    }
    let mut refused = false;
    api.inject(move |request| {
        let is_second = request.query.contains("continue=") && !std::mem::replace(&mut refused, true);
        is_second.then_some(Fault::Refuse(410))
    });
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let (seen, gone) = looked_at_or_gone(&runtime, &cache);
    sleep(Duration::from_secs(60)).await;
    let seen: std::collections::BTreeSet<String> = seen.lock().unwrap().iter().cloned().collect();
    assert_eq!(seen.len(), 1_100);
    assert_eq!(*gone.lock().unwrap(), Vec::<String>::new());
    let continued = |query: &String| query.contains("continue=");
    let lists = lists(&api);
    let (later, first): (Vec<_>, Vec<_>) = lists.iter().partition(|query| continued(query));
    assert_eq!((first.len(), later.len()), (2, 3), "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_was_told_how_far_it_is_goes_on_from_there_without_a_list() {
    let api = FakeApi::default();
    api.create(MAPS, map("order"));
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let seen = looked_at(&runtime, &cache);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(lists(&api).len(), 1);
    api.bookmark();
    sleep(Duration::from_secs(1)).await;
    api.end_watches();
    api.create(MAPS, map("later"));
    sleep(Duration::from_secs(60)).await;
    assert!(seen.lock().unwrap().contains(&"shop/later".to_owned()));
    assert_eq!(lists(&api).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_any_more_keeps_its_last_good_version_and_is_told() {
    let api = FakeApi::default();
    api.create(MAPS, map("order"));
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    sleep(Duration::from_secs(1)).await;
    api.merge(&format!("{MAPS}/order"), json!({"data": 7}));
    sleep(Duration::from_secs(1)).await;
    assert!(cache.get("shop", "order").is_some());
    api.break_watches();
    sleep(Duration::from_secs(10)).await;
    assert!(
        cache.get("shop", "order").is_some(),
        "a list threw the good version away"
    );
    let events = api
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("/events"));
    let told: Vec<_> = events.map(|request| request.body["reason"].clone()).collect();
    assert_eq!(told.first(), Some(&json!("Unreadable")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_before_this_process_led_is_told_once_it_does() {
    let api = FakeApi::default();
    for name in ["bad", "mended", "deleted"] {
        let mut unreadable = map(name);
        unreadable["data"] = json!(7);
        api.create(MAPS, unreadable);
    }
    let runtime = runtime(&api, vec![Scope::Cluster]);
    runtime.leadership.set(false);
    let _cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    sleep(Duration::from_secs(1)).await;
    api.merge(&format!("{MAPS}/mended"), json!({"data": {"a": "1"}}));
    api.delete(&format!("{MAPS}/deleted"));
    sleep(Duration::from_secs(1)).await;
    let told = || -> Vec<_> {
        let requests = api.requests().into_iter();
        let events = requests.filter(|request| request.path.contains("/events"));
        events
            .map(|request| request.body["regarding"]["name"].clone())
            .collect()
    };
    assert!(told().is_empty(), "another process leads");
    runtime.leadership.set(true);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(told(), ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_owner_label_was_changed_is_told_to_its_controller() {
    let api = FakeApi::default();
    for name in ["order", "other"] {
        api.create(MAPS, map(name));
    }
    let runtime = runtime(&api, vec![Scope::Cluster]);
    let owners = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let _children = runtime.watch::<Secret>(WatchOptions::children_of(
        "secrets",
        "owner",
        "owner",
        owners.triggers(),
    ));
    let seen = looked_at(&runtime, &owners);
    let secrets = "/api/v1/namespaces/shop/secrets";
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "order", "uid": "u", "controller": true}]);
    api.create(
        secrets,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "child", "labels": {"owner": "order"}, "ownerReferences": owner}}),
    );
    sleep(Duration::from_secs(1)).await;
    seen.lock().unwrap().clear();
    api.merge(
        &format!("{secrets}/child"),
        json!({"metadata": {"labels": {"owner": "other"}}}),
    );
    sleep(Duration::from_secs(1)).await;
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["shop/order", "shop/other"]);
}

#[tokio::test]
async fn a_part_that_panics_breaks_the_process() {
    let runtime = runtime(&FakeApi::default(), vec![Scope::Cluster]);
    runtime.spawn("part", async { panic!("on purpose") });
    tokio::time::timeout(Duration::from_secs(10), runtime.broken.cancelled())
        .await
        .expect("nobody was told");
}
