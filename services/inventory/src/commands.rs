//! The rules of ReserveStock, ReleaseStock, CommitStock and ReturnStock, the same for HTTP and for events.
//!
//! In: a command and the connection of a transaction. Out: the reservation as it now is, its answer in the outbox. The caller
//! commits. The item's row is the one that all orders want: it is locked by the last statement, when all else is written.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::events::{Asked, publish};
use crate::stock::{Command, Reason, Reservation, State};
use crate::store::{self, COMMITTED, RELEASED, RETURNED};

/// Why a command was not carried out. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Postgres did not do it.
    #[error("failed to reach the stock: {0}")]
    Store(#[source] sqlx::Error),
    /// The order has asked for another item or quantity before.
    #[error("failed to match order {order_id}: it stands for {quantity} of {item_id}")]
    KeyReused {
        /// The order.
        order_id: Uuid,
        /// Its item.
        item_id: String,
        /// Its quantity.
        quantity: i64,
    },
    /// The saga never asks for this: selling what is not held, taking back what was never held.
    #[error("failed to {action} the stock of order {order_id}: it is {state}")]
    OutOfTurn {
        /// What was asked.
        action: &'static str,
        /// The order.
        order_id: Uuid,
        /// What was found.
        state: &'static str,
    },
}

/// Who is answered by event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Everybody who asks: the first answer may have been lost.
    Always,
    /// Who asks for what was not decided before; the others hear it in another way.
    Once,
}

/// What a command comes to.
struct Outcome {
    reservation: Reservation,
    /// It was decided now.
    new: bool,
    /// Pieces that the item gets back by it, or loses. They are moved last.
    freed: i64,
}

impl Outcome {
    /// The item stays as it is.
    const fn of(reservation: Reservation) -> Self {
        Self {
            reservation,
            new: false,
            freed: 0,
        }
    }
}

/// Carries a command out and answers it. The flag says whether a reservation was decided now.
///
/// # Errors
/// See [`CommandError`].
pub async fn carry_out(
    connection: &mut PgConnection,
    command: &Command,
    asked: Asked,
    answered: Answered,
) -> Result<(Reservation, bool), CommandError> {
    loop {
        let outcome = match asked {
            Asked::Reserve => reserve(connection, command).await,
            Asked::Release => release(connection, command).await,
            Asked::Commit => commit(connection, command).await,
            Asked::Return => give_back(connection, command).await,
        };
        let Outcome {
            reservation,
            new,
            freed,
        } = outcome?;
        if !new && answered == Answered::Once {
            return Ok((reservation, false));
        }
        let version = publish(connection, &reservation, asked)
            .await
            .map_err(CommandError::Store)?;
        if freed == 0 {
            return Ok((reservation, new));
        }
        let moved = store::move_pieces(connection, &reservation.item_id, freed).await;
        if moved.map_err(CommandError::Store)? || freed > 0 {
            return Ok((reservation, new));
        }
        // Others have taken the pieces since they were seen: nothing was decided.
        store::withdraw(connection, command.order_id, version)
            .await
            .map_err(CommandError::Store)?;
    }
}

/// Reserves once per order, if there are so many pieces to be seen.
async fn reserve(connection: &mut PgConnection, command: &Command) -> Result<Outcome, CommandError> {
    let decided = store::decide(connection, command).await.map_err(CommandError::Store)?;
    let Some(reservation) = decided else {
        return existing(connection, command, "reserve").await.map(Outcome::of);
    };
    let held = matches!(reservation.state, State::Reserved(_));
    Ok(Outcome {
        freed: if held { -reservation.quantity } else { 0 },
        reservation,
        new: true,
    })
}

/// Gives back what the order holds. Without a row a tombstone is left, for a reservation that comes later.
///
/// What is sold comes back as well. Order, which decides, knows of no sale: its database came back from an archive that is
/// older than this order's end.
async fn release(connection: &mut PgConnection, command: &Command) -> Result<Outcome, CommandError> {
    let mut outcome = Outcome::of(reservation(command, State::Released));
    if store::insert_tombstone(connection, command, RELEASED)
        .await
        .map_err(CommandError::Store)?
    {
        return Ok(outcome);
    }
    let found = existing(connection, command, "release").await?;
    let to = match found.state {
        State::Reserved(_) => RELEASED,
        State::Committed(_) => {
            tracing::warn!(order = %command.order_id, "what was sold is released: order has forgotten the sale");
            RETURNED
        }
        // Nothing is held; a stored refusal stays what it is.
        State::Rejected(_) | State::Released | State::Returned => return Ok(Outcome::of(found)),
    };
    store::set_state(connection, command.order_id, to)
        .await
        .map_err(CommandError::Store)?;
    outcome.freed = found.quantity;
    Ok(outcome)
}

