//! The saga's table: one pure function from a state and an input to the next state and what must be written with it.
//!
//! No clock, no database, no randomness: whoever calls `step` says that an order has expired. An input that no row names
//! leaves the order alone, so duplicates, late answers and reordered events need no care elsewhere.

use crate::saga::commands::{Action, Announcement, Command, Due};

/// Why an order did not, or will not, become CONFIRMED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Inventory has less than was asked for.
    OutOfStock,
    /// Inventory does not know the item.
    UnknownItem,
    /// The processor declined the charge.
    PaymentDeclined,
    /// The order was not finished before its expiry.
    Expired,
    /// Price times quantity is not an amount that can be charged.
    AmountOutOfRange,
    /// The customer did not want it any more.
    CancelledByCustomer,
    /// The database came back from an archive that does not know it, or not how far it had come.
    Forgotten,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::OutOfStock,
        Self::UnknownItem,
        Self::PaymentDeclined,
        Self::Expired,
        Self::AmountOutOfRange,
        Self::CancelledByCustomer,
        Self::Forgotten,
    ];

    /// The name in answers, events and the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::UnknownItem => "UNKNOWN_ITEM",
            Self::PaymentDeclined => "PAYMENT_DECLINED",
            Self::Expired => "EXPIRED",
            Self::AmountOutOfRange => "AMOUNT_OUT_OF_RANGE",
            Self::CancelledByCustomer => "CANCELLED_BY_CUSTOMER",
            Self::Forgotten => "FORGOTTEN",
        }
    }

    /// The reason of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Taken in; stock was asked for.
    Pending,
    /// Stock is set aside; the charge was asked for.
    Reserved,
    /// Final: stock is sold and the money is taken.
    Confirmed,
    /// Being undone; final once the stock is back and no money is or can be taken.
    Cancelling {
        /// Why.
        reason: Reason,
        /// Inventory has answered that nothing is held.
        stock_returned: bool,
        /// No charge was issued, or payment has answered that none stands.
        payment_settled: bool,
    },
    /// Final: nothing is held and no money is taken.
    Cancelled {
        /// Why.
        reason: Reason,
    },
    /// A confirmed order whose refund was asked for.
    Refunding,
    /// Final: the money was given back.
    Refunded,
}

impl State {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Reserved => "RESERVED",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelling { .. } => "CANCELLING",
            Self::Cancelled { .. } => "CANCELLED",
            Self::Refunding => "REFUNDING",
            Self::Refunded => "REFUNDED",
        }
    }

    /// The name in the API, where PENDING and RESERVED are one thing: the order is accepted and will be finished.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Pending | Self::Reserved => "QUEUED",
            other => other.name(),
        }
    }

    /// Why the order is or will be cancelled.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Cancelling { reason, .. } | Self::Cancelled { reason } => Some(reason),
            _ => None,
        }
    }

    /// Whether the answer to POST is final. A refund of a confirmed order comes after that.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Confirmed | Self::Cancelled { .. } | Self::Refunded)
    }
}

/// What can happen to an order: an HTTP answer or an event, which are the same thing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Inventory set the quantity aside.
    Reserved,
    /// Inventory refused for good.
    Rejected(Reason),
    /// Inventory holds nothing for this order, and never will.
    Released,
    /// Inventory booked the quantity as sold.
    Committed,
    /// Inventory took a sold quantity back.
    Returned,
    /// The money was taken.
    Charged,
    /// The processor declined.
    Declined,
    /// No money was taken and none ever will be.
    Voided,
    /// The money was given back.
    PaymentRefunded,
    /// The fast path got no answer: timeout, 5xx, open breaker.
    Unanswered,
    /// The order is older than its `expires_at`.
    Expired,
    /// Someone decided that the order must not go on.
    Cancel(Reason),
    /// The customer wants the money of a confirmed order back.
    RefundAsked,
}

impl Input {
    /// The name in the order's history.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "Reserved",
            Self::Rejected(_) => "Rejected",
            Self::Released => "Released",
            Self::Committed => "Committed",
            Self::Returned => "Returned",
            Self::Charged => "Charged",
            Self::Declined => "Declined",
            Self::Voided => "Voided",
            Self::PaymentRefunded => "PaymentRefunded",
            Self::Unanswered => "Unanswered",
            Self::Expired => "Expired",
            Self::Cancel(_) => "Cancel",
            Self::RefundAsked => "RefundAsked",
        }
    }
}

