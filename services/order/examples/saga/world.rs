//! The shop as the model sees it: what each database holds, what is on its way, and what may happen next.
//!
//! Order and payment decide by their own tables (`saga::state::step` of both crates). Inventory, the processor, the relay, the
//! inbox and the streams are modelled by the rules that their READMEs promise. A step is one transaction, one call or one
//! fault: a process that is killed between two of them has done the first and not the second, which is any other order of
//! steps, and a message that was handled and not acknowledged is delivered again.

use std::collections::{BTreeMap, BTreeSet};

use valerix_order::saga::commands::{Action, Announcement, Command};
use valerix_order::saga::state::{Disposition, Input, Reason, State, Step, open, step};
use valerix_payment::saga::state as payment;

use super::mutants::Mutant;

/// Which order.
pub type Order = u8;

/// An order's row, with its commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: State,
    pub open: BTreeSet<Action>,
    /// The POST that made it.
    pub key: u8,
}

/// A reservation's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reservation {
    Reserved,
    Rejected,
    Released,
    Committed,
    Returned,
}

/// What the processor's ledger says of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    Settled,
    Refused,
    Cancelled,
    GivenBack,
}

/// An announcement on its way from the outbox to whoever counts what is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// The outbox has it.
    pub written: bool,
    /// The relay's mark.
    pub published: bool,
    /// It is on the stream and not acknowledged.
    pub on_stream: bool,
    /// The counting service's inbox has it.
    pub remembered: bool,
    /// How often it was counted.
    pub counted: u8,
}

/// What is on a stream and not acknowledged. Sent twice it is there once: whoever gets it is asked to bear it twice anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Command(Order, Action),
    Answer(Order, Answer),
}

/// What inventory and payment announce of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    Reserved,
    Rejected,
    Released,
    Committed,
    Returned,
    Charged,
    Declined,
    Voided,
    Refunded,
}

impl Answer {
    const fn input(self) -> Input {
        match self {
            Self::Reserved => Input::Reserved,
            Self::Rejected => Input::Rejected(Reason::OutOfStock),
            Self::Released => Input::Released,
            Self::Committed => Input::Committed,
            Self::Returned => Input::Returned,
            Self::Charged => Input::Charged,
            Self::Declined => Input::Declined,
            Self::Voided => Input::Voided,
            Self::Refunded => Input::PaymentRefunded,
        }
    }
}

/// Everything that is stored or under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub orders: Vec<Row>,
    /// Keys of POSTs that are remembered.
    pub keys: BTreeSet<u8>,
    /// POSTs that clients have sent.
    pub posts: u8,
    pub told: BTreeMap<(Order, u8), Told>,
    pub streams: BTreeSet<Message>,
    pub stock: i8,
    pub reservations: BTreeMap<Order, Reservation>,
    /// A reservation that has read the stock and not written it.
    pub reading: Option<(Order, i8)>,
    /// State and key at the processor.
    pub payments: BTreeMap<Order, (payment::State, u8)>,
    /// Requests on their way to the processor: order, key.
    pub asked: BTreeSet<(Order, u8, payment::Request)>,
    /// By order and key.
    pub ledger: BTreeMap<(Order, u8), Charge>,
    /// How often money was taken for an order.
    pub taken: BTreeMap<Order, u8>,
    /// Faults that may still come.
    pub faults: u8,
    /// Who changes their mind, or is late, does it once.
    pub undone: BTreeSet<Order>,
    /// The streams have lost something, and their publishers know.
    pub noted: bool,
    /// What the saga must never ask for was asked for.
    pub absurd: Option<&'static str>,
}

impl World {
    pub fn new(stock: i8, faults: u8) -> Self {
        Self {
            orders: vec![],
            keys: BTreeSet::new(),
            posts: 0,
            told: BTreeMap::new(),
            streams: BTreeSet::new(),
            stock,
            reservations: BTreeMap::new(),
            reading: None,
            payments: BTreeMap::new(),
            asked: BTreeSet::new(),
            ledger: BTreeMap::new(),
            taken: BTreeMap::new(),
            faults,
            undone: BTreeSet::new(),
            noted: false,
            absurd: None,
        }
    }

