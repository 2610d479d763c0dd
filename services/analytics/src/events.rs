//! Order's announcements become figures, each event once.

use async_trait::async_trait;
use sqlx::PgConnection;
use valerix_kit::events::{Event, Handled, HandlerError, TransactionalHandler};

use crate::{facts, store};

/// What order announces to everyone.
pub const ORDER_EVENTS: &str = "order.events";
/// The consumer group of this service.
pub const GROUP: &str = "analytics";

/// Counts what is announced.
pub struct Announcements;

#[async_trait]
impl TransactionalHandler for Announcements {
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError> {
        if let Some(fact) = facts::read(event)? {
            store::count(connection, &fact)
                .await
                .map_err(|error| HandlerError::from_sqlx(&error))?;
        }
        Ok(Handled::done())
    }
}
