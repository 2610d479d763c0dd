//! Every SQL statement of the service.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;
use valerix_kit::postgres::milliseconds;

use crate::contact::Contact;
use crate::message::{Channel, Notice};

/// How long notifications are kept; longer than any event can come again.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// Rows that one statement deletes.
const PRUNE_BATCH: u64 = 1000;

/// Adds a message for each channel, once for what became of the order, whichever event tells it: one whose database came back
/// from an archive may be announced once more, under another version. What could not be delivered was told to nobody. Those of
/// guests are skipped: nobody knows where to send them.
///
/// # Errors
/// The statements'.
pub async fn add(connection: &mut PgConnection, event: Uuid, notice: &Notice) -> Result<(), sqlx::Error> {
    // Who adds another such event at this moment is waited for, and then seen.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 0))")
        .bind(notice.order_id)
        .execute(&mut *connection)
        .await?;
    let guest = notice.user_id.is_none();
    for channel in Channel::ALL {
        let text = notice.render(channel);
        sqlx::query(
            "INSERT INTO notifications (id, event_id, channel, user_id, order_id, kind, subject, body, status, reason) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE NOT EXISTS \
                 (SELECT FROM notifications WHERE order_id = $5 AND kind = $6 AND channel = $3 AND status <> 'FAILED') \
             ON CONFLICT (event_id, channel) DO NOTHING",
        )
        .bind(Uuid::now_v7())
        .bind(event)
        .bind(channel.name())
        .bind(notice.user_id)
        .bind(notice.order_id)
        .bind(notice.kind.name())
        .bind(text.subject)
        .bind(text.body)
        .bind(if guest { "SKIPPED" } else { "QUEUED" })
        .bind(guest.then_some("GUEST"))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A message that was taken up.
#[derive(Clone, Debug, FromRow)]
pub struct Taken {
    /// The notification.
    pub id: Uuid,
    /// What it is about.
    pub event_id: Uuid,
    channel: String,
    /// For whom.
    pub user_id: Option<Uuid>,
    /// Its subject.
    pub subject: String,
    /// Its body.
    pub body: String,
    /// How often it was taken up: only who took it last may say what became of it.
    pub taken: i32,
    /// How often the mail server has put it off.
    pub failures: i32,
    /// Whether it is too old to be tried again.
    pub expired: bool,
}

impl Taken {
    /// Where it goes.
    #[must_use]
    pub fn channel(&self) -> Channel {
        if self.channel == Channel::Sms.name() {
            Channel::Sms
        } else {
            Channel::Email
        }
    }
}

/// Takes up to `limit` messages up that are due, for `lease`: if nobody says what became of one by then, it is taken again.
///
/// # Errors
/// The statement's.
pub async fn take(pool: &PgPool, limit: i64, lease: Duration, expiry: Duration) -> Result<Vec<Taken>, sqlx::Error> {
    sqlx::query_as(
        "UPDATE notifications SET taken = taken + 1, due_at = clock_timestamp() + $2 * interval '1 millisecond' \
         WHERE id IN (SELECT id FROM notifications WHERE status = 'QUEUED' AND due_at <= clock_timestamp() \
                      ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED) \
         RETURNING id, event_id, channel, user_id, subject, body, taken, failures, \
                   created_at < now() - $3 * interval '1 millisecond' AS expired",
    )
    .bind(limit)
    .bind(milliseconds(lease))
    .bind(milliseconds(expiry))
    .fetch_all(pool)
    .await
}

/// Ends a message, unless another has taken it up since.
///
/// # Errors
/// The statement's.
pub async fn finish(pool: &PgPool, taken: &Taken, status: &str, reason: Option<&str>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE notifications SET status = $3, reason = $4, updated_at = now() \
         WHERE id = $1 AND taken = $2 AND status = 'QUEUED'",
    )
    .bind(taken.id)
    .bind(taken.taken)
    .bind(status)
    .bind(reason)
    .execute(pool)
    .await
    .map(|_| ())
}

/// Makes a message wait, unless another has taken it up since; `counted` if the mail server has put it off.
///
/// # Errors
/// The statement's.
pub async fn postpone(
    pool: &PgPool,
    taken: &Taken,
    pause: Duration,
    counted: bool,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE notifications SET due_at = clock_timestamp() + $3 * interval '1 millisecond', \
         failures = failures + $4, reason = $5, updated_at = now() \
         WHERE id = $1 AND taken = $2 AND status = 'QUEUED'",
    )
    .bind(taken.id)
    .bind(taken.taken)
    .bind(milliseconds(pause))
    .bind(i32::from(counted))
    .bind(reason)
    .execute(pool)
    .await
    .map(|_| ())
}

