//! Auth's public keys (a JWK set, RFC 7517), as this service knows them.
//!
//! A set is asked for at start, when a token names a key that is not in it, at most once in [`UNKNOWN_KEY_PAUSE`], and
//! beside the requests when it is older than [`REFRESH_AFTER`]. Whoever needs a key while auth is being asked waits for the
//! answer. While auth is away the last good set is used for [`KEEP`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use valerix_resilience::{Backoff, Deadline, ResilientClient};

/// Pause after which a token with an unknown key has the set asked for again: tokens can be invented faster than auth
/// can answer.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// The same as long as there is no set at all.
const NO_KEYS_PAUSE: Duration = Duration::from_secs(1);
/// Age from which a set is asked for again, so that a key that auth no longer knows is forgotten.
const REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
/// How long a set is used without auth having confirmed it.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a request waits for auth's answer, if its deadline lets it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Keys that are read of one set.
const LARGEST_SET: usize = 100;

const KEYS_PATH: &str = "/.well-known/jwks.json";

/// Where auth's public keys come from.
#[async_trait]
pub trait PublicKeys: Send + Sync + 'static {
    /// The keys as a JWK set.
    ///
    /// # Errors
    /// When they can not be had at the moment.
    async fn fetch(&self) -> Result<Value, FetchError>;
}

/// Why the public keys can not be had, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to fetch the public keys: {0}")]
pub struct FetchError(pub String);

/// The keys as auth serves them.
pub(super) struct AuthService(pub(super) ResilientClient);

#[async_trait]
impl PublicKeys for AuthService {
    async fn fetch(&self) -> Result<Value, FetchError> {
        let in_words = |error: &dyn std::fmt::Display| FetchError(error.to_string());
        // Asked for again by itself, and by every service at once where all of them start.
        let answer = self
            .0
            .get(KEYS_PATH)
            .beside_circuits()
            .send()
            .await
            .map_err(|error| in_words(&error))?;
        if !answer.status().is_success() {
            return Err(FetchError(format!("auth answered {}", answer.status())));
        }
        answer.json().await.map_err(|error| in_words(&error))
    }
}

/// A key with the one algorithm that it is for: what a token says of its algorithm is never believed.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// Why there is no key of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// Auth has no such key.
    Unknown,
    /// Auth could not be asked.
    Unavailable,
}

/// The set, shared by all requests.
#[derive(Clone)]
pub(super) struct KeySet {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<dyn PublicKeys>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, VerifyingKey>,
    /// When auth confirmed them.
    confirmed: Option<Instant>,
    /// When auth was asked last, and whether it answered.
    asked: Option<(Instant, bool)>,
    /// The question that auth was asked last: it is closed when it has its answer, or will have none.
    question: Option<watch::Receiver<()>>,
}

impl Known {
    /// Since when they are known, if they may still be used.
    fn age(&self) -> Option<Duration> {
        self.confirmed
            .map(|confirmed| confirmed.elapsed())
            .filter(|age| *age < KEEP)
    }

    /// Whether auth may be asked again.
    fn may_ask(&self) -> bool {
        let pause = if self.age().is_some() {
            UNKNOWN_KEY_PAUSE
        } else {
            NO_KEYS_PAUSE
        };
        self.asked.is_none_or(|(asked, _)| asked.elapsed() >= pause)
    }

    /// The key, or why there is none as far as is known now.
    fn find(&self, id: &str) -> Result<VerifyingKey, NoKey> {
        if self.age().is_none() {
            return Err(NoKey::Unavailable);
        }
        let answered = self.asked.is_some_and(|(_, answered)| answered);
        let absent = if answered { NoKey::Unknown } else { NoKey::Unavailable };
        self.keys.get(id).cloned().ok_or(absent)
    }
}

impl KeySet {
    pub(super) fn new(source: impl PublicKeys) -> Self {
        Self {
            inner: Arc::new(Inner {
                source: Box::new(source),
                known: Mutex::default(),
            }),
        }
    }

    /// The key `id`; auth is asked where it is not known and the pause is over.
    pub(super) async fn find(&self, id: &str) -> Result<VerifyingKey, NoKey> {
        let (found, question) = {
            let mut known = self.known();
            let found = known.find(id);
            let old = known.age().is_none_or(|age| age >= REFRESH_AFTER);
            let question = (found.is_err() || old).then(|| self.ask(&mut known)).flatten();
            (found, question)
        };
        let (Err(_), Some(mut question)) = (&found, question) else {
            return found;
        };
        let patience = Deadline::current().map_or(PATIENCE, |deadline| deadline.remaining().min(PATIENCE));
        match tokio::time::timeout(patience, question.changed()).await {
            Ok(_closed) => self.known().find(id),
            Err(_) => Err(NoKey::Unavailable),
        }
    }

