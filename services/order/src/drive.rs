//! The fast path: walks a new order through inventory and payment over HTTP within one budget. Calls the two services,
//! writes through `store`.
//!
//! It may stop anywhere, for whatever reason: every command that it carries is open in the database as well and goes
//! out as an event when it is due. So it only ever makes an order finish sooner.

use valerix_resilience::Deadline;

use crate::clients::{Inventory, Payment};
use crate::moves::Moves;
use crate::order::Order;
use crate::saga::state::{Input, State};
use crate::store::{Store, StoreError};
use crate::waiters::Waiter;

/// What the fast path needs.
#[derive(Clone)]
pub struct FastPath {
    /// Where orders are.
    pub store: Store,
    /// Hears of every step.
    pub moves: Moves,
    /// Asked to reserve.
    pub inventory: Inventory,
    /// Asked to charge.
    pub payment: Payment,
}

impl FastPath {
    /// Takes `order` as far as it gets until `deadline`.
    ///
    /// # Errors
    /// When the database did not answer. The order goes on by event.
    pub async fn drive(&self, order: Order, deadline: Deadline) -> Result<Order, StoreError> {
        deadline.scope(self.walk(order, deadline)).await
    }

    async fn walk(&self, mut order: Order, deadline: Deadline) -> Result<Order, StoreError> {
        let waiter = self.moves.waiters.enter(order.id);
        loop {
            let reply = match order.state {
                State::Pending => self.inventory.reserve(&order).await,
                State::Reserved => self.payment.charge(&order).await,
                State::Cancelling { .. } => return self.await_end(order, &waiter, deadline).await,
                _ => return Ok(order),
            };
            let (input, amount) = reply.map_or((Input::Unanswered, None), |reply| reply.input(order.quantity));
            let applied = self.store.apply(order.id, input, amount.as_ref()).await?;
            self.moves.committed(&applied);
            let moved = applied.order.state != order.state;
            order = applied.order;
            if !moved || input == Input::Unanswered {
                return Ok(order);
            }
        }
    }

    /// A cancellation is answered by event, on any replica.
    async fn await_end(&self, mut order: Order, waiter: &Waiter, deadline: Deadline) -> Result<Order, StoreError> {
        while !order.state.is_terminal() && waiter.wait(deadline).await {
            let id = order.id;
            order = self.store.read(id).await?.ok_or(StoreError::Missing { order_id: id })?;
        }
        Ok(order)
    }
}
