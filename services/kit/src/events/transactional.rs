//! A handler whose effect is one transaction with the memory that the event was handled. The claim, the commit and the
//! waking of the relay are here, so that no author can forget them.

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};

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

/// Puts a handler behind the inbox of `group`.
pub(super) struct InTransaction<H> {
    pub(super) pool: PgPool,
    pub(super) relay: Relay,
    pub(super) group: &'static str,
    pub(super) handler: H,
}

#[async_trait]
impl<H: TransactionalHandler> Handler for InTransaction<H> {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let database = |error: sqlx::Error| HandlerError::from_sqlx(&error);
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
