//! Every SQL statement of the service. In: orders and inputs. Out: rows, written in one transaction with the commands,
//! announcements and history that the saga's table asks for. `commands` opens, sends and closes commands, `statements` are
//! those on one order, `strangers` takes in orders that others know and this database does not, `history` reads.
//!
//! A transition is one `UPDATE .. WHERE state = ..`; when it matches nothing, someone else moved the order: it is read
//! again and the table is asked again.

mod commands;
mod history;
mod statements;
mod strangers;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;
use valerix_kit::money::Money;
use valerix_kit::postgres::{self, milliseconds};
use valerix_kit::telemetry::TraceContext;

pub use self::commands::Sent;
pub use self::history::Taken;
use self::statements::{COLUMNS, Row, keep_charge, listed, read, record, update};
use crate::events::Pieces;
use crate::order::{Applied, NewOrder, Order};
use crate::saga::reply::Reply;
use crate::saga::state::{self, Disposition, Input, State, Step};

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Budget of the HTTP fast path: a command is not sent by event before it is over.
    pub budget: Duration,
    /// An order that is not finished by then is cancelled.
    pub expiry: Duration,
    /// Time before an unanswered command is sent again; doubles with every attempt, up to thirty times this.
    pub resend: Duration,
    /// Time before an order that others know and this database does not is taken in to be undone.
    pub forgotten: Duration,
}

/// Reading or writing orders went wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("failed to {action}")]
    Sql {
        /// What was being done.
        action: &'static str,
        /// What Postgres or the connection said.
        source: sqlx::Error,
    },
    /// A row holds what this version does not know.
    #[error("failed to read order {order_id}: {what} is not known to this version")]
    Row {
        /// The order.
        order_id: Uuid,
        /// The column and value.
        what: String,
    },
    /// There is no such order.
    #[error("failed to find order {order_id}")]
    Missing {
        /// The order.
        order_id: Uuid,
    },
}

impl StoreError {
    /// Label of the error in metrics and logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Sql { .. } => "sql",
            Self::Row { .. } => "row",
            Self::Missing { .. } => "missing",
        }
    }

    /// Whether Postgres is away, so that the next row would fare no better.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        let Self::Sql { source, .. } = self else { return false };
        postgres::classify(source) == postgres::Failure::Unavailable
    }
}

/// What is open.
#[derive(Debug)]
pub struct Open {
    /// Orders that have open commands, by state.
    pub orders: Vec<(String, i64)>,
    /// Open commands, by action.
    pub commands: Vec<(String, i64)>,
    /// How long the oldest due command has been due; 0 where none is.
    pub overdue_seconds: f64,
    /// How long the oldest command has waited for its answer, however often it was sent; 0 where none is open.
    pub oldest_seconds: f64,
}

/// The orders' database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    times: Times,
}

impl Store {
    /// The store behind `pool`.
    #[must_use]
    pub const fn new(pool: PgPool, times: Times) -> Self {
        Self { pool, times }
    }

    /// The pool, for what is not about orders.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The budget of the HTTP fast path.
    #[must_use]
    pub const fn budget(&self) -> Duration {
        self.times.budget
    }

    /// The table's first row, inside the caller's transaction: order, announcement, first command.
    pub async fn create(&self, connection: &mut PgConnection, new: &NewOrder) -> Result<Order, StoreError> {
        let (state, commands) = state::open();
        let traceparent = TraceContext::current()
            .map(|context| context.traceparent())
            .unwrap_or_default();
        let created_at: DateTime<Utc> = sqlx::query_scalar(
            "INSERT INTO orders (id, principal, item_id, quantity, gremlin, state, expires_at, traceparent, probe)
             VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 millisecond', $8, $9) RETURNING created_at",
        )
        .bind(new.id)
        .bind(&new.principal)
        .bind(new.item_id.as_str())
        .bind(new.quantity)
        .bind(new.gremlin)
        .bind(state.name())
        .bind(milliseconds(self.times.expiry))
        .bind(&traceparent)
        .bind(new.probe)
        .fetch_one(&mut *connection)
        .await
        .map_err(sql("insert an order"))?;
        let order = Order {
            id: new.id,
            principal: new.principal.clone(),
            item_id: new.item_id.as_str().to_owned(),
            quantity: new.quantity,
            gremlin: new.gremlin,
            probe: new.probe,
            state,
            amount: None,
            version: 1,
            created_at,
            traceparent,
        };
        self.obey(connection, &order, &commands).await?;
        Ok(order)
    }

