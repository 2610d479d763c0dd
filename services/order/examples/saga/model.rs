//! The state machine that stateright searches: which steps are possible in a [`World`], and what must hold in each.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};
use valerix_order::saga::state::{Input, Reason, State};
use valerix_payment::saga::state as payment;

use super::mutants::Mutant;
use super::world::{Charge, Message, Order, Reservation, World};

/// What is searched.
#[derive(Clone, Debug)]
pub struct Saga {
    /// Clients, each with a key of its own, which they send twice.
    pub clients: u8,
    /// Pieces at the start; each order wants one.
    pub stock: i8,
    /// Times that Redis or a stream is lost, or payment's database comes back from last night.
    pub faults: u8,
    /// Whether the processor declines every charge.
    pub declines: bool,
    /// Whether customers cancel, orders expire, and admins give money back.
    pub undoes: bool,
    /// A mistake that has been made.
    pub mutant: Option<Mutant>,
}

/// One transaction, one call, one delivery or one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    Post(u8),
    /// The fast path's call, with or without an answer.
    Unanswered(Order),
    Deliver(Message, bool),
    FinishReservation(Order, i8),
    Ask((Order, u8, payment::Request)),
    Arrive((Order, u8, payment::Request), bool),
    Sweep(Order),
    Expire(Order),
    Cancel(Order),
    Refund(Order),
    Publish((Order, u8), bool),
    Count((Order, u8), bool),
    /// The process dies with what it has acknowledged and not handled.
    Forget(Message),
    ForgetAnnouncement((Order, u8)),
    MarkOnly((Order, u8)),
    LoseRedis,
    Cut,
    RestorePayments,
    PublishAgain,
}

impl Model for Saga {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.stock, self.faults)]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        for key in 0..self.clients {
            if world.posts < 2 * self.clients && (key == 0 || world.keys.contains(&(key - 1))) {
                moves.push(Move::Post(key));
            }
        }
        for (index, row) in world.orders.iter().enumerate() {
            let order = index as Order;
            if matches!(row.state, State::Pending | State::Reserved) {
                moves.push(Move::Unanswered(order));
                if self.undoes && !world.undone.contains(&order) {
                    moves.push(Move::Expire(order));
                    moves.push(Move::Cancel(order));
                }
            }
            if row.state == State::Confirmed && self.undoes && !world.undone.contains(&order) {
                moves.push(Move::Refund(order));
            }
            if self.mutant != Some(Mutant::NeverAsksAgain) {
                moves.push(Move::Sweep(order));
            }
            moves.extend(world.open_request(order).map(Move::Ask));
        }
        for &message in &world.streams {
            moves.push(Move::Deliver(message, true));
            moves.push(Move::Deliver(message, false));
            if self.mutant == Some(Mutant::AcknowledgesBeforeTheCommit) {
                moves.push(Move::Forget(message));
            }
        }
        moves.extend(world.reading.map(|(order, seen)| Move::FinishReservation(order, seen)));
        for &request in &world.asked {
            moves.push(Move::Arrive(request, true));
            moves.push(Move::Arrive(request, false));
        }
        for (&which, told) in &world.told {
            if told.written && !told.published {
                moves.push(Move::Publish(which, true));
                moves.push(Move::Publish(which, false));
                if self.mutant == Some(Mutant::MarksBeforeItPublishes) {
                    moves.push(Move::MarkOnly(which));
                }
            }
            if told.on_stream {
                moves.push(Move::Count(which, true));
                moves.push(Move::Count(which, false));
                if self.mutant == Some(Mutant::AcknowledgesBeforeTheCommit) {
                    moves.push(Move::ForgetAnnouncement(which));
                }
            }
        }
        if world.faults > 0 {
            moves.extend([Move::LoseRedis, Move::Cut, Move::RestorePayments]);
        }
        if world.noted {
            moves.push(Move::PublishAgain);
        }
    }

    fn next_state(&self, world: &World, next: Move) -> Option<World> {
        let mut after = world.clone();
        self.make(&mut after, next);
        (after != *world).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let now = PROMISES.map(|(name, promise)| Property::always(name, promise));
        let mut properties = now.to_vec();
        properties.push(Property::always(
            "I4: once the faults end, everything comes to its end, and every promise still holds",
            |model: &Self, world: &World| {
                model.healed(world).is_some_and(|healed| {
                    at_rest(&healed) && PROMISES.iter().all(|(_, promise)| promise(model, &healed))
                })
            },
        ));
        properties
    }
}

type Promise = fn(&Saga, &World) -> bool;

/// What holds in every state.
const PROMISES: [(&str, Promise); 7] = [
    ("I1: money is taken at most once for an order", |_, world| {
        world.taken.values().all(|times| *times <= 1)
    }),
    ("I2: what an order says of its money is true", |_, world| {
        orders(world).all(|(order, state)| world.money_fits(order, state))
    }),
    ("I3: pieces are neither made nor lost", |model, world| {
        let out = world.reservations.values().filter(|held| is_out(**held)).count();
        world.stock >= 0 && i64::from(world.stock) + out as i64 == i64::from(model.stock)
    }),
    ("I5: nothing is held for an order that is at its end", |_, world| {
        orders(world).all(|(order, state)| world.stock_fits(order, state))
    }),
    ("I7: a key makes one order", |_, world| {
        let keys: BTreeSet<u8> = world.orders.iter().map(|row| row.key).collect();
        keys.len() == world.orders.len()
    }),
    ("I10: an announcement has one effect", |_, world| {
        world.told.values().all(|told| told.counted <= 1)
    }),
    ("nobody asks for what the saga never asks for", |_, world| {
        world.absurd.is_none()
    }),
];

