//! Takes the replies of inventory and payment in: the inbox and the transition are one transaction.

use async_trait::async_trait;
use sqlx::PgConnection;
use valerix_kit::events::{Event, Handled, HandlerError, TransactionalHandler};

use crate::events::{pieces, read_reply};
use crate::moves::Moves;
use crate::store::{Store, StoreError};

/// The handler of replies.
pub struct Replies {
    /// Where orders are.
    pub store: Store,
    /// Hears of every reply that was taken in.
    pub moves: Moves,
}

#[async_trait]
impl TransactionalHandler for Replies {
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError> {
        let reply = read_reply(&event.event_type, &event.payload)
            .map_err(|error| HandlerError::failed(format!("failed to read {}: {error}", event.event_type)))?;
        let Some((order_id, reply)) = reply else {
            return Ok(Handled::done());
        };
        let pieces = pieces(&event.payload);
        let applied = self.store.reply_in(connection, order_id, &reply, pieces.as_ref()).await;
        let Some(applied) = applied.map_err(|error| failed(&error))? else {
            let holds = reply.holds();
            tracing::warn!(order = %order_id, event = %event.id, holds, "a reply about an unknown order");
            if holds {
                let heard = self.store.hear_of(connection, order_id, pieces.as_ref()).await;
                heard.map_err(|error| failed(&error))?;
            }
            return Ok(Handled::done());
        };
        let moves = self.moves.clone();
        Ok(Handled::then(move || moves.committed(&applied)))
    }
}

fn failed(error: &StoreError) -> HandlerError {
    match error {
        StoreError::Sql { source, .. } => HandlerError::from_sqlx(source),
        other => HandlerError::failed(other.to_string()),
    }
}
