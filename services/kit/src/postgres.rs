//! The service's Postgres: one pool with timeouts everywhere, and a start that waits for a late database.
//!
//! In: [`DatabaseArgs`] and the service's migrations. Out: a pool that may be used once [`Database::ready`] returned.
//! Transactions begin by [`begin`] alone: sqlx's own is not cancel-safe.

mod vanishing;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::watch;
use valerix_resilience::Backoff;

pub use valerix_resilience::postgres::begin;

use self::vanishing::Vanishing;
use crate::args::DatabaseArgs;
use crate::health::{Check, Gate, Health};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// The service's database; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    gate: Gate,
    ready: watch::Sender<bool>,
    vanishing: Vanishing,
}

/// Why a database could not even be described.
#[derive(Debug, thiserror::Error)]
#[error("failed to read DATABASE_URL")]
pub struct DatabaseUrlError {
    #[source]
    source: sqlx::Error,
}

/// Why one attempt to migrate failed.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("failed to connect: {0}")]
    Connect(#[source] sqlx::Error),
    #[error("failed to migrate: {0}")]
    Migrate(#[source] MigrateError),
    #[error("failed to connect and migrate in time")]
    Timeout,
}

impl Database {
    /// Describes the database; nothing is connected yet. Adds the gate `database` and the deep check `postgres`.
    ///
    /// # Errors
    /// When the URL is not one of Postgres.
    pub fn open(args: &DatabaseArgs, application: &str, health: &Health) -> Result<Self, DatabaseUrlError> {
        let options = PgConnectOptions::from_str(args.database_url.expose())
            .map_err(|source| DatabaseUrlError { source })?
            .application_name(application);
        let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let vanishing = Vanishing::default();
        let pool = PgPoolOptions::new()
            .max_connections(args.database_max_connections)
            .acquire_timeout(args.database_acquire_timeout)
            .max_lifetime(Duration::from_secs(30 * 60))
            .idle_timeout(Duration::from_secs(5 * 60))
            .test_before_acquire(false)
            .before_acquire(vanishing.hook(vanishing::ANSWER))
            // What its last user did not wait for may still be at work.
            .after_release(vanishing.hook(args.database_statement_timeout + vanishing::ANSWER))
            .connect_lazy_with(options.clone().options([
                ("statement_timeout", milliseconds(args.database_statement_timeout)),
                ("idle_in_transaction_session_timeout", milliseconds(IDLE_IN_TRANSACTION)),
            ]));
        health.register("postgres", Arc::new(PoolCheck(pool.clone())));
        Ok(Self {
            pool,
            options,
            gate: health.gate("database"),
            ready: watch::Sender::new(false),
            vanishing,
        })
    }

    /// The pool. Before [`Self::ready`] its statements may fail or find no tables.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Connects and migrates, trying again with backoff until it worked: a late database or a peer that migrates at
    /// the same moment (an advisory lock keeps them apart) only takes longer. Migrations of a newer binary are left
    /// alone, so that the one before it keeps running.
    pub async fn migrate(&self, mut migrator: Migrator) {
        migrator.set_ignore_missing(true);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while let Err(error) = self.try_migrate(&migrator).await {
            let delay = backoff.next_delay();
            tracing::warn!(error = %error, delay_ms = delay.as_millis(), "the database is not ready, trying again");
            tokio::time::sleep(delay).await;
        }
        self.gate.open();
        self.ready.send_replace(true);
        tracing::info!("the database is ready");
    }

    async fn try_migrate(&self, migrator: &Migrator) -> Result<(), StartError> {
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&self.options));
        let mut connection = connect
            .await
            .map_err(|_| StartError::Timeout)?
            .map_err(StartError::Connect)?;
        let outcome = tokio::time::timeout(MIGRATE_TIMEOUT, migrator.run_direct(None, &mut connection, false)).await;
        // Closing frees the advisory lock whatever happened.
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.close()).await;
        outcome.map_err(|_| StartError::Timeout)?.map_err(StartError::Migrate)
    }

    /// Returns when the database has been reached and migrated once.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives in self, so waiting can not fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Returns when a connection was found whose server is gone without a word. Whoever waits for an answer of it would
    /// wait for as long as the kernel goes on sending, a quarter of an hour.
    pub async fn vanished(&self) {
        self.vanishing.next().await;
    }
}

struct PoolCheck(PgPool);

#[async_trait]
impl Check for PoolCheck {
    async fn check(&self) -> Result<(), String> {
        sqlx::query("SELECT 1")
            .execute(&self.0)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

/// A time as statements take it, to be multiplied by `interval '1 millisecond'`.
pub fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a failed statement says about Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is away, restarting, out of connections, or gave up on a lock or a time limit: trying again may work.
    Unavailable,
    /// A text can not be stored: it has a NUL character.
    BadText,
    /// Anything else: a mistake of ours.
    Other,
}

/// Sorts the failures that pass from those that do not.
pub fn classify(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Failure::Unavailable,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            match code.as_ref() {
                // Cancelled or timed out; lock not available; serialization failure; deadlock; idle in transaction;
                // transaction aborted by one of those; read-only standby.
                "57014" | "55P03" | "40001" | "40P01" | "25P03" | "25P02" | "25006" => Failure::Unavailable,
                "22021" | "22P05" => Failure::BadText,
                // What a server says to a new connection: no such database (yet), not taking any, wrong password
                // (being rotated).
                "3D000" | "55000" | "28000" | "28P01" => Failure::Unavailable,
                // Connection exceptions, insufficient resources, operator intervention.
                code if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => {
                    Failure::Unavailable
                }
                _ => Failure::Other,
            }
        }
        _ => Failure::Other,
    }
}