/// What became of an input, as the history records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A row of the table matched.
    Applied,
    /// An answer that was overtaken by a cancellation: recorded, nothing else.
    Late,
    /// An answer that comes before the one that it follows from: kept, and taken in once the order has moved on.
    Early,
    /// No row matched.
    Ignored,
}

impl Disposition {
    /// The name in the order's history.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Late => "late",
            Self::Early => "early",
            Self::Ignored => "ignored",
        }
    }
}

/// The result of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// What is written in the same transaction.
    pub commands: Vec<Command>,
    /// What the history says.
    pub disposition: Disposition,
}

/// The first row: what a POST opens an order with.
#[must_use]
pub fn open() -> (State, Vec<Command>) {
    use Command::{Publish, Send};
    (
        State::Pending,
        vec![
            Publish(Announcement::OrderCreated),
            Send(Action::ReserveStock, Due::EndOfBudget),
        ],
    )
}

/// With what an order is taken in that others know and this database does not. `stock`: inventory has named what it holds.
#[must_use]
pub fn forgotten(stock: bool) -> (State, Vec<Command>) {
    let state = State::Cancelling {
        reason: Reason::Forgotten,
        stock_returned: !stock,
        payment_settled: false,
    };
    let release = stock.then_some(Command::Send(Action::ReleaseStock, Due::Now));
    let void = Command::Send(Action::VoidPayment, Due::Now);
    (state, release.into_iter().chain([void]).collect())
}

