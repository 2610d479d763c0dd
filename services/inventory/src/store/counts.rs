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

/// Counts every item: available is all that was supplied less what orders hold or have bought.
///
/// The items are locked first. An order that is decided meanwhile waits at its item, and changes what was counted
/// without it.
///
/// # Errors
/// The statements'.
pub async fn recount(connection: &mut PgConnection) -> Result<Vec<Counted>, sqlx::Error> {
    sqlx::query("SELECT FROM items ORDER BY item_id FOR UPDATE")
        .execute(&mut *connection)
        .await?;
    sqlx::query_as(
        "WITH taken AS (\
             SELECT item_id, sum(quantity)::bigint AS quantity FROM reservations \
             WHERE state IN ('RESERVED', 'COMMITTED') GROUP BY item_id), \
         counted AS (\
             SELECT item_id, items.available AS before, \
                    greatest(initial - coalesce(taken.quantity, 0), 0) AS available \
             FROM items LEFT JOIN taken USING (item_id)), \
         corrected AS (\
             UPDATE items SET available = counted.available FROM counted \
             WHERE items.item_id = counted.item_id AND counted.before <> counted.available) \
         SELECT item_id, available, available - before AS correction FROM counted ORDER BY item_id",
    )
    .fetch_all(connection)
    .await
}
