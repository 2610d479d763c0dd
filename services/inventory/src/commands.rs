//! The rules of ReserveStock, ReleaseStock, CommitStock and ReturnStock, the same for HTTP and for events.
//!
//! In: a command and the connection of a transaction. Out: the reservation as it now is. The caller commits.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::stock::{Command, Reservation, State};
use crate::store;

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
    /// The saga never asks for this: releasing what is sold, selling what is not held.
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

/// Reserves once per order. The flag says whether the decision was made now.
///
/// # Errors
/// See [`CommandError`].
pub async fn reserve(connection: &mut PgConnection, command: &Command) -> Result<(Reservation, bool), CommandError> {
    if store::claim_reservation(connection, command)
        .await
        .map_err(CommandError::Store)?
    {
        let reservation = store::decide(connection, command).await.map_err(CommandError::Store)?;
        return Ok((reservation, true));
    }
    Ok((existing(connection, command, "reserve").await?, false))
}

/// Gives back what the order holds. Without a row a tombstone is left, for a reservation that comes later.
///
/// # Errors
/// See [`CommandError`].
pub async fn release(connection: &mut PgConnection, command: &Command) -> Result<Reservation, CommandError> {
    if !store::insert_tombstone(connection, command)
        .await
        .map_err(CommandError::Store)?
    {
        let reservation = existing(connection, command, "release").await?;
        match reservation.state {
            State::Reserved(_) => store::release(connection, command.order_id)
                .await
                .map_err(CommandError::Store)?,
            // Nothing is held; a stored refusal stays what it is.
            State::Rejected(_) | State::Released => return Ok(reservation),
            State::Committed(_) | State::Returned => {
                return Err(out_of_turn("release", command.order_id, "sold"));
            }
        }
    }
    Ok(reservation(command, State::Released))
}

/// Sells what the order holds.
///
/// # Errors
/// See [`CommandError`].
pub async fn commit(connection: &mut PgConnection, command: &Command) -> Result<Reservation, CommandError> {
    let mut reservation = existing(connection, command, "commit").await?;
    reservation.state = match reservation.state {
        State::Reserved(price) => {
            store::commit(connection, command.order_id)
                .await
                .map_err(CommandError::Store)?;
            State::Committed(price)
        }
        State::Committed(price) => State::Committed(price),
        // The return has overtaken its sale, which is over with it.
        State::Returned => State::Returned,
        State::Rejected(_) => return Err(out_of_turn("commit", command.order_id, "refused")),
        State::Released => return Err(out_of_turn("commit", command.order_id, "released")),
    };
    Ok(reservation)
}

/// Takes back what the order has bought, also when the return overtakes the sale. Without a row a tombstone is left: a
/// reservation that comes later holds nothing.
///
/// # Errors
/// See [`CommandError`].
pub async fn give_back(connection: &mut PgConnection, command: &Command) -> Result<Reservation, CommandError> {
    if !store::insert_tombstone(connection, command)
        .await
        .map_err(CommandError::Store)?
    {
        match existing(connection, command, "return").await?.state {
            State::Reserved(_) | State::Committed(_) => store::give_back(connection, command.order_id)
                .await
                .map_err(CommandError::Store)?,
            State::Released | State::Returned => {}
            State::Rejected(_) => return Err(out_of_turn("return", command.order_id, "refused")),
        }
    }
    Ok(reservation(command, State::Returned))
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
    let found = store::lock_reservation(connection, command.order_id)
        .await
        .map_err(CommandError::Store)?;
    let reservation = found.ok_or_else(|| out_of_turn(action, command.order_id, "not known"))?;
    if reservation.item_id != command.item_id.as_str() || reservation.quantity != command.quantity.get() {
        return Err(CommandError::KeyReused {
            order_id: command.order_id,
            item_id: reservation.item_id,
            quantity: reservation.quantity,
        });
    }
    Ok(reservation)
}

fn out_of_turn(action: &'static str, order_id: Uuid, state: &'static str) -> CommandError {
    CommandError::OutOfTurn {
        action,
        order_id,
        state,
    }
}