/// Every other row.
#[must_use]
pub fn step(state: State, input: Input) -> Step {
    use Action::{ChargePayment, CommitStock, RefundPayment, ReleaseStock, ReserveStock, ReturnStock, VoidPayment};
    use Command::{Close, Hasten, Publish, Send};

    let applied = |state, commands| Step {
        state,
        commands,
        disposition: Disposition::Applied,
    };
    let unchanged = |disposition| Step {
        state,
        commands: vec![],
        disposition,
    };

    match (state, input) {
        (State::Pending, Input::Reserved) => applied(
            State::Reserved,
            vec![Close(ReserveStock), Send(ChargePayment, Due::EndOfBudget)],
        ),
        (State::Pending, Input::Rejected(reason)) => applied(
            State::Cancelled { reason },
            vec![Close(ReserveStock), Publish(Announcement::OrderCancelled)],
        ),
        (State::Pending, Input::Unanswered) => applied(state, vec![Hasten(ReserveStock)]),
        (State::Pending, Input::Expired | Input::Cancel(_)) => applied(
            // Nobody charges before RESERVED has committed, so there is no payment to settle.
            State::Cancelling {
                reason: cancel_reason(input),
                stock_returned: false,
                payment_settled: true,
            },
            vec![Close(ReserveStock), Send(ReleaseStock, Due::Now)],
        ),

        // Answers to what this order has not asked for: it has come back from an archive, and was further once. Whoever has paid
        // may have been told CONFIRMED; what inventory said before is on its way, too.
        (State::Pending, Input::Charged) => unchanged(Disposition::Early),
        (State::Pending | State::Reserved, Input::Released) => applied(
            State::Cancelling {
                reason: Reason::Forgotten,
                stock_returned: true,
                payment_settled: false,
            },
            vec![Close(ReserveStock), Close(ChargePayment), Send(VoidPayment, Due::Now)],
        ),
        (State::Pending | State::Reserved, Input::Voided | Input::PaymentRefunded) => applied(
            State::Cancelling {
                reason: Reason::Forgotten,
                stock_returned: false,
                payment_settled: true,
            },
            vec![Close(ReserveStock), Close(ChargePayment), Send(ReleaseStock, Due::Now)],
        ),

        (State::Reserved, Input::Charged) => applied(
            State::Confirmed,
            vec![
                Close(ChargePayment),
                Send(CommitStock, Due::Now),
                Publish(Announcement::OrderConfirmed),
            ],
        ),
        (State::Reserved, Input::Declined) => applied(
            State::Cancelling {
                reason: Reason::PaymentDeclined,
                stock_returned: false,
                payment_settled: true,
            },
            vec![Close(ChargePayment), Send(ReleaseStock, Due::Now)],
        ),
        (State::Reserved, Input::Unanswered) => applied(state, vec![Hasten(ChargePayment)]),
        (State::Reserved, Input::Expired | Input::Cancel(_)) => applied(
            State::Cancelling {
                reason: cancel_reason(input),
                stock_returned: false,
                payment_settled: false,
            },
            vec![
                Close(ChargePayment),
                Send(ReleaseStock, Due::Now),
                Send(VoidPayment, Due::Now),
            ],
        ),

        (
            State::Cancelling {
                reason,
                stock_returned: false,
                payment_settled,
            },
            Input::Released,
        ) => settle(reason, true, payment_settled, ReleaseStock),
        (
            State::Cancelling {
                reason,
                stock_returned,
                payment_settled: false,
            },
            Input::Voided | Input::PaymentRefunded | Input::Declined,
        ) => settle(reason, stock_returned, true, VoidPayment),
        // What was settled is held all the same: the answer is late, or one of the databases came back from an archive. It is
        // asked for once more, which changes nothing where it is late.
        (
            State::Cancelling {
                reason,
                stock_returned: true,
                payment_settled,
            },
            Input::Reserved | Input::Committed,
        ) => applied(
            State::Cancelling {
                reason,
                stock_returned: false,
                payment_settled,
            },
            vec![Send(ReleaseStock, Due::Now)],
        ),
        (
            State::Cancelling {
                reason,
                stock_returned,
                payment_settled: true,
            },
            Input::Charged,
        ) => applied(
            State::Cancelling {
                reason,
                stock_returned,
                payment_settled: false,
            },
            vec![Send(VoidPayment, Due::Now)],
        ),
        (State::Cancelling { .. }, Input::Reserved | Input::Charged | Input::Declined) => unchanged(Disposition::Late),
        (State::Cancelled { .. }, Input::Reserved | Input::Committed) => {
            applied(state, vec![Send(ReleaseStock, Due::Now)])
        }
        (State::Cancelled { .. }, Input::Charged) => applied(state, vec![Send(VoidPayment, Due::Now)]),
        (State::Cancelled { .. }, Input::Released) => applied(state, vec![Close(ReleaseStock)]),
        (State::Cancelled { .. }, Input::Voided | Input::PaymentRefunded | Input::Declined) => {
            applied(state, vec![Close(VoidPayment)])
        }

        (State::Confirmed, Input::Committed) => applied(state, vec![Close(CommitStock)]),
        (State::Confirmed, Input::RefundAsked) => applied(State::Refunding, vec![Send(RefundPayment, Due::Now)]),
        // Only of an order that has come back from an archive: its refund was asked for before.
        (State::Confirmed, Input::PaymentRefunded) => applied(
            State::Refunded,
            vec![Send(ReturnStock, Due::Now), Publish(Announcement::OrderRefunded)],
        ),
        // Nor is a sale ever released but of an order that was being cancelled before it came back: its charge was heard first.
        // What inventory has released it never sells, however often it is asked.
        (State::Confirmed, Input::Released) => applied(
            State::Refunding,
            vec![Close(CommitStock), Send(RefundPayment, Due::Now)],
        ),
        (State::Refunding | State::Refunded, Input::Released) => applied(state, vec![Close(CommitStock)]),
        (State::Refunding, Input::Committed) => applied(state, vec![Close(CommitStock)]),
        // Voided: payment had lost the charge, and the processor never made it or had undone it.
        (State::Refunding, Input::PaymentRefunded | Input::Voided) => applied(
            State::Refunded,
            vec![
                Close(RefundPayment),
                Send(ReturnStock, Due::Now),
                Publish(Announcement::OrderRefunded),
            ],
        ),
        (State::Refunded, Input::Committed) => applied(state, vec![Close(CommitStock)]),
        (State::Refunded, Input::Returned) => applied(state, vec![Close(ReturnStock)]),

        _ => unchanged(Disposition::Ignored),
    }
}

/// One side of the cancellation has answered; with both, the order is CANCELLED.
fn settle(reason: Reason, stock_returned: bool, payment_settled: bool, answered: Action) -> Step {
    let mut commands = vec![Command::Close(answered)];
    let state = if stock_returned && payment_settled {
        commands.push(Command::Publish(Announcement::OrderCancelled));
        State::Cancelled { reason }
    } else {
        State::Cancelling {
            reason,
            stock_returned,
            payment_settled,
        }
    };
    Step {
        state,
        commands,
        disposition: Disposition::Applied,
    }
}

const fn cancel_reason(input: Input) -> Reason {
    match input {
        Input::Cancel(reason) => reason,
        _ => Reason::Expired,
    }
}

#[cfg(test)]
mod tests;
