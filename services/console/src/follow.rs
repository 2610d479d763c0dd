//! Keeps the board true to the API server: one list and then watches, for each kind.
//!
//! Not kube's watcher: that says nothing when it opens a watch anew, so that a quiet cluster and a lost one look alike.
//! Here each answer of the API server counts as a confirmation, and a watch is opened anew every few seconds.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope, WatchEvent};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use valerix_crds::names::SERVICE_LABEL;
use valerix_crds::{Backup, BackupPolicy, ChaosExperiment, ResilientService, Restore};
use valerix_kit::tasks::Tasks;

use crate::board::{Board, Place, SILENT};
use crate::kinds::{Key, Kind, MOST_OBJECTS};
use crate::view::{BackupView, ExperimentView, Item, PodView, PolicyView, RestoreView, ServiceView};

/// How long one watch lasts. Unit: seconds.
const WATCH_SECONDS: u32 = 10;
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Pause after a failure: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Follows every kind in `namespaces`, or everywhere when there are none, for as long as the tasks live.
pub fn follow(board: &Board, client: &Client, namespaces: &[String], tasks: &Tasks) {
    let places: Vec<Place> = match namespaces {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    for place in places {
        let start = Start {
            board,
            client,
            place,
            tasks,
        };
        start.kind::<ResilientService>(Kind::ResilientService, "services", |object| {
            Item::ResilientService(ServiceView::from(object))
        });
        start.kind::<ChaosExperiment>(Kind::ChaosExperiment, "experiments", |object| {
            Item::ChaosExperiment(ExperimentView::from(object))
        });
        start.kind::<BackupPolicy>(Kind::BackupPolicy, "policies", |object| {
            Item::BackupPolicy(PolicyView::from(object))
        });
        start.kind::<Backup>(Kind::Backup, "backups", |object| Item::Backup(BackupView::from(object)));
        start.kind::<Restore>(Kind::Restore, "restores", |object| {
            Item::Restore(RestoreView::from(object))
        });
        start.kind::<k8s_openapi::api::core::v1::Pod>(Kind::Pod, "pods", |object| Item::Pod(PodView::from(object)));
    }
}

struct Start<'a> {
    board: &'a Board,
    client: &'a Client,
    place: Place,
    tasks: &'a Tasks,
}

impl Start<'_> {
    fn kind<K>(&self, kind: Kind, task: &'static str, show: fn(&K) -> Item)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api = match &self.place {
            None => Api::all(self.client.clone()),
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        let (board, place) = (self.board.clone(), self.place.clone());
        board.expect(kind, place.clone());
        self.tasks.spawn_droppable(task, move || {
            let followed = Followed {
                board: board.clone(),
                api: api.clone(),
                kind,
                place: place.clone(),
                show,
            };
            async move { followed.forever().await }
        });
    }
}

/// One kind in one place.
struct Followed<K: Clone> {
    board: Board,
    api: Api<DeserializeGuard<K>>,
    kind: Kind,
    place: Place,
    show: fn(&K) -> Item,
}

impl<K> Followed<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn forever(self) {
        let mut pause = PAUSES.0;
        // The version from which a watch goes on; none where only a list helps.
        let mut version: Option<String> = None;
        loop {
            let step = match version.take() {
                None => self.list().await.map(Some),
                Some(from) => self.watch(from).await,
            };
            match step {
                Ok(next) => {
                    version = next;
                    pause = PAUSES.0;
                }
                Err(error) => {
                    tracing::warn!(kind = self.kind.name(), %error, "failed to follow a kind, trying again");
                    self.board.lose(self.kind, &self.place, reason(&error));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Reads everything, and says from which version a watch goes on.
    async fn list(&self) -> Result<String, kube::Error> {
        let mut parameters = ListParams::default().limit(PAGE);
        if self.kind == Kind::Pod {
            parameters = parameters.labels(SERVICE_LABEL);
        }
        let (mut items, mut truncated) = (Vec::new(), false);
        let version = loop {
            let page = self.api.list(&parameters).await?;
            items.extend(page.items.into_iter().filter_map(|object| self.shown(object)));
            let more = page.metadata.continue_.filter(|token| !token.is_empty());
            truncated |= more.is_some() && items.len() >= MOST_OBJECTS;
            match more {
                Some(token) if !truncated => parameters = parameters.continue_token(&token),
                _ => break page.metadata.resource_version.unwrap_or_default(),
            }
        };
        self.board.relist(self.kind, &self.place, items, truncated);
        Ok(version)
    }

    /// Follows changes until the watch ends, and says where the next one goes on; nowhere when changes were missed.
    async fn watch(&self, from: String) -> Result<Option<String>, kube::Error> {
        let mut parameters = WatchParams::default().timeout(WATCH_SECONDS);
        if self.kind == Kind::Pod {
            parameters = parameters.labels(SERVICE_LABEL);
        }
        let mut version = from;
        let opened = self.api.watch(&parameters, &version).await;
        let mut events = match opened {
            Ok(events) => events.boxed(),
            Err(error) if is_expired(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.board.confirm(self.kind, &self.place);
        while let Some(event) = events.try_next().await? {
            self.board.confirm(self.kind, &self.place);
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.resource_version().unwrap_or(version);
                    if let Some(item) = self.shown(object) {
                        self.board.upsert(&self.place, item);
                    }
                }
                WatchEvent::Deleted(object) => {
                    version = object.resource_version().unwrap_or(version);
                    self.board.delete(Key {
                        kind: self.kind,
                        namespace: object.namespace().unwrap_or_default(),
                        name: object.name_any(),
                    });
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(None),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(Some(version))
    }

    /// What is shown of an object. One that this version can not read keeps what was last shown of it.
    fn shown(&self, object: DeserializeGuard<K>) -> Option<Item> {
        match object.0 {
            Ok(object) => Some((self.show)(&object)),
            Err(invalid) => {
                let (namespace, name) = (&invalid.metadata.namespace, &invalid.metadata.name);
                tracing::warn!(
                    kind = self.kind.name(),
                    ?namespace,
                    ?name,
                    error = invalid.error,
                    "failed to read an object"
                );
                self.board
                    .get(&Key {
                        kind: self.kind,
                        namespace: invalid.metadata.namespace.unwrap_or_default(),
                        name: invalid.metadata.name.unwrap_or_default(),
                    })
                    .map(|last| Item::clone(&last))
            }
        }
    }
}

fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

/// What a person is told: the API server's own words where it gave some.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        _ => SILENT.to_owned(),
    }
}