/// Sells what the order holds. Order asks for what it was told to be held: a row that is not there was lost with a database
/// that came back from an archive, so the pieces are taken once more, if there are so many.
async fn commit(connection: &mut PgConnection, command: &Command) -> Result<Outcome, CommandError> {
    let mut outcome = match find(connection, command).await? {
        Some(reservation) => Outcome::of(reservation),
        None => reserve_again(connection, command).await?,
    };
    outcome.reservation.state = match outcome.reservation.state {
        State::Reserved(price) => {
            store::set_state(connection, command.order_id, COMMITTED)
                .await
                .map_err(CommandError::Store)?;
            State::Committed(price)
        }
        State::Committed(price) => State::Committed(price),
        // The return has overtaken its sale, which is over with it.
        State::Returned => State::Returned,
        State::Rejected(Reason::OutOfStock) => sell_refused(connection, command).await?,
        State::Rejected(Reason::UnknownItem | Reason::Released) => {
            return Err(out_of_turn("commit", command.order_id, "refused"));
        }
        State::Released => return Err(out_of_turn("commit", command.order_id, "released")),
    };
    Ok(outcome)
}

/// Sells to an order that was refused. It was told otherwise before this database came back from an archive; when the copy of
/// its reservation was heard again there were too few pieces.
async fn sell_refused(connection: &mut PgConnection, command: &Command) -> Result<State, CommandError> {
    let pieces = -command.quantity.get();
    let taken = store::move_pieces(connection, command.item_id.as_str(), pieces).await;
    if !taken.map_err(CommandError::Store)? {
        let state = "refused, and there is too little left to sell it all the same";
        return Err(out_of_turn("commit", command.order_id, state));
    }
    let price = store::sell_refused(connection, command.order_id).await;
    price.map(State::Committed).map_err(CommandError::Store)
}

async fn reserve_again(connection: &mut PgConnection, command: &Command) -> Result<Outcome, CommandError> {
    let outcome = reserve(connection, command).await?;
    if outcome.new && matches!(outcome.reservation.state, State::Rejected(_)) {
        let state = "not known, and there is too little left to sell it once more";
        return Err(out_of_turn("commit", command.order_id, state));
    }
    tracing::warn!(order = %command.order_id, "what was sold is taken once more: its reservation is not known");
    Ok(outcome)
}

/// Takes back what the order has bought, also when the return overtakes the sale. Without a row a tombstone is left: a
/// reservation that comes later holds nothing.
async fn give_back(connection: &mut PgConnection, command: &Command) -> Result<Outcome, CommandError> {
    let mut outcome = Outcome::of(reservation(command, State::Returned));
    if store::insert_tombstone(connection, command, RETURNED)
        .await
        .map_err(CommandError::Store)?
    {
        return Ok(outcome);
    }
    match existing(connection, command, "return").await?.state {
        State::Reserved(_) | State::Committed(_) => {
            store::set_state(connection, command.order_id, RETURNED)
                .await
                .map_err(CommandError::Store)?;
            outcome.freed = command.quantity.get();
        }
        // A copy of its sale that is heard later sells nothing.
        State::Rejected(_) => store::set_state(connection, command.order_id, RETURNED)
            .await
            .map_err(CommandError::Store)?,
        State::Released | State::Returned => {}
    }
    Ok(outcome)
}

fn reservation(command: &Command, state: State) -> Reservation {
    Reservation {
        order_id: command.order_id,
        item_id: command.item_id.as_str().to_owned(),
        quantity: command.quantity.get(),
        state,
    }
}

async fn existing(
    connection: &mut PgConnection,
    command: &Command,
    action: &'static str,
) -> Result<Reservation, CommandError> {
    let found = find(connection, command).await?;
    found.ok_or_else(|| out_of_turn(action, command.order_id, "not known"))
}

/// The order's row, locked; it has to be of what the command is of.
async fn find(connection: &mut PgConnection, command: &Command) -> Result<Option<Reservation>, CommandError> {
    let found = store::lock_reservation(connection, command.order_id)
        .await
        .map_err(CommandError::Store)?;
    let Some(reservation) = found else { return Ok(None) };
    if reservation.item_id != command.item_id.as_str() || reservation.quantity != command.quantity.get() {
        return Err(CommandError::KeyReused {
            order_id: command.order_id,
            item_id: reservation.item_id,
            quantity: reservation.quantity,
        });
    }
    Ok(Some(reservation))
}

fn out_of_turn(action: &'static str, order_id: Uuid, state: &'static str) -> CommandError {
    CommandError::OutOfTurn {
        action,
        order_id,
        state,
    }
}
