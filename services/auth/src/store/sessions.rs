//! Sessions and their refresh tokens.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;
use valerix_kit::postgres::milliseconds;

/// Whom a refresh token that was shown belongs to.
#[derive(Clone, Debug, FromRow)]
pub struct Shown {
    /// The session.
    pub session_id: Uuid,
    /// The user.
    pub user_id: Uuid,
    /// Whether they have the role `admin`.
    pub admin: bool,
    /// Whether it may be exchanged: it and its session hold.
    pub holds: bool,
    /// Whether it was exchanged so long ago that somebody else must have it.
    pub reused: bool,
}

/// Begins a session. `None`: the user's password is no longer the one that was `verified`, by its hash, or they are gone. A
/// change of the password waits until the transaction ends, and then finds the session to end it.
///
/// # Errors
/// The statement's.
pub async fn begin_session(
    connection: &mut PgConnection,
    user: Uuid,
    verified: &str,
    lifetime: Duration,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO sessions (id, user_id, expires_at) SELECT $1, id, now() + $4 * interval '1 millisecond' \
         FROM users WHERE id = $2 AND password_hash = $3 FOR SHARE RETURNING id",
    )
    .bind(Uuid::now_v7())
    .bind(user)
    .bind(verified)
    .bind(milliseconds(lifetime))
    .fetch_optional(connection)
    .await
}

/// Gives a session a refresh token, for another or as its first; the session lasts as long as it.
///
/// # Errors
/// The statement's.
pub async fn add_token(
    connection: &mut PgConnection,
    session: Uuid,
    given_for: Option<&[u8]>,
    hash: &[u8],
    lifetime: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH token AS (INSERT INTO refresh_tokens (hash, session_id, expires_at, given_for) \
             VALUES ($1, $2, now() + $3 * interval '1 millisecond', $4) RETURNING session_id, expires_at) \
         UPDATE sessions SET expires_at = token.expires_at FROM token WHERE id = token.session_id",
    )
    .bind(hash)
    .bind(session)
    .bind(milliseconds(lifetime))
    .bind(given_for)
    .execute(connection)
    .await
    .map(drop)
}

/// Whom a token belongs to; nobody exchanges it until the transaction ends. `grace`: how long after the first exchange
/// another one is no sign of theft, as long as nobody has used what the first one gave.
///
/// # Errors
/// The statement's.
pub async fn shown(connection: &mut PgConnection, hash: &[u8], grace: Duration) -> Result<Option<Shown>, sqlx::Error> {
    sqlx::query_as(
        "SELECT token.session_id, session.user_id, owner.admin, \
             session.revoked_at IS NULL AND session.expires_at > now() AND token.expires_at > now() AS holds, \
             coalesce(token.used_at <= clock_timestamp() - $2 * interval '1 millisecond', false) \
                 OR EXISTS (SELECT FROM refresh_tokens AS next WHERE next.given_for = token.hash \
                            AND isfinite(next.used_at)) AS reused \
         FROM refresh_tokens AS token JOIN sessions AS session ON session.id = token.session_id \
             JOIN users AS owner ON owner.id = session.user_id \
         WHERE token.hash = $1 FOR UPDATE OF token, session",
    )
    .bind(hash)
    .bind(milliseconds(grace))
    .fetch_optional(connection)
    .await
}

/// A token was exchanged. What was given for it before did not arrive: whoever shows that from now on has it from a thief,
/// or the thief has it from them.
///
/// # Errors
/// The statement's.
pub async fn mark_used(connection: &mut PgConnection, hash: &[u8]) -> Result<(), sqlx::Error> {
    let mark = "UPDATE refresh_tokens \
                SET used_at = CASE WHEN hash = $1 THEN coalesce(used_at, clock_timestamp()) ELSE '-infinity' END \
                WHERE hash = $1 OR given_for = $1";
    sqlx::query(mark).bind(hash).execute(connection).await.map(drop)
}

/// Ends a session.
///
/// # Errors
/// The statement's.
pub async fn revoke(connection: &mut PgConnection, session: Uuid) -> Result<(), sqlx::Error> {
    let revoke = "UPDATE sessions SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1";
    sqlx::query(revoke).bind(session).execute(connection).await.map(drop)
}

/// Ends all sessions of a user.
///
/// # Errors
/// The statement's.
pub async fn revoke_all(connection: &mut PgConnection, user: Uuid) -> Result<(), sqlx::Error> {
    let revoke = "UPDATE sessions SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL";
    sqlx::query(revoke).bind(user).execute(connection).await.map(drop)
}

/// Ends the session of a token, if there is one.
///
/// # Errors
/// The statement's.
pub async fn revoke_by_token(pool: &PgPool, hash: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sessions SET revoked_at = coalesce(revoked_at, now()) \
         WHERE id = (SELECT session_id FROM refresh_tokens WHERE hash = $1)",
    )
    .bind(hash)
    .execute(pool)
    .await
    .map(drop)
}

/// Forgets sessions and tokens that are over, at most 1,000 of each. A token that was exchanged is kept until it expires:
/// it shows that somebody has stolen it.
///
/// # Errors
/// The statements'.
pub async fn prune(pool: &PgPool) -> Result<(), sqlx::Error> {
    for table in [
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < now() LIMIT 1000)",
        "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at < now() LIMIT 1000)",
    ] {
        sqlx::query(table).execute(pool).await?;
    }
    Ok(())
}
