//! Every SQL statement of the service. In: payments and inputs. Out: rows, written in one transaction with the answer
//! that the payment's table asks for. `due` takes up payments whose processor has to be asked, `reconciliations` keeps what
//! comparisons with its ledger found.
//!
//! No transaction is open while the processor is asked: one writes down what will be asked, another what was answered.

mod due;
mod reconciliations;

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;
use valerix_kit::events::outbox;
use valerix_kit::money::Money;
use valerix_kit::postgres::{self, milliseconds};

pub use self::due::Due;
pub use self::reconciliations::{Failed, Report};
use crate::events;
use crate::payment::{Applied, Payment};
use crate::saga::state::{self, Announcement, Input, State, Step};

/// What the processor is still being asked, and how old the last comparison with its ledger is.
#[derive(Debug)]
pub struct Open {
    /// Payments whose processor has to be asked, by state.
    pub payments: Vec<(String, i64)>,
    /// How long the one that has been asked about longest has been; 0 where there is none.
    pub oldest_seconds: f64,
    /// Since the last comparison that came to an end, or else since the first was asked for.
    pub compared_seconds: f64,
}

/// Who asks the processor for a payment that has just become PROCESSING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The caller, at once; the sweeper only if the caller is not heard of for the lease.
    ByCaller,
    /// The sweeper.
    BySweeper,
}

/// Reading or writing payments went wrong.
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
    #[error("failed to read payment {payment_id}: {what} is not known to this version")]
    Row {
        /// The payment.
        payment_id: Uuid,
        /// The column and value.
        what: String,
    },
    /// The order was to be charged another amount before.
    #[error("failed to charge order {order_id}: it was to be charged another amount before")]
    OtherAmount {
        /// The order.
        order_id: Uuid,
    },
    /// The processor's word is about a payment that does not exist.
    #[error("failed to find a payment of order {order_id}")]
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
            Self::OtherAmount { .. } => "other_amount",
            Self::Missing { .. } => "missing",
        }
    }
}

/// The payments' database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    lease: Duration,
}

const COLUMNS: &str = "id, order_id, amount_minor, currency, state, void_requested, reason, version, traceparent";

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    order_id: Uuid,
    amount_minor: Option<i64>,
    currency: Option<String>,
    state: String,
    void_requested: bool,
    reason: Option<String>,
    version: i64,
    traceparent: String,
}

impl Store {
    /// The store behind `pool`. Whoever takes a payment up for the first time has `lease` to ask the processor before
    /// another may; with every attempt he has twice as long.
    #[must_use]
    pub const fn new(pool: PgPool, lease: Duration) -> Self {
        Self { pool, lease }
    }

    /// The pool, for what is not about payments.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// One payment, inside the caller's transaction.
    pub async fn read_in(&self, connection: &mut PgConnection, id: Uuid) -> Result<Option<Payment>, StoreError> {
        read_by(connection, "id", id).await
    }

