//! Takes order's commands in: the inbox, the payment and its announcement are one transaction.
//!
//! A command is only written down here; the sweeper asks the processor, so that a slow processor never holds up the
//! stream.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{Event, Handler, HandlerError, inbox};
use valerix_kit::postgres;

use crate::events::{Command, GROUP, command};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The handler of order's commands.
pub struct Commands {
    /// Where payments are.
    pub store: Store,
    /// Publishes what a command wrote.
    pub relay: Relay,
    /// Tells the sweeper that the processor has to be asked.
    pub wake: Arc<Notify>,
    /// Counts payments.
    pub metrics: Metrics,
}

#[async_trait]
impl Handler for Commands {
    async fn handle(&self, event: &Event) -> Result<(), HandlerError> {
        let Command {
            order_id,
            input,
            amount,
        } = command(event)?;
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
            .apply_in(&mut transaction, order_id, input, amount.as_ref(), None)
            .await
            .map_err(|error| failed(&error))?;
        transaction.commit().await.map_err(database)?;
        self.metrics.moved(&applied);
        if applied.payment.state.open_request().is_some() {
            self.wake.notify_one();
        }
        self.relay.wake();
        Ok(())
    }
}

fn failed(error: &StoreError) -> HandlerError {
    match error {
        StoreError::Sql { source, .. } => HandlerError::from_sqlx(source),
        other => HandlerError::failed(other.to_string()),
    }
}
