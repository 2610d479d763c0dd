//! The commands that arrive by event.

use async_trait::async_trait;
use sqlx::PgConnection;
use valerix_kit::events::{Event, Handled, HandlerError, TransactionalHandler};

use crate::commands::{Answered, CommandError, carry_out};
use crate::events::Asked;
use crate::stock::Command;

/// Carries out commands that arrive by event, each event once, and answers each of them.
pub struct Commands;

#[async_trait]
impl TransactionalHandler for Commands {
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError> {
        let asked = match event.event_type.as_str() {
            "ReserveStock" => Asked::Reserve,
            "ReleaseStock" => Asked::Release,
            "CommitStock" => Asked::Commit,
            "ReturnStock" => Asked::Return,
            other => return Err(HandlerError::failed(format!("{other} is not a command of inventory"))),
        };
        let command: Command = event.payload()?;
        let carried_out = carry_out(connection, &command, asked, Answered::Always).await;
        carried_out.map_err(|error| match error {
            CommandError::Store(error) => HandlerError::from_sqlx(&error),
            refused => HandlerError::failed(refused.to_string()),
        })?;
        Ok(Handled::done())
    }
}