    /// One payment.
    pub async fn read(&self, id: Uuid) -> Result<Option<Payment>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(sql("get a connection"))?;
        read_by(&mut connection, "id", id).await
    }

    /// At most `limit` payments, newest first, older than the payment `before`. `None`: there is no such payment. One that
    /// this version cannot read is its id alone.
    ///
    /// Ids are made of the orders' and tell no age, so the time is looked up; among payments of one moment the id decides.
    pub async fn page(&self, before: Option<Uuid>, limit: i64) -> Result<Option<Vec<Listed>>, StoreError> {
        // Where to go on is one row in any case, so that the index is read from there and never from its start.
        let statement = format!(
            "SELECT {COLUMNS} FROM payments WHERE (created_at, id) < (
                 SELECT created_at, id FROM payments WHERE id = $1
                 UNION ALL SELECT 'infinity', $2 WHERE $1 IS NULL)
             ORDER BY created_at DESC, id DESC LIMIT $3"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(before)
            .bind(Uuid::nil())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("list payments"))?;
        if let (true, Some(before)) = (rows.is_empty(), before)
            && self.read(before).await?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(rows.into_iter().map(listed).collect()))
    }

    /// Commit 1 of a charge over HTTP, inside the caller's transaction: the row, PROCESSING, unless the order has a
    /// payment already, which is then returned as it is. Says whether the payment is new.
    pub async fn open_in(
        &self,
        connection: &mut PgConnection,
        order_id: Uuid,
        money: &Money,
    ) -> Result<(Payment, bool), StoreError> {
        loop {
            if let Some(payment) = read_by(connection, "order_id", order_id).await? {
                check_amount(&payment, money)?;
                return Ok((payment, false));
            }
            let payment = Payment::new(order_id, Some(money), State::Processing { void_requested: false });
            if self.insert(connection, &payment, Asked::ByCaller).await? {
                return Ok((payment, true));
            }
        }
    }

    /// Takes the processor's word in, in a transaction of its own. `reason`: why it declined.
    pub async fn apply(&self, order_id: Uuid, input: Input, reason: Option<&str>) -> Result<Applied, StoreError> {
        let mut transaction = postgres::begin(&self.pool).await.map_err(sql("begin"))?;
        let applied = self.apply_in(&mut transaction, order_id, input, None, reason).await?;
        transaction.commit().await.map_err(sql("commit"))?;
        Ok(applied)
    }

    /// Takes one input in, inside the caller's transaction. `money` comes with a charge, `reason` with a refusal.
    pub async fn apply_in(
        &self,
        connection: &mut PgConnection,
        order_id: Uuid,
        input: Input,
        money: Option<&Money>,
        reason: Option<&str>,
    ) -> Result<Applied, StoreError> {
        loop {
            let stored = read_by(connection, "order_id", order_id).await?;
            let before = stored.as_ref().map(|payment| payment.state);
            let Some(Step { state, announcement }) = state::step(before, input) else {
                return Err(StoreError::Missing { order_id });
            };
            let Some(mut payment) = stored else {
                let payment = Payment::new(order_id, money, state);
                if !self.insert(connection, &payment, Asked::BySweeper).await? {
                    continue;
                }
                announce(connection, &payment, announcement).await?;
                return Ok(Applied { payment, before });
            };
            if let Some(money) = money {
                check_amount(&payment, money)?;
            }
            if before == Some(state) && announcement.is_none() {
                return Ok(Applied { payment, before });
            }
            let read = payment.clone();
            payment.state = state;
            if input == Input::Refused {
                payment.reason = reason.map(str::to_owned);
            }
            if !update(connection, &payment, &read).await? {
                continue;
            }
            payment.version += 1;
            announce(connection, &payment, announcement).await?;
            return Ok(Applied { payment, before });
        }
    }

    /// What is open, over all replicas.
    pub async fn open(&self) -> Result<Open, StoreError> {
        let payments = sqlx::query_as("SELECT state, count(*) FROM payments WHERE due_at IS NOT NULL GROUP BY state");
        // Taking a payment up leaves updated_at alone: it is when the request was decided on.
        let oldest = sqlx::query_scalar(
            "SELECT greatest(coalesce(extract(epoch FROM now() - min(updated_at)), 0), 0)::float8
             FROM payments WHERE due_at IS NOT NULL",
        );
        let compared = sqlx::query_scalar(
            "SELECT greatest(coalesce(extract(epoch FROM now() - coalesce(
                 max(finished_at) FILTER (WHERE total IS NOT NULL), min(asked_at))), 0), 0)::float8 FROM reconciliations",
        );
        let counted = async {
            Ok(Open {
                payments: payments.fetch_all(&self.pool).await?,
                oldest_seconds: oldest.fetch_one(&self.pool).await?,
                compared_seconds: compared.fetch_one(&self.pool).await?,
            })
        };
        counted.await.map_err(sql("count what is open"))
    }

    async fn insert(&self, connection: &mut PgConnection, payment: &Payment, asked: Asked) -> Result<bool, StoreError> {
        let due_in = payment.state.open_request().map(|_| match asked {
            Asked::ByCaller => milliseconds(self.lease),
            Asked::BySweeper => 0,
        });
        sqlx::query(
            "INSERT INTO payments (id, order_id, amount_minor, currency, state, due_at, traceparent, void_requested)
             VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond', $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(payment.id)
        .bind(payment.order_id)
        .bind(payment.amount.as_ref().map(Money::amount_minor))
        .bind(payment.amount.as_ref().map(Money::currency))
        .bind(payment.state.name())
        .bind(due_in)
        .bind(&payment.traceparent)
        .bind(is_unwanted(payment.state))
        .execute(connection)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(sql("insert a payment"))
    }
}

