//! One controller: a queue of objects, a bounded number of reconciles at a time, and walls round each of them.
//!
//! A reconcile that fails, panics or takes too long costs its own object a wait that doubles; every other object goes
//! on. Work begins when the caches are full and this process leads.

use super::{
    Cache, Category, Failure, Runtime,
    backoff::{Backoff, Bounds},
};
use futures::StreamExt;
use kube::{
    Resource,
    core::NamespaceResourceScope,
    runtime::{
        Config, applier,
        controller::{Action, Error},
        reflector::{ObjectRef, Store},
    },
};
use std::{
    any::Any,
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;

/// What one controller may do at once, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Name in metrics, logs and events.
    pub name: &'static str,
    /// Reconciles at a time.
    pub concurrency: u16,
    /// How long one reconcile may take.
    pub deadline: Duration,
    /// How long a failed object waits.
    pub backoff: Bounds,
}

impl Options {
    /// Eight at a time, 30 s each, waits from 0.5 s to 2 min.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            concurrency: 8,
            deadline: Duration::from_secs(30),
            backoff: Bounds::default(),
        }
    }
}

/// Asks a controller to look at objects; does nothing while the controller does not run, since it looks at every
/// object when it begins.
pub struct Triggers<K: Resource<DynamicType = ()> + 'static> {
    attached: Arc<Mutex<Vec<Attached<K>>>>,
    gone: Gone,
}

/// Called with namespace and name of an object that is gone.
type Gone = Arc<OnceLock<Box<dyn Fn(&str, &str) + Send + Sync>>>;

struct Attached<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    scope: super::Scope,
    queue: UnboundedSender<ObjectRef<K>>,
}