/// What is known about how a user is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// This, and nothing newer was heard of.
    Contact(Contact),
    /// Nothing, or something older than `wanted`.
    Nothing {
        /// The version that was heard of.
        wanted: i64,
    },
    /// The user was deleted.
    Gone,
}

/// Looks up how a user is reached.
///
/// # Errors
/// The statement's.
pub async fn contact(pool: &PgPool, user: Uuid) -> Result<Known, sqlx::Error> {
    #[derive(FromRow)]
    struct Row {
        wanted_version: i64,
        version: Option<i64>,
        email: Option<String>,
        phone: Option<String>,
        deleted: bool,
    }
    let row: Option<Row> =
        sqlx::query_as("SELECT wanted_version, version, email, phone, deleted FROM contacts WHERE user_id = $1")
            .bind(user)
            .fetch_optional(pool)
            .await?;
    Ok(match row {
        None => Known::Nothing { wanted: 0 },
        Some(row) if row.deleted => Known::Gone,
        Some(row) => match row.version {
            Some(version) if version >= row.wanted_version => Known::Contact(Contact {
                email: row.email,
                phone: row.phone,
                version,
            }),
            _ => Known::Nothing {
                wanted: row.wanted_version,
            },
        },
    })
}

/// Keeps what auth answered, unless something newer is known or the user is gone; says whether it did.
///
/// # Errors
/// The statement's.
pub async fn keep_contact(pool: &PgPool, user: Uuid, contact: &Contact) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "INSERT INTO contacts (user_id, version, email, phone) VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) \
         DO UPDATE SET version = excluded.version, email = excluded.email, phone = excluded.phone \
         WHERE NOT contacts.deleted AND (contacts.version IS NULL OR contacts.version <= excluded.version)",
    )
    .bind(user)
    .bind(contact.version)
    .bind(&contact.email)
    .bind(&contact.phone)
    .execute(pool)
    .await
    .map(|done| done.rows_affected() > 0)
}

/// What is known of the user is old now.
///
/// # Errors
/// The statement's.
pub async fn user_changed(connection: &mut PgConnection, user: Uuid, version: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO contacts (user_id, wanted_version) VALUES ($1, $2) ON CONFLICT (user_id) \
         DO UPDATE SET wanted_version = greatest(contacts.wanted_version, excluded.wanted_version)",
    )
    .bind(user)
    .bind(version)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Forgets how the user is reached, for ever, and skips what was still to be sent.
///
/// # Errors
/// The statements'.
pub async fn user_deleted(connection: &mut PgConnection, user: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO contacts (user_id, deleted) VALUES ($1, true) ON CONFLICT (user_id) \
         DO UPDATE SET deleted = true, email = NULL, phone = NULL",
    )
    .bind(user)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE notifications SET status = 'SKIPPED', reason = 'USER_GONE', updated_at = now() \
         WHERE user_id = $1 AND status = 'QUEUED'",
    )
    .bind(user)
    .execute(connection)
    .await
    .map(|_| ())
}

/// A notification as it is shown.
#[derive(Clone, Debug, FromRow)]
pub struct Row {
    /// Its id.
    pub id: Uuid,
    /// For whom; none for a guest.
    pub user_id: Option<Uuid>,
    /// About which order.
    pub order_id: Uuid,
    /// `EMAIL` or `SMS`.
    pub channel: String,
    /// `CONFIRMED`, `CANCELLED` or `REFUNDED`.
    pub kind: String,
    /// What became of it.
    pub status: String,
    /// Why, or what went wrong last.
    pub reason: Option<String>,
    /// Its subject.
    pub subject: String,
    /// Its body.
    pub body: String,
    /// When its event was heard of.
    pub created_at: DateTime<Utc>,
    /// When something last happened to it.
    pub updated_at: DateTime<Utc>,
}

/// Notifications older than `before`, newest first: those of `user`, or everybody's.
///
/// # Errors
/// The statement's.
pub async fn page(
    pool: &PgPool,
    user: Option<Uuid>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, user_id, order_id, channel, kind, status, reason, subject, body, created_at, updated_at \
         FROM notifications WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::uuid IS NULL OR id < $2) \
         ORDER BY id DESC LIMIT $3",
    )
    .bind(user)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Forgets notifications that are older than `age` and at their end, at most 1,000; says whether there may be more.
///
/// # Errors
/// The statement's.
pub async fn prune(pool: &PgPool, age: Duration) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM notifications WHERE id IN (SELECT id FROM notifications \
         WHERE created_at < now() - $1 * interval '1 millisecond' AND status <> 'QUEUED' LIMIT 1000)",
    )
    .bind(milliseconds(age))
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == PRUNE_BATCH)
}
