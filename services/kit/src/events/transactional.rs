//! A handler whose effect is one transaction with the memory that the event was handled. The claim, the commit and the
//! waking of the relay are here, so that no author can forget them.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::sync::OnceCell;

use super::relay::Relay;
use super::{Event, Handler, HandlerError, inbox};
use crate::postgres::begin;

/// What a service does with an event, each event once.
#[async_trait]
pub trait TransactionalHandler: Send + Sync + 'static {
    /// The effect of one event, written through `connection`: it is committed with the memory of the event, or not at all.
    /// An event of a type that is of no interest is `Ok`.
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError>;
}

/// The effect is written; what else there is to do waits for the commit.
#[derive(Default)]
pub struct Handled(Option<Box<dyn FnOnce() + Send>>);

impl Handled {
    /// Nothing else.
    pub fn done() -> Self {
        Self::default()
    }

    /// Does `then` once the effect is committed: counts, wakes.
    pub fn then(then: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }
}

/// Where a group begins that nobody has read for before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With everything that outboxes keep.
    Everything,
    /// With what happened since the service is there: it has no part in what was before.
    Birth,
}

/// By so much a service may be younger than what it has a part in: the services of a shop are not installed at one moment.
const YOUNGER: TimeDelta = TimeDelta::hours(1);

/// Puts a handler behind the inbox of `group`.
pub(super) struct InTransaction<H> {
    pub(super) pool: PgPool,
    pub(super) relay: Relay,
    pub(super) group: &'static str,
    pub(super) beginning: Beginning,
    /// When the service's schema was made, once that is known.
    pub(super) birth: OnceCell<DateTime<Utc>>,
    pub(super) handler: H,
}

impl<H> InTransaction<H> {
    /// Not by a place on the stream: Redis may lose the group and its streams, and is then filled again with all there was.
    async fn is_before(&self, event: &Event) -> Result<bool, sqlx::Error> {
        if self.beginning == Beginning::Everything {
            return Ok(false);
        }
        let birth = || {
            sqlx::query_scalar::<_, DateTime<Utc>>("SELECT min(installed_on) FROM _sqlx_migrations")
                .fetch_one(&self.pool)
        };
        let birth = self.birth.get_or_try_init(birth).await?;
        Ok(event.occurred_at < *birth - YOUNGER)
    }
}

#[async_trait]
impl<H: TransactionalHandler> Handler for InTransaction<H> {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let database = |error: sqlx::Error| HandlerError::from_sqlx(&error);
        if self.is_before(event).await.map_err(database)? {
            return Ok(());
        }
        let mut transaction = begin(&self.pool).await.map_err(database)?;
        if !inbox::claim(&mut transaction, self.group, event.id)
            .await
            .map_err(database)?
        {
            return Ok(());
        }
        let Handled(then) = self.handler.handle(&mut transaction, event).await?;
        transaction.commit().await.map_err(database)?;
        if let Some(then) = then {
            then();
        }
        self.relay.wake();
        Ok(())
    }
}
