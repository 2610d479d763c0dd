//! What one browser is told: everything that it may see, then each change of it, and every two seconds how old that
//! knowledge is. One that does not take what it is told is let go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};

use crate::board::{Change, SILENT, StreamState};
use crate::kinds::Kind;
use crate::operator::Silence;
use crate::people::{RightsError, Scopes};
use crate::places::Place;
use crate::state::AppState;
use crate::view::Item;
use crate::viewer::Viewer;
use crate::vitals::Vitals;

/// How often the page hears that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often it is asked what a person may see.
const RIGHTS: Duration = Duration::from_secs(30);
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
        /// Since when nobody writes status; none while somebody does, or it is not known.
        operator_silence: Option<Silence>,
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
    #[serde(rename_all = "camelCase")]
    Heartbeat {
        /// The clock of the console.
        now: DateTime<Utc>,
        /// Since when nobody writes status; none while somebody does, or it is not known.
        operator_silence: Option<Silence>,
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

/// Tells `sender` until it is closed, the session ends, or the console does.
pub async fn tell(state: AppState, viewer: Viewer, sender: mpsc::Sender<Message>, _place: Place) {
    let mut teller = Teller {
        // Before the snapshot: nothing that changes meanwhile is missed.
        changes: state.board.subscribe(),
        scopes: None,
        asked: None,
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

/// What a person may see, as it is being asked.
type Asking = BoxFuture<'static, Result<Scopes, RightsError>>;

struct Teller {
    state: AppState,
    viewer: Viewer,
    sender: mpsc::Sender<Message>,
    changes: broadcast::Receiver<Change>,
    /// None while it is not known what may be seen: then nothing is shown, and nothing is called forbidden.
    scopes: Option<Scopes>,
    /// When it was last asked what may be seen; none where that is to be asked at once.
    asked: Option<Instant>,
    /// Kinds and namespaces that came after that.
    unknown: BTreeSet<(Kind, String)>,
}

impl Teller {
    async fn run(&mut self) -> Result<(), Left> {
        if let Some(first) = self.ask_for_rights() {
            self.learn_rights(first.await).await?;
        }
        self.send_snapshot().await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        // Beside all else: an API server that takes its time does not keep the page from hearing so.
        let mut asking: Option<Asking> = None;
        loop {
            let closed = self.sender.clone();
            tokio::select! {
                () = closed.closed() => return Err(Left),
                change = self.changes.recv() => match change {
                    Ok(change) => self.pass_on(change).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.send_snapshot().await?,
                    Err(broadcast::error::RecvError::Closed) => return Err(Left),
                },
                answer = answered(&mut asking) => {
                    asking = None;
                    if self.learn_rights(answer).await? {
                        self.send_snapshot().await?;
                    }
                }
                _ = heartbeat.tick() => {
                    if self.state.is_draining() {
                        return Err(Left);
                    }
                    self.check_session().await?;
                    if asking.is_none() {
                        asking = self.ask_for_rights();
                    }
                    self.send_heartbeat().await?;
                }
            }
        }
    }

    async fn check_session(&self) -> Result<(), Left> {
        match &self.viewer {
            Viewer::Person(session) if !self.state.sessions.knows(session) => {
                self.send(Message::SignedOut {}).await?;
                Err(Left)
            }
            _ => Ok(()),
        }
    }

    /// Asks what may be seen, where that is due.
    fn ask_for_rights(&mut self) -> Option<Asking> {
        let Viewer::Person(session) = &self.viewer else {
            self.scopes = Some(Scopes::everything());
            return None;
        };
        let due = self.asked.is_none_or(|asked| asked.elapsed() >= RIGHTS) || !self.unknown.is_empty();
        if !due {
            return None;
        }
        self.asked = Some(Instant::now());
        self.unknown.clear();
        let (session, board) = (session.clone(), self.state.board.clone());
        Some(async move { session.rights().scopes(&board).await }.boxed())
    }

    /// Takes what was answered, and says whether something else may be seen now.
    async fn learn_rights(&mut self, answer: Result<Scopes, RightsError>) -> Result<bool, Left> {
        let Viewer::Person(session) = &self.viewer else {
            return Ok(false);
        };
        let scopes = match answer {
            Ok(scopes) => Some(scopes),
            Err(RightsError::SignedOut) => {
                self.state.sessions.end(session);
                self.send(Message::SignedOut {}).await?;
                return Err(Left);
            }
            Err(RightsError::Unknown) => {
                self.asked = None;
                session.rights().kept()
            }
        };
        let changed = self.scopes != scopes;
        self.scopes = scopes;
        Ok(changed)
    }

    fn may_see(&self, kind: Kind, namespace: &str) -> bool {
        self.scopes.as_ref().is_some_and(|scopes| scopes.allow(kind, namespace))
    }

    async fn pass_on(&mut self, change: Change) -> Result<(), Left> {
        match change {
            Change::Upserted(object) => {
                let key = object.key();
                if self.may_see(key.kind, &key.namespace) {
                    return self.send(Message::Upserted { object }).await;
                }
                // The first object of its kind there: nobody has asked about it yet.
                self.unknown.insert((key.kind, key.namespace));
                Ok(())
            }
            Change::Deleted(key) if self.may_see(key.kind, &key.namespace) => {
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
            self.may_see(key.kind, &key.namespace)
        });
        let snapshot = Message::Snapshot {
            objects: objects.collect(),
            vitals: self.seen(&self.state.board.vitals()),
            streams: self.streams(),
            operator_silence: self.state.board.silence(),
            now: Utc::now(),
        };
        self.send(snapshot).await
    }

    async fn send_heartbeat(&mut self) -> Result<(), Left> {
        let streams = self.streams();
        self.send(Message::Heartbeat {
            now: Utc::now(),
            operator_silence: self.state.board.silence(),
            streams,
        })
        .await
    }

    fn seen(&self, vitals: &[Vitals]) -> Vec<Vitals> {
        let seen = vitals
            .iter()
            .filter(|vitals| self.may_see(Kind::ResilientService, &vitals.namespace));
        let seen = seen.map(|vitals| {
            // Names of pods are for who may list these.
            if self.may_see(Kind::Pod, &vitals.namespace) {
                vitals.clone()
            } else {
                vitals.without_pods("you may not list pods in this namespace")
            }
        });
        seen.collect()
    }

    fn streams(&self) -> Vec<SeenStream> {
        let states = self.state.board.streams(Utc::now()).into_iter();
        states
            .map(|state| match &self.scopes {
                Some(scopes) => SeenStream {
                    forbidden: !scopes.allow_some(state.kind),
                    state,
                },
                // Whether one may look is for the API server to say, and it does not.
                None => SeenStream {
                    forbidden: false,
                    state: StreamState {
                        as_of: None,
                        late: true,
                        error: Some(SILENT.to_owned()),
                        ..state
                    },
                },
            })
            .collect()
    }

    async fn send(&self, message: Message) -> Result<(), Left> {
        self.sender.send_timeout(message, PATIENCE).await.map_err(|_| Left)
    }
}

/// The answer to what is being asked; for ever where nothing is.
async fn answered(asking: &mut Option<Asking>) -> Result<Scopes, RightsError> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}
