//! The table against a hostile network: orders, inventory, payment and the processor exchange messages that are lost,
//! doubled and reordered; when the network heals, money and stock must add up and every order must be terminal.
//!
//! Payment is the payment service's own table; inventory is modelled by the rules that its README promises.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use valerix_payment::saga::state as payment;

use super::commands::{Action, Announcement, Command};
use super::state::{Input, Reason, State, open, step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reservation {
    Reserved,
    Rejected,
    Released,
    Committed,
    Returned,
}

/// What the processor's ledger says of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    Settled,
    Refused,
    Cancelled,
    GivenBack,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Command(usize, Action),
    Answer(usize, Input),
    Processor(usize, payment::Request),
    Said(usize, payment::Input),
}

struct Order {
    quantity: u32,
    declines: bool,
    state: State,
    open: BTreeSet<Action>,
    announced: Vec<Announcement>,
}

struct World {
    orders: Vec<Order>,
    available: u32,
    reservations: BTreeMap<usize, Reservation>,
    payments: BTreeMap<usize, payment::State>,
    ledger: BTreeMap<usize, Charge>,
    network: Vec<Message>,
}

impl World {
    fn new(stock: u32, orders: &[(u32, bool)]) -> Self {
        let mut world = Self {
            orders: vec![],
            available: stock,
            reservations: BTreeMap::new(),
            payments: BTreeMap::new(),
            ledger: BTreeMap::new(),
            network: vec![],
        };
        for &(quantity, declines) in orders {
            let (state, commands) = open();
            world.orders.push(Order {
                quantity,
                declines,
                state,
                open: BTreeSet::new(),
                announced: vec![],
            });
            world.obey(world.orders.len() - 1, &commands);
        }
        world
    }

    fn obey(&mut self, order: usize, commands: &[Command]) {
        for command in commands {
            match *command {
                Command::Send(action, _) => {
                    let (opened, over) = (self.orders[order].open.insert(action), self.orders[order].state);
                    assert!(
                        opened || matches!(over, State::Cancelled { .. }),
                        "{action} was opened twice"
                    );
                    self.network.push(Message::Command(order, action));
                }
                Command::Close(action) => {
                    self.orders[order].open.remove(&action);
                }
                Command::Hasten(action) => self.network.push(Message::Command(order, action)),
                Command::Publish(announcement) => self.orders[order].announced.push(announcement),
            }
        }
    }