    /// A client's POST: the key and the order are one transaction.
    pub fn post(&mut self, key: u8, mutant: Option<Mutant>) {
        self.posts += 1;
        if !self.keys.insert(key) {
            return;
        }
        let order = self.orders.len() as Order;
        let (state, mut commands) = open();
        if mutant == Some(Mutant::ChargesBeforeStockIsReserved) {
            commands.push(Command::Send(
                Action::ChargePayment,
                valerix_order::saga::commands::Due::Now,
            ));
        }
        self.orders.push(Row {
            state,
            open: BTreeSet::new(),
            key,
        });
        self.obey(order, &commands, mutant);
    }

    /// What the table says, in one transaction.
    pub fn input(&mut self, order: Order, input: Input, mutant: Option<Mutant>) {
        let Step { state, commands, .. } = mutated(self.orders[usize::from(order)].state, input, mutant);
        self.orders[usize::from(order)].state = state;
        self.obey(order, &commands, mutant);
    }

    fn obey(&mut self, order: Order, commands: &[Command], mutant: Option<Mutant>) {
        for command in commands {
            let open = &mut self.orders[usize::from(order)].open;
            match *command {
                Command::Send(action, _) => {
                    open.insert(action);
                    self.streams.insert(Message::Command(order, action));
                }
                Command::Close(action) => {
                    open.remove(&action);
                }
                Command::Hasten(action) => {
                    self.streams.insert(Message::Command(order, action));
                }
                Command::Publish(announcement) => {
                    let told = self.told.entry((order, number(announcement))).or_default();
                    // Killed after the commit, a process that writes the outbox behind it never does.
                    told.written = mutant != Some(Mutant::WritesTheOutboxAfterTheCommit) || self.faults == 0;
                }
            }
        }
    }

    /// The sweeper of order: every open command goes out again.
    pub fn sweep(&mut self, order: Order) {
        for &action in &self.orders[usize::from(order)].open {
            self.streams.insert(Message::Command(order, action));
        }
    }

    pub fn deliver(&mut self, message: Message, mutant: Option<Mutant>) {
        match message {
            Message::Answer(order, answer) => self.input(order, answer.input(), mutant),
            Message::Command(order, Action::ChargePayment) => self.payment(order, payment::Input::Charge, mutant),
            Message::Command(order, Action::VoidPayment) => self.payment(order, payment::Input::Void, mutant),
            Message::Command(order, Action::RefundPayment) => self.payment(order, payment::Input::Refund, mutant),
            Message::Command(order, action) => self.inventory(order, action, mutant),
        }
    }

    fn inventory(&mut self, order: Order, action: Action, mutant: Option<Mutant>) {
        let held = self.reservations.get(&order).copied();
        let next = match (action, held) {
            (Action::ReserveStock, None) if mutant == Some(Mutant::ReservesInTwoSteps) => {
                if self.stock >= 1 && self.reading.is_none_or(|(reader, _)| reader != order) {
                    if let Some((reader, seen)) = self.reading.take() {
                        self.finish_reservation(reader, seen);
                    } else {
                        self.reading = Some((order, self.stock));
                        return;
                    }
                }
                return;
            }
            (Action::ReserveStock, None) if self.stock >= 1 => {
                self.stock -= 1;
                Reservation::Reserved
            }
            (Action::ReserveStock, None) => Reservation::Rejected,
            (Action::ReleaseStock, Some(Reservation::Reserved)) => {
                self.stock += 1;
                Reservation::Released
            }
            (Action::ReleaseStock, None) if mutant == Some(Mutant::LeavesNoTombstone) => {
                self.streams.insert(Message::Answer(order, Answer::Released));
                return;
            }
            (Action::ReleaseStock, None) => Reservation::Released,
            (Action::CommitStock, Some(Reservation::Reserved)) => Reservation::Committed,
            (Action::ReturnStock, Some(Reservation::Reserved | Reservation::Committed)) => {
                self.stock += 1;
                Reservation::Returned
            }
            (Action::ReleaseStock, Some(Reservation::Committed | Reservation::Returned)) => {
                return self.absurd("a release of sold stock was asked for");
            }
            (Action::ReturnStock, Some(Reservation::Rejected | Reservation::Released) | None) => {
                return self.absurd("a return of stock that was not sold was asked for");
            }
            (Action::CommitStock, Some(Reservation::Rejected | Reservation::Released) | None) => {
                return self.absurd("selling stock that is not held was asked for");
            }
            (_, Some(held)) => held,
            (_, None) => return,
        };
        self.reservations.insert(order, next);
        let answer = match (action, next) {
            (Action::ReturnStock, _) => Answer::Returned,
            (Action::CommitStock, _) => Answer::Committed,
            (Action::ReleaseStock, _) | (_, Reservation::Released | Reservation::Returned) => Answer::Released,
            (_, Reservation::Rejected) => Answer::Rejected,
            // A committed reservation is still answered as reserved.
            (_, Reservation::Reserved | Reservation::Committed) => Answer::Reserved,
        };
        self.streams.insert(Message::Answer(order, answer));
    }