    /// Asks auth until it has answered once: the first requests are not to wait for that.
    pub(super) async fn prepare(&self) {
        let mut backoff = Backoff::new(NO_KEYS_PAUSE, UNKNOWN_KEY_PAUSE);
        while self.known().age().is_none() {
            let question = self.ask(&mut self.known());
            match question {
                Some(mut question) => drop(question.changed().await),
                None => tokio::time::sleep(backoff.next_delay()).await,
            }
        }
    }

    /// The question that is under way, else a new one; none during the pause.
    fn ask(&self, known: &mut Known) -> Option<watch::Receiver<()>> {
        let open = known.question.as_ref();
        if let Some(open) = open.filter(|question| question.has_changed().is_ok()) {
            return Some(open.clone());
        }
        if !known.may_ask() {
            return None;
        }
        known.asked = Some((Instant::now(), false));
        let (open, question) = watch::channel(());
        known.question = Some(question.clone());
        // In a task of its own, as a caller who leaves must not leave the question without its answer.
        let set = self.clone();
        tokio::spawn(async move {
            let _open = open;
            set.fetch().await;
        });
        Some(question)
    }

    async fn fetch(&self) {
        let set = self.inner.source.fetch().await.and_then(|set| read(&set));
        let mut known = self.known();
        match set {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "auth's public keys were read");
                known.confirmed = Some(Instant::now());
                known.keys = keys;
                known.asked = Some((Instant::now(), true));
            }
            Err(error) => {
                let age_s = known.age().map(|age| age.as_secs());
                tracing::warn!(%error, age_s, "auth's public keys are those known before, if any");
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of a JWK set that can verify. What is of another kind is left out, above all symmetric keys: a public key
/// that is taken for one would let anybody sign.
fn read(set: &Value) -> Result<HashMap<String, VerifyingKey>, FetchError> {
    #[derive(Deserialize)]
    struct Jwk {
        kid: String,
        kty: String,
        crv: String,
        x: String,
        #[serde(default)]
        y: String,
        #[serde(rename = "use")]
        usage: Option<String>,
    }
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or_else(|| FetchError("the answer is no JWK set".to_owned()))?;
    let keys = keys.iter().take(LARGEST_SET).filter_map(|key| {
        let jwk = Jwk::deserialize(key).ok()?;
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (key, algorithm) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
            ("OKP", "Ed25519") => (DecodingKey::from_ed_components(&jwk.x), Algorithm::EdDSA),
            ("EC", "P-256") => (DecodingKey::from_ec_components(&jwk.x, &jwk.y), Algorithm::ES256),
            _ => return None,
        };
        Some((
            jwk.kid,
            VerifyingKey {
                key: key.ok()?,
                algorithm,
            },
        ))
    });
    Ok(keys.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::time::advance;

    use super::*;

    /// An auth that knows key `a`, and `b` once it has rotated, counts how often it is asked, may be away, and answers when its
    /// gate lets it.
    #[derive(Clone, Default)]
    struct Auth {
        asked: Arc<AtomicUsize>,
        away: Arc<AtomicBool>,
        rotated: Arc<AtomicBool>,
        gate: Arc<tokio::sync::RwLock<()>>,
    }

    #[async_trait]
    impl PublicKeys for Auth {
        async fn fetch(&self) -> Result<Value, FetchError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.read().await;
            if self.away.load(Ordering::SeqCst) {
                return Err(FetchError("away".to_owned()));
            }
            if self.rotated.load(Ordering::SeqCst) {
                return Ok(json!({"keys": [jwk("b"), jwk("a")]}));
            }
            Ok(json!({"keys": [jwk("a")]}))
        }
    }

    fn jwk(kid: &str) -> Value {
        json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    impl Auth {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        fn set_away(&self, away: bool) {
            self.away.store(away, Ordering::SeqCst);
        }
    }

    async fn why(keys: &KeySet, id: &str) -> NoKey {
        keys.find(id).await.err().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_asked_for_once_in_thirty_seconds() {
        let auth = Auth::default();
        let keys = KeySet::new(auth.clone());
        assert!(keys.find("a").await.is_ok());
        assert!(keys.find("a").await.is_ok());
        assert_eq!(auth.asked(), 1);
        advance(UNKNOWN_KEY_PAUSE).await;
        let unknown = ["b", "c", "d"].map(|id| why(&keys, id));
        assert_eq!(futures::future::join_all(unknown).await, [NoKey::Unknown; 3]);
        assert_eq!(auth.asked(), 2);
        advance(UNKNOWN_KEY_PAUSE - Duration::from_secs(1)).await;
        assert_eq!(why(&keys, "b").await, NoKey::Unknown);
        assert_eq!(auth.asked(), 2);
        advance(Duration::from_secs(1)).await;
        assert_eq!(why(&keys, "b").await, NoKey::Unknown);
        assert_eq!(auth.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_auth_has_made_since_is_found_beside_the_one_before() {
        let auth = Auth::default();
        let keys = KeySet::new(auth.clone());
        assert!(keys.find("a").await.is_ok());
        auth.rotated.store(true, Ordering::SeqCst);
        assert_eq!(why(&keys, "b").await, NoKey::Unknown, "auth was asked just now");
        advance(UNKNOWN_KEY_PAUSE).await;
        assert!(keys.find("b").await.is_ok());
        assert!(
            keys.find("a").await.is_ok(),
            "what it has signed is good as long as before"
        );
        assert_eq!(auth.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_set_is_kept_for_a_day_while_auth_is_away() {
        let auth = Auth::default();
        let keys = KeySet::new(auth.clone());
        assert!(keys.find("a").await.is_ok());
        auth.set_away(true);
        advance(KEEP - Duration::from_secs(1)).await;
        assert!(keys.find("a").await.is_ok());
        assert_eq!(
            why(&keys, "b").await,
            NoKey::Unavailable,
            "it may be a key that auth has made since"
        );
        advance(Duration::from_secs(1)).await;
        assert_eq!(why(&keys, "a").await, NoKey::Unavailable);
        auth.set_away(false);
        advance(NO_KEYS_PAUSE).await;
        assert!(keys.find("a").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_auth_that_was_never_reached_is_asked_again_soon() {
        let auth = Auth::default();
        auth.set_away(true);
        let keys = KeySet::new(auth.clone());
        assert_eq!(why(&keys, "a").await, NoKey::Unavailable);
        assert_eq!(why(&keys, "a").await, NoKey::Unavailable);
        assert_eq!(auth.asked(), 1);
        auth.set_away(false);
        advance(NO_KEYS_PAUSE).await;
        assert!(keys.find("a").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_a_key_while_auth_is_asked_waits_for_the_answer() {
        let auth = Auth::default();
        let keys = KeySet::new(auth.clone());
        let ask_all = || {
            let keys = ["a", "b", "a"].map(|id| keys.find(id));
            async {
                futures::future::join_all(keys)
                    .await
                    .into_iter()
                    .map(Result::err)
                    .collect::<Vec<_>>()
            }
        };
        let expected = [None, Some(NoKey::Unknown), None];
        // At first, and when a set is known and somebody invents keys.
        for asked in 1..=2 {
            let shut = auth.gate.write().await;
            let release = async {
                crate::testing::eventually("auth is asked", || async { (auth.asked() == asked).then_some(()) }).await;
                drop(shut);
            };
            let (found, ()) = tokio::join!(ask_all(), release);
            assert_eq!(found, expected);
            advance(UNKNOWN_KEY_PAUSE).await;
        }
        assert_eq!(auth.asked(), 2, "all of them have asked one question");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_deadline_of_the_request() {
        let auth = Auth::default();
        let _shut = auth.gate.write().await;
        let keys = KeySet::new(auth.clone());
        for (deadline, waited) in [
            (Duration::from_millis(50), Duration::from_millis(50)),
            (4 * PATIENCE, PATIENCE),
        ] {
            let begun = Instant::now();
            assert_eq!(
                Deadline::after(deadline).scope(why(&keys, "a")).await,
                NoKey::Unavailable
            );
            let took = begun.elapsed();
            assert!((waited..waited + Duration::from_millis(10)).contains(&took), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_keys_are_there_before_anybody_needs_one() {
        let auth = Auth::default();
        auth.set_away(true);
        let keys = KeySet::new(auth.clone());
        let preparing = tokio::spawn({
            let keys = keys.clone();
            async move { keys.prepare().await }
        });
        crate::testing::eventually("auth is asked", || async { (auth.asked() == 1).then_some(()) }).await;
        auth.set_away(false);
        preparing.await.unwrap();
        let asked = auth.asked();
        assert!(keys.find("a").await.is_ok());
        assert_eq!(auth.asked(), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_set_is_confirmed_beside_the_requests() {
        let auth = Auth::default();
        let keys = KeySet::new(auth.clone());
        assert!(keys.find("a").await.is_ok());
        advance(REFRESH_AFTER).await;
        assert!(keys.find("a").await.is_ok());
        crate::testing::eventually("auth is asked again", || async { (auth.asked() == 2).then_some(()) }).await;
    }

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let symmetric = json!({"kid": "k", "kty": "oct", "k": "c2VjcmV0", "crv": "Ed25519", "x": "c2VjcmV0"});
        let mut for_encryption = jwk("e");
        for_encryption["use"] = json!("enc");
        let set = json!({"keys": [symmetric, for_encryption, {"kid": 7}, null, jwk("a")]});
        let keys = read(&set).unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["a"]);
        assert!(read(&json!({})).is_err());
    }
}
