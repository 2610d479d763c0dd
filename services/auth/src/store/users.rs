//! The users.

use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::account::User;

/// A user who is to be.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// In its one spelling.
    pub email: String,
    /// Argon2's.
    pub password_hash: String,
    /// What they are called.
    pub name: Option<String>,
    /// E.164.
    pub phone: Option<String>,
    /// Whether they have the role `admin`, as the configuration names them with this password.
    pub admin: bool,
}

/// What a login is compared with.
#[derive(Clone, Debug, FromRow)]
pub struct Credentials {
    /// The user.
    pub id: Uuid,
    /// Argon2's.
    pub password_hash: String,
    /// Argon2's, of the password that was taken over from the configuration last.
    pub configured_hash: Option<String>,
    /// Whether they have the role `admin`.
    pub admin: bool,
}

/// How a user is reached.
#[derive(Clone, Debug, FromRow)]
pub struct Contact {
    /// Where they are written to.
    pub email: String,
    /// E.164.
    pub phone: Option<String>,
    /// Grows with every change.
    pub version: i64,
}

/// What is to be another.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// In its one spelling.
    pub email: Option<String>,
    /// Argon2's.
    pub password_hash: Option<String>,
    /// Another name, or none.
    pub name: Option<Option<String>>,
    /// Another phone, or none.
    pub phone: Option<Option<String>>,
}

/// Adds a user. `None`: there is one with this e-mail.
///
/// # Errors
/// The statement's.
pub async fn insert(executor: impl PgExecutor<'_>, user: &NewUser) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as(
        "INSERT INTO users (id, email, password_hash, name, phone, admin, configured_hash) \
         VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $6 THEN $3 END) \
         ON CONFLICT (email) DO NOTHING RETURNING id, email, name, phone, admin, created_at",
    )
    .bind(Uuid::now_v7())
    .bind(&user.email)
    .bind(&user.password_hash)
    .bind(&user.name)
    .bind(&user.phone)
    .bind(user.admin)
    .fetch_optional(executor)
    .await
}

/// Makes the user of this e-mail an admin, with another password where one is given; gives their id. `configured_hash`: of
/// the password in the configuration.
///
/// # Errors
/// The statement's.
pub async fn promote(
    connection: &mut PgConnection,
    email: &str,
    password_hash: Option<&str>,
    configured_hash: &str,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE users SET admin = true, password_hash = coalesce($2, password_hash), configured_hash = $3, \
             updated_at = now() \
         WHERE email = $1 RETURNING id",
    )
    .bind(email)
    .bind(password_hash)
    .bind(configured_hash)
    .fetch_optional(connection)
    .await
}

/// What a login with this e-mail is compared with.
///
/// # Errors
/// The statement's.
pub async fn credentials(executor: impl PgExecutor<'_>, email: &str) -> Result<Option<Credentials>, sqlx::Error> {
    sqlx::query_as("SELECT id, password_hash, configured_hash, admin FROM users WHERE email = $1")
        .bind(email)
        .fetch_optional(executor)
        .await
}

/// A user.
///
/// # Errors
/// The statement's.
pub async fn read(executor: impl PgExecutor<'_>, id: Uuid) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as("SELECT id, email, name, phone, admin, created_at FROM users WHERE id = $1")
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// How a user is reached.
///
/// # Errors
/// The statement's.
pub async fn contact(executor: impl PgExecutor<'_>, id: Uuid) -> Result<Option<Contact>, sqlx::Error> {
    sqlx::query_as("SELECT email, phone, version FROM users WHERE id = $1")
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// Changes a user; gives the version after it. `verified`: the hash of the password that was proven, where one had to be;
/// nothing is changed when theirs is another by now.
///
/// # Errors
/// The statement's; a unique violation means that another user has the e-mail.
pub async fn change(
    connection: &mut PgConnection,
    id: Uuid,
    change: &Change,
    verified: Option<&str>,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE users SET email = coalesce($2, email), password_hash = coalesce($3, password_hash), \
             name = CASE WHEN $4 THEN $5 ELSE name END, phone = CASE WHEN $6 THEN $7 ELSE phone END, \
             version = version + 1, updated_at = now() \
         WHERE id = $1 AND ($8::text IS NULL OR password_hash = $8) RETURNING version",
    )
    .bind(id)
    .bind(&change.email)
    .bind(&change.password_hash)
    .bind(change.name.is_some())
    .bind(change.name.as_ref().and_then(Option::as_ref))
    .bind(change.phone.is_some())
    .bind(change.phone.as_ref().and_then(Option::as_ref))
    .bind(verified)
    .fetch_optional(connection)
    .await
}

/// Deletes a user with their sessions; gives the version that their end has.
///
/// # Errors
/// The statement's.
pub async fn delete(connection: &mut PgConnection, id: Uuid) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("DELETE FROM users WHERE id = $1 RETURNING version + 1")
        .bind(id)
        .fetch_optional(connection)
        .await
}
