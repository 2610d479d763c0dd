//! Every SQL statement of the service. In: orders and inputs. Out: rows, written in one transaction with the commands,
//! announcements and history that the saga's table asks for.
//!
//! A transition is one `UPDATE .. WHERE state = ..`; when it matches nothing, someone else moved the order: it is read
//! again and the table is asked again.

mod statements;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use valerix_kit::postgres;

use self::statements::{Row, announce, emit, read, record, update};
use crate::events::Answered;
use crate::money::Money;
use crate::saga::commands::{Action, Command, Due};
use crate::saga::state::{self, Input, State, Step, Verdict};

/// One order, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id, v7.
    pub id: Uuid,
    /// What was ordered.
    pub item_id: String,
    /// How many, 1 to 10,000.
    pub quantity: i32,
    /// The answers of its fast path are thrown away.
    pub gremlin: bool,
    /// Where it stands.
    pub state: State,
    /// What it costs, once inventory has said so.
    pub amount: Option<Money>,
    /// Version of the aggregate `order:{id}`.
    pub version: i64,
    /// When it was taken in.
    pub created_at: DateTime<Utc>,
}

/// An order that was not stored yet.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Its id, v7.
    pub id: Uuid,
    /// Whose it is.
    pub principal: String,
    /// What is ordered.
    pub item_id: String,
    /// How many, 1 to 10,000.
    pub quantity: i32,
    /// The answers of its fast path are thrown away.
    pub gremlin: bool,
}

