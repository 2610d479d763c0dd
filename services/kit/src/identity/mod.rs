//! Who calls, and whether they may: each route declares an [`Access`], [`Identity`] finds out who calls, and the guard in
//! front of the handler compares the two.
//!
//! Users show a token that auth has signed; it is verified here, by auth's public keys, which are kept for a day when auth
//! is away. Services show a token that they make themselves with a key shared with the service that they call, so that
//! nothing they do for an order needs auth. Without `AUTH_URL` the service is open: nobody is asked, everybody is
//! [`Caller::Anonymous`].
//!
//! In: the request's headers. Out: a [`Caller`], or a problem: 401, 403, 503 while auth's keys are not known.

mod access;
mod caller;
pub(crate) mod guard;
mod public_keys;
mod service_token;
mod user_token;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use valerix_resilience::ResilientClient;

pub use access::Access;
pub use caller::Caller;
pub use public_keys::{FetchError, PublicKeys};
pub use service_token::{CallKey, InvalidCallKeys, parse_call_keys};
pub use user_token::{AUDIENCE, Claims, ISSUER};

use crate::args::IdentityArgs;
use crate::problem::Problem;
use public_keys::{AuthService, KeySet};
use service_token::ServiceTokens;
use user_token::UserTokens;

/// The header in which a service proves who it is to another one.
pub const SERVICE_TOKEN: HeaderName = HeaderName::from_static("valerix-service-token");

/// The header in which the gateway proves that it has passed a request on: the words of `X-Forwarded-*` are its own then.
/// Unlike [`SERVICE_TOKEN`] it says nothing about who asks.
pub const FORWARDED_BY: HeaderName = HeaderName::from_static("valerix-forwarded-by");

/// Finds out who calls; cheap to clone.
#[derive(Clone)]
pub struct Identity {
    services: Arc<ServiceTokens>,
    users: Option<Arc<UserTokens>>,
}

impl Identity {
    /// The service `service`, open: everybody is anonymous and may do everything. The keys of `args` are for its calls.
    ///
    /// # Errors
    /// When `CALL_KEYS` or `CALLER_KEYS` can not be read; the error shows no key.
    pub fn open(service: &str, args: &IdentityArgs) -> Result<Self, InvalidCallKeys> {
        Ok(Self {
            services: Arc::new(ServiceTokens::new(service, args)?),
            users: None,
        })
    }

    /// The same, closed: users are those whose tokens are signed by one of `keys`.
    #[must_use]
    pub fn closed(self, keys: impl PublicKeys) -> Self {
        Self {
            users: Some(Arc::new(UserTokens::new(KeySet::new(keys)))),
            ..self
        }
    }

    /// The same, closed: users are those whose tokens are signed by the service that `auth` calls.
    #[must_use]
    pub(crate) fn closed_by(self, auth: ResilientClient) -> Self {
        self.closed(AuthService(auth))
    }

    /// Returns when auth's keys are known, at once where they are not needed.
    pub(crate) async fn prepare(&self) {
        if let Some(users) = &self.users {
            users.prepare().await;
        }
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.users.is_none()
    }

    /// Who sends these headers. A user's token counts before a service's.
    ///
    /// # Errors
    /// 401 when a token is sent that is not valid; 503 when it can not be told, as auth's keys are not known.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(users) = &self.users else {
            return Ok(Caller::Anonymous);
        };
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
        if let Some(authorization) = authorizations.next() {
            if authorizations.next().is_some() {
                return Err(refused_token("the header Authorization must be given once"));
            }
            let token = bearer(authorization)
                .ok_or_else(|| refused_token("the header Authorization must be: Bearer, a space, a token"))?;
            return users.verify(token).await;
        }
        match headers.get(SERVICE_TOKEN) {
            Some(token) => self.services.verify(token),
            None => Ok(Caller::Anonymous),
        }
    }

    /// Adds the proof that this service has passed a request on to `target`, where both share a key.
    pub fn vouch(&self, target: &str, headers: &mut HeaderMap) {
        headers.remove(&FORWARDED_BY);
        if let Some(token) = self.services.mint(target) {
            headers.insert(FORWARDED_BY, token);
        }
    }

    /// Whether `service` has passed the request of these headers on. Without a key that both share nobody can say so, and
    /// it is not known: `None`.
    pub fn was_forwarded_by(&self, service: &str, headers: &HeaderMap) -> Option<bool> {
        self.services.knows(service).then(|| {
            let caller = headers.get(&FORWARDED_BY).map(|token| self.services.verify(token));
            matches!(caller, Some(Ok(Caller::Service { name })) if name == service)
        })
    }

    /// Adds the proof of who this service is to a call of `target`, where both share a key.
    pub(crate) fn prove(&self, target: &str, headers: &mut HeaderMap) {
        if let Some(token) = self.services.mint(target) {
            headers.insert(SERVICE_TOKEN, token);
        }
    }
}

/// The token of `Authorization: Bearer <token>`.
fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// 401: the token that was sent is not accepted.
fn refused_token(detail: &str) -> Problem {
    unauthenticated(
        "invalid-token",
        detail,
        r#"Bearer realm="valerix", error="invalid_token""#,
    )
}

/// 401 that says how to prove who one is.
fn unauthenticated(name: &'static str, detail: &str, challenge: &'static str) -> Problem {
    Problem::new(http::StatusCode::UNAUTHORIZED, name, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
