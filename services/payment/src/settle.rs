//! Asks the processor what is open about one payment and writes down what it said. Calls the processor with no
//! transaction open; writes through `store`.

use std::sync::Arc;

use valerix_kit::events::relay::Relay;
use valerix_resilience::Deadline;

use crate::metrics::Metrics;
use crate::payment::Payment;
use crate::processor::{Processor, Repetition};
use crate::store::{Store, StoreError};

/// What settling needs.
#[derive(Clone)]
pub struct Settlement {
    /// Where payments are.
    pub store: Store,
    /// Who takes the money.
    pub processor: Arc<dyn Processor>,
    /// Publishes the answer.
    pub relay: Relay,
    /// Counts payments.
    pub metrics: Metrics,
}

impl Settlement {
    /// Asks until nothing is open (a charge that was voided meanwhile is refunded at once) or the processor has not
    /// answered by `deadline`; then the payment stays as it is and falls due again.
    ///
    /// # Errors
    /// When the database did not answer. Nothing is lost: the processor gives the same answer to the same key.
    pub async fn settle(
        &self,
        mut payment: Payment,
        mut repetition: Repetition,
        deadline: Deadline,
    ) -> Result<Payment, StoreError> {
        while let Some(request) = payment.state.open_request() {
            let Some(decided) = self.processor.ask(&payment, request, repetition, deadline).await else {
                return Ok(payment);
            };
            let applied = self
                .store
                .apply(payment.order_id, decided.input, decided.reason.as_deref())
                .await?;
            self.metrics.moved(&applied);
            self.relay.wake();
            payment = applied.payment;
            repetition = Repetition::First;
        }
        Ok(payment)
    }
}
