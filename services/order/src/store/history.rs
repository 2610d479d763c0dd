//! What happened to an order, as its history has it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Store, StoreError, sql};

/// One input that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Taken {
    /// Grows; an order's moves are in the order of it.
    pub id: i64,
    /// What came.
    pub input: String,
    /// Where the order stood.
    pub from_state: String,
    /// Where it stood afterwards.
    pub to_state: String,
    /// What became of the input.
    pub verdict: String,
    /// When its transaction began.
    pub at: DateTime<Utc>,
}

impl Store {
    /// At most `limit` inputs of an order behind the one with the id `after`, oldest first.
    pub async fn history(&self, order_id: Uuid, after: i64, limit: i64) -> Result<Vec<Taken>, StoreError> {
        sqlx::query_as(
            "SELECT id, input, from_state, to_state, verdict, at FROM order_history
             WHERE order_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(order_id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .map_err(sql("read a history"))
    }

    /// The same, only those that moved the order: these are committed in the order of their ids, as each holds the order's
    /// row when it gets its id.
    pub async fn moves(&self, order_id: Uuid, after: i64, limit: i64) -> Result<Vec<Taken>, StoreError> {
        sqlx::query_as(
            "SELECT id, input, from_state, to_state, verdict, at FROM order_history
             WHERE order_id = $1 AND id > $2 AND from_state <> to_state ORDER BY id LIMIT $3",
        )
        .bind(order_id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .map_err(sql("read an order's moves"))
    }
}