    /// One order, whoever it belongs to.
    pub async fn read(&self, id: Uuid) -> Result<Option<Order>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(sql("get a connection"))?;
        read(&mut connection, id).await
    }

    /// One order, inside the caller's transaction.
    pub async fn read_in(&self, connection: &mut PgConnection, id: Uuid) -> Result<Option<Order>, StoreError> {
        read(connection, id).await
    }

    /// At most `limit` orders of `principal`, newest first, older than `before`. One that this version cannot read is its id
    /// alone.
    pub async fn page(
        &self,
        principal: &str,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<(Uuid, Option<Order>)>, StoreError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM orders WHERE principal = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"
        );
        let rows = sqlx::query_as::<_, Row>(AssertSqlSafe(statement))
            .bind(principal)
            .bind(before)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("list orders"))?;
        Ok(rows.into_iter().map(listed).collect())
    }

    /// Takes one input in, in a transaction of its own.
    pub async fn apply(&self, id: Uuid, input: Input, amount: Option<&Money>) -> Result<Applied, StoreError> {
        let mut transaction = postgres::begin(&self.pool).await.map_err(sql("begin"))?;
        let applied = self.apply_in(&mut transaction, id, input, amount).await?;
        transaction.commit().await.map_err(sql("commit"))?;
        Ok(applied)
    }

    /// Takes a reply in, inside the caller's transaction; `pieces` are those that it is about, if it says so. `None`: the order
    /// is not known here.
    pub async fn reply_in(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        reply: &Reply,
        pieces: Option<&Pieces>,
    ) -> Result<Option<Applied>, StoreError> {
        let Some(order) = read(connection, id).await? else {
            return Ok(None);
        };
        self.learn(connection, &order, pieces).await?;
        let (input, amount) = reply.input(order.quantity);
        self.apply_in(connection, id, input, amount.as_ref()).await.map(Some)
    }

    /// Takes an input in, and then the charge that was heard while the order had not come so far.
    async fn apply_in(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        input: Input,
        amount: Option<&Money>,
    ) -> Result<Applied, StoreError> {
        let (mut applied, charged) = self.take_in(connection, id, input, amount).await?;
        if charged && applied.before == State::Pending {
            let (then, _) = self.take_in(connection, id, Input::Charged, None).await?;
            applied.order = then.order;
        }
        Ok(applied)
    }

    /// Says also whether the order was moved, and a charge had been heard of it before that.
    async fn take_in(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        input: Input,
        amount: Option<&Money>,
    ) -> Result<(Applied, bool), StoreError> {
        loop {
            let mut order = read(connection, id)
                .await?
                .ok_or(StoreError::Missing { order_id: id })?;
            let before = order.state;
            let Step {
                state,
                commands,
                disposition,
            } = state::step(before, input);
            let mut charged = false;
            if disposition == Disposition::Applied {
                if let (State::Pending, State::Reserved) = (before, state) {
                    order.amount = amount.cloned();
                }
                order.state = state;
                let Some(heard) = update(connection, &order, before).await? else {
                    continue;
                };
                charged = heard && state != before;
                order.version += 1;
                self.obey(connection, &order, &commands).await?;
            }
            if disposition == Disposition::Early && !keep_charge(connection, &order).await? {
                continue;
            }
            record(connection, id, input, before, order.state, disposition).await?;
            return Ok((Applied { order, before }, charged));
        }
    }

    /// Up to `limit` orders that should have been finished by now, the longest overdue first, behind `after`.
    pub async fn expired(
        &self,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<(DateTime<Utc>, Uuid)>, StoreError> {
        let (expired_at, id) = after.unzip();
        sqlx::query_as(
            "SELECT expires_at, id FROM orders WHERE state IN ('PENDING', 'RESERVED') AND expires_at <= now()
                AND ($2::timestamptz IS NULL OR (expires_at, id) > ($2, $3))
             ORDER BY expires_at, id LIMIT $1",
        )
        .bind(limit)
        .bind(expired_at)
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("find expired orders"))
    }

    /// Up to `limit` confirmed orders that probes have placed, behind `after`.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn confirmed_probes(&self, after: Option<Uuid>, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query_scalar(
            "SELECT id FROM orders WHERE probe AND state = 'CONFIRMED' AND ($2::uuid IS NULL OR id > $2)
             ORDER BY id LIMIT $1",
        )
        .bind(limit)
        .bind(after)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("find confirmed orders of probes"))
    }

    /// The orders that have open commands: they have not come to their end.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn under_way(&self) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query_scalar("SELECT DISTINCT order_id FROM commands")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("find orders that are under way"))
    }

    /// What is open, over all replicas.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn open(&self) -> Result<Open, StoreError> {
        let orders = sqlx::query_as(
            "SELECT state, count(*) FROM orders WHERE id IN (SELECT order_id FROM commands) GROUP BY state",
        );
        let commands = sqlx::query_as("SELECT action, count(*) FROM commands GROUP BY action");
        let overdue = sqlx::query_scalar(
            "SELECT coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8 FROM commands WHERE due_at <= now()",
        );
        let oldest = sqlx::query_scalar(
            "SELECT greatest(coalesce(extract(epoch FROM now() - min(created_at)), 0), 0)::float8 FROM commands",
        );
        let counted = async {
            Ok(Open {
                orders: orders.fetch_all(&self.pool).await?,
                commands: commands.fetch_all(&self.pool).await?,
                overdue_seconds: overdue.fetch_one(&self.pool).await?,
                oldest_seconds: oldest.fetch_one(&self.pool).await?,
            })
        };
        counted.await.map_err(sql("count what is open"))
    }
}

const fn sql(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Sql { action, source }
}
