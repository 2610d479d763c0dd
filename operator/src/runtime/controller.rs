//! One controller: a queue of objects, a bounded number of reconciles at a time, and walls round each of them.
//!
//! A reconcile that fails, panics or takes too long costs its own object a wait that doubles; every other object goes
//! on. Work in a scope begins when every cache there has had its first list and this process leads.

use super::{
    Cache, Category, Failure, Runtime,
    backoff::{Backoff, Bounds},
    lanes::{Asked, Lanes, Pace, Place},
    telemetry,
    triggers::Attached,
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
use prometheus::IntGauge;
use std::{any::Any, convert::Infallible, fmt::Debug, sync::Arc, time::Duration};
use tokio::{sync::mpsc::unbounded_channel, time::Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

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
    /// The longest wait after a reconcile that came to no end of its own, and could not say when to look again.
    pub look_again: Option<Duration>,
}

impl Options {
    /// Eight at a time, 30 s each, waits from 0.5 s to 2 min.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            concurrency: 8,
            deadline: Duration::from_secs(30),
            backoff: Bounds::default(),
            look_again: None,
        }
    }
}

/// Reconciles every object of `cache` from when this process leads until it ends.
///
/// `reconcile` gets the object as the cache has it and says when it wants to look again. Its failure is logged,
/// counted and told as an event here, and nowhere else. `gone` is told namespace and name of an object that is gone.
pub async fn run<K, E, F, Fut, G>(runtime: &Runtime, options: Options, cache: &Cache<K>, reconcile: F, gone: G)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    E: std::error::Error + Category + Send + 'static,
    F: Fn(Arc<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, E>> + Send + 'static,
    G: Fn(&str, &str) + Send + Sync,
{
    let begin = async {
        runtime.leadership.acquired().await;
        let walls = Arc::new(Walls {
            runtime: runtime.clone(),
            options,
            backoff: Backoff::new(options.backoff),
            lanes: Lanes::new(options.concurrency),
            pace: Pace::default(),
            asked: Arc::default(),
            events: runtime.events(options.name),
        });
        let parts = cache.parts().iter().map(|(scope, store)| {
            let (walls, reconcile, gone) = (walls.clone(), reconcile.clone(), &gone);
            async move {
                tokio::select! {
                    () = runtime.readiness.full(scope) => {}
                    () = runtime.shutdown.cancelled() => return,
                }
                let (queue, requests) = unbounded_channel();
                cache.triggers().attach(Attached {
                    store: store.clone(),
                    scope: scope.clone(),
                    queue,
                    asked: walls.asked.clone(),
                });
                let requests = UnboundedReceiverStream::new(requests)
                    .map(Ok::<_, Infallible>)
                    .take_until(runtime.shutdown.clone().cancelled_owned());
                tracing::info!(controller = options.name, ?scope, "controller runs");
                drain(walls, store.clone(), requests, gone, reconcile).await;
            }
        });
        futures::future::join_all(parts).await;
    };
    // Work under way at the end of the process is finished; leadership that never comes is not waited for.
    tokio::select! {
        () = begin => {}
        () = ended_before_it_led(runtime) => {}
    }
    cache.triggers().detach();
}

async fn ended_before_it_led(runtime: &Runtime) {
    tokio::select! {
        () = runtime.leadership.acquired() => std::future::pending().await,
        () = runtime.shutdown.cancelled() => {}
    }
}

async fn drain<K, E, F, Fut, Q, G>(walls: Arc<Walls<K>>, store: Store<K>, requests: Q, gone: &G, reconcile: F)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    E: std::error::Error + Category + Send + 'static,
    F: Fn(Arc<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, E>> + Send + 'static,
    Q: futures::Stream<Item = Result<ObjectRef<K>, Infallible>> + Send + 'static,
    G: Fn(&str, &str) + Send + Sync,
{
    // Unbounded here: the lanes bound it, and they know namespaces.
    let config = Config::default();
    let objects = store.clone();
    let guarded = move |object: Arc<K>, walls: Arc<Walls<K>>| {
        let (reconcile, objects) = (reconcile.clone(), objects.clone());
        Box::pin(async move { walls.guard(&ObjectRef::from_obj(&*object), &objects, reconcile).await })
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
                let key = ObjectRef::new(&reference.name).within(&namespace);
                walls.backoff.succeeded(&key);
                walls.pace.forget(&key);
                walls.asked.forget(&key);
                gone(&namespace, &reference.name);
            }
            Err(Error::ReconcilerFailed(..)) | Ok(_) => {}
            Err(error) => tracing::error!(controller = walls.options.name, %error, "the controller's queue failed"),
        }
        std::future::ready(())
    })
    .await;
}

