//! Every SQL statement of the service, one function each. Those that write take the connection of a transaction.
//!
//! Lock order everywhere: the reservation's row, then the item's. The item's row is the hot one and is locked last.

pub mod chaos;
pub mod counts;

use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::config::Seed;
use crate::stock::{Command, Item, Price, Reason, Reservation, State, aggregate};

/// What was held went back.
pub const RELEASED: &str = "RELEASED";
/// What was held is sold.
pub const COMMITTED: &str = "COMMITTED";
/// What was sold came back.
pub const RETURNED: &str = "RETURNED";

#[derive(FromRow)]
struct Row {
    order_id: Uuid,
    item_id: String,
    quantity: i64,
    state: String,
    reason: Option<String>,
    unit_price_minor: Option<i64>,
    currency: Option<String>,
}

impl Row {
    fn reservation(self) -> Result<Reservation, sqlx::Error> {
        let price = self
            .unit_price_minor
            .zip(self.currency)
            .map(|(unit_price_minor, currency)| Price {
                unit_price_minor,
                currency,
            });
        let state = match (self.state.as_str(), self.reason.as_deref(), price) {
            ("RESERVED", None, Some(price)) => State::Reserved(price),
            ("COMMITTED", None, Some(price)) => State::Committed(price),
            ("RELEASED", None, _) => State::Released,
            ("RETURNED", None, _) => State::Returned,
            ("REJECTED", Some("OUT_OF_STOCK"), _) => State::Rejected(Reason::OutOfStock),
            ("REJECTED", Some("UNKNOWN_ITEM"), _) => State::Rejected(Reason::UnknownItem),
            (state, reason, _) => {
                return Err(sqlx::Error::Decode(
                    format!("unknown reservation state {state} {reason:?}").into(),
                ));
            }
        };
        Ok(Reservation {
            order_id: self.order_id,
            item_id: self.item_id,
            quantity: self.quantity,
            state,
        })
    }
}

/// Inserts the order's row as it is decided by the pieces that are to be seen, which nobody keeps from being taken before
/// [`move_pieces`] takes them. `None`: there is a row. Waits for a transaction that does the same at this moment.
///
/// # Errors
/// The statement's.
pub async fn decide(connection: &mut PgConnection, command: &Command) -> Result<Option<Reservation>, sqlx::Error> {
    sqlx::query_as::<_, Row>(
        "INSERT INTO reservations (order_id, item_id, quantity, state, reason, unit_price_minor, currency) \
         SELECT $1, $2, $3, CASE WHEN held THEN 'RESERVED' ELSE 'REJECTED' END, \
             CASE WHEN held THEN NULL WHEN known THEN 'OUT_OF_STOCK' ELSE 'UNKNOWN_ITEM' END, \
             CASE WHEN held THEN unit_price_minor END, CASE WHEN held THEN currency END \
         FROM (SELECT coalesce(available >= $3, false) AS held, item_id IS NOT NULL AS known, unit_price_minor, currency \
               FROM (SELECT) AS one LEFT JOIN items ON item_id = $2) AS item \
         ON CONFLICT DO NOTHING \
         RETURNING order_id, item_id, quantity, state, reason, unit_price_minor, currency",
    )
    .bind(command.order_id)
    .bind(command.item_id.as_str())
    .bind(command.quantity.get())
    .fetch_optional(connection)
    .await?
    .map(Row::reservation)
    .transpose()
}

/// Gives an item so many pieces, or takes them where it is less than nothing. `false`: there are not so many. Holds the item to
/// the end of the transaction, so nothing but that may follow.
///
/// # Errors
/// The statement's.
pub async fn move_pieces(connection: &mut PgConnection, item_id: &str, pieces: i64) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE items SET available = available + $2 WHERE item_id = $1 AND available + $2 >= 0")
        .bind(item_id)
        .bind(pieces)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes back what the same transaction has decided and said about an order.
