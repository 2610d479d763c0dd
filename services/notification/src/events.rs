//! Announcements become messages, each event once; what auth says of users keeps the contacts true.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use sqlx::PgConnection;
use tokio::sync::Notify;
use uuid::Uuid;
use valerix_kit::events::{Event, Handled, HandlerError, TransactionalHandler};

use crate::{message, store};

/// What order announces to everyone.
pub const ORDER_EVENTS: &str = "order.events";
/// What auth announces about users.
pub const AUTH_EVENTS: &str = "auth.events";
/// The consumer group of this service.
pub const GROUP: &str = "notification";

/// Takes announcements in.
pub struct Announcements {
    /// Rung when there is a message to deliver.
    pub wake: Arc<Notify>,
}

#[async_trait]
impl TransactionalHandler for Announcements {
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError> {
        let database = |error: sqlx::Error| HandlerError::from_sqlx(&error);
        match event.event_type.as_str() {
            "UserChanged" => store::user_changed(connection, user(event)?, event.version)
                .await
                .map_err(database)?,
            "UserDeleted" => store::user_deleted(connection, user(event)?).await.map_err(database)?,
            _ => {
                if let Some(notice) = message::read(event)? {
                    store::add(connection, event.id, &notice).await.map_err(database)?;
                    let wake = Arc::clone(&self.wake);
                    return Ok(Handled::then(move || wake.notify_one()));
                }
            }
        }
        Ok(Handled::done())
    }
}

fn user(event: &Event) -> Result<Uuid, HandlerError> {
    #[derive(Deserialize)]
    struct Payload {
        user_id: Uuid,
    }
    event.payload().map(|Payload { user_id }| user_id)
}
