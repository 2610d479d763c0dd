//! The tokens of users: JWTs that auth signs. A token that was verified once is known by its hash until it expires, and one
//! that was refused for a while, so that neither is verified with each request that has it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
/// Tokens that are known as refused at a time, at most, and for how many seconds each: a key may come to be another, and what
/// it has signed is then to be heard soon.
const REMEMBERED_REFUSED: usize = 4_000;
const REFUSED_FOR: u64 = 10;
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
    verified: Mutex<Remembered<Caller>>,
    /// Why they were.
    refused: Mutex<Remembered<&'static str>>,
}

impl UserTokens {
    pub(super) fn new(keys: KeySet) -> Self {
        Self {
            keys,
            verified: Mutex::new(Remembered::at_most(REMEMBERED)),
            refused: Mutex::new(Remembered::at_most(REMEMBERED_REFUSED)),
        }
    }

    /// Returns when auth's keys are known.
    pub(super) async fn prepare(&self) {
        self.keys.prepare().await;
    }

    /// Whose token it is.
    pub(super) async fn verify(&self, token: &str) -> Result<Caller, Problem> {
        let hash: Hash = Sha256::digest(token).into();
        let now = get_current_timestamp();
        if let Some(caller) = lock(&self.verified).get(&hash, now) {
            return Ok(caller);
        }
        if let Some(why) = lock(&self.refused).get(&hash, now) {
            return Err(refused_token(why));
        }
        let id = decode_header(token).ok().and_then(|header| header.kid);
        let id = id.ok_or_else(|| refused_token("the access token is no token of the expected form"))?;
        let key = self.keys.find(&id).await.map_err(|why| match why {
            NoKey::Unknown => refused_token("the access token is signed by a key that auth does not know"),
            NoKey::Unavailable => Problem::unavailable("who signed the access token can not be told at the moment")
                .retry_after(RETRY_AFTER),
        })?;
        let claims = claims(token, &key).map_err(|refusal| {
            // What cost a signature to find out. What does not hold yet is soon another matter.
            if refusal != Refusal::Early {
                lock(&self.refused).insert(hash, refusal.in_words(), now + REFUSED_FOR);
            }
            refused_token(refusal.in_words())
        })?;
        let caller = Caller::User {
            id: claims.sub,
            admin: claims.roles.iter().any(|role| role == ADMIN),
        };
        lock(&self.verified).insert(hash, caller.clone(), claims.exp);
        Ok(caller)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a token that is signed by a known key, or says so, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Expired,
    Early,
    Elsewhere,
    Forged,
}

impl Refusal {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Expired => "the access token has expired: ask /auth/refresh for another one",
            Self::Early => "the access token does not hold yet",
            Self::Elsewhere => "the access token is not one of this shop",
            Self::Forged => "the access token is not signed by auth",
        }
    }
}

fn claims(token: &str, key: &VerifyingKey) -> Result<Claims, Refusal> {
    let mut validation = Validation::new(key.algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = decode::<Claims>(token, &key.key, &validation).map_err(|error| match error.kind() {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::Early,
        ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => Refusal::Elsewhere,
        _ => Refusal::Forged,
    })?;
    Ok(decoded.claims)
}

type Hash = [u8; 32];

/// What is known of tokens, by their hashes: nothing that is kept here would let anybody in, and how long it is looked for
/// tells nothing of a token. When half of the places are taken, the half before is forgotten, so that it stays small without
/// looking through all of it.
struct Remembered<T> {
    recent: HashMap<Hash, (T, u64)>,
    before: HashMap<Hash, (T, u64)>,
    most: usize,
}

impl<T: Clone> Remembered<T> {
    fn at_most(most: usize) -> Self {
        Self {
            recent: HashMap::new(),
            before: HashMap::new(),
            most,
        }
    }

    /// What is known of it, if that still holds at `now`.
    fn get(&mut self, hash: &Hash, now: u64) -> Option<T> {
        if let Some((known, until)) = self.recent.get(hash) {
            return (*until > now).then(|| known.clone());
        }
        let (known, until) = self.before.remove(hash).filter(|(_, until)| *until > now)?;
        self.insert(*hash, known.clone(), until);
        Some(known)
    }

    fn insert(&mut self, hash: Hash, known: T, until: u64) {
        if self.recent.len() >= self.most / 2 {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(hash, (known, until));
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::{FetchError, PublicKeys};
    use crate::testing::access::TestAuth;

    struct Keys(Value);

    #[async_trait]
    impl PublicKeys for Keys {
        async fn fetch(&self) -> Result<Value, FetchError> {
            Ok(self.0.clone())
        }
    }

    /// What cost no signature may be right by the next key that is heard of, what does not hold yet a moment later.
    #[tokio::test]
    async fn only_what_cost_a_signature_is_known_as_refused_and_not_for_long() {
        let (auth, forger) = (TestAuth::start().await, TestAuth::start().await);
        let tokens = UserTokens::new(KeySet::new(Keys(json!({"keys": [auth.jwk()]}))));
        let good = serde_json::to_value(TestAuth::claims(Uuid::new_v4(), &[])).unwrap();
        let early = json!({"nbf": good["exp"]});
        let early = Value::from_iter(
            good.as_object()
                .unwrap()
                .clone()
                .into_iter()
                .chain(early.as_object().unwrap().clone()),
        );
        let known = |token: &str, after: u64| {
            let hash: Hash = Sha256::digest(token).into();
            lock(&tokens.refused).get(&hash, get_current_timestamp() + after)
        };
        let (forged, unknown) = (forger.sign(&good), "eyJhbGciOiJFZERTQSIsImtpZCI6Im90aGVyIn0.e30.AA");
        for token in [&*forged, &*auth.sign(&early), unknown, "no token"] {
            assert!(tokens.verify(token).await.is_err(), "{token}");
            assert_eq!(known(token, 0).is_some(), token == forged, "{token}");
        }
        assert!(known(&forged, REFUSED_FOR + 1).is_none());
        // It is what is known that answers.
        let token = auth.sign(&good);
        let hash: Hash = Sha256::digest(&token).into();
        lock(&tokens.refused).insert(hash, "as before", get_current_timestamp() + REFUSED_FOR);
        assert!(tokens.verify(&token).await.is_err());
        lock(&tokens.refused).insert(hash, "as before", get_current_timestamp());
        assert!(tokens.verify(&token).await.is_ok());
    }

    fn hash(number: usize) -> Hash {
        Sha256::digest(number.to_le_bytes()).into()
    }

    #[test]
    fn a_verified_token_is_known_until_it_expires() {
        let mut verified = Remembered::at_most(REMEMBERED);
        verified.insert(hash(1), Caller::Anonymous, 100);
        assert_eq!(verified.get(&hash(1), 99), Some(Caller::Anonymous));
        assert_eq!(verified.get(&hash(1), 100), None);
        assert_eq!(verified.get(&hash(2), 99), None);
    }

    #[test]
    fn those_in_use_are_remembered_and_never_too_many() {
        let mut verified = Remembered::at_most(REMEMBERED);
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