    fn input(&mut self, order: usize, input: Input) {
        let before = self.orders[order].state;
        let step = step(before, input);
        if before.is_terminal() && (before, input) != (State::Confirmed, Input::RefundAsked) {
            assert_eq!(step.state, before, "{input:?} moved a terminal order");
        }
        self.orders[order].state = step.state;
        self.obey(order, &step.commands);
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Answer(order, input) => self.input(order, input),
            Message::Command(order, Action::ChargePayment) => self.payment(order, payment::Input::Charge),
            Message::Command(order, Action::VoidPayment) => self.payment(order, payment::Input::Void),
            Message::Command(order, Action::RefundPayment) => self.payment(order, payment::Input::Refund),
            Message::Command(order, action) => self.inventory(order, action),
            Message::Processor(order, request) => self.processor(order, request),
            Message::Said(order, input) => self.payment(order, input),
        }
    }

    fn inventory(&mut self, order: usize, action: Action) {
        let quantity = self.orders[order].quantity;
        let held = self.reservations.get(&order).copied();
        let next = match (action, held) {
            (Action::ReserveStock, None) if self.available >= quantity => {
                self.available -= quantity;
                Reservation::Reserved
            }
            (Action::ReserveStock, None) => Reservation::Rejected,
            (Action::ReleaseStock, Some(Reservation::Reserved)) => {
                self.available += quantity;
                Reservation::Released
            }
            (Action::ReleaseStock, None) => Reservation::Released,
            (Action::CommitStock, Some(Reservation::Reserved)) => Reservation::Committed,
            (Action::ReturnStock, Some(Reservation::Reserved | Reservation::Committed)) => {
                self.available += quantity;
                Reservation::Returned
            }
            (Action::ReleaseStock, Some(Reservation::Committed | Reservation::Returned)) => {
                panic!("a release of sold stock was asked for")
            }
            (Action::ReturnStock, Some(Reservation::Rejected | Reservation::Released) | None) => {
                panic!("a return of stock that was not sold was asked for")
            }
            (Action::CommitStock, Some(Reservation::Rejected | Reservation::Released))
            | (Action::CommitStock, None) => {
                panic!("selling stock that is not held was asked for")
            }
            (_, Some(held)) => held,
            (_, None) => return,
        };
        self.reservations.insert(order, next);
        let answer = match (action, next) {
            (Action::ReturnStock, _) => Input::Returned,
            (Action::CommitStock, _) => Input::Committed,
            (Action::ReleaseStock, _) | (_, Reservation::Released | Reservation::Returned) => Input::Released,
            (_, Reservation::Rejected) => Input::Rejected(Reason::OutOfStock),
            // A committed reservation is still answered as reserved.
            (_, Reservation::Reserved | Reservation::Committed) => Input::Reserved,
        };
        self.network.push(Message::Answer(order, answer));
    }

    fn payment(&mut self, order: usize, input: payment::Input) {
        let Some(step) = payment::step(self.payments.get(&order).copied(), input) else {
            return;
        };
        self.payments.insert(order, step.state);
        if let Some(announcement) = step.announcement {
            let answer = match announcement {
                payment::Announcement::PaymentProcessed => Input::Charged,
                payment::Announcement::PaymentFailed => Input::Declined,
                payment::Announcement::PaymentVoided => Input::Voided,
                payment::Announcement::PaymentRefunded => Input::PaymentRefunded,
            };
            self.network.push(Message::Answer(order, answer));
        }
        if let Some(request) = step.state.open_request() {
            self.network.push(Message::Processor(order, request));
        }
    }

    /// One charge per key, none of a cancelled one; a refund only of what was charged.
    fn processor(&mut self, order: usize, request: payment::Request) {
        let declines = self.orders[order].declines;
        let charge = *self.ledger.entry(order).or_insert(match request {
            payment::Request::Cancel => Charge::Cancelled,
            _ if declines => Charge::Refused,
            _ => Charge::Settled,
        });
        let said = match (request, charge) {
            (payment::Request::Refund, Charge::Refused | Charge::Cancelled) => {
                panic!("a refund of what was not charged was asked for")
            }
            (payment::Request::Refund, _) => {
                self.ledger.insert(order, Charge::GivenBack);
                payment::Input::GivenBack
            }
            (_, Charge::Settled) => payment::Input::Approved,
            (_, Charge::Refused | Charge::Cancelled | Charge::GivenBack) => payment::Input::Refused,
        };
        self.network.push(Message::Said(order, said));
    }

    /// What the sweepers of order and payment do: every open command and every open request goes out again.
    fn sweep(&mut self) {
        for (order, row) in self.orders.iter().enumerate() {
            self.network
                .extend(row.open.iter().map(|&action| Message::Command(order, action)));
        }
        for (&order, state) in &self.payments {
            if let Some(request) = state.open_request() {
                self.network.push(Message::Processor(order, request));
            }
        }
    }

    fn play(&mut self, kind: u8, pick: usize) {
        let order = pick % self.orders.len();
        match kind {
            0..=5 if !self.network.is_empty() => {
                let index = pick % self.network.len();
                let message = self.network.swap_remove(index);
                self.deliver(message);
            }
            6 if !self.network.is_empty() => {
                let message = self.network[pick % self.network.len()];
                self.deliver(message);
            }
            7 if !self.network.is_empty() => {
                let index = pick % self.network.len();
                self.network.swap_remove(index);
            }
            8 => self.input(order, Input::Unanswered),
            9 => self.input(order, Input::Expired),
            10 => self.sweep(),
            11 => self.input(order, Input::Cancel(Reason::CancelledByCustomer)),
            12 => self.input(order, Input::RefundAsked),
            _ => {}
        }
    }

    /// The network is whole again: sweep and deliver until nothing is left to say.
    fn heal(&mut self) {
        for _ in 0..20 {
            self.sweep();
            if self.network.is_empty() {
                return;
            }
            while !self.network.is_empty() {
                let message = self.network.remove(0);
                self.deliver(message);
            }
        }
        panic!(
            "the saga did not come to rest: {:?}",
            self.orders.iter().map(|order| order.state).collect::<Vec<_>>()
        );
    }

    fn check(&self, stock: u32) {
        let mut sold = 0;
        for (index, order) in self.orders.iter().enumerate() {
            assert!(order.state.is_terminal(), "order {index} rests in {:?}", order.state);
            assert!(order.open.is_empty());
            let ends = if order.state == State::Refunded { 2 } else { 1 };
            assert_eq!(order.announced.len(), 1 + ends, "{:?}", order.announced);
            let charge = self.ledger.get(&index).copied();
            if order.state == State::Confirmed {
                sold += order.quantity;
                assert_eq!(charge, Some(Charge::Settled));
                assert_eq!(self.reservations.get(&index), Some(&Reservation::Committed));
                assert_eq!(self.payments.get(&index), Some(&payment::State::Charged));
            } else {
                assert_ne!(charge, Some(Charge::Settled), "order {index} was cancelled and paid");
                assert_ne!(self.reservations.get(&index), Some(&Reservation::Reserved));
                assert_ne!(self.reservations.get(&index), Some(&Reservation::Committed));
            }
        }
        assert_eq!(stock - self.available, sold);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn money_and_stock_add_up_whatever_the_network_does(
        stock in 0_u32..8,
        orders in proptest::collection::vec((1_u32..4, any::<bool>()), 1..5),
        plays in proptest::collection::vec((0_u8..=12, any::<u16>()), 0..120),
    ) {
        let mut world = World::new(stock, &orders);
        for (kind, pick) in plays {
            world.play(kind, usize::from(pick));
        }
        world.heal();
        world.check(stock);
    }
}

#[test]
fn without_faults_every_order_that_can_be_served_is_confirmed() {
    let mut world = World::new(5, &[(2, false), (2, true), (1, false), (3, false)]);
    world.heal();
    world.check(5);
    let confirmed: Vec<_> = world
        .orders
        .iter()
        .map(|order| order.state == State::Confirmed)
        .collect();
    assert_eq!(confirmed, [true, false, true, false]);
}