/// Counts in a gauge as long as it lives.
struct Waiting(IntGauge);

impl Waiting {
    fn begin(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What stands round each reconcile.
struct Walls<K: Resource<DynamicType = ()> + 'static> {
    runtime: Runtime,
    options: Options,
    backoff: Backoff<ObjectRef<K>>,
    lanes: Lanes,
    pace: Pace<ObjectRef<K>>,
    asked: Arc<Asked<ObjectRef<K>>>,
    events: super::Events,
}

impl<K> Walls<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    async fn guard<E, F, Fut>(
        &self,
        reference: &ObjectRef<K>,
        objects: &Store<K>,
        reconcile: F,
    ) -> Result<Action, Failure>
    where
        E: std::error::Error + Category + Send + 'static,
        F: Fn(Arc<K>) -> Fut,
        Fut: Future<Output = Result<Action, E>> + Send + 'static,
    {
        if let Some(wait) = self.pace.too_soon(reference.clone(), Instant::now()) {
            return Ok(Action::requeue(wait));
        }
        let place = self.place(reference).await;
        // As it is now: the wait for a place may have been long.
        let Some(object) = objects.get(reference) else {
            return Ok(Action::await_change());
        };
        let name = self.options.name;
        let begun = Instant::now();
        let span = telemetry::reconcile(&*object);
        // A task of its own: a panic ends the task and nothing else, and dropping the handle ends its work.
        let task = AbortOnDropHandle::new(tokio::spawn(reconcile(object.clone()).instrument(span.clone())));
        let result = match tokio::time::timeout(self.options.deadline, task).await {
            Ok(Ok(Ok(action))) => Ok(action),
            Ok(Ok(Err(error))) => Err(Failure::new(&error)),
            Ok(Err(error)) if error.is_panic() => Err(Failure {
                category: "Panic",
                message: format!("a bug of the operator: {}", panic_text(&*error.into_panic())),
                retryable: true,
                look_again: self.options.look_again,
                retry_after: None,
            }),
            Ok(Err(_)) => Err(Failure {
                category: "Cancelled",
                message: "the reconcile was cancelled".to_owned(),
                retryable: true,
                look_again: self.options.look_again,
                retry_after: None,
            }),
            Err(_) => Err(Failure {
                category: "DeadlineExceeded",
                message: format!("the reconcile took longer than {:?}", self.options.deadline),
                retryable: true,
                look_again: self.options.look_again,
                retry_after: None,
            }),
        };
        // What is told of it below keeps nobody waiting.
        drop(place);
        let label = result.as_ref().map_or_else(|failure| failure.category, |_| "Success");
        let metrics = &self.runtime.metrics;
        metrics.reconciles.with_label_values(&[name, label]).inc();
        metrics
            .reconcile_seconds
            .with_label_values(&[name, label])
            .observe(begun.elapsed().as_secs_f64());
        telemetry::reconciled(&span, label, result.is_ok());
        match &result {
            Ok(_) => self.backoff.succeeded(reference),
            Err(failure) => {
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

    /// Waits for a place, and counts as waiting meanwhile, also where the wait is given up.
    async fn place(&self, reference: &ObjectRef<K>) -> Place {
        let waiting = self
            .runtime
            .metrics
            .reconciles_waiting
            .with_label_values(&[self.options.name]);
        let _waiting = Waiting::begin(waiting);
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        self.lanes.enter(namespace, self.asked.taken(reference.clone())).await
    }

    fn after_failure(&self, object: &K, failure: &Failure) -> Action {
        let asked = failure.retry_after.unwrap_or_default().min(self.options.backoff.max);
        let retry = failure
            .retryable
            .then(|| self.backoff.failed(ObjectRef::from_obj(object)).max(asked));
        [retry, failure.look_again]
            .into_iter()
            .flatten()
            .min()
            .map_or_else(Action::await_change, Action::requeue)
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
mod tests;
