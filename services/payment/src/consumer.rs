//! Takes order's commands in: the inbox, the payment and its announcement are one transaction.
//!
//! A command is only written down here; the sweeper asks the processor, so that a slow processor never holds up the
//! stream.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgConnection;
use tokio::sync::Notify;
use valerix_kit::events::{Event, Handled, HandlerError, TransactionalHandler};

use crate::events::{Command, command};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The handler of order's commands.
pub struct Commands {
    /// Where payments are.
    pub store: Store,
    /// Tells the sweeper that the processor has to be asked.
    pub wake: Arc<Notify>,
    /// Counts payments.
    pub metrics: Metrics,
}

#[async_trait]
impl TransactionalHandler for Commands {
    async fn handle(&self, connection: &mut PgConnection, event: &Event) -> Result<Handled, HandlerError> {
        let Command {
            order_id,
            input,
            amount,
        } = command(event)?;
        let applied = self
            .store
            .apply_in(connection, order_id, input, amount.as_ref(), None)
            .await
            .map_err(|error| failed(&error))?;
        let (metrics, wake) = (self.metrics.clone(), Arc::clone(&self.wake));
        Ok(Handled::then(move || {
            metrics.moved(&applied);
            if applied.payment.state.open_request().is_some() {
                wake.notify_one();
            }
        }))
    }
}

fn failed(error: &StoreError) -> HandlerError {
    match error {
        StoreError::Sql { source, .. } => HandlerError::from_sqlx(source),
        other => HandlerError::failed(other.to_string()),
    }
}
