//! Every SQL statement of the service, one function each. Those that write take the connection of a transaction.
//!
//! Lock order everywhere: the reservation's row, then the item's. The item's row is the hot one and is locked last.

pub mod chaos;
pub mod counts;

use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::config::Seed;
use crate::stock::{Command, Item, Price, Reason, Reservation, State};

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

/// Inserts the order's row as a refusal, to be decided by [`decide`] in the same transaction. `false`: there is one.
/// Waits for a transaction that does the same at this moment.
///
/// # Errors
/// The statement's.
pub async fn claim_reservation(connection: &mut PgConnection, command: &Command) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO reservations (order_id, item_id, quantity, state, reason) \
         VALUES ($1, $2, $3, 'REJECTED', 'OUT_OF_STOCK') ON CONFLICT DO NOTHING",
    )
    .bind(command.order_id)
    .bind(command.item_id.as_str())
    .bind(command.quantity.get())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the pieces if there are enough, and writes the decision.
///
/// # Errors
/// The statement's.
pub async fn decide(connection: &mut PgConnection, command: &Command) -> Result<Reservation, sqlx::Error> {
    sqlx::query_as::<_, Row>(
        "WITH taken AS (\
             UPDATE items SET available = available - $3 WHERE item_id = $2 AND available >= $3 \
             RETURNING unit_price_minor, currency) \
         UPDATE reservations SET \
             state = CASE WHEN EXISTS (SELECT FROM taken) THEN 'RESERVED' ELSE 'REJECTED' END, \
             reason = CASE WHEN EXISTS (SELECT FROM taken) THEN NULL \
                           WHEN EXISTS (SELECT FROM items WHERE item_id = $2) THEN 'OUT_OF_STOCK' \
                           ELSE 'UNKNOWN_ITEM' END, \
             unit_price_minor = (SELECT unit_price_minor FROM taken), \
             currency = (SELECT currency FROM taken), updated_at = now() \
         WHERE order_id = $1 \
         RETURNING order_id, item_id, quantity, state, reason, unit_price_minor, currency",
    )
    .bind(command.order_id)
    .bind(command.item_id.as_str())
    .bind(command.quantity.get())
    .fetch_one(connection)
    .await?
    .reservation()
}

/// Inserts the order's row as released. `false`: there is a row.
///
/// # Errors
/// The statement's.
pub async fn insert_tombstone(connection: &mut PgConnection, command: &Command) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO reservations (order_id, item_id, quantity, state) VALUES ($1, $2, $3, 'RELEASED') \
         ON CONFLICT DO NOTHING",
    )
    .bind(command.order_id)
    .bind(command.item_id.as_str())
    .bind(command.quantity.get())
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

/// Gives the pieces of a locked, held reservation back.
///
/// # Errors
/// The statement's.
pub async fn release(connection: &mut PgConnection, order_id: Uuid) -> Result<(), sqlx::Error> {
    free(connection, order_id, "RELEASED", &["RESERVED"]).await
}

/// Takes the pieces of a locked reservation that is held or sold back.
///
/// # Errors
/// The statement's.
pub async fn give_back(connection: &mut PgConnection, order_id: Uuid) -> Result<(), sqlx::Error> {
    free(connection, order_id, "RETURNED", &["RESERVED", "COMMITTED"]).await
}

async fn free(connection: &mut PgConnection, order_id: Uuid, to: &str, from: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH freed AS (\
             UPDATE reservations SET state = $2, updated_at = now() \
             WHERE order_id = $1 AND state = ANY($3) RETURNING item_id, quantity) \
         UPDATE items SET available = available + freed.quantity FROM freed WHERE items.item_id = freed.item_id",
    )
    .bind(order_id)
    .bind(to)
    .bind(from)
    .execute(connection)
    .await?;
    Ok(())
}

/// Sells the pieces of a locked, held reservation.
///
/// # Errors
/// The statement's.
pub async fn commit(connection: &mut PgConnection, order_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE reservations SET state = 'COMMITTED', updated_at = now() WHERE order_id = $1 AND state = 'RESERVED'",
    )
    .bind(order_id)
    .execute(connection)
    .await?;
    Ok(())
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
