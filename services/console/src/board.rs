//! What is known at the moment: the objects as they are shown, how old that knowledge is, and how the services are. Its
//! size is bounded, and so is what it holds for a reader who is behind: he begins anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::kinds::{Key, Kind, MOST_OBJECTS};
use crate::operator::Silence;
use crate::readiness::{Readiness, Turn};
use crate::view::Item;
use crate::vitals::{Moment, Vitals};

/// Changes that a reader may be behind.
const BEHIND: usize = 1_024;
/// Knowledge that is older than this is late. A watch is opened anew more often than that.
const LATE: chrono::Duration = chrono::Duration::seconds(25);
/// What is said of an API server that gives no answer.
pub(crate) const SILENT: &str = "the API server does not answer";
/// Moments that are remembered of each service: ten minutes.
const MOMENTS: usize = 120;

/// Something that readers are told.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object is new or has changed.
    Upserted(Arc<Item>),
    /// An object is gone.
    Deleted(Key),
    /// Everything may have changed.
    Relisted,
    /// How the services are.
    Vitals(Arc<Vec<Vitals>>),
    /// The API server answers again, or does not any more; the operator leads again, or does not any more.
    Heard,
}

/// How old the knowledge of a kind is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamState {
    /// The kind.
    pub kind: Kind,
    /// When the API server last confirmed what is shown; none before the first list.
    pub as_of: Option<DateTime<Utc>>,
    /// Whether that is too long ago to be believed.
    pub late: bool,
    /// What went wrong, while it does.
    pub error: Option<String>,
    /// Whether there are more objects than are shown.
    pub truncated: bool,
}

/// Where a kind is followed: in a namespace, or everywhere.
pub(crate) type Place = Option<String>;

#[derive(Clone, Debug, Default)]
struct Knowledge {
    as_of: Option<DateTime<Utc>>,
    error: Option<String>,
    truncated: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Arc<Item>>,
    /// Each kind in each place that is followed: a namespace, or everywhere.
    streams: BTreeMap<(Kind, Place), Knowledge>,
    /// Whether the API server does not answer at all.
    silent: bool,
    /// Whether nobody writes status.
    silence: Option<Silence>,
    vitals: Arc<Vec<Vitals>>,
    readiness: Readiness,
    moments: BTreeMap<(String, String), VecDeque<Moment>>,
}

/// The board; clones are one.
#[derive(Clone)]
pub struct Board {
    state: Arc<RwLock<State>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            changes: broadcast::Sender::new(BEHIND),
        }
    }
}

impl Board {
    /// Every change from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Every object.
    pub fn objects(&self) -> Vec<Arc<Item>> {
        self.read().objects.values().cloned().collect()
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Option<Arc<Item>> {
        self.read().objects.get(key).cloned()
    }

    /// The namespaces in which there are objects.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.read().objects.keys().map(|key| key.namespace.clone()).collect()
    }

    /// How old the knowledge of each kind is at `now`.
    pub fn streams(&self, now: DateTime<Utc>) -> Vec<StreamState> {
        let state = self.read();
        let stream = |kind: Kind| {
            let places = || {
                let of = state.streams.iter().filter(move |((other, _), _)| *other == kind);
                of.map(|(_, known)| known)
            };
            // As old as the oldest part of it: None is before every time.
            let as_of = places().map(|known| known.as_of).min().flatten();
            let silent = || state.silent.then(|| SILENT.to_owned());
            let error = places().find_map(|known| known.error.clone()).or_else(silent);
            StreamState {
                kind,
                late: error.is_some() || as_of.is_none_or(|as_of| now - as_of > LATE),
                as_of,
                error,
                truncated: places().any(|known| known.truncated),
            }
        };
        Kind::ALL.map(stream).into()
    }

    /// Since when nobody writes status, and how that is known; none while somebody does, or it is not known.
    pub fn silence(&self) -> Option<Silence> {
        self.read().silence.clone()
    }

    /// How the services are.
    pub fn vitals(&self) -> Arc<Vec<Vitals>> {
        self.read().vitals.clone()
    }

    /// How a service was, the oldest moment first.
    pub fn moments(&self, namespace: &str, name: &str) -> Vec<Moment> {
        let state = self.read();
        let moments = state.moments.get(&(namespace.to_owned(), name.to_owned()));
        moments.into_iter().flatten().cloned().collect()
    }

    /// When which pod of a service was ready, the oldest turn first.
    pub fn readiness(&self, namespace: &str, service: &str) -> Vec<Turn> {
        self.read().readiness.of(namespace, service)
    }

    /// `kind` is followed in `place`; nothing is known of it yet.
    pub(crate) fn expect(&self, kind: Kind, place: Place) {
        self.write().streams.entry((kind, place)).or_default();
    }

