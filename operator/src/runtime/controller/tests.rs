use super::*;
use crate::{
    fake_api::FakeApi,
    runtime::{Clients, Identity, Scope, WatchOptions},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::json;
use std::{collections::HashMap, sync::Mutex};

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

#[derive(Debug, thiserror::Error)]
#[error("failed on purpose")]
struct OnPurpose;

impl Category for OnPurpose {
    fn category(&self) -> &'static str {
        "OnPurpose"
    }
}

fn runtime(api: &FakeApi) -> Runtime {
    let identity = Identity {
        pod: "one".into(),
        uid: "one".into(),
    };
    Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster])
}

fn map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

#[tokio::test(start_paused = true)]
async fn a_panic_an_error_and_a_hanging_reconcile_hurt_their_object_alone() {
    let api = FakeApi::default();
    for name in ["panics", "fails", "hangs", "works"] {
        api.create(MAPS, map(name));
    }
    let runtime = runtime(&api);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let calls: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
    let seen = calls.clone();
    let running = tokio::spawn({
        let (runtime, cache) = (runtime.clone(), cache.clone());
        async move {
            run(
                &runtime,
                Options::new("test"),
                &cache,
                move |map: Arc<ConfigMap>| {
                    let seen = seen.clone();
                    async move {
                        let name = map.name_any();
                        seen.lock()
                            .unwrap()
                            .entry(name.clone())
                            .or_default()
                            .push(Instant::now());
                        match name.as_str() {
                            "panics" => panic!("on purpose"),
                            "fails" => Err(OnPurpose),
                            "hangs" => std::future::pending().await,
                            _ => Ok(Action::await_change()),
                        }
                    }
                },
                |_, _| {},
            )
            .await;
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(calls.lock().unwrap().is_empty(), "it works although it does not lead");
    runtime.leadership.set(true);
    tokio::time::sleep(Duration::from_secs(300)).await;
    api.merge(&format!("{MAPS}/works"), json!({"data": {"a": "b"}}));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let calls = calls.lock().unwrap().clone();
    assert_eq!(calls["works"].len(), 2, "once at the start and once for the change");
    for name in ["panics", "fails"] {
        let gaps: Vec<f64> = calls[name]
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        assert!(gaps.len() >= 6, "{name}: {gaps:?}");
        assert!(
            gaps.iter().zip(&gaps[1..]).take(5).all(|(one, next)| *next > one * 1.5),
            "{name}: {gaps:?}"
        );
    }
    assert!(calls["hangs"].len() > 2);
    for (result, least) in [("Panic", 6), ("OnPurpose", 6), ("DeadlineExceeded", 3), ("Success", 2)] {
        let count = runtime.metrics.reconciles.with_label_values(&["test", result]).get();
        assert!(count >= least, "{result}: {count}");
    }
    runtime.shutdown.cancel();
    timeout_ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_to_no_end_is_looked_at_again_as_soon_as_its_kind_says() {
    let api = FakeApi::default();
    api.create(MAPS, map("panics"));
    let runtime = runtime(&api);
    runtime.leadership.set(true);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let calls = Arc::new(Mutex::new(0));
    let seen = calls.clone();
    let running = tokio::spawn({
        let (runtime, cache) = (runtime.clone(), cache.clone());
        async move {
            let options = Options {
                look_again: Some(Duration::from_secs(5)),
                ..Options::new("test")
            };
            let work = move |_| {
                *seen.lock().unwrap() += 1;
                async { panic!("on purpose") as Result<Action, OnPurpose> }
            };
            run(&runtime, options, &cache, work, |_, _| {}).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(*calls.lock().unwrap() >= 60, "{calls:?} in five minutes");
    runtime.shutdown.cancel();
    timeout_ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_object_and_one_that_changed_do_not_wait_behind_a_list_of_thousands() {
    const MANY: u16 = 2_000;
    let api = FakeApi::default();
    for number in 0..MANY {
        api.create(MAPS, map(&format!("old-{number:04}")));
    }
    let runtime = runtime(&api);
    runtime.leadership.set(true);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let looks: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = looks.clone();
    let running = tokio::spawn({
        let (runtime, cache) = (runtime.clone(), cache.clone());
        async move {
            let work = move |map: Arc<ConfigMap>| {
                seen.lock().unwrap().push(map.name_any());
                async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok::<_, OnPurpose>(Action::await_change())
                }
            };
            run(&runtime, Options::new("test"), &cache, work, |_, _| {}).await;
        }
    });
    let all = Duration::from_secs(MANY.into());
    tokio::time::sleep(all).await;
    looks.lock().unwrap().clear();
    api.break_watches();
    api.create(MAPS, map("missed"));
    while looks.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    api.create(MAPS, map("new"));
    api.merge(&format!("{MAPS}/old-1999"), json!({"data": {"a": "b"}}));
    tokio::time::sleep(all).await;
    let looks = std::mem::take(&mut *looks.lock().unwrap());
    let before = |name: &str| looks.iter().position(|look| look == name).unwrap();
    for name in ["missed", "new", "old-1999"] {
        // Those under way, and those of the list that had left its queue.
        assert!(before(name) <= 16, "{} were looked at before {name}", before(name));
    }
    assert_eq!(
        looks.len(),
        usize::from(MANY) + 3,
        "everything in its turn, and once more what waited as it was asked for"
    );
    runtime.shutdown.cancel();
    timeout_ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_asks_for_time_is_given_it_and_no_more_than_the_longest_wait() {
    for (asked, least, most) in [(30, 30, 31), (86_400, 120, 145)] {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to write")]
        struct Busy(#[source] kube::Error);
        impl Category for Busy {
            fn category(&self) -> &'static str {
                "Busy"
            }
        }
        let api = FakeApi::default();
        api.create(MAPS, map("busy"));
        let runtime = runtime(&api);
        runtime.leadership.set(true);
        let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
        let looks: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let seen = looks.clone();
        let running = tokio::spawn({
            let (runtime, cache) = (runtime.clone(), cache.clone());
            async move {
                let work = move |_| {
                    seen.lock().unwrap().push(Instant::now());
                    let status = json!({"status": "Failure", "code": 429, "reason": "TooManyRequests",
                        "message": "", "details": {"retryAfterSeconds": asked}});
                    let status: kube::core::Status = serde_json::from_value(status).unwrap();
                    async move { Err::<Action, _>(Busy(kube::Error::Api(Box::new(status)))) }
                };
                run(&runtime, Options::new("test"), &cache, work, |_, _| {}).await;
            }
        });
        tokio::time::sleep(Duration::from_secs(200)).await;
        let looks = std::mem::take(&mut *looks.lock().unwrap());
        let waited = (looks[1] - looks[0]).as_secs();
        assert!((least..=most).contains(&waited), "{waited} s of {asked}");
        runtime.shutdown.cancel();
        timeout_ends(running).await;
    }
}

async fn timeout_ends(running: tokio::task::JoinHandle<()>) {
    tokio::time::timeout(Duration::from_secs(60), running)
        .await
        .expect("the controller ends with the process")
        .expect("without a panic");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_told_once_it_is() {
    let api = FakeApi::default();
    api.create(MAPS, map("works"));
    let runtime = runtime(&api);
    runtime.leadership.set(true);
    let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
    let gone: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = gone.clone();
    let running = tokio::spawn({
        let (runtime, cache) = (runtime.clone(), cache.clone());
        async move {
            let work = |_| async { Ok::<_, OnPurpose>(Action::await_change()) };
            let gone = move |namespace: &str, name: &str| heard.lock().unwrap().push(format!("{namespace}/{name}"));
            run(&runtime, Options::new("test"), &cache, work, gone).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(cache.get("shop", "works").is_some());
    api.delete(&format!("{MAPS}/works"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*gone.lock().unwrap(), ["shop/works"]);
    assert!(cache.get("shop", "works").is_none());
    runtime.shutdown.cancel();
    timeout_ends(running).await;
}
