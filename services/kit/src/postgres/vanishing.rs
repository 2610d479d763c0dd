//! Connections whose server is gone without a word: a lost node, a deleted pod, a network that was cut.
//!
//! The kernel goes on sending to such a server for a quarter of an hour, and sqlx waits with it: in the test of an idle
//! connection, and in the one of a connection that comes back, whose place in the pool stays taken for so long. Here both
//! have a limit. The first test that runs into it tells of all connections that are older: they are given up without
//! another test, and [`super::Database::vanished`] lets go of whoever waits on one.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

/// How long a server may take to say that it is there when it has nothing else to do on the connection.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// When the server was last found gone; clones are one.
#[derive(Clone)]
pub(super) struct Vanishing(watch::Sender<Option<Instant>>);

impl Default for Vanishing {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Vanishing {
    /// Tests a connection, for both ends of its stay in the pool: the server answers within `limit`.
    pub(super) fn hook(
        &self,
        limit: Duration,
    ) -> impl for<'c> Fn(&'c mut PgConnection, PoolConnectionMetadata) -> BoxFuture<'c, sqlx::Result<bool>>
    + Send
    + Sync
    + use<> {
        let vanishing = self.clone();
        move |connection, metadata| {
            let vanishing = vanishing.clone();
            Box::pin(async move { vanishing.test(connection, metadata.age, limit).await })
        }
    }

    /// Returns when a server is found gone from now on.
    pub(super) async fn next(&self) {
        // The sender lives in self, so waiting can not fail.
        let _ = self.0.subscribe().changed().await;
    }

    async fn test(&self, connection: &mut PgConnection, age: Duration, limit: Duration) -> sqlx::Result<bool> {
        let mut finds = self.0.subscribe();
        if finds.borrow_and_update().is_some_and(|found| age >= found.elapsed()) {
            return Err(gone());
        }
        let answered = tokio::select! {
            answered = tokio::time::timeout(limit, connection.ping()) => answered,
            _ = finds.changed() => return Err(gone()),
        };
        if let Ok(answer) = answered {
            return answer.map(|()| true);
        }
        tracing::warn!("Postgres does not answer: connections to it are made anew");
        self.0.send_replace(Some(Instant::now()));
        Err(gone())
    }
}

/// An error, not a refusal: what is refused is closed in order, which is one more thing to wait for.
fn gone() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "the server does not answer",
    ))
}
