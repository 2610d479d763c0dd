//! The fast path: walks a new order through inventory and payment over HTTP within one budget. Calls the two services,
//! writes through `store`.
//!
//! It may stop anywhere, for whatever reason: every command that it carries is open in the database as well and goes
//! out as an event when it is due. So it only ever makes an order finish sooner.

use std::time::Duration;

use valerix_kit::events::relay::Relay;
use valerix_resilience::Deadline;

use crate::clients::{Inventory, Payment};
use crate::metrics::Metrics;
use crate::saga::state::{Input, State};
use crate::store::{Order, Store, StoreError};

/// Pause between two looks at an order whose cancellation is answered by event.
const LOOK: Duration = Duration::from_millis(25);

/// What the fast path needs.
#[derive(Clone)]
pub struct FastPath {
    /// Where orders are.
    pub store: Store,
    /// Publishes what a transition wrote.
    pub relay: Relay,
    /// Counts orders that became terminal.
    pub metrics: Metrics,
    /// Asked to reserve.
    pub inventory: Inventory,
    /// Asked to charge.
    pub payment: Payment,
}

impl FastPath {
    /// The moment by which a request that comes in now is answered: the budget's end, or the request's own deadline if
    /// that is sooner.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        let budget = Deadline::after(self.store.budget());
        Deadline::current().map_or(budget, |request| request.min(budget))
    }

    /// Takes `order` as far as it gets until `deadline`.
    ///
    /// # Errors
    /// When the database did not answer. The order goes on by event.
    pub async fn drive(&self, order: Order, deadline: Deadline) -> Result<Order, StoreError> {
        deadline.scope(self.walk(order, deadline)).await
    }

    async fn walk(&self, mut order: Order, deadline: Deadline) -> Result<Order, StoreError> {
        loop {
            let said = match order.state {
                State::Pending => self.inventory.reserve(&order).await,
                State::Reserved => self.payment.charge(&order).await,
                State::Cancelling { .. } => return self.await_end(order, deadline).await,
                _ => return Ok(order),
            };
            let said = said.filter(|_| !order.gremlin);
            let (input, amount) = said.map_or((Input::Unanswered, None), |said| said.input(order.quantity));
            let applied = self.store.apply(order.id, input, amount.as_ref()).await?;
            self.metrics.moved(&applied);
            self.relay.wake();
            let moved = applied.order.state != order.state;
            order = applied.order;
            if !moved || input == Input::Unanswered {
                return Ok(order);
            }
        }
    }

    /// A cancellation is answered by event, on any replica: the row tells when.
    async fn await_end(&self, mut order: Order, deadline: Deadline) -> Result<Order, StoreError> {
        while !order.state.is_terminal() && deadline.remaining() > LOOK {
            tokio::time::sleep(LOOK).await;
            let id = order.id;
            order = self.store.read(id).await?.ok_or(StoreError::Missing { order_id: id })?;
        }
        Ok(order)
    }
}
