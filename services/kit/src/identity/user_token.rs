//! The tokens of users: JWTs that auth signs. A token that was verified once is known by its hash until it expires.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header, get_current_timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::public_keys::{KeySet, NoKey, VerifyingKey};
use super::service_token::LEEWAY;
use super::{Caller, refused_token};
use crate::problem::Problem;

/// Who signs the tokens of users: their `iss`.
pub const ISSUER: &str = "valerix-auth";
/// For whom they are: their `aud`.
pub const AUDIENCE: &str = "shop";
/// The role that [`Caller::is_admin`] speaks of.
const ADMIN: &str = "admin";
/// Tokens that are known at a time, at most.
const REMEMBERED: usize = 20_000;
/// When a request that could not be told may come again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: Uuid,
    /// Their roles, such as `admin`.
    pub roles: Vec<String>,
    /// The session: all tokens that came of one login.
    pub sid: Uuid,
    /// [`ISSUER`].
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// From when it holds, in seconds since 1970.
    pub iat: u64,
    /// Until when it holds, in seconds since 1970.
    pub exp: u64,
}

/// Verifies the tokens of users.
pub(super) struct UserTokens {
    keys: KeySet,
    verified: Mutex<Verified>,
}

impl UserTokens {
    pub(super) fn new(keys: KeySet) -> Self {
        Self {
            keys,
            verified: Mutex::default(),
        }
    }

    /// Returns when auth's keys are known.
    pub(super) async fn prepare(&self) {
        self.keys.prepare().await;
    }

    /// Whose token it is.
    pub(super) async fn verify(&self, token: &str) -> Result<Caller, Problem> {
        let hash: Hash = Sha256::digest(token).into();
        let known = |verified: &mut Verified| verified.get(&hash, get_current_timestamp());
        if let Some(caller) = known(&mut self.verified.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(caller);
        }
        let id = decode_header(token).ok().and_then(|header| header.kid);
        let id = id.ok_or_else(|| refused_token("the access token is no token of the expected form"))?;
        let key = self.keys.find(&id).await.map_err(|why| match why {
            NoKey::Unknown => refused_token("the access token is signed by a key that auth does not know"),
            NoKey::Unavailable => Problem::unavailable("who signed the access token can not be told at the moment")
                .retry_after(RETRY_AFTER),
        })?;
        let claims = claims(token, &key)?;
        let caller = Caller::User {
            id: claims.sub,
            admin: claims.roles.iter().any(|role| role == ADMIN),
        };
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.insert(hash, caller.clone(), claims.exp);
        Ok(caller)
    }
}

fn claims(token: &str, key: &VerifyingKey) -> Result<Claims, Problem> {
    let mut validation = Validation::new(key.algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = decode::<Claims>(token, &key.key, &validation).map_err(|error| {
        refused_token(match error.kind() {
            ErrorKind::ExpiredSignature => "the access token has expired: ask /auth/refresh for another one",
            ErrorKind::ImmatureSignature => "the access token does not hold yet",
            ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => "the access token is not one of this shop",
            _ => "the access token is not signed by auth",
        })
    })?;
    Ok(decoded.claims)
}

type Hash = [u8; 32];

/// Tokens that were verified, by their hashes: nothing that is kept here would let anybody in. When half of the places
/// are taken, the half before is forgotten, so that it stays small without looking through all of it.
#[derive(Default)]
struct Verified {
    recent: HashMap<Hash, (Caller, u64)>,
    before: HashMap<Hash, (Caller, u64)>,
}

impl Verified {
    /// Whose it is, if it has not expired at `now`.
    fn get(&mut self, hash: &Hash, now: u64) -> Option<Caller> {
        if let Some((caller, until)) = self.recent.get(hash) {
            return (*until > now).then(|| caller.clone());
        }
        let (caller, until) = self.before.remove(hash).filter(|(_, until)| *until > now)?;
        self.insert(*hash, caller.clone(), until);
        Some(caller)
    }

    fn insert(&mut self, hash: Hash, caller: Caller, until: u64) {
        if self.recent.len() >= REMEMBERED / 2 {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(hash, (caller, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> Hash {
        Sha256::digest(number.to_le_bytes()).into()
    }

    #[test]
    fn a_verified_token_is_known_until_it_expires() {
        let mut verified = Verified::default();
        verified.insert(hash(1), Caller::Anonymous, 100);
        assert_eq!(verified.get(&hash(1), 99), Some(Caller::Anonymous));
        assert_eq!(verified.get(&hash(1), 100), None);
        assert_eq!(verified.get(&hash(2), 99), None);
    }

    #[test]
    fn those_in_use_are_remembered_and_never_too_many() {
        let mut verified = Verified::default();
        verified.insert(hash(0), Caller::Anonymous, 100);
        for number in 1..5 * REMEMBERED {
            verified.insert(hash(number), Caller::Anonymous, 100);
            if number % (REMEMBERED / 4) == 0 {
                assert!(verified.get(&hash(0), 1).is_some(), "forgotten at {number}");
            }
            assert!(verified.recent.len() + verified.before.len() <= REMEMBERED);
        }
        assert!(verified.get(&hash(1), 1).is_none());
    }
}
