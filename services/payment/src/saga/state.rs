//! A payment's table: one pure function from a state and an input to the next state and what must be written with it.
//!
//! Two kinds of input arrive in any order and any number: what order commands (charge, void) and what the processor said.
//! A void may come before the charge; the late charge finds it and does nothing. Whether nothing was charged is the
//! processor's to say: the row of a charge that was made may have been lost with a restored archive.

/// Where a payment stands. There is at most one per order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The processor has been, or is about to be, asked; its answer is not known.
    Processing {
        /// Order no longer wants the charge: the outcome decides between VOIDED and REFUNDED.
        void_requested: bool,
    },
    /// The money is taken.
    Charged,
    /// Final: the processor declined.
    Declined,
    /// Final: no money was taken and none ever will be.
    Voided,
    /// The money was taken and is to be given back.
    Refunding,
    /// Final: the money was given back.
    Refunded,
}

impl State {
    /// The name in answers and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processing { .. } => "PROCESSING",
            Self::Charged => "CHARGED",
            Self::Declined => "DECLINED",
            Self::Voided => "VOIDED",
            Self::Refunding => "REFUNDING",
            Self::Refunded => "REFUNDED",
        }
    }

    /// The state of that name; `void_requested` counts only while PROCESSING.
    #[must_use]
    pub fn parse(name: &str, void_requested: bool) -> Option<Self> {
        Some(match name {
            "PROCESSING" => Self::Processing { void_requested },
            "CHARGED" => Self::Charged,
            "DECLINED" => Self::Declined,
            "VOIDED" => Self::Voided,
            "REFUNDING" => Self::Refunding,
            "REFUNDED" => Self::Refunded,
            _ => return None,
        })
    }

    /// What the processor still has to be asked, if anything.
    #[must_use]
    pub const fn open_request(self) -> Option<Request> {
        match self {
            Self::Processing { void_requested: false } => Some(Request::Charge),
            Self::Processing { void_requested: true } => Some(Request::Cancel),
            Self::Refunding => Some(Request::Refund),
            Self::Charged | Self::Declined | Self::Voided | Self::Refunded => None,
        }
    }

    /// The event that tells order where the payment stands; none while the processor's answer is awaited.
    #[must_use]
    pub const fn announcement(self) -> Option<Announcement> {
        match self {
            Self::Processing { .. } | Self::Refunding => None,
            Self::Charged => Some(Announcement::PaymentProcessed),
            Self::Declined => Some(Announcement::PaymentFailed),
            Self::Voided => Some(Announcement::PaymentVoided),
            Self::Refunded => Some(Announcement::PaymentRefunded),
        }
    }
}

/// A request to the processor. Each is idempotent there by the payment's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Take the money.
    Charge,
    /// Never take it, unless it is taken already.
    Cancel,
    /// Give it back.
    Refund,
}

/// What can happen to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Order wants the money taken.
    Charge,
    /// Order wants the money not taken, or given back.
    Void,
    /// Order wants the money that was taken given back. Unlike a void it is about a charge that order knows of.
    Refund,
    /// The processor took the money.
    Approved,
    /// The processor has not taken the money and never will: it declined, or the charge was cancelled in time.
    Refused,
    /// The processor gave the money back.
    GivenBack,
}

/// The event that tells order where its payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Announcement {
    /// The money is taken.
    PaymentProcessed,
    /// The processor declined.
    PaymentFailed,
    /// No money was taken and none will be.
    PaymentVoided,
    /// The money was taken and given back.
    PaymentRefunded,
}

impl Announcement {
    /// The event type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentProcessed => "PaymentProcessed",
            Self::PaymentFailed => "PaymentFailed",
            Self::PaymentVoided => "PaymentVoided",
            Self::PaymentRefunded => "PaymentRefunded",
        }
    }
}

/// The result of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// What is put into the outbox in the same transaction.
    pub announcement: Option<Announcement>,
}

/// The table. `None` is the payment that does not exist, yet or any more: what order does not want is taken to the processor,
/// which knows whether it was charged. A processor's word about it is impossible and changes nothing.
///
/// A command that finds its work done is answered again: the first answer may have been lost.
#[must_use]
pub fn step(state: Option<State>, input: Input) -> Option<Step> {
    let Some(state) = state else {
        return match input {
            Input::Charge => Some(Step {
                state: State::Processing { void_requested: false },
                announcement: None,
            }),
            Input::Void | Input::Refund => Some(Step {
                state: State::Processing { void_requested: true },
                announcement: None,
            }),
            Input::Approved | Input::Refused | Input::GivenBack => None,
        };
    };
    let unchanged = Step {
        state,
        announcement: None,
    };
    Some(match (state, input) {
        (State::Processing { .. }, Input::Void | Input::Refund) => Step {
            state: State::Processing { void_requested: true },
            announcement: None,
        },
        (State::Processing { void_requested: false }, Input::Approved) => announced(State::Charged),
        (State::Processing { void_requested: false }, Input::Refused) => announced(State::Declined),
        (State::Processing { void_requested: true }, Input::Approved) => announced(State::Refunding),
        (State::Processing { void_requested: true }, Input::Refused) => announced(State::Voided),
        (State::Charged, Input::Void | Input::Refund) => announced(State::Refunding),
        (State::Refunding, Input::GivenBack) => announced(State::Refunded),
        (_, Input::Charge | Input::Void | Input::Refund) => announced(state),
        (_, Input::Approved | Input::Refused | Input::GivenBack) => unchanged,
    })
}

