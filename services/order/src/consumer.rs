//! Takes the replies of inventory and payment in: the inbox and the transition are one transaction.

use async_trait::async_trait;
use valerix_kit::events::{Event, Handler, HandlerError, inbox};
use valerix_kit::postgres;

use crate::events::{GROUP, read_reply};
use crate::saga::moves::Moves;
use crate::store::{Store, StoreError};

/// The handler of replies.
pub struct Replies {
    /// Where orders are.
    pub store: Store,
    /// Hears of every reply that was taken in.
    pub moves: Moves,
}

#[async_trait]
impl Handler for Replies {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let reply = read_reply(&event.event_type, &event.payload)
            .map_err(|error| HandlerError::failed(format!("failed to read {}: {error}", event.event_type)))?;
        let Some((order_id, reply)) = reply else { return Ok(()) };
        let database = |error: sqlx::Error| HandlerError::from_sqlx(&error);
        let mut transaction = postgres::begin(self.store.pool()).await.map_err(database)?;
        if !inbox::claim(&mut transaction, GROUP, event.id)
            .await
            .map_err(database)?
        {
            return Ok(());
        }
        let applied = self
            .store
            .reply_in(&mut transaction, order_id, &reply)
            .await
            .map_err(|error| failed(&error))?;
        transaction.commit().await.map_err(database)?;
        match applied {
            Some(applied) => self.moves.committed(&applied),
            None => tracing::warn!(order = %order_id, event = %event.id, "a reply about an unknown order"),
        }
        Ok(())
    }
}

fn failed(error: &StoreError) -> HandlerError {
    match error {
        StoreError::Sql { source, .. } => HandlerError::from_sqlx(source),
        other => HandlerError::failed(other.to_string()),
    }
}
