//! What one browser is told: everything that it may see, then each change of it, and every two seconds how old that
//! knowledge is. One that does not take what it is told is let go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use prometheus::IntGauge;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};

use crate::board::{Change, StreamState};
use crate::kinds::Kind;
use crate::people::{RightsError, Scopes, Viewer};
use crate::routes::AppState;
use crate::view::Item;
use crate::vitals::Vitals;

/// How often the page hears that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often it is asked what a person may see.
const RIGHTS: Duration = Duration::from_secs(30);
/// How long what a person was allowed to see counts while the API server does not answer.
const RIGHTS_KEPT: Duration = Duration::from_secs(120);
/// How long a reader may take for a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that wait for a reader.
pub const WAITING: usize = 32;

/// A message to the page.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Message {
    /// Everything that may be seen; what was known before is forgotten.
    #[serde(rename_all = "camelCase")]
    Snapshot {
        /// The objects.
        objects: Vec<Arc<Item>>,
        /// How the services are.
        vitals: Vec<Vitals>,
        /// How old this is.
        streams: Vec<SeenStream>,
        /// The clock of the console.
        now: DateTime<Utc>,
    },
    /// An object is new or has changed.
    Upserted {
        /// It.
        object: Arc<Item>,
    },
    /// An object is gone.
    Deleted {
        /// Its kind.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// How the services are.
    Vitals {
        /// Each of them.
        services: Vec<Vitals>,
    },
    /// The connection lives.
    Heartbeat {
        /// The clock of the console.
        now: DateTime<Utc>,
        /// How old each kind is.
        streams: Vec<SeenStream>,
    },
    /// The session is over: sign in again.
    SignedOut {},
}

/// How old the knowledge of a kind is, and whether one may have it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SeenStream {
    /// How old it is.
    #[serde(flatten)]
    pub state: StreamState,
    /// Whether the API server lets this person list the kind nowhere.
    pub forbidden: bool,
}

/// The place of a page that follows, given back when this is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    taken: IntGauge,
}

