//! Asks the processor what is open about one payment and writes down what it said. Calls the processor with no
//! transaction open; writes through `store`.

use valerix_kit::events::relay::Relay;

use crate::metrics::Metrics;
use crate::processor::Processor;
use crate::store::{Payment, Store, StoreError};

/// What settling needs.
#[derive(Clone)]
pub struct Settlement {
    /// Where payments are.
    pub store: Store,
    /// Who takes the money.
    pub processor: Processor,
    /// Publishes the answer.
    pub relay: Relay,
    /// Counts payments.
    pub metrics: Metrics,
}

impl Settlement {
    /// Asks until nothing is open (a charge that was voided meanwhile is refunded at once) or the processor does not
    /// answer; then the payment stays as it is and falls due again.
    ///
    /// # Errors
    /// When the database did not answer. Nothing is lost: the processor gives the same answer to the same key.
    pub async fn settle(&self, mut payment: Payment) -> Result<Payment, StoreError> {
        while let Some(request) = payment.state.open_request() {
            let Some(said) = self.processor.ask(&payment, request).await else {
                return Ok(payment);
            };
            let applied = self
                .store
                .apply(payment.order_id, said.input, said.reason.as_deref())
                .await?;
            self.metrics.moved(&applied);
            self.relay.wake();
            payment = applied.payment;
        }
        Ok(payment)
    }
}