    /// The second half of a reservation that has read the stock before.
    pub fn finish_reservation(&mut self, order: Order, seen: i8) {
        self.reading = None;
        if !self.reservations.contains_key(&order) {
            self.stock = seen - 1;
            self.reservations.insert(order, Reservation::Reserved);
            self.streams.insert(Message::Answer(order, Answer::Reserved));
        }
    }

    fn absurd(&mut self, what: &'static str) {
        self.absurd = Some(what);
    }

    fn payment(&mut self, order: Order, input: payment::Input, mutant: Option<Mutant>) {
        let row = self.payments.get(&order).copied();
        let state = row.map(|(state, _)| state);
        let step = match (state, input) {
            (None, payment::Input::Void) if mutant == Some(Mutant::VoidsWithoutAskingTheProcessor) => {
                Some(payment::Step {
                    state: payment::State::Voided,
                    announcement: Some(payment::Announcement::PaymentVoided),
                })
            }
            (Some(payment::State::Processing { .. }), payment::Input::Void)
                if mutant == Some(Mutant::VoidsWhileTheOutcomeIsOpen) =>
            {
                Some(payment::Step {
                    state: payment::State::Voided,
                    announcement: Some(payment::Announcement::PaymentVoided),
                })
            }
            _ => payment::step(state, input),
        };
        let Some(step) = step else { return };
        let key = row.map_or_else(
            // A key that is drawn is another one after the row was lost.
            || match mutant {
                Some(Mutant::DrawsTheKeyOfACharge) => self.ledger.len() as u8,
                _ => 0,
            },
            |(_, key)| key,
        );
        self.payments.insert(order, (step.state, key));
        if let Some(announcement) = step.announcement {
            let answer = match announcement {
                payment::Announcement::PaymentProcessed => Answer::Charged,
                payment::Announcement::PaymentFailed => Answer::Declined,
                payment::Announcement::PaymentVoided => Answer::Voided,
                payment::Announcement::PaymentRefunded => Answer::Refunded,
            };
            self.streams.insert(Message::Answer(order, answer));
        }
    }

    /// What payment's sweeper has to ask the processor about `order`.
    pub fn open_request(&self, order: Order) -> Option<(Order, u8, payment::Request)> {
        let (state, key) = self.payments.get(&order)?;
        Some((order, *key, state.open_request()?))
    }

    /// The request arrives at the processor; whether its answer comes back is another matter.
    pub fn arrive(
        &mut self,
        (order, key, request): (Order, u8, payment::Request),
        declines: bool,
        answered: bool,
        mutant: Option<Mutant>,
    ) {
        let known = self.ledger.get(&(order, key)).copied();
        let forgets = mutant == Some(Mutant::TheProcessorForgetsKeys) && request == payment::Request::Charge;
        let charge = match known {
            Some(charge) if !forgets => charge,
            _ => match request {
                payment::Request::Cancel => Charge::Cancelled,
                payment::Request::Refund => {
                    return self.absurd("a refund of what the processor does not know was asked for");
                }
                payment::Request::Charge if declines => Charge::Refused,
                payment::Request::Charge => {
                    *self.taken.entry(order).or_default() += 1;
                    Charge::Settled
                }
            },
        };
        let (charge, said) = match (request, charge) {
            (payment::Request::Refund, Charge::Refused | Charge::Cancelled) => {
                return self.absurd("a refund of what was not charged was asked for");
            }
            (payment::Request::Refund, _) => (Charge::GivenBack, payment::Input::GivenBack),
            (_, Charge::Settled) => (charge, payment::Input::Approved),
            _ => (charge, payment::Input::Refused),
        };
        self.ledger.insert((order, key), charge);
        if answered {
            self.payment(order, said, mutant);
        }
    }