impl Place {
    /// Takes one; none is left when there are too many.
    pub fn take(places: &Arc<Semaphore>, taken: &IntGauge) -> Option<Self> {
        let permit = Arc::clone(places).try_acquire_owned().ok()?;
        taken.inc();
        Some(Self {
            _permit: permit,
            taken: taken.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec();
    }
}

/// Tells `sender` until it is closed, the session ends, or the console does.
pub async fn tell(state: AppState, viewer: Viewer, sender: mpsc::Sender<Message>, _place: Place) {
    let mut teller = Teller {
        // Before the snapshot: nothing that changes meanwhile is missed.
        changes: state.board.subscribe(),
        scopes: Scopes::nothing(),
        asked: None,
        confirmed: Instant::now(),
        unknown: BTreeSet::new(),
        state,
        viewer,
        sender,
    };
    if let Err(Left) = teller.run().await {
        tracing::debug!("a reader has left");
    }
}

/// The reader is gone, or was let go.
struct Left;

struct Teller {
    state: AppState,
    viewer: Viewer,
    sender: mpsc::Sender<Message>,
    changes: broadcast::Receiver<Change>,
    scopes: Scopes,
    /// When it was last asked what may be seen.
    asked: Option<Instant>,
    /// When that was last answered.
    confirmed: Instant,
    /// Kinds and namespaces that came after that.
    unknown: BTreeSet<(Kind, String)>,
}

impl Teller {
    async fn run(&mut self) -> Result<(), Left> {
        self.look_at_rights().await?;
        self.send_snapshot().await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            let closed = self.sender.clone();
            tokio::select! {
                () = closed.closed() => return Err(Left),
                change = self.changes.recv() => match change {
                    Ok(change) => self.pass_on(change).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.send_snapshot().await?,
                    Err(broadcast::error::RecvError::Closed) => return Err(Left),
                },
                _ = heartbeat.tick() => {
                    if self.state.is_draining() {
                        return Err(Left);
                    }
                    if self.look_at_rights().await? {
                        self.send_snapshot().await?;
                    }
                    self.send_heartbeat().await?;
                }
            }
        }
    }

    /// Asks what may be seen where that is due, and says whether it has changed.
    async fn look_at_rights(&mut self) -> Result<bool, Left> {
        let Viewer::Person(session) = &self.viewer else {
            let first = self.asked.replace(Instant::now()).is_none();
            self.scopes = Scopes::everything();
            return Ok(first);
        };
        if !self.state.sessions.knows(session) {
            self.send(Message::SignedOut {}).await?;
            return Err(Left);
        }
        let due = self.asked.is_none_or(|asked| asked.elapsed() >= RIGHTS) || !self.unknown.is_empty();
        if !due {
            return Ok(false);
        }
        self.asked = Some(Instant::now());
        self.unknown.clear();
        let scopes = match session.rights().scopes(&self.state.board).await {
            Ok(scopes) => {
                self.confirmed = Instant::now();
                scopes
            }
            Err(RightsError::SignedOut) => {
                self.state.sessions.end(session);
                self.send(Message::SignedOut {}).await?;
                return Err(Left);
            }
            Err(RightsError::Unknown) if self.confirmed.elapsed() < RIGHTS_KEPT => return Ok(false),
            Err(RightsError::Unknown) => Scopes::nothing(),
        };
        let changed = self.scopes != scopes;
        self.scopes = scopes;
        Ok(changed)
    }

    async fn pass_on(&mut self, change: Change) -> Result<(), Left> {
        match change {
            Change::Upserted(object) => {
                let key = object.key();
                if self.scopes.allow(key.kind, &key.namespace) {
                    return self.send(Message::Upserted { object }).await;
                }
                // The first object of its kind there: nobody has asked about it yet.
                self.unknown.insert((key.kind, key.namespace));
                Ok(())
            }
            Change::Deleted(key) if self.scopes.allow(key.kind, &key.namespace) => {
                let deleted = Message::Deleted {
                    kind: key.kind,
                    namespace: key.namespace,
                    name: key.name,
                };
                self.send(deleted).await
            }
            Change::Deleted(_) => Ok(()),
            Change::Relisted => self.send_snapshot().await,
            Change::Heard => self.send_heartbeat().await,
            Change::Vitals(services) => {
                let services = self.seen(&services);
                self.send(Message::Vitals { services }).await
            }
        }
    }

    async fn send_snapshot(&mut self) -> Result<(), Left> {
        // What led to this is in it.
        self.changes = self.state.board.subscribe();
        let objects = self.state.board.objects().into_iter().filter(|object| {
            let key = object.key();
            self.scopes.allow(key.kind, &key.namespace)
        });
        let snapshot = Message::Snapshot {
            objects: objects.collect(),
            vitals: self.seen(&self.state.board.vitals()),
            streams: self.streams(),
            now: Utc::now(),
        };
        self.send(snapshot).await
    }

    async fn send_heartbeat(&mut self) -> Result<(), Left> {
        let streams = self.streams();
        self.send(Message::Heartbeat {
            now: Utc::now(),
            streams,
        })
        .await
    }

    fn seen(&self, vitals: &[Vitals]) -> Vec<Vitals> {
        let seen = vitals
            .iter()
            .filter(|vitals| self.scopes.allow(Kind::ResilientService, &vitals.namespace));
        seen.cloned().collect()
    }

    fn streams(&self) -> Vec<SeenStream> {
        let states = self.state.board.streams(Utc::now()).into_iter();
        states
            .map(|state| SeenStream {
                forbidden: !self.scopes.allow_some(state.kind),
                state,
            })
            .collect()
    }

    async fn send(&self, message: Message) -> Result<(), Left> {
        self.sender.send_timeout(message, PATIENCE).await.map_err(|_| Left)
    }
}
