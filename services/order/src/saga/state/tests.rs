use std::collections::BTreeSet;

use super::*;
use Action::{ChargePayment, CommitStock, RefundPayment, ReleaseStock, ReserveStock, ReturnStock, VoidPayment};
use Announcement::{OrderCancelled, OrderConfirmed, OrderCreated, OrderRefunded};
use Command::{Close, Hasten, Publish, Send};
use Due::{EndOfBudget, Now};

const REASON: Reason = Reason::Expired;

const fn cancelling(reason: Reason, stock_returned: bool, payment_settled: bool) -> State {
    State::Cancelling {
        reason,
        stock_returned,
        payment_settled,
    }
}

const fn cancelled(reason: Reason) -> State {
    State::Cancelled { reason }
}

const INPUTS: [Input; 13] = [
    Input::Reserved,
    Input::Rejected(Reason::OutOfStock),
    Input::Released,
    Input::Committed,
    Input::Returned,
    Input::Charged,
    Input::Declined,
    Input::Voided,
    Input::PaymentRefunded,
    Input::Unanswered,
    Input::Expired,
    Input::Cancel(Reason::AmountOutOfRange),
    Input::RefundAsked,
];

fn states() -> Vec<State> {
    let mut states = vec![
        State::Pending,
        State::Reserved,
        State::Confirmed,
        cancelled(REASON),
        State::Refunding,
        State::Refunded,
    ];
    for (stock, payment) in [(false, false), (false, true), (true, false)] {
        states.push(cancelling(REASON, stock, payment));
    }
    states
}

/// Of an order that is cancelled, which stays so.
fn over(input: Input, command: Command) -> (State, Input, State, Vec<Command>) {
    (cancelled(REASON), input, cancelled(REASON), vec![command])
}

/// Of an order that was further before its database came back from an archive.
fn once_further(
    state: State,
    input: Input,
    (stock, payment): (bool, bool),
    undo: Action,
) -> (State, Input, State, Vec<Command>) {
    let closed = vec![Close(ReserveStock), Close(ChargePayment), Send(undo, Now)];
    (state, input, cancelling(Reason::Forgotten, stock, payment), closed)
}