///
/// # Errors
/// The statement's.
pub async fn withdraw(connection: &mut PgConnection, order_id: Uuid, version: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH decided AS (DELETE FROM reservations WHERE order_id = $1) \
         DELETE FROM outbox WHERE aggregate = $2 AND version = $3",
    )
    .bind(order_id)
    .bind(aggregate(order_id))
    .bind(version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts the order's row as RELEASED or RETURNED, as `state` says. `false`: there is a row.
///
/// # Errors
/// The statement's.
pub async fn insert_tombstone(
    connection: &mut PgConnection,
    command: &Command,
    state: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO reservations (order_id, item_id, quantity, state) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(command.order_id)
    .bind(command.item_id.as_str())
    .bind(command.quantity.get())
    .bind(state)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The order's row, locked until the end of the transaction.
///
/// # Errors
/// The statement's.
pub async fn lock_reservation(
    connection: &mut PgConnection,
    order_id: Uuid,
) -> Result<Option<Reservation>, sqlx::Error> {
    sqlx::query_as::<_, Row>(
        "SELECT order_id, item_id, quantity, state, reason, unit_price_minor, currency FROM reservations \
         WHERE order_id = $1 FOR UPDATE",
    )
    .bind(order_id)
    .fetch_optional(connection)
    .await?
    .map(Row::reservation)
    .transpose()
}

/// Moves a locked reservation to another state; its pieces are for [`move_pieces`].
///
/// # Errors
/// The statement's.
pub async fn set_state(connection: &mut PgConnection, order_id: Uuid, to: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE reservations SET state = $2, reason = NULL, updated_at = now() WHERE order_id = $1")
        .bind(order_id)
        .bind(to)
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves the locked row of an order that was refused to COMMITTED, at what the item costs now.
///
/// # Errors
/// The statement's.
pub async fn sell_refused(connection: &mut PgConnection, order_id: Uuid) -> Result<Price, sqlx::Error> {
    let (unit_price_minor, currency) = sqlx::query_as(
        "UPDATE reservations SET state = 'COMMITTED', reason = NULL, unit_price_minor = items.unit_price_minor, \
             currency = items.currency, updated_at = now() \
         FROM items WHERE order_id = $1 AND items.item_id = reservations.item_id \
         RETURNING reservations.unit_price_minor, reservations.currency",
    )
    .bind(order_id)
    .fetch_one(connection)
    .await?;
    Ok(Price {
        unit_price_minor,
        currency,
    })
}

/// The version for the next event about the order's reservation.
///
/// # Errors
/// The statement's.
pub async fn next_version(connection: &mut PgConnection, order_id: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("UPDATE reservations SET version = version + 1 WHERE order_id = $1 RETURNING version")
        .bind(order_id)
        .fetch_one(connection)
        .await
}

/// One item.
///
/// # Errors
/// The statement's.
pub async fn item(pool: &PgPool, item_id: &str) -> Result<Option<Item>, sqlx::Error> {
    sqlx::query_as("SELECT item_id, available, initial, unit_price_minor, currency FROM items WHERE item_id = $1")
        .bind(item_id)
        .fetch_optional(pool)
        .await
}

/// At most `limit` items by id, behind the id `after`.
///
/// # Errors
/// The statement's.
pub async fn page(pool: &PgPool, after: Option<&str>, limit: i64) -> Result<Vec<Item>, sqlx::Error> {
    sqlx::query_as(
        "SELECT item_id, available, initial, unit_price_minor, currency FROM items \
         WHERE $1::text IS NULL OR item_id > $1 ORDER BY item_id LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Adds pieces to an item. `None`: there is no such item.
///
/// # Errors
/// The statement's.
pub async fn add_stock(
    connection: &mut PgConnection,
    item_id: &str,
    quantity: i64,
) -> Result<Option<Item>, sqlx::Error> {
    sqlx::query_as(
        "UPDATE items SET available = available + $2, initial = initial + $2 WHERE item_id = $1 \
         RETURNING item_id, available, initial, unit_price_minor, currency",
    )
    .bind(item_id)
    .bind(quantity)
    .fetch_optional(connection)
    .await
}

/// Inserts the items that do not exist; the others stay as they are.
///
/// # Errors
/// The statement's.
pub async fn seed(pool: &PgPool, seeds: &[Seed]) -> Result<(), sqlx::Error> {
    for seed in seeds {
        sqlx::query(
            "INSERT INTO items (item_id, initial, available, unit_price_minor, currency) VALUES ($1, $2, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(seed.id.as_str())
        .bind(seed.quantity)
        .bind(seed.unit_price_minor)
        .bind(&seed.currency)
        .execute(pool)
        .await?;
    }
    Ok(())
}
