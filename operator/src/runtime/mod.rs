//! What kube does not give an operator, and what every kind here needs. Knows no kind.
//!
//! What goes in: a client configuration and a set of scopes (namespaces). What comes out: caches that stay true,
//! controllers in which one bad object hurts itself alone, leadership, and the ways to write: children by server-side
//! apply, status when it changed, events without floods.

pub mod api_metrics;
pub mod apply;
pub mod backoff;
pub mod cache;
pub mod clients;
pub mod clock;
pub mod condition_metrics;
pub mod conditions;
pub mod controller;
pub mod definition;
pub mod drift;
pub mod events;
pub mod failure;
pub mod hindrance;
pub mod lanes;
pub mod leader;
pub mod lease;
mod listen;
pub mod metrics;
pub mod network;
mod presence;
pub mod publish;
pub mod readiness;
pub(crate) mod reason;
pub mod scrapers;
pub mod secure;
pub mod server;
pub mod telemetry;
pub mod triggers;
pub mod violation;

pub use cache::{Cache, Change, WatchOptions};
pub use clients::{Clients, Scope};
pub use controller::Options;
pub use events::{Events, News};
pub use failure::{Category, Failed, Failure};
pub use hindrance::{Hindrance, HindranceReason};
pub use leader::Leadership;
pub use presence::Presence;
pub use publish::Publisher;
pub use triggers::Triggers;
pub use violation::{Violation, Violations};

use futures::FutureExt;
use metrics::Metrics;
use readiness::Readiness;
use std::panic::AssertUnwindSafe;
use tokio_util::sync::CancellationToken;

/// Field manager of every server-side apply, and name of the controller in events.
pub const FIELD_MANAGER: &str = "valerix";

/// What every controller shares; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    /// Who this process is: the pod's name and UID.
    pub identity: Identity,
    /// The two clients.
    pub clients: Clients,
    /// Where objects are looked for.
    pub scopes: Vec<Scope>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Which caches are awaited.
    pub readiness: Readiness,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Cancelled when the process ends.
    pub shutdown: CancellationToken,
    /// Cancelled when a part has ended that must not end before the process: it must end too.
    pub broken: CancellationToken,
}

/// Who this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the pod, for people.
    pub pod: String,
    /// UID of the pod: the Lease's holder. A restarted container has the same one and goes on at once.
    pub uid: String,
}

impl Runtime {
    /// Puts the parts together; nothing is started.
    pub fn new(identity: Identity, clients: Clients, scopes: Vec<Scope>) -> Self {
        Self {
            identity,
            clients,
            scopes,
            metrics: Metrics::default(),
            readiness: Readiness::default(),
            leadership: Leadership::default(),
            shutdown: CancellationToken::new(),
            broken: CancellationToken::new(),
        }
    }

    /// Runs a part that goes on as long as the process does. Its panic or its end breaks the process: a cache that is
    /// stale for ever while health says ok would be worse than a restart.
    pub fn spawn(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (shutdown, broken) = (self.shutdown.clone(), self.broken.clone());
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(part).catch_unwind().await;
            if !shutdown.is_cancelled() {
                let panicked = ended.is_err();
                tracing::error!(part = name, panicked, "a part of the operator ended before the process");
                broken.cancel();
            }
        });
    }

    /// The event recorder of one controller; make one per controller and keep it.
    pub fn events(&self, controller: &'static str) -> Events {
        Events::new(&self.clients, controller, &self.identity.pod)
    }
}
