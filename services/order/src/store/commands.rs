//! The commands of orders: opened, hastened and closed as the saga's table asks, and sent as events when they are due.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;
use valerix_kit::postgres::{self, milliseconds};

use super::statements::{announce, emit, read};
use super::{Store, StoreError, sql};
use crate::order::Order;
use crate::saga::commands::{Action, Command, Due};

/// What one round of sending came to.
#[derive(Debug)]
pub struct Sent {
    /// Commands that were due.
    pub due: usize,
    /// Why some of them were not sent. They fall due again.
    pub failed: Vec<StoreError>,
}

/// The longest time between two copies of a command, in times of the first.
const LONGEST_RESEND: i32 = 30;
/// By how much a clock may be set back and nobody need care; more than the budget in which a command is first due.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

impl Store {
    /// Writes what a transition to `order.state` asks for.
    pub(super) async fn obey(
        &self,
        connection: &mut PgConnection,
        order: &Order,
        commands: &[Command],
    ) -> Result<(), StoreError> {
        for command in commands {
            match *command {
                Command::Send(action, due) => {
                    let wait = if due == Due::Now {
                        0
                    } else {
                        milliseconds(self.times.budget)
                    };
                    // Without a budget left there is no fast path to wait for. One that was answered before, and is
                    // needed once more, goes on counting.
                    let attempts: Option<i32> = sqlx::query_scalar(
                        "INSERT INTO commands (order_id, action, attempts, due_at)
                         SELECT $1, $2, CASE WHEN over THEN 1 + (SELECT coalesce(max(version), 0)::integer FROM outbox
                                                                 WHERE aggregate = $6) ELSE 0 END,
                                CASE WHEN over THEN now() + $5 * interval '1 millisecond'
                                     ELSE $3 + $4 * interval '1 millisecond' END
                         FROM (SELECT $3 + $4 * interval '1 millisecond' <= now() AS over) AS budget
                         ON CONFLICT DO NOTHING RETURNING attempts",
                    )
                    .bind(order.id)
                    .bind(action.name())
                    .bind(order.created_at)
                    .bind(wait)
                    .bind(milliseconds(self.times.resend))
                    .bind(action.key(order.id))
                    .fetch_optional(&mut *connection)
                    .await
                    .map_err(sql("open a command"))?;
                    if let Some(attempts) = attempts.filter(|attempts| *attempts > 0) {
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

    /// Sends up to `limit` due commands as events. Other replicas take others. One that cannot be sent holds nobody else
    /// up: it falls due again like the others.
    ///
    /// # Errors
    /// When Postgres is away: then nothing was sent.
    pub async fn send_due(&self, limit: i64) -> Result<Sent, StoreError> {
        let mut transaction = postgres::begin(&self.pool).await.map_err(sql("begin"))?;
        let due: Vec<(Uuid, String, i32)> = sqlx::query_as(
            "UPDATE commands SET attempts = attempts + 1,
                    due_at = now() + $2 * least(power(2, least(attempts, 10)), $4) * interval '1 millisecond'
             WHERE (order_id, action) IN (SELECT order_id, action FROM commands
                                          WHERE due_at <= now() AND action = ANY($3)
                                          ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING order_id, action, attempts",
        )
        .bind(limit)
        .bind(milliseconds(self.times.resend))
        .bind(Action::ALL.map(Action::name))
        .bind(LONGEST_RESEND)
        .fetch_all(&mut *transaction)
        .await
        .map_err(sql("take due commands"))?;
        let mut failed = vec![];
        for (order_id, name, attempts) in &due {
            let mut savepoint = Connection::begin(&mut *transaction)
                .await
                .map_err(sql("set a savepoint"))?;
            match send(&mut savepoint, *order_id, name, *attempts).await {
                Ok(()) => savepoint.commit().await.map_err(sql("release a savepoint"))?,
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    savepoint.rollback().await.map_err(sql("go back to a savepoint"))?;
                    failed.push(error);
                }
            }
        }
        transaction.commit().await.map_err(sql("commit"))?;
        Ok(Sent { due: due.len(), failed })
    }

    /// Makes commands due that lie further ahead than any is ever put off: the clock of Postgres was set back.
    ///
    /// # Errors
    /// The statement's.
    pub async fn recall_postponed(&self) -> Result<(), StoreError> {
        let longest = milliseconds(self.times.resend) * i64::from(LONGEST_RESEND) + milliseconds(CLOCKS_DIFFER);
        sqlx::query("UPDATE commands SET due_at = now() WHERE due_at > now() + $1 * interval '1 millisecond'")
            .bind(longest)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("recall postponed commands"))
    }
}

async fn send(connection: &mut PgConnection, order_id: Uuid, name: &str, attempt: i32) -> Result<(), StoreError> {
    let order = read(connection, order_id)
        .await?
        .ok_or(StoreError::Missing { order_id })?;
    match Action::parse(name) {
        Some(action) => emit(connection, &order, action, attempt).await,
        None => Ok(()),
    }
}
