//! When the containers of a pod begin and end, as the kubelet tells it: the guard stands before the application begins and until
//! after it has ended.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinHandle;
use valerix_e2e::world::World;

/// The guard's container and the application's, once both have ended.
pub(super) struct Lives {
    guard: ContainerStateTerminated,
    application: ContainerStateTerminated,
}

impl Lives {
    /// None of a pod without a guard, or of which a container has not ended yet.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let mut guards = status.init_container_statuses.iter().flatten();
        let guard = guards.find(|container| container.name == "valerix-guard")?;
        let application = status.container_statuses.as_ref()?.first()?;
        Some(Self {
            guard: ended(guard)?,
            application: ended(application)?,
        })
    }

    /// Whether one stood around the other, and the guard ended of itself and soon.
    pub(super) fn in_order(&self) -> Result<()> {
        let Self { guard, application } = self;
        let (guard_began, began) = (&guard.started_at, &application.started_at);
        ensure!(
            guard_began.is_some() && guard_began <= began,
            "the guard began at {guard_began:?}, the application at {began:?}"
        );
        let (last, end) = (seconds(&guard.finished_at)?, seconds(&application.finished_at)?);
        // Were it not told that the application is gone, it would wait for 35 s.
        ensure!(
            (end..=end + 10).contains(&last),
            "the guard ended {} s after the application",
            last - end
        );
        ensure!(guard.exit_code == 0, "the guard ended with {}", guard.exit_code);
        Ok(())
    }
}

fn ended(container: &ContainerStatus) -> Option<ContainerStateTerminated> {
    container.state.as_ref()?.terminated.clone()
}

fn seconds(time: &Option<Time>) -> Result<i64> {
    let time = time.as_ref().context("the end has no time")?;
    Ok(time.0.as_second())
}

/// Follows the pods of a service for as long as this value lives: of one that is gone the last that was told of it.
pub(super) struct Watch {
    pods: Arc<Mutex<BTreeMap<String, Pod>>>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(world: &World, namespace: &str, service: &str) -> Self {
        let pods = Arc::<Mutex<BTreeMap<String, Pod>>>::default();
        let seen = Arc::clone(&pods);
        let config = watcher::Config::default().labels(&format!("app.kubernetes.io/name={service}"));
        let told = watcher(world.api::<Pod>(namespace), config);
        let task = tokio::spawn(async move {
            // A watch that broke begins again by itself.
            let mut told = pin!(told.default_backoff().touched_objects());
            while let Some(told) = told.next().await {
                if let Ok(pod) = told {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.insert(pod.name_any(), pod);
                }
            }
        });
        Self { pods, task }
    }

    /// Of the pods with a guard that have ended; those that stay are not among them.
    pub(super) fn lives(&self) -> Vec<(String, Lives)> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = pods
            .iter()
            .filter_map(|(name, pod)| Some((name.clone(), Lives::of(pod)?)));
        ended.collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