fn orders(world: &World) -> impl Iterator<Item = (Order, State)> + '_ {
    world
        .orders
        .iter()
        .enumerate()
        .map(|(index, row)| (index as Order, row.state))
}

const fn is_out(held: Reservation) -> bool {
    matches!(held, Reservation::Reserved | Reservation::Committed)
}

fn at_rest(world: &World) -> bool {
    let all_told = world
        .told
        .values()
        .all(|told| told.written && told.published && told.counted == 1);
    let ended = orders(world).all(|(order, state)| {
        let ends = if state == State::Refunded { 3 } else { 2 };
        state.is_terminal() && world.told.keys().filter(|(of, _)| *of == order).count() == ends
    });
    all_told && ended && world.orders.iter().all(|row| row.open.is_empty())
}

impl World {
    fn charge(&self, order: Order, wanted: Charge) -> bool {
        self.ledger
            .iter()
            .any(|((of, _), charge)| *of == order && *charge == wanted)
    }

    fn money_fits(&self, order: Order, state: State) -> bool {
        let (kept, returned) = (
            self.charge(order, Charge::Settled),
            self.charge(order, Charge::GivenBack),
        );
        match state {
            State::Confirmed => kept,
            State::Cancelled { .. } => !kept,
            State::Refunded => !kept && returned,
            _ => true,
        }
    }

    fn stock_fits(&self, order: Order, state: State) -> bool {
        let held = self.reservations.get(&order).copied();
        match state {
            State::Confirmed | State::Refunding => held.is_some_and(is_out),
            State::Cancelled { .. } => !held.is_some_and(is_out),
            _ => true,
        }
    }
}

impl Saga {
    fn make(&self, world: &mut World, next: Move) {
        let mutant = self.mutant;
        match next {
            Move::Post(key) => world.post(key, mutant),
            Move::Unanswered(order) => world.input(order, Input::Unanswered, mutant),
            Move::Deliver(message, acknowledged) => {
                world.deliver(message, mutant);
                if acknowledged {
                    world.streams.remove(&message);
                }
            }
            Move::FinishReservation(order, seen) => world.finish_reservation(order, seen),
            Move::Ask(request) => {
                world.asked.insert(request);
            }
            Move::Arrive(request, answered) => {
                world.asked.remove(&request);
                world.arrive(request, self.declines, answered, mutant);
            }
            Move::Sweep(order) => world.sweep(order),
            Move::Expire(order) => {
                world.undone.insert(order);
                world.input(order, Input::Expired, mutant);
            }
            Move::Cancel(order) => {
                world.undone.insert(order);
                world.input(order, Input::Cancel(Reason::CancelledByCustomer), mutant);
            }
            Move::Refund(order) => {
                world.undone.insert(order);
                world.input(order, Input::RefundAsked, mutant);
            }
            Move::Publish(which, marked) => world.publish(which, marked),
            Move::Count(which, acknowledged) => world.count(which, acknowledged, mutant),
            Move::Forget(message) => {
                world.streams.remove(&message);
            }
            Move::ForgetAnnouncement(which) => {
                if let Some(told) = world.told.get_mut(&which) {
                    told.on_stream = false;
                }
            }
            Move::MarkOnly(which) => {
                if let Some(told) = world.told.get_mut(&which) {
                    told.published = true;
                }
            }
            Move::LoseRedis => world.lose_redis(mutant),
            Move::Cut => world.cut(mutant),
            Move::RestorePayments => world.restore_payments(),
            Move::PublishAgain => world.publish_again(),
        }
    }

    /// The world after every process, stream and network has worked for long enough; none if it never comes to rest.
    fn healed(&self, world: &World) -> Option<World> {
        let mut world = world.clone();
        for _ in 0..64 {
            let before = world.clone();
            if world.noted {
                world.publish_again();
            }
            if let Some((order, seen)) = world.reading {
                world.finish_reservation(order, seen);
            }
            for request in std::mem::take(&mut world.asked) {
                world.arrive(request, self.declines, true, self.mutant);
            }
            for message in std::mem::take(&mut world.streams) {
                world.deliver(message, self.mutant);
            }
            for order in 0..world.orders.len() as Order {
                if let Some(request) = world.open_request(order) {
                    world.arrive(request, self.declines, true, self.mutant);
                }
                if self.mutant != Some(Mutant::NeverAsksAgain) {
                    world.sweep(order);
                }
            }
            let announcements: Vec<_> = world.told.iter().map(|(which, told)| (*which, *told)).collect();
            for (which, told) in announcements {
                if told.written && !told.published {
                    world.publish(which, true);
                }
                if told.on_stream {
                    world.count(which, true, self.mutant);
                }
            }
            if world == before {
                return Some(world);
            }
        }
        None
    }
}

impl fmt::Display for Saga {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clients,
            stock,
            faults,
            declines,
            undoes,
            mutant,
        } = self;
        write!(
            formatter,
            "{clients} clients, {stock} pieces, {faults} faults, declines: {declines}, undoes: {undoes}, mutant: {mutant:?}"
        )
    }
}
