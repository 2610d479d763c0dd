//! Orders that others know and this database does not: it came back from an archive that is older than they are. What is held
//! for them is nobody's, so they are taken in once more, to be undone.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use valerix_kit::postgres::{self, milliseconds};

use super::statements::record;
use super::{Store, StoreError, sql};
use crate::events::Pieces;
use crate::order::{ANONYMOUS, Order, UNKNOWN_ITEM};
use crate::saga::state::{self, Disposition, Input, Reason, State};

/// Version of an order that is taken in once more: greater than any that it had, as whoever heard of it then passes over what
/// is older.
const ONCE_MORE: i64 = 1000;

impl Store {
    /// Remembers, inside the caller's transaction, that something is held for an order which is not known here.
    pub async fn hear_of(
        &self,
        connection: &mut PgConnection,
        order_id: Uuid,
        pieces: Option<&Pieces>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO strangers (order_id, item_id, quantity) VALUES ($1, $2, $3)
             ON CONFLICT (order_id) DO UPDATE SET item_id = coalesce(strangers.item_id, excluded.item_id),
                quantity = coalesce(strangers.quantity, excluded.quantity)",
        )
        .bind(order_id)
        .bind(pieces.map(|pieces| &pieces.item_id))
        .bind(pieces.map(|pieces| pieces.quantity))
        .execute(connection)
        .await
        .map(drop)
        .map_err(sql("remember an unknown order"))
    }

    /// Takes up to `limit` orders in that were heard of some time ago, and opens what undoes them. Other replicas take others.
    ///
    /// # Errors
    /// When Postgres is away: then none was taken in.
    pub async fn take_in_strangers(&self, limit: i64) -> Result<Vec<Order>, StoreError> {
        let mut transaction = postgres::begin(&self.pool).await.map_err(sql("begin"))?;
        let heard_of: Vec<(Uuid, Option<String>, Option<i32>)> = sqlx::query_as(
            "DELETE FROM strangers WHERE order_id IN (
                 SELECT order_id FROM strangers WHERE heard_at <= now() - $2 * interval '1 millisecond'
                 ORDER BY heard_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING order_id, item_id, quantity",
        )
        .bind(limit)
        .bind(milliseconds(self.times.forgotten))
        .fetch_all(&mut *transaction)
        .await
        .map_err(sql("take unknown orders"))?;
        let mut orders = vec![];
        for (order_id, item_id, quantity) in heard_of {
            let pieces = item_id.zip(quantity);
            let pieces = pieces.map(|(item_id, quantity)| Pieces { item_id, quantity });
            orders.extend(self.take_in_stranger(&mut transaction, order_id, pieces).await?);
        }
        transaction.commit().await.map_err(sql("commit"))?;
        Ok(orders)
    }

    /// `None`: it was taken in before, while this was heard; what is held is then asked for by its own table.
    async fn take_in_stranger(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        pieces: Option<Pieces>,
    ) -> Result<Option<Order>, StoreError> {
        let named = pieces.is_some();
        let (state, commands) = state::forgotten(named);
        if let Some(order) = self.read_in(connection, id).await? {
            let heard = if named { Input::Reserved } else { Input::Charged };
            if order.state.reason().is_some() {
                self.learn(connection, &order, pieces.as_ref()).await?;
                self.apply_in(connection, id, heard, None).await?;
            }
            return Ok(None);
        }
        let Pieces { item_id, quantity } = pieces.unwrap_or_else(|| Pieces {
            item_id: UNKNOWN_ITEM.to_owned(),
            quantity: 1,
        });
        let created_at: Option<DateTime<Utc>> = sqlx::query_scalar(
            "INSERT INTO orders (id, principal, item_id, quantity, state, reason, stock_returned, version, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now()) ON CONFLICT DO NOTHING RETURNING created_at",
        )
        .bind(id)
        .bind(ANONYMOUS)
        .bind(&item_id)
        .bind(quantity)
        .bind(state.name())
        .bind(state.reason().map(Reason::name))
        .bind(!named)
        .bind(ONCE_MORE)
        .fetch_optional(&mut *connection)
        .await
        .map_err(sql("take an unknown order in"))?;
        let Some(created_at) = created_at else {
            return Ok(None);
        };
        let order = Order {
            id,
            principal: ANONYMOUS.to_owned(),
            item_id,
            quantity,
            gremlin: false,
            probe: false,
            state,
            amount: None,
            version: ONCE_MORE,
            created_at,
            traceparent: String::new(),
        };
        self.obey(connection, &order, &commands).await?;
        let input = Input::Cancel(Reason::Forgotten);
        record(connection, id, input, State::Pending, state, Disposition::Applied).await?;
        Ok(Some(order))
    }

    /// Inventory names what it holds for an order that was taken in on the word of payment alone.
    pub(super) async fn learn(
        &self,
        connection: &mut PgConnection,
        order: &Order,
        pieces: Option<&Pieces>,
    ) -> Result<(), StoreError> {
        let unknown = order.state.reason() == Some(Reason::Forgotten) && order.item_id == UNKNOWN_ITEM;
        let Some(Pieces { item_id, quantity }) = pieces.filter(|_| unknown) else {
            return Ok(());
        };
        sqlx::query("UPDATE orders SET item_id = $2, quantity = $3 WHERE id = $1")
            .bind(order.id)
            .bind(item_id)
            .bind(quantity)
            .execute(connection)
            .await
            .map(drop)
            .map_err(sql("learn what an order was of"))
    }
}