/// The rows of the design's table that change something, in its order.
fn rows() -> Vec<(State, Input, State, Vec<Command>)> {
    let expired = Reason::Expired;
    let range = Reason::AmountOutOfRange;
    vec![
        (
            State::Pending,
            Input::Reserved,
            State::Reserved,
            vec![Close(ReserveStock), Send(ChargePayment, EndOfBudget)],
        ),
        (
            State::Pending,
            Input::Rejected(Reason::OutOfStock),
            cancelled(Reason::OutOfStock),
            vec![Close(ReserveStock), Publish(OrderCancelled)],
        ),
        (
            State::Pending,
            Input::Unanswered,
            State::Pending,
            vec![Hasten(ReserveStock)],
        ),
        (
            State::Reserved,
            Input::Unanswered,
            State::Reserved,
            vec![Hasten(ChargePayment)],
        ),
        (
            State::Pending,
            Input::Expired,
            cancelling(expired, false, true),
            vec![Close(ReserveStock), Send(ReleaseStock, Now)],
        ),
        (
            State::Pending,
            Input::Cancel(range),
            cancelling(range, false, true),
            vec![Close(ReserveStock), Send(ReleaseStock, Now)],
        ),
        once_further(State::Pending, Input::Released, (true, false), VoidPayment),
        once_further(State::Pending, Input::Voided, (false, true), ReleaseStock),
        once_further(State::Pending, Input::PaymentRefunded, (false, true), ReleaseStock),
        once_further(State::Reserved, Input::Released, (true, false), VoidPayment),
        once_further(State::Reserved, Input::Voided, (false, true), ReleaseStock),
        once_further(State::Reserved, Input::PaymentRefunded, (false, true), ReleaseStock),
        (
            State::Reserved,
            Input::Charged,
            State::Confirmed,
            vec![Close(ChargePayment), Send(CommitStock, Now), Publish(OrderConfirmed)],
        ),
        (
            State::Reserved,
            Input::Declined,
            cancelling(Reason::PaymentDeclined, false, true),
            vec![Close(ChargePayment), Send(ReleaseStock, Now)],
        ),
        (
            State::Reserved,
            Input::Expired,
            cancelling(expired, false, false),
            vec![Close(ChargePayment), Send(ReleaseStock, Now), Send(VoidPayment, Now)],
        ),
        (
            State::Reserved,
            Input::Cancel(range),
            cancelling(range, false, false),
            vec![Close(ChargePayment), Send(ReleaseStock, Now), Send(VoidPayment, Now)],
        ),
        (
            cancelling(REASON, false, false),
            Input::Released,
            cancelling(REASON, true, false),
            vec![Close(ReleaseStock)],
        ),
        (
            cancelling(REASON, false, true),
            Input::Released,
            cancelled(REASON),
            vec![Close(ReleaseStock), Publish(OrderCancelled)],
        ),
        (
            cancelling(REASON, false, false),
            Input::Voided,
            cancelling(REASON, false, true),
            vec![Close(VoidPayment)],
        ),
        (
            cancelling(REASON, false, false),
            Input::Declined,
            cancelling(REASON, false, true),
            vec![Close(VoidPayment)],
        ),
        (
            cancelling(REASON, false, false),
            Input::PaymentRefunded,
            cancelling(REASON, false, true),
            vec![Close(VoidPayment)],
        ),
        (
            cancelling(REASON, true, false),
            Input::Voided,
            cancelled(REASON),
            vec![Close(VoidPayment), Publish(OrderCancelled)],
        ),
        (
            cancelling(REASON, true, false),
            Input::PaymentRefunded,
            cancelled(REASON),
            vec![Close(VoidPayment), Publish(OrderCancelled)],
        ),
        (
            cancelling(REASON, true, false),
            Input::Declined,
            cancelled(REASON),
            vec![Close(VoidPayment), Publish(OrderCancelled)],
        ),
        (
            cancelling(REASON, true, false),
            Input::Reserved,
            cancelling(REASON, false, false),
            vec![Send(ReleaseStock, Now)],
        ),
        (
            cancelling(REASON, true, false),
            Input::Committed,
            cancelling(REASON, false, false),
            vec![Send(ReleaseStock, Now)],
        ),
        (
            cancelling(REASON, false, true),
            Input::Charged,
            cancelling(REASON, false, false),
            vec![Send(VoidPayment, Now)],
        ),
        over(Input::Reserved, Send(ReleaseStock, Now)),
        over(Input::Committed, Send(ReleaseStock, Now)),
        over(Input::Charged, Send(VoidPayment, Now)),
        over(Input::Released, Close(ReleaseStock)),
        over(Input::Voided, Close(VoidPayment)),
        over(Input::PaymentRefunded, Close(VoidPayment)),
        over(Input::Declined, Close(VoidPayment)),
        (
            State::Confirmed,
            Input::PaymentRefunded,
            State::Refunded,
            vec![Send(ReturnStock, Now), Publish(OrderRefunded)],
        ),
        (
            State::Confirmed,
            Input::Released,
            State::Refunding,
            vec![Close(CommitStock), Send(RefundPayment, Now)],
        ),
        (
            State::Refunding,
            Input::Released,
            State::Refunding,
            vec![Close(CommitStock)],
        ),
        (
            State::Refunded,
            Input::Released,
            State::Refunded,
            vec![Close(CommitStock)],
        ),
        (
            State::Confirmed,
            Input::Committed,
            State::Confirmed,
            vec![Close(CommitStock)],
        ),
        (
            State::Confirmed,
            Input::RefundAsked,
            State::Refunding,
            vec![Send(RefundPayment, Now)],
        ),
        (
            State::Refunding,
            Input::Committed,
            State::Refunding,
            vec![Close(CommitStock)],
        ),
        (
            State::Refunding,
            Input::PaymentRefunded,
            State::Refunded,
            vec![Close(RefundPayment), Send(ReturnStock, Now), Publish(OrderRefunded)],
        ),
        (
            State::Refunding,
            Input::Voided,
            State::Refunded,
            vec![Close(RefundPayment), Send(ReturnStock, Now), Publish(OrderRefunded)],
        ),
        (
            State::Refunded,
            Input::Committed,
            State::Refunded,
            vec![Close(CommitStock)],
        ),
        (
            State::Refunded,
            Input::Returned,
            State::Refunded,
            vec![Close(ReturnStock)],
        ),
    ]
}

#[test]
fn a_new_order_is_pending_announced_and_asks_for_stock_when_the_budget_ends() {
    assert_eq!(
        open(),
        (
            State::Pending,
            vec![Publish(OrderCreated), Send(ReserveStock, EndOfBudget)]
        )
    );
}

#[test]
fn an_order_that_was_forgotten_gives_back_what_is_held_for_it() {
    let reason = Reason::Forgotten;
    let (release, void) = (Send(ReleaseStock, Now), Send(VoidPayment, Now));
    assert_eq!(forgotten(true), (cancelling(reason, false, false), vec![release, void]));
    assert_eq!(forgotten(false), (cancelling(reason, true, false), vec![void]));
}

#[test]
fn every_row_of_the_table_does_what_it_says() {
    for (state, input, next, commands) in rows() {
        let expected = Step {
            state: next,
            commands,
            disposition: Disposition::Applied,
        };
        assert_eq!(step(state, input), expected, "{state:?} on {input:?}");
    }
}