impl<K: Resource<DynamicType = ()> + 'static> Clone for Triggers<K> {
    fn clone(&self) -> Self {
        Self {
            attached: self.attached.clone(),
            gone: self.gone.clone(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Triggers<K> {
    fn default() -> Self {
        Self {
            attached: Arc::default(),
            gone: Arc::default(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Triggers<K> {
    /// Asks for a look at the object of this name.
    pub fn trigger(&self, namespace: &str, name: &str) {
        for attached in self.lock().iter().filter(|attached| attached.scope.contains(namespace)) {
            // A closed queue means that the controller is ending.
            let _ = attached.queue.send(ObjectRef::new(name).within(namespace));
        }
    }

    /// Asks for a look at this object.
    pub fn trigger_object(&self, object: &K) {
        let meta = object.meta();
        self.trigger(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
    }

    /// Asks for a look at every object.
    pub fn trigger_all(&self) {
        for attached in self.lock().iter() {
            for object in attached.store.state() {
                let _ = attached.queue.send(ObjectRef::from_obj(&*object));
            }
        }
    }

    pub(super) fn on_gone(&self, forget: impl Fn(&str, &str) + Send + Sync + 'static) {
        if self.gone.set(Box::new(forget)).is_err() {
            tracing::warn!("a second controller asked to be told of objects that are gone; it is not told");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attached<K>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reconciles every object of `cache` from when this process leads until it ends.
///
/// `reconcile` gets the object as the cache has it and says when it wants to look again. Its failure is logged,
/// counted and told as an event here, and nowhere else.
pub async fn run<K, E, F, Fut>(runtime: &Runtime, options: Options, cache: &Cache<K>, reconcile: F)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    E: std::error::Error + Category + Send + 'static,
    F: Fn(Arc<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, E>> + Send + 'static,
{
    for (_, store) in cache.parts() {
        if store.wait_until_ready().await.is_err() {
            return;
        }
    }
    tokio::select! {
        () = runtime.leadership.acquired() => {}
        () = runtime.shutdown.cancelled() => return,
    }
    let walls = Arc::new(Walls {
        runtime: runtime.clone(),
        options,
        backoff: Backoff::new(options.backoff),
        events: runtime.events(options.name),
    });
    let mut parts = Vec::new();
    for (scope, store) in cache.parts() {
        let (queue, requests) = unbounded_channel();
        cache.triggers().lock().push(Attached {
            store: store.clone(),
            scope: scope.clone(),
            queue,
        });
        let requests = UnboundedReceiverStream::new(requests)
            .map(Ok::<_, Infallible>)
            .take_until(runtime.shutdown.clone().cancelled_owned());
        let gone = cache.triggers().gone.clone();
        parts.push(drain(walls.clone(), store.clone(), requests, gone, reconcile.clone()));
    }
    cache.triggers().trigger_all();
    tracing::info!(controller = options.name, "controller runs");
    futures::future::join_all(parts).await;
    cache.triggers().lock().clear();
}

async fn drain<K, E, F, Fut, Q>(walls: Arc<Walls<K>>, store: Store<K>, requests: Q, gone: Gone, reconcile: F)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    E: std::error::Error + Category + Send + 'static,
    F: Fn(Arc<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, E>> + Send + 'static,
    Q: futures::Stream<Item = Result<ObjectRef<K>, Infallible>> + Send + 'static,
{
    let config = Config::default().concurrency(walls.options.concurrency);
    let guarded = move |object: Arc<K>, walls: Arc<Walls<K>>| {
        let reconcile = reconcile.clone();
        Box::pin(async move { walls.guard(object, reconcile).await })
    };
    applier(
        guarded,
        |object, failure, walls| walls.after_failure(&object, failure),
        walls.clone(),
        store,
        requests,
        config,
    )
    .for_each(|result| {
        match result {
            // Gone is gone; failures were reported inside the walls.
            Err(Error::ObjectNotFound(reference)) => {
                let namespace = reference.namespace.clone().unwrap_or_default();
                walls
                    .backoff
                    .succeeded(&ObjectRef::new(&reference.name).within(&namespace));
                if let Some(forget) = gone.get() {
                    forget(&namespace, &reference.name);
                }
            }
            Err(Error::ReconcilerFailed(..)) | Ok(_) => {}
            Err(error) => tracing::error!(controller = walls.options.name, %error, "the controller's queue failed"),
        }
        std::future::ready(())
    })
    .await;
}

/// What stands round each reconcile.
struct Walls<K: Resource<DynamicType = ()> + 'static> {
    runtime: Runtime,
    options: Options,
    backoff: Backoff<ObjectRef<K>>,
    events: super::Events,
}

impl<K> Walls<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    async fn guard<E, F, Fut>(&self, object: Arc<K>, reconcile: F) -> Result<Action, Failure>
    where
        E: std::error::Error + Category + Send + 'static,
        F: Fn(Arc<K>) -> Fut,
        Fut: Future<Output = Result<Action, E>> + Send + 'static,
    {
        let name = self.options.name;
        let timer = self
            .runtime
            .metrics
            .reconcile_seconds
            .with_label_values(&[name])
            .start_timer();
        // A task of its own: a panic ends the task and nothing else, and dropping the handle ends its work.
        let task = AbortOnDropHandle::new(tokio::spawn(reconcile(object.clone())));
        let result = match tokio::time::timeout(self.options.deadline, task).await {
            Ok(Ok(Ok(action))) => Ok(action),
            Ok(Ok(Err(error))) => Err(Failure::new(&error)),
            Ok(Err(error)) if error.is_panic() => Err(Failure {
                category: "Panic",
                message: format!("a bug of the operator: {}", panic_text(&*error.into_panic())),
                retryable: true,
            }),
            Ok(Err(_)) => Err(Failure {
                category: "Cancelled",
                message: "the reconcile was cancelled".to_owned(),
                retryable: true,
            }),
            Err(_) => Err(Failure {
                category: "DeadlineExceeded",
                message: format!("the reconcile took longer than {:?}", self.options.deadline),
                retryable: true,
            }),
        };
        timer.observe_duration();
        let label = result.as_ref().map_or_else(|failure| failure.category, |_| "Success");
        self.runtime.metrics.reconciles.with_label_values(&[name, label]).inc();
        match &result {
            Ok(_) => self.backoff.succeeded(&ObjectRef::from_obj(&*object)),
            Err(failure) => {
                let reference = ObjectRef::from_obj(&*object);
                tracing::warn!(
                    controller = name,
                    object = %reference,
                    category = failure.category,
                    error = failure.message,
                    "reconcile failed"
                );
                self.events
                    .warning(&*object, failure.category, "Reconcile", &failure.message)
                    .await;
            }
        }
        result
    }

    fn after_failure(&self, object: &K, failure: &Failure) -> Action {
        if failure.retryable {
            Action::requeue(self.backoff.failed(ObjectRef::from_obj(object)))
        } else {
            Action::await_change()
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::FakeApi,
        runtime::{Clients, Fence, Identity, Scope, WatchOptions},
    };
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;
    use std::collections::HashMap;
    use tokio::time::Instant;

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
                run(&runtime, Options::new("test"), &cache, move |map: Arc<ConfigMap>| {
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
                })
                .await;
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(calls.lock().unwrap().is_empty(), "it works although it does not lead");
        runtime.leadership.set(Some(Fence {
            lease: "lease".into(),
            term: 0,
        }));
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
        runtime.leadership.set(Some(Fence {
            lease: "lease".into(),
            term: 0,
        }));
        let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
        let gone: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = gone.clone();
        cache.on_gone(move |namespace, name| heard.lock().unwrap().push(format!("{namespace}/{name}")));
        let running = tokio::spawn({
            let (runtime, cache) = (runtime.clone(), cache.clone());
            async move {
                run(&runtime, Options::new("test"), &cache, |_| async {
                    Ok::<_, OnPurpose>(Action::await_change())
                })
                .await;
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
}
