//! How a user is reached: from the own table, else asked from auth and kept there.

use std::time::Duration;

use http::StatusCode;
use sqlx::PgPool;
use uuid::Uuid;
use valerix_resilience::{Deadline, ResilientClient};

use crate::contact::Contact;
use crate::store::{self, Known};

/// How long auth is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a user can not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// There is no such user, or no more.
    #[error("failed to find the user")]
    Gone,
    /// The service runs without auth: nobody can be asked.
    #[error("failed to ask for a contact: AUTH_URL is not set")]
    NobodyToAsk,
    /// Auth did not say; it may later.
    #[error("failed to ask auth for a contact: {0}")]
    Unknown(String),
    /// Postgres did not answer.
    #[error("failed to look a contact up: {0}")]
    Store(#[source] sqlx::Error),
}

/// The contacts of users.
#[derive(Clone)]
pub struct Contacts {
    /// The database.
    pub pool: PgPool,
    /// The policy's target `auth`; none where there is no auth.
    pub auth: Option<ResilientClient>,
}

impl Contacts {
    /// How `user` is reached.
    ///
    /// # Errors
    /// See [`ContactError`].
    pub async fn of(&self, user: Uuid) -> Result<Contact, ContactError> {
        let wanted = match store::contact(&self.pool, user).await.map_err(ContactError::Store)? {
            Known::Contact(contact) => return Ok(contact),
            Known::Gone => return Err(ContactError::Gone),
            Known::Nothing { wanted } => wanted,
        };
        let auth = self.auth.as_ref().ok_or(ContactError::NobodyToAsk)?;
        let mut contact = Deadline::after(PATIENCE).scope(ask(auth, user)).await?;
        // What was answered after the change is the change, whatever it is numbered.
        contact.version = contact.version.max(wanted);
        let kept = store::keep_contact(&self.pool, user, &contact).await;
        if kept.map_err(ContactError::Store)? {
            return Ok(contact);
        }
        // While auth answered it was heard of something newer, such as that the user has left.
        match store::contact(&self.pool, user).await.map_err(ContactError::Store)? {
            Known::Contact(contact) => Ok(contact),
            Known::Gone => Err(ContactError::Gone),
            Known::Nothing { .. } => Err(ContactError::Unknown("the contact has changed meanwhile".to_owned())),
        }
    }
}

async fn ask(auth: &ResilientClient, user: Uuid) -> Result<Contact, ContactError> {
    let unknown = |error: &dyn std::fmt::Display| ContactError::Unknown(error.to_string());
    let answer = auth
        .get(format!("/auth/users/{user}/contact"))
        .send()
        .await
        .map_err(|error| unknown(&error))?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| unknown(&error))?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|_| unknown(&"its answer is no contact")),
        StatusCode::NOT_FOUND => Err(ContactError::Gone),
        other => Err(unknown(&format!("it answered {other}"))),
    }
}