#[test]
fn every_other_pair_changes_nothing() {
    let rows = rows();
    let mut others = 0;
    for state in states() {
        for input in INPUTS {
            if rows.iter().any(|row| row.0 == state && row.1 == input) {
                continue;
            }
            others += 1;
            let step = step(state, input);
            assert_eq!((step.state, step.commands), (state, vec![]), "{state:?} on {input:?}");
            assert_ne!(step.disposition, Disposition::Applied, "{state:?} on {input:?}");
        }
    }
    assert_eq!(others, states().len() * INPUTS.len() - rows.len());
}

/// Once a charge was heard, wherever an order goes from PENDING it keeps the money for what it sells or asks it back.
#[test]
fn a_charge_that_is_heard_early_is_kept_until_the_order_has_moved_on() {
    assert_eq!(step(State::Pending, Input::Charged).disposition, Disposition::Early);
    for input in INPUTS {
        let next = step(State::Pending, input).state;
        if next == State::Pending {
            continue;
        }
        let then = step(next, Input::Charged);
        let asked_back = then.commands.contains(&Send(VoidPayment, Now))
            || matches!(
                then.state,
                State::Cancelling {
                    payment_settled: false,
                    ..
                }
            );
        assert!(
            asked_back != (then.state == State::Confirmed),
            "{input:?} leads to {next:?}, and then to {then:?}"
        );
    }
}

/// Its charge had come through before it was cancelled, so each of both tells two things, in their order; which of both is heard
/// first is chance. Nobody sells what was released, so that a sale which stays asked for is asked for in vain.
#[test]
fn an_order_that_was_cancelled_before_it_came_back_from_an_archive_asks_for_nothing_in_vain() {
    let (inventory, payment) = (
        [Input::Reserved, Input::Released],
        [Input::Charged, Input::PaymentRefunded],
    );
    for (state, asked) in [(State::Pending, ReserveStock), (State::Reserved, ChargePayment)] {
        for turns in 0..16_u32 {
            if turns.count_ones() != 2 {
                continue;
            }
            let (mut stock, mut money) = (inventory.iter(), payment.iter());
            let told = (0..4).filter_map(|turn| {
                if (turns >> turn) & 1 == 1 {
                    stock.next()
                } else {
                    money.next()
                }
            });
            let told: Vec<Input> = told.copied().collect();
            let mut order = CameBack {
                state,
                charged: false,
                open: BTreeSet::from([asked]),
            };
            for input in &told {
                order.hears(*input);
            }
            order.is_answered();
            let over = matches!(order.state, State::Cancelled { .. } | State::Refunded);
            assert!(
                over && order.open.is_empty(),
                "{state:?} hears {told:?}, is {:?} and asks for {:?}",
                order.state,
                order.open
            );
        }
    }
}

/// An order as its rows have it.
struct CameBack {
    state: State,
    charged: bool,
    open: BTreeSet<Action>,
}

impl CameBack {
    /// A charge that is early is taken in when the order has moved on, as the store does it.
    fn hears(&mut self, input: Input) {
        let Step {
            state,
            commands,
            disposition,
        } = step(self.state, input);
        self.charged |= disposition == Disposition::Early;
        let moved_on = self.state == State::Pending && state != State::Pending;
        self.state = state;
        for command in commands {
            match command {
                Send(action, _) => self.open.extend([action]),
                Close(action) => self.open.retain(|open| *open != action),
                Hasten(_) | Publish(_) => {}
            }
        }
        if moved_on && self.charged {
            self.hears(Input::Charged);
        }
    }

    /// What is asked for is answered by who has released the stock and given the money back.
    fn is_answered(&mut self) {
        for _ in 0..Action::ALL.len() {
            for action in self.open.clone() {
                match action {
                    ReserveStock | ReleaseStock => self.hears(Input::Released),
                    ReturnStock => self.hears(Input::Returned),
                    ChargePayment | VoidPayment | RefundPayment => self.hears(Input::PaymentRefunded),
                    CommitStock => {}
                }
            }
        }
    }
}

#[test]
fn an_answer_that_a_cancellation_overtook_is_history_only() {
    for input in [Input::Reserved, Input::Charged] {
        assert_eq!(
            step(cancelling(REASON, false, false), input).disposition,
            Disposition::Late
        );
    }
    assert_eq!(
        step(cancelling(REASON, false, true), Input::Declined).disposition,
        Disposition::Late
    );
    assert_eq!(
        step(State::Confirmed, Input::Declined).disposition,
        Disposition::Ignored
    );
}

#[test]
fn the_api_calls_pending_and_reserved_queued() {
    assert_eq!(State::Pending.status(), "QUEUED");
    assert_eq!(State::Reserved.status(), "QUEUED");
    assert_eq!(cancelling(REASON, false, false).status(), "CANCELLING");
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.name()), Some(reason));
    }
}
