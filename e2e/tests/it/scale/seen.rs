//! When a watch told what of each service: one for all, so that whoever waits asks for nothing.

use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::BTreeMap, pin::pin, time::Instant};
use tokio::sync::watch;
use valerix_crds::ResilientService;
use valerix_e2e::world::is_ready;

#[derive(Clone, Copy)]
struct Sight {
    observed: i64,
    /// When its status first spoke of that generation.
    at: Instant,
    is_ready: bool,
}

/// What was seen of each service, by namespace and name.
pub struct Seen(watch::Receiver<BTreeMap<(String, String), Sight>>);

impl Seen {
    /// Follows the services of all namespaces for as long as somebody looks.
    pub fn follow(client: Client) -> Self {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        tokio::spawn(async move {
            let services: Api<ResilientService> = Api::all(client);
            let events = watcher(services, watcher::Config::default());
            let mut events = pin!(events.default_backoff().applied_objects());
            // A watch that broke is begun again.
            while let Some(event) = events.next().await {
                let Ok(service) = event else { continue };
                if sender.is_closed() {
                    return;
                }
                let observed = service.status.as_ref().map_or(-1, |status| status.observed_generation);
                let key = (service.namespace().unwrap_or_default(), service.name_any());
                sender.send_modify(|seen| {
                    let sight = seen.entry(key).or_insert(Sight {
                        observed: i64::MIN,
                        at: Instant::now(),
                        is_ready: false,
                    });
                    if sight.observed != observed {
                        (sight.observed, sight.at) = (observed, Instant::now());
                    }
                    sight.is_ready = is_ready(&service);
                });
            }
        });
        Self(receiver)
    }

    /// When its status spoke of that generation.
    pub async fn observed(&self, namespace: &str, name: &str, generation: i64) -> Instant {
        let key = (namespace.to_owned(), name.to_owned());
        let sight = |seen: &BTreeMap<_, Sight>| seen.get(&key).copied().filter(|sight| sight.observed >= generation);
        let mut seen = self.0.clone();
        let seen = seen.wait_for(|seen| sight(seen).is_some()).await;
        seen.ok()
            .and_then(|seen| sight(&seen))
            .map_or_else(Instant::now, |sight| sight.at)
    }

    /// Waits until so many are Ready.
    pub async fn ready(&self, services: usize) {
        let mut seen = self.0.clone();
        // The other end lives as long as this one.
        drop(seen.wait_for(|seen| ready_of(seen) >= services).await);
    }

    /// How many are Ready.
    pub fn are_ready(&self) -> usize {
        ready_of(&self.0.borrow())
    }
}

fn ready_of(seen: &BTreeMap<(String, String), Sight>) -> usize {
    seen.values().filter(|sight| sight.is_ready).count()
}
