//! The events that payment reads: order's commands. What it writes, `store` puts into the outbox.
//!
//! A command is only written down here; the sweeper asks the processor, so that a slow processor never holds up the
//! stream.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Notify;
use uuid::Uuid;
use valerix_kit::events::relay::Relay;
use valerix_kit::events::{Event, Handler, HandlerError, inbox};
use valerix_kit::postgres;

use crate::metrics::Metrics;
use crate::saga::state::Input;
use crate::store::{Money, Store, StoreError};

/// Commands to payment.
pub const PAYMENT_COMMANDS: &str = "payment.commands";
/// Answers of payment.
pub const PAYMENT_EVENTS: &str = "payment.events";
/// The consumer group of payment.
pub const GROUP: &str = "payment";

#[derive(Deserialize)]
struct Charge {
    order_id: Uuid,
    amount_minor: i64,
    currency: String,
}

#[derive(Deserialize)]
struct Void {
    order_id: Uuid,
}

/// Takes order's commands in: the inbox, the payment and its answer are one transaction.
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
        let (order_id, input, money) = match event.event_type.as_str() {
            "ChargePayment" => {
                let Charge {
                    order_id,
                    amount_minor,
                    currency,
                } = event.payload()?;
                if amount_minor < 1 {
                    return Err(HandlerError::failed(format!(
                        "failed to charge order {order_id}: {amount_minor}"
                    )));
                }
                (order_id, Input::Charge, Some(Money { amount_minor, currency }))
            }
            "VoidPayment" => (event.payload::<Void>()?.order_id, Input::Void, None),
            _ => return Ok(()),
        };
        let mut transaction = postgres::begin(self.store.pool())
            .await
            .map_err(|error| HandlerError::from_sqlx(&error))?;
        let first = inbox::claim(&mut transaction, GROUP, event.id)
            .await
            .map_err(|error| HandlerError::from_sqlx(&error))?;
        if !first {
            return Ok(());
        }
        let applied = self
            .store
            .apply_in(&mut transaction, order_id, input, money.as_ref(), None)
            .await
            .map_err(|error| failed(&error))?;
        transaction
            .commit()
            .await
            .map_err(|error| HandlerError::from_sqlx(&error))?;
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