/// The payment whose `column`, one of the two unique ones, is `id`.
async fn read_by(connection: &mut PgConnection, column: &str, id: Uuid) -> Result<Option<Payment>, StoreError> {
    sqlx::query_as::<_, Row>(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM payments WHERE {column} = $1"
    )))
    .bind(id)
    .fetch_optional(connection)
    .await
    .map_err(sql("read a payment"))?
    .map(Payment::try_from)
    .transpose()
}

/// Moves the payment on if it still stands where it was read. A request that is still open keeps its turn; a new one
/// is due at once.
async fn update(connection: &mut PgConnection, payment: &Payment, read: &Payment) -> Result<bool, StoreError> {
    let open = payment.state.open_request();
    let same_request = open.is_some() && open == read.state.open_request();
    sqlx::query(
        "UPDATE payments SET state = $4, void_requested = $5, reason = $6, version = version + 1, updated_at = now(),
                attempts = CASE WHEN $8 THEN attempts ELSE 0 END,
                due_at = CASE WHEN $8 THEN due_at WHEN $7 THEN now() END
         WHERE id = $1 AND state = $2 AND version = $3",
    )
    .bind(payment.id)
    .bind(read.state.name())
    .bind(read.version)
    .bind(payment.state.name())
    .bind(is_unwanted(payment.state))
    .bind(&payment.reason)
    .bind(open.is_some())
    .bind(same_request)
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(sql("move a payment on"))
}

const fn is_unwanted(state: State) -> bool {
    matches!(state, State::Processing { void_requested: true })
}

async fn announce(
    connection: &mut PgConnection,
    payment: &Payment,
    announcement: Option<Announcement>,
) -> Result<(), StoreError> {
    let Some(announcement) = announcement else {
        return Ok(());
    };
    outbox::append(connection, &events::announced(payment, announcement))
        .await
        .map(drop)
        .map_err(sql("put an event into the outbox"))
}

/// What was voided before it was asked for has no amount: any charge may find it.
fn check_amount(payment: &Payment, money: &Money) -> Result<(), StoreError> {
    match &payment.amount {
        Some(stored) if stored != money => Err(StoreError::OtherAmount {
            order_id: payment.order_id,
        }),
        _ => Ok(()),
    }
}

/// One of several payments: without what it holds where this version cannot read it, which keeps the others from nobody.
pub type Listed = (Uuid, Option<Payment>);

fn listed(row: Row) -> Listed {
    let id = row.id;
    let payment = Payment::try_from(row).inspect_err(|error| {
        tracing::error!(%error, category = error.category(), "a payment was passed over");
    });
    (id, payment.ok())
}

impl TryFrom<Row> for Payment {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let payment_id = row.id;
        let unknown = |what: String| StoreError::Row { payment_id, what };
        let state =
            State::parse(&row.state, row.void_requested).ok_or_else(|| unknown(format!("state {:?}", row.state)))?;
        let amount = match (row.amount_minor, row.currency) {
            (Some(amount_minor), Some(currency)) => {
                Some(Money::new(amount_minor, currency).map_err(|error| unknown(error.to_string()))?)
            }
            _ => None,
        };
        Ok(Self {
            id: row.id,
            order_id: row.order_id,
            amount,
            state,
            reason: row.reason,
            version: row.version,
            traceparent: row.traceparent,
        })
    }
}

const fn sql(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Sql { action, source }
}
