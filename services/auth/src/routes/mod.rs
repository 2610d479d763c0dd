//! HTTP in, HTTP out; no SQL.

pub mod accounts;
pub mod keys;
pub mod sessions;

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use sqlx::PgPool;
use uuid::Uuid;
use valerix_kit::api::Api;
use valerix_kit::events::relay::Relay;
use valerix_kit::identity::{Caller, Identity};
use valerix_kit::problem::{FieldError, Problem};
use valerix_resilience::{Network, client_key};

use crate::config::TokenArgs;
use crate::keys::Keyring;
use crate::metrics::Metrics;
use crate::passwords::Passwords;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub pool: PgPool,
    /// Publishes what handlers append to the outbox.
    pub relay: Relay,
    /// Hashes and compares.
    pub passwords: Passwords,
    /// Signs.
    pub keyring: Keyring,
    /// Counts who comes in and who does not.
    pub metrics: Metrics,
    /// How long tokens hold.
    pub tokens: Arc<TokenArgs>,
    /// Proxies that are believed whom a request comes from.
    pub trusted_proxies: Arc<[Network]>,
    /// Knows whether it was the gateway that passed a request on.
    pub identity: Identity,
}

impl AppState {
    /// Where a request comes from. Where the gateway can prove that it has passed a request on, it alone is believed: any
    /// pod has an address of the cluster's networks.
    fn address(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<String> {
        let believed = match self.identity.was_forwarded_by("gateway", headers) {
            Some(false) => &[],
            Some(true) | None => &*self.trusted_proxies,
        };
        client_key(extensions, headers, believed)
    }
}

/// Every route of the service.
#[must_use]
pub fn api() -> Api<AppState> {
    let description = "Who the shop's users are. Semantics: README.md of the service.";
    keys::routes(sessions::routes(accounts::routes(Api::new("auth", description))))
}

/// The user who asks; the guard has let nobody else in.
fn user(caller: &Caller) -> Result<Uuid, Problem> {
    caller
        .user_id()
        .ok_or_else(|| unauthenticated("unauthenticated", "this needs a user who is signed in"))
}

/// 401, with how to prove who one is.
fn unauthenticated(name: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, name, detail).with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(r#"Bearer realm="valerix""#),
    )
}

/// What a checked field is, or its error among the others of the request.
fn checked<T>(field: &str, result: Result<T, &'static str>, errors: &mut Vec<FieldError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(detail) => {
            errors.push(FieldError::new(format!("/{field}"), detail));
            None
        }
    }
}

fn unacceptable(errors: Vec<FieldError>) -> Problem {
    Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors)
}
