//! The keys by which access tokens are signed. They are in the database, the private halves encrypted; each replica has a
//! copy and looks for others' changes now and then.
//!
//! A new key is published before it signs, so that every service knows it by its first token; an old one stays published
//! until the last token that it signed is over.

mod cipher;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::identity::{AUDIENCE, Claims, FetchError, ISSUER, PublicKeys};
use valerix_kit::postgres::begin;
use valerix_kit::problem::Problem;

pub use cipher::{Cipher, InvalidSecret};

use crate::config::TokenArgs;
use crate::store::keys as store;

/// How often a replica looks for keys that another one has made.
const LOOK: Duration = Duration::from_secs(30);
/// How long a key stays published after its last token is over: clocks differ, and replicas look now and then.
const SLACK: Duration = Duration::from_secs(10 * 60);

/// The keys of one replica; cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    pool: PgPool,
    cipher: Arc<Cipher>,
    lifetime: Duration,
    lead: Duration,
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// The newest first.
    own: Vec<SigningKey>,
    published: Vec<Value>,
}

#[derive(Clone)]
struct SigningKey {
    id: String,
    key: EncodingKey,
    signs_from: DateTime<Utc>,
}

impl Keyring {
    /// No keys yet.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn new(pool: PgPool, args: &TokenArgs) -> Result<Self, InvalidSecret> {
        Ok(Self {
            pool,
            cipher: Arc::new(Cipher::new(&args.auth_key_secret)?),
            lifetime: args.access_token_lifetime,
            lead: args.key_lead,
            known: Arc::default(),
        })
    }

    /// Reads the keys, and makes one where there is none that this replica can sign with.
    ///
    /// # Errors
    /// When the database does not answer, or no key can be made.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        self.read().await?;
        if self.signing().is_none() {
            self.add(Duration::ZERO, true).await?;
        }
        Ok(())
    }

    /// Makes a key that signs when every service knows it; gives its id and from when that is.
    ///
    /// # Errors
    /// When the database does not answer, or no key can be made.
    pub async fn rotate(&self) -> anyhow::Result<(String, DateTime<Utc>)> {
        let added = self.add(self.lead, false).await?;
        added.context("failed to make a key: another one was made at this moment")
    }

    /// Follows what other replicas do and forgets old keys, until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let followed = async {
                store::forget(&self.pool, self.lifetime + SLACK).await?;
                self.read().await
            };
            if let Err(error) = followed.await {
                tracing::warn!(%error, "the signing keys are those known before");
            }
        }
    }

    /// An access token for the session; gives it with the seconds that it holds.
    ///
    /// # Errors
    /// 503 while there is no key, 500 when it can not be signed.
    pub fn sign(&self, user: Uuid, admin: bool, session: Uuid) -> Result<(String, u64), Problem> {
        let signing = self.signing();
        let key = signing.ok_or_else(|| Problem::unavailable("there is no key to sign with at the moment"))?;
        let issued = jsonwebtoken::get_current_timestamp();
        let roles = ["user"].into_iter().chain(admin.then_some("admin"));
        let claims = Claims {
            sub: user,
            roles: roles.map(str::to_owned).collect(),
            sid: session,
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: issued,
            exp: issued + self.lifetime.as_secs(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.id);
        let token = encode(&header, &claims, &key.key).map_err(|error| Problem::internal(&error))?;
        Ok((token, self.lifetime.as_secs()))
    }

    /// What is published: a JWK set.
    #[must_use]
    pub fn published(&self) -> Value {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        json!({"keys": known.published})
    }

    /// Since when the present key has been signing, if there is one.
    #[must_use]
    pub fn signs_since(&self) -> Option<DateTime<Utc>> {
        self.signing().map(|key| key.signs_from)
    }

    fn signing(&self) -> Option<SigningKey> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let now = Utc::now();
        // A first key that was made a moment ago by a database whose clock is ahead is better than none.
        let begun = known.own.iter().find(|key| key.signs_from <= now);
        begun.or(known.own.last()).cloned()
    }

    /// Adds a key. `only_first`: unless another replica has done so meanwhile and this one can sign with it.
    async fn add(&self, lead: Duration, only_first: bool) -> anyhow::Result<Option<(String, DateTime<Utc>)>> {
        let id = Uuid::now_v7().to_string();
        let pair = Ed25519KeyPair::generate().context("failed to make a signing key")?;
        let private = pair.to_pkcs8().context("failed to write a signing key")?;
        let private_key = self.cipher.seal(&id, private.as_ref())?;
        let mut transaction = begin(&self.pool).await?;
        store::lock(&mut transaction).await?;
        if only_first {
            let kept = store::all(&mut *transaction).await?;
            if kept.iter().any(|key| self.open(key).is_some()) {
                transaction.commit().await?;
                self.read().await?;
                return Ok(None);
            }
        }
        let public = pair.public_key().as_ref();
        let signs_from = store::insert(&mut transaction, &id, public, &private_key, lead).await?;
        transaction.commit().await?;
        tracing::info!(key = id, %signs_from, "a signing key was made");
        self.read().await?;
        Ok(Some((id, signs_from)))
    }

    async fn read(&self) -> anyhow::Result<()> {
        let kept = store::all(&self.pool)
            .await
            .context("failed to read the signing keys")?;
        let known = Known {
            own: kept.iter().filter_map(|key| self.open(key)).collect(),
            published: kept.iter().map(jwk).collect(),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The key to sign with; nothing where it was encrypted by another secret.
    fn open(&self, kept: &store::KeptKey) -> Option<SigningKey> {
        let Some(private) = self.cipher.open(&kept.id, &kept.private_key) else {
            tracing::warn!(key = kept.id, "a signing key was encrypted by another AUTH_KEY_SECRET");
            return None;
        };
        Some(SigningKey {
            id: kept.id.clone(),
            key: EncodingKey::from_ed_der(&private),
            signs_from: kept.signs_from,
        })
    }
}

fn jwk(key: &store::KeptKey) -> Value {
    let x = URL_SAFE_NO_PAD.encode(&key.public_key);
    json!({"kid": key.id, "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x})
}

/// Auth verifies its own tokens as everybody does, but asks itself.
#[async_trait]
impl PublicKeys for Keyring {
    async fn fetch(&self) -> Result<Value, FetchError> {
        self.read().await.map_err(|error| FetchError(error.to_string()))?;
        Ok(self.published())
    }
}