    /// The relay's step with an announcement.
    pub fn publish(&mut self, which: (Order, u8), marked: bool) {
        if let Some(told) = self.told.get_mut(&which) {
            told.on_stream = true;
            told.published |= marked;
        }
    }

    /// Whoever counts announcements gets one; inbox and count are one transaction.
    pub fn count(&mut self, which: (Order, u8), acknowledged: bool, mutant: Option<Mutant>) {
        if let Some(told) = self.told.get_mut(&which) {
            if !told.remembered {
                told.counted = told.counted.saturating_add(1);
            }
            told.remembered = mutant != Some(Mutant::CountsWithoutAnInbox);
            told.on_stream &= !acknowledged;
        }
    }

    /// Redis comes back empty. What was published is published again, unless nobody notices.
    pub fn lose_redis(&mut self, mutant: Option<Mutant>) {
        self.faults -= 1;
        self.streams.clear();
        for told in self.told.values_mut() {
            told.on_stream = false;
        }
        if mutant == Some(Mutant::KeepsKeysInRedis) {
            self.keys.clear();
        }
        self.noted = true;
    }

    /// The streams are cut before anybody has read them; it is noted for their publishers.
    pub fn cut(&mut self, mutant: Option<Mutant>) {
        self.faults -= 1;
        for told in self.told.values_mut() {
            told.on_stream = false;
        }
        self.noted |= mutant != Some(Mutant::CutsWhatNobodyHasRead);
    }

    /// Payment's database comes back from last night.
    pub fn restore_payments(&mut self) {
        self.faults -= 1;
        self.payments.clear();
    }

    /// What is lost and noted goes on the stream again.
    pub fn publish_again(&mut self) {
        self.noted = false;
        for told in self.told.values_mut() {
            told.on_stream |= told.published;
        }
    }
}

/// The order's table, or what a mutant makes of it.
fn mutated(state: State, input: Input, mutant: Option<Mutant>) -> Step {
    let mut result = step(state, input);
    let cancelling = matches!(state, State::Cancelling { .. });
    let over = matches!(state, State::Cancelled { .. }) || (cancelling && input == Input::Charged);
    match mutant {
        Some(Mutant::ConfirmsWhatIsBeingCancelled) if cancelling && input == Input::Charged => Step {
            state: State::Confirmed,
            commands: vec![
                Command::Send(Action::CommitStock, valerix_order::saga::commands::Due::Now),
                Command::Publish(Announcement::OrderConfirmed),
            ],
            disposition: Disposition::Applied,
        },
        // A mistake is judged by what it does, without what would undo it when its order hears of it later.
        Some(_) if over => Step {
            state,
            commands: vec![],
            disposition: Disposition::Late,
        },
        Some(Mutant::CancelsOnOneAnswer) => {
            if let (true, State::Cancelling { reason, .. }, Disposition::Applied) =
                (cancelling, result.state, result.disposition)
            {
                result.state = State::Cancelled { reason };
                result.commands.push(Command::Publish(Announcement::OrderCancelled));
            }
            result
        }
        Some(Mutant::ReleasesWithoutAVoid) => {
            if let (State::Reserved, State::Cancelling { payment_settled, .. }) = (state, &mut result.state) {
                *payment_settled = true;
                let void = |command: &Command| matches!(command, Command::Send(Action::VoidPayment, _));
                result.commands.retain(|command| !void(command));
            }
            result
        }
        Some(Mutant::ForgetsTheStockOfADecline) if (state, input) == (State::Reserved, Input::Declined) => {
            result.commands = vec![
                Command::Close(Action::ChargePayment),
                Command::Publish(Announcement::OrderCancelled),
            ];
            result.state = State::Cancelled {
                reason: Reason::PaymentDeclined,
            };
            result
        }
        _ => result,
    }
}

pub const fn number(announcement: Announcement) -> u8 {
    match announcement {
        Announcement::OrderCreated => 0,
        Announcement::OrderConfirmed => 1,
        Announcement::OrderCancelled => 2,
        Announcement::OrderRefunded => 3,
    }
}