    /// Everything there is of `kind` in `place`, as a list said.
    pub(crate) fn relist(&self, kind: Kind, place: &Place, items: Vec<Item>, truncated: bool) {
        let mut whole = self.write();
        let state = &mut *whole;
        let elsewhere =
            |key: &Key| key.kind != kind || place.as_ref().is_some_and(|namespace| key.namespace != *namespace);
        let before: BTreeMap<Key, Arc<Item>> = state.objects.extract_if(.., |key, _| !elsewhere(key)).collect();
        let items = items.into_iter().take(MOST_OBJECTS);
        let now: BTreeMap<Key, Arc<Item>> = items.map(|item| (item.key(), Arc::new(item))).collect();
        let at = Utc::now();
        for key in before.keys().filter(|key| !now.contains_key(key)).chain(now.keys()) {
            let known = |objects: &'_ BTreeMap<Key, Arc<Item>>| objects.get(key).cloned();
            state
                .readiness
                .learn(known(&before).as_deref(), known(&now).as_deref(), at);
        }
        state.objects.extend(now);
        state.streams.entry((kind, place.clone())).or_default().truncated = truncated;
        drop(whole);
        self.confirm(kind, place);
        self.tell(Change::Relisted);
    }

    pub(crate) fn upsert(&self, place: &Place, item: Item) {
        let (key, item) = (item.key(), Arc::new(item));
        let mut whole = self.write();
        let state = &mut *whole;
        let kind = key.kind;
        if state.objects.get(&key) == Some(&item) {
            return;
        }
        let known = state.objects.contains_key(&key);
        if !known && state.objects.keys().filter(|key| key.kind == kind).count() >= MOST_OBJECTS {
            state.streams.entry((kind, place.clone())).or_default().truncated = true;
            return;
        }
        let before = state.objects.insert(key, item.clone());
        state.readiness.learn(before.as_deref(), Some(&item), Utc::now());
        drop(whole);
        self.tell(Change::Upserted(item));
    }

    pub(crate) fn delete(&self, key: Key) {
        let mut whole = self.write();
        let known = whole.objects.remove(&key);
        whole.readiness.learn(known.as_deref(), None, Utc::now());
        drop(whole);
        if known.is_some() {
            self.tell(Change::Deleted(key));
        }
    }

    /// The API server said that what is known of `kind` in `place` is so.
    pub(crate) fn confirm(&self, kind: Kind, place: &Place) {
        let mut state = self.write();
        let stream = state.streams.entry((kind, place.clone())).or_default();
        (stream.as_of, stream.error) = (Some(Utc::now()), None);
    }

    /// The API server does not say anything of `kind` in `place`.
    pub(crate) fn lose(&self, kind: Kind, place: &Place, error: String) {
        self.write().streams.entry((kind, place.clone())).or_default().error = Some(error);
    }

    /// The API server answers, or does not; and so it is with whoever writes status.
    pub(crate) fn hear(&self, answers: bool, silence: Option<Silence>) {
        let mut state = self.write();
        let is_new = state.silent == answers || state.silence != silence;
        (state.silent, state.silence) = (!answers, silence);
        drop(state);
        if is_new {
            self.tell(Change::Heard);
        }
    }

    pub(crate) fn measure(&self, vitals: Vec<Vitals>) {
        let vitals = Arc::new(vitals);
        let mut state = self.write();
        let of = |vitals: &Vitals| (vitals.namespace.clone(), vitals.name.clone());
        let known: BTreeSet<(String, String)> = vitals.iter().map(of).collect();
        state.moments.retain(|service, _| known.contains(service));
        for vitals in vitals.iter() {
            let moments = state.moments.entry(of(vitals)).or_default();
            if moments.len() == MOMENTS {
                moments.pop_front();
            }
            moments.push_back(vitals.moment.clone());
        }
        state.vitals = vitals.clone();
        drop(state);
        self.tell(Change::Vitals(vitals));
    }

    fn tell(&self, change: Change) {
        // Nobody reads: nobody is told.
        let _ = self.changes.send(change);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_as_old_as_the_oldest_place_of_it() {
        let board = Board::default();
        let state = |kind| {
            board
                .streams(Utc::now())
                .into_iter()
                .find(|stream| stream.kind == kind)
                .unwrap()
        };
        let (shop, vault) = (Some("shop".to_owned()), Some("vault".to_owned()));
        board.expect(Kind::Pod, shop.clone());
        board.expect(Kind::Pod, vault.clone());
        board.confirm(Kind::Pod, &shop);
        assert_eq!(
            (state(Kind::Pod).as_of, state(Kind::Pod).late),
            (None, true),
            "the vault was never seen"
        );
        board.confirm(Kind::Pod, &vault);
        assert!(!state(Kind::Pod).late);
        board.lose(Kind::Pod, &vault, "away".to_owned());
        board.confirm(Kind::Pod, &shop);
        assert_eq!(
            state(Kind::Pod).error.as_deref(),
            Some("away"),
            "the shop does not speak for the vault"
        );
        board.confirm(Kind::Pod, &vault);
        assert!(!state(Kind::Pod).late && state(Kind::Backup).late);
        let later = Utc::now() + chrono::Duration::seconds(60);
        assert!(
            board.streams(later).iter().all(|stream| stream.late),
            "silence makes late"
        );
    }
}
