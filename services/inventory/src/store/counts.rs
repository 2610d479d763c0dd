//! What is written under the lock of the stock: each such transaction passes the fence first.

use sqlx::{FromRow, PgConnection, PgPool};
use valerix_kit::lock::Fence;

/// The row that remembers the last holder of the stock's lock.
const STOCK: &str = "stock";

/// An item that was counted anew.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Counted {
    /// The item.
    pub item_id: String,
    /// Pieces that may be reserved, as they are now.
    pub available: i64,
    /// What was added to get there; 0 where the count was right.
    pub correction: i64,
}

/// The greatest token that has passed; the next holder's is greater.
///
/// # Errors
/// The statement's.
pub async fn mark(pool: &PgPool) -> Result<i64, sqlx::Error> {
    let token: Option<i64> = sqlx::query_scalar("SELECT token FROM fences WHERE name = $1")
        .bind(STOCK)
        .fetch_optional(pool)
        .await?;
    Ok(token.unwrap_or(0))
}

/// Lets a holder pass whom nobody has overtaken, and keeps those behind it out. `false`: it was overtaken, nothing may be
/// written. Holds the row to the end of the transaction.
///
/// # Errors
/// The statement's.
pub async fn pass(connection: &mut PgConnection, fence: &Fence) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO fences (name, token, holder) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET token = excluded.token, holder = excluded.holder \
         WHERE fences.token < excluded.token \
            OR (fences.token = excluded.token AND fences.holder = excluded.holder)",
    )
    .bind(STOCK)
    .bind(fence.token)
    .bind(&fence.holder)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Every item, in the order in which they are counted.
///
/// # Errors
/// The statement's.
pub async fn item_ids(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT item_id FROM items ORDER BY item_id")
        .fetch_all(pool)
        .await
}

/// Counts one item: available is all that was supplied less what orders hold or have bought. `None`: there is no such item.
///
/// The item is locked first. An order that is decided meanwhile waits at it, and changes what was counted without it.
///
/// # Errors
/// The statements'.
pub async fn recount(connection: &mut PgConnection, item_id: &str) -> Result<Option<Counted>, sqlx::Error> {
    sqlx::query("SELECT FROM items WHERE item_id = $1 FOR UPDATE")
        .bind(item_id)
        .execute(&mut *connection)
        .await?;
    // A statement of its own: it has to see what was committed while the lock was waited for.
    sqlx::query_as(
        "WITH taken AS (\
             SELECT coalesce(sum(quantity), 0)::bigint AS quantity FROM reservations \
             WHERE item_id = $1 AND state IN ('RESERVED', 'COMMITTED')), \
         counted AS (\
             SELECT item_id, items.available AS before, greatest(initial - taken.quantity, 0) AS available \
             FROM items CROSS JOIN taken WHERE item_id = $1), \
         corrected AS (\
             UPDATE items SET available = counted.available FROM counted \
             WHERE items.item_id = counted.item_id AND counted.before <> counted.available) \
         SELECT item_id, available, available - before AS correction FROM counted",
    )
    .bind(item_id)
    .fetch_optional(connection)
    .await
}
