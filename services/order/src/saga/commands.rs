//! What a transition asks for: commands to inventory and payment, and announcements for everyone. Pure.
//!
//! A command is a row with `due_at`. It stays open, and is sent again with backoff, until the answer that closes it has
//! been taken in. The HTTP fast path and the event carry the same key, so the handler at the other end acts once.

use std::fmt;

use uuid::Uuid;

/// One thing that the order asks of inventory or payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Inventory: set the quantity aside.
    ReserveStock,
    /// Inventory: put a reserved quantity back; without a reservation it leaves a tombstone.
    ReleaseStock,
    /// Inventory: the reserved quantity is sold.
    CommitStock,
    /// Inventory: a sold quantity comes back after a refund.
    ReturnStock,
    /// Payment: take the money.
    ChargePayment,
    /// Payment: never take the money, or give it back if it was taken.
    VoidPayment,
    /// Payment: give the money of a confirmed order back.
    RefundPayment,
}

impl Action {
    /// Every action, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::ReserveStock,
        Self::ReleaseStock,
        Self::CommitStock,
        Self::ReturnStock,
        Self::ChargePayment,
        Self::VoidPayment,
        Self::RefundPayment,
    ];

    /// The event type under which the command travels, and its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReserveStock => "ReserveStock",
            Self::ReleaseStock => "ReleaseStock",
            Self::CommitStock => "CommitStock",
            Self::ReturnStock => "ReturnStock",
            Self::ChargePayment => "ChargePayment",
            Self::VoidPayment => "VoidPayment",
            Self::RefundPayment => "RefundPayment",
        }
    }

    /// The action of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::ReserveStock => "reserve",
            Self::ReleaseStock => "release",
            Self::CommitStock => "commit",
            Self::ReturnStock => "return",
            Self::ChargePayment => "charge",
            Self::VoidPayment => "void",
            Self::RefundPayment => "refund",
        }
    }

    /// The command's key, the same by HTTP and by event, for ever: `order:{id}:reserve` and its kind.
    #[must_use]
    pub fn key(self, order: Uuid) -> String {
        format!("order:{order}:{}", self.verb())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// When a command that was not answered over HTTP goes out as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// When the order's HTTP budget is over: until then the fast path may still answer.
    EndOfBudget,
}

/// An event for everyone who follows orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The order was taken in.
    OrderCreated,
    /// Stock is set aside and the money is taken.
    OrderConfirmed,
    /// Nothing is set aside and nothing is taken.
    OrderCancelled,
    /// The money of a confirmed order was given back.
    OrderRefunded,
}

impl Announcement {
    /// The event type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrderCreated => "OrderCreated",
            Self::OrderConfirmed => "OrderConfirmed",
            Self::OrderCancelled => "OrderCancelled",
            Self::OrderRefunded => "OrderRefunded",
        }
    }

    /// What everybody else hears where the probe of an experiment placed the order: that it came to nothing. Who heard of a
    /// sale would count it, or deliver the goods.
    #[must_use]
    pub const fn of_probe(self) -> Option<Self> {
        match self {
            Self::OrderCreated | Self::OrderCancelled => Some(self),
            Self::OrderConfirmed => None,
            Self::OrderRefunded => Some(Self::OrderCancelled),
        }
    }
}

/// One effect of a transition, written in the transition's own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a command row.
    Send(Action, Due),
    /// The command was answered, or must no longer be sent.
    Close(Action),
    /// An open command was not answered over HTTP: it becomes due now.
    Hasten(Action),
    /// Put an announcement into the outbox.
    Publish(Announcement),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_key_of_its_own_and_survives_its_name() {
        let order = Uuid::nil();
        let mut keys = Action::ALL.map(|action| action.key(order)).to_vec();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), Action::ALL.len());
        for action in Action::ALL {
            assert_eq!(Action::parse(action.name()), Some(action));
        }
        assert_eq!(Action::parse("reservestock"), None);
        assert_eq!(
            Action::ReserveStock.key(order),
            "order:00000000-0000-0000-0000-000000000000:reserve"
        );
    }
}