const fn announced(state: State) -> Step {
    Step {
        state,
        announcement: state.announcement(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSING: State = State::Processing { void_requested: false };
    const UNWANTED: State = State::Processing { void_requested: true };

    #[test]
    fn every_row_of_the_table_does_what_it_says() {
        use Announcement::{PaymentFailed, PaymentProcessed, PaymentRefunded, PaymentVoided};
        use Input::{Approved, Charge, GivenBack, Refund, Refused, Void};
        use State::{Charged, Declined, Refunded, Refunding, Voided};
        let rows: [(Option<State>, Input, State, Option<Announcement>); 45] = [
            (None, Charge, PROCESSING, None),
            (None, Void, UNWANTED, None),
            (None, Refund, UNWANTED, None),
            (Some(PROCESSING), Charge, PROCESSING, None),
            (Some(PROCESSING), Void, UNWANTED, None),
            (Some(PROCESSING), Refund, UNWANTED, None),
            (Some(PROCESSING), Approved, Charged, Some(PaymentProcessed)),
            (Some(PROCESSING), Refused, Declined, Some(PaymentFailed)),
            (Some(PROCESSING), GivenBack, PROCESSING, None),
            (Some(UNWANTED), Charge, UNWANTED, None),
            (Some(UNWANTED), Void, UNWANTED, None),
            (Some(UNWANTED), Refund, UNWANTED, None),
            (Some(UNWANTED), Approved, Refunding, None),
            (Some(UNWANTED), Refused, Voided, Some(PaymentVoided)),
            (Some(UNWANTED), GivenBack, UNWANTED, None),
            (Some(Charged), Charge, Charged, Some(PaymentProcessed)),
            (Some(Charged), Void, Refunding, None),
            (Some(Charged), Refund, Refunding, None),
            (Some(Charged), Approved, Charged, None),
            (Some(Charged), Refused, Charged, None),
            (Some(Charged), GivenBack, Charged, None),
            (Some(Declined), Charge, Declined, Some(PaymentFailed)),
            (Some(Declined), Void, Declined, Some(PaymentFailed)),
            (Some(Declined), Refund, Declined, Some(PaymentFailed)),
            (Some(Declined), Approved, Declined, None),
            (Some(Declined), Refused, Declined, None),
            (Some(Declined), GivenBack, Declined, None),
            (Some(Voided), Charge, Voided, Some(PaymentVoided)),
            (Some(Voided), Void, Voided, Some(PaymentVoided)),
            (Some(Voided), Refund, Voided, Some(PaymentVoided)),
            (Some(Voided), Approved, Voided, None),
            (Some(Voided), Refused, Voided, None),
            (Some(Voided), GivenBack, Voided, None),
            (Some(Refunding), Charge, Refunding, None),
            (Some(Refunding), Void, Refunding, None),
            (Some(Refunding), Refund, Refunding, None),
            (Some(Refunding), Approved, Refunding, None),
            (Some(Refunding), Refused, Refunding, None),
            (Some(Refunding), GivenBack, Refunded, Some(PaymentRefunded)),
            (Some(Refunded), Charge, Refunded, Some(PaymentRefunded)),
            (Some(Refunded), Void, Refunded, Some(PaymentRefunded)),
            (Some(Refunded), Refund, Refunded, Some(PaymentRefunded)),
            (Some(Refunded), Approved, Refunded, None),
            (Some(Refunded), Refused, Refunded, None),
            (Some(Refunded), GivenBack, Refunded, None),
        ];
        for (state, input, next, announcement) in rows {
            assert_eq!(
                step(state, input),
                Some(Step {
                    state: next,
                    announcement
                }),
                "{state:?} on {input:?}"
            );
        }
        for input in [Approved, Refused, GivenBack] {
            assert_eq!(step(None, input), None);
        }
    }

    #[test]
    fn a_state_survives_its_name() {
        for state in [
            PROCESSING,
            UNWANTED,
            State::Charged,
            State::Declined,
            State::Voided,
            State::Refunded,
        ] {
            assert_eq!(State::parse(state.name(), state == UNWANTED), Some(state));
        }
        assert_eq!(State::parse("charged", false), None);
    }

    #[test]
    fn whatever_is_not_answered_has_a_request_open() {
        for state in [
            PROCESSING,
            UNWANTED,
            State::Charged,
            State::Declined,
            State::Voided,
            State::Refunding,
            State::Refunded,
        ] {
            assert_ne!(
                state.announcement().is_some(),
                state.open_request().is_some(),
                "{state:?}"
            );
        }
    }
}
