//! When a watch told what of each service: one for all, so that whoever waits asks for nothing.

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};
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

/// By namespace and name.
type Sights = BTreeMap<(String, String), Sight>;

/// What was seen of each service.
pub struct Seen(watch::Receiver<Sights>);

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
    pub async fn observed(&self, namespace: &str, name: &str, generation: i64, within: Duration) -> Result<Instant> {
        let key = (namespace.to_owned(), name.to_owned());
        let has = |seen: &Sights| seen.get(&key).is_some_and(|sight| sight.observed >= generation);
        let seen = tokio::time::timeout(within, self.wait_for(has)).await;
        let seen = seen.with_context(|| format!("{namespace}/{name}: no status of generation {generation}"))??;
        Ok(seen.get(&key).context("it was seen")?.at)
    }

    /// Waits until so many are Ready.
    pub async fn ready(&self, services: usize) -> Result<()> {
        self.wait_for(|seen| ready_of(seen) >= services).await.map(drop)
    }

    /// What was seen once it `holds`.
    async fn wait_for(&self, holds: impl Fn(&Sights) -> bool) -> Result<Sights> {
        let mut seen = self.0.clone();
        let seen = seen
            .wait_for(holds)
            .await
            .context("nobody watches the services any more")?;
        Ok(seen.clone())
    }

    /// How many are Ready.
    pub fn are_ready(&self) -> usize {
        ready_of(&self.0.borrow())
    }
}

fn ready_of(seen: &Sights) -> usize {
    seen.values().filter(|sight| sight.is_ready).count()
}

#[tokio::test]
async fn what_nobody_watches_or_nobody_sees_is_an_error() {
    let key = ("shop".to_owned(), "order".to_owned());
    let at = Instant::now();
    let sight = Sight {
        observed: 2,
        at,
        is_ready: true,
    };
    let (sender, receiver) = watch::channel(BTreeMap::from([(key, sight)]));
    let seen = Seen(receiver);
    let observed = async |generation, within| seen.observed("shop", "order", generation, within).await;
    assert_eq!(observed(2, Duration::MAX).await.unwrap(), at);
    let late = observed(3, Duration::from_millis(1)).await.unwrap_err();
    assert!(late.to_string().contains("shop/order"), "{late}");
    seen.ready(1).await.unwrap();
    drop(sender);
    let ended = observed(3, Duration::MAX).await.unwrap_err();
    assert!(ended.to_string().contains("nobody watches"), "{ended}");
    assert!(seen.ready(2).await.is_err());
}