/// What became of an input.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The order after it.
    pub order: Order,
    /// Where it stood before.
    pub before: State,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Budget of the HTTP fast path: a command is not sent by event before it is over.
    pub budget: Duration,
    /// An order that is not finished by then is cancelled.
    pub expiry: Duration,
    /// Time before an unanswered command is sent again; doubles with every attempt, up to four times this.
    pub resend: Duration,
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
        let created_at: DateTime<Utc> = sqlx::query_scalar(
            "INSERT INTO orders (id, principal, item_id, quantity, gremlin, state, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 millisecond') RETURNING created_at",
        )
        .bind(new.id)
        .bind(&new.principal)
        .bind(&new.item_id)
        .bind(new.quantity)
        .bind(new.gremlin)
        .bind(state.name())
        .bind(milliseconds(self.times.expiry))
        .fetch_one(&mut *connection)
        .await
        .map_err(sql("insert an order"))?;
        let order = Order {
            id: new.id,
            item_id: new.item_id.clone(),
            quantity: new.quantity,
            gremlin: new.gremlin,
            state,
            amount: None,
            version: 1,
            created_at,
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

    /// One order of `principal`.
    pub async fn read_of(&self, principal: &str, id: Uuid) -> Result<Option<Order>, StoreError> {
        sqlx::query_as::<_, Row>(
            "SELECT id, item_id, quantity, gremlin, state, reason, stock_returned, payment_settled, amount_minor,
                    currency, version, created_at
             FROM orders WHERE id = $1 AND principal = $2",
        )
        .bind(id)
        .bind(principal)
        .fetch_optional(&self.pool)
        .await
        .map_err(sql("read an order"))?
        .map(Order::try_from)
        .transpose()
    }

    /// At most `limit` orders of `principal`, newest first, older than `before`.
    pub async fn page(&self, principal: &str, before: Option<Uuid>, limit: i64) -> Result<Vec<Order>, StoreError> {
        sqlx::query_as::<_, Row>(
            "SELECT id, item_id, quantity, gremlin, state, reason, stock_returned, payment_settled, amount_minor,
                    currency, version, created_at
             FROM orders WHERE principal = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        )
        .bind(principal)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list orders"))?
        .into_iter()
        .map(Order::try_from)
        .collect()
    }

    /// Takes one input in, in a transaction of its own.
    pub async fn apply(&self, id: Uuid, input: Input, amount: Option<&Money>) -> Result<Applied, StoreError> {
        let mut transaction = postgres::begin(&self.pool).await.map_err(sql("begin"))?;
        let applied = self.apply_in(&mut transaction, id, input, amount).await?;
        transaction.commit().await.map_err(sql("commit"))?;
        Ok(applied)
    }

    /// Takes an answer in, inside the caller's transaction. `None`: the order is not known here.
    pub async fn answer_in(
        &self,
        connection: &mut PgConnection,
        answered: &Answered,
    ) -> Result<Option<Applied>, StoreError> {
        let Some(order) = read(connection, answered.order_id).await? else {
            return Ok(None);
        };
        let (input, amount) = answered.said.input(order.quantity);
        self.apply_in(connection, order.id, input, amount.as_ref())
            .await
            .map(Some)
    }

    async fn apply_in(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        input: Input,
        amount: Option<&Money>,
    ) -> Result<Applied, StoreError> {
        loop {
            let mut order = read(connection, id)
                .await?
                .ok_or(StoreError::Missing { order_id: id })?;
            let before = order.state;
            let Step {
                state,
                commands,
                verdict,
            } = state::step(before, input);
            if verdict == Verdict::Applied {
                if let (State::Pending, State::Reserved) = (before, state) {
                    order.amount = amount.cloned();
                }
                order.state = state;
                if !update(connection, &order, before).await? {
                    continue;
                }
                order.version += 1;
                self.obey(connection, &order, &commands).await?;
            }
            record(connection, id, input, before, order.state, verdict).await?;
            return Ok(Applied { order, before });
        }
    }

    /// Writes what a transition to `order.state` asks for.
    async fn obey(&self, connection: &mut PgConnection, order: &Order, commands: &[Command]) -> Result<(), StoreError> {
        for command in commands {
            match *command {
                Command::Send(action, due) => {
                    let wait = if due == Due::Now {
                        0
                    } else {
                        milliseconds(self.times.budget)
                    };
                    // Without a budget left there is no fast path to wait for.
                    let attempts: i32 = sqlx::query_scalar(
                        "INSERT INTO commands (order_id, action, attempts, due_at)
                         SELECT $1, $2, over::integer, CASE WHEN over THEN now() + $5 * interval '1 millisecond'
                                                            ELSE $3 + $4 * interval '1 millisecond' END
                         FROM (SELECT $3 + $4 * interval '1 millisecond' <= now() AS over) AS budget
                         RETURNING attempts",
                    )
                    .bind(order.id)
                    .bind(action.name())
                    .bind(order.created_at)
                    .bind(wait)
                    .bind(milliseconds(self.times.resend))
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(sql("open a command"))?;
                    if attempts == 1 {
                        emit(connection, order, action, attempts).await?;
                    }
                }
                Command::Close(action) => {
                    sqlx::query("DELETE FROM commands WHERE order_id = $1 AND action = $2")
                        .bind(order.id)
                        .bind(action.name())
                        .execute(&mut *connection)
                        .await
                        .map_err(sql("close a command"))?;
                }
                Command::Hasten(action) => {
                    // One that went out as an event already needs no haste.
                    let hastened = sqlx::query(
                        "UPDATE commands SET attempts = 1, due_at = now() + $3 * interval '1 millisecond'
                         WHERE order_id = $1 AND action = $2 AND attempts = 0",
                    )
                    .bind(order.id)
                    .bind(action.name())
                    .bind(milliseconds(self.times.resend))
                    .execute(&mut *connection)
                    .await
                    .map_err(sql("hasten a command"))?
                    .rows_affected();
                    if hastened == 1 {
                        emit(connection, order, action, 1).await?;
                    }
                }
                Command::Publish(announcement) => announce(connection, order, announcement).await?,
            }
        }
        Ok(())
    }

    /// Sends up to `limit` due commands as events and says how many. Other replicas take others.
    pub async fn send_due(&self, limit: i64) -> Result<usize, StoreError> {
        let mut transaction = postgres::begin(&self.pool).await.map_err(sql("begin"))?;
        let due: Vec<(Uuid, String, i32)> = sqlx::query_as(
            "UPDATE commands SET attempts = attempts + 1,
                    due_at = now() + $2 * least(power(2, attempts), 4) * interval '1 millisecond'
             WHERE (order_id, action) IN (SELECT order_id, action FROM commands
                                          WHERE due_at <= now() AND action = ANY($3)
                                          ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING order_id, action, attempts",
        )
        .bind(limit)
        .bind(milliseconds(self.times.resend))
        .bind(Action::ALL.map(Action::name))
        .fetch_all(&mut *transaction)
        .await
        .map_err(sql("take due commands"))?;
        for (order_id, name, attempts) in &due {
            // An order that only a newer version can read waits for one, and holds nobody else up.
            match read(&mut transaction, *order_id).await {
                Ok(Some(order)) => {
                    if let Some(action) = Action::parse(name) {
                        emit(&mut transaction, &order, action, *attempts).await?;
                    }
                }
                Ok(None) => {}
                Err(error @ StoreError::Row { .. }) => tracing::error!(%error, "a command was not sent"),
                Err(error) => return Err(error),
            }
        }
        transaction.commit().await.map_err(sql("commit"))?;
        Ok(due.len())
    }

    /// Up to `limit` orders that should have been finished by now.
    pub async fn expired(&self, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query_scalar(
            "SELECT id FROM orders WHERE state IN ('PENDING', 'RESERVED') AND expires_at <= now()
             ORDER BY expires_at LIMIT $1",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("find expired orders"))
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

const fn sql(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Sql { action, source }
}
