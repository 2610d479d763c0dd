//! The destination: a bucket of an S3-compatible object store.
//!
//! In: a verified archive on scratch. Out: the same bytes under the slot's key, by exactly one request that is sent once
//! and never overwrites (`If-None-Match: *`): a PutObject, or where one cannot carry the archive, the CompleteMultipartUpload
//! of [`parts`]. Unlike link(2) it has a half-way: an answer may be lost, and a request that
//! is on its way cannot be called back. So whatever the answer was, what lies under the key is asked with HEAD, and an
//! unclear answer is never followed by a second write.
//!
//! Of temporary credentials that are over the store says so, and has done nothing: what only reads, and a part, waits for new ones.
//! The one write does not, as it would keep the fence for that; whoever has sent it gives the fence back and begins there.

mod access;
mod answer;
mod error;
pub mod parts;
pub mod ranges;

pub use error::Error;

use crate::archive::Digest;
use answer::Answer;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::{
    Client, Config,
    config::{
        BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    operation::list_objects_v2::ListObjectsV2Output,
    primitives::ByteStream,
    types::ChecksumMode as AskChecksum,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, NaiveDate, Utc};
use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use valerix_crds::{
    ChecksumMode, ConditionalWrites, S3Destination,
    backup_runner::{DEFAULT_REGION, store_url},
};

/// The most that one PutObject takes everywhere. Unit: bytes.
pub const MAX_OBJECT: u64 = 5 << 30;
/// The slowest way to the store that is waited for. Unit: bytes a second.
const SLOWEST: u64 = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a file is read at a time while it is sent. Unit: bytes.
const PIECE: usize = 1 << 20;
/// How often a read is tried.
const READ_ATTEMPTS: u32 = 3;

/// Metadata of an archive: whose it is, and what it must hold.
const POLICY_UID: &str = "valerix-policy-uid";
const SLOT: &str = "valerix-slot";
const SHA256: &str = "valerix-sha256";
const RUN_ID: &str = "valerix-run-id";

/// What the one write came to.
#[derive(Debug)]
pub enum Put {
    /// The store says that it is stored.
    Stored,
    /// Something lies under the key.
    Exists,
}

/// What HEAD tells.
#[derive(Debug)]
pub struct Head {
    /// UID of the policy that wrote it, if it says so.
    pub policy_uid: Option<String>,
    /// The slot that it says it stands for.
    pub slot: Option<String>,
    /// The sha256 that it must have, lower-case hex.
    pub sha256: Option<String>,
    /// Size. Unit: bytes.
    pub bytes: u64,
    /// When it was stored.
    pub modified: Option<DateTime<Utc>>,
    /// The sha256 that the store itself has computed, lower-case hex.
    pub attested: Option<String>,
    /// The same as the store tells it: of an upload in parts it is computed of those of the parts.
    pub checksum: Option<String>,
}

/// Where Secrets are mounted, and how long a request may take.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Folder of the credentials' Secret.
    pub credentials: PathBuf,
    /// Folder of the authority's Secret.
    pub authority: PathBuf,
    /// How long one request may take beyond the time that its bytes need.
    pub patience: Duration,
    /// How long after credentials have expired new ones may come.
    pub renewal: Duration,
    /// The most that one PutObject takes, and one part. Unit: bytes.
    pub max_object: u64,
    /// A part of what is larger. Unit: bytes.
    pub part: u64,
}

/// What the one write is labelled with.
#[derive(Debug)]
pub struct Labels<'a> {
    /// UID of the policy.
    pub policy_uid: &'a str,
    /// The slot.
    pub slot: NaiveDate,
    /// UID of the pod.
    pub run_id: &'a str,
}

impl Labels<'_> {
    /// With what the object must hold.
    fn of(&self, digest: &Digest) -> HashMap<String, String> {
        let slot = self.slot.to_string();
        [
            (POLICY_UID, self.policy_uid),
            (SLOT, slot.as_str()),
            (RUN_ID, self.run_id),
            (SHA256, digest.sha256.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

/// One bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    reader: Client,
    /// Sends each request once.
    writer: Client,
    credentials: Arc<access::Mounted>,
    name: String,
    checksum: ChecksumMode,
    patience: Duration,
    max_object: u64,
    part: u64,
}

impl Bucket {
    /// Reads the Secrets and makes the client; nothing is asked yet.
    ///
    /// # Errors
    /// If a Secret is missing or wrong.
    pub fn open(destination: &S3Destination, reach: &Reach) -> Result<Self, Error> {
        let credentials = access::Mounted::open(&reach.credentials, reach.renewal, destination)?;
        let credentials = Arc::new(credentials);
        let provider: Arc<dyn ProvideCredentials> = credentials.clone();
        let trust = match access::authority(&reach.authority, destination)? {
            Some(pem) => TrustStore::empty().with_pem_certificate(pem.into_bytes()),
            None => TrustStore::default(),
        };
        let context = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| Error::Call {
                action: "prepare TLS for",
                place: store_url(destination),
                why: error.to_string(),
            })?;
        let http = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let region = destination.region.as_deref().unwrap_or(DEFAULT_REGION);
        let path_style = destination.path_style.unwrap_or(destination.endpoint.is_some());
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.to_owned()))
            .credentials_provider(provider)
            .identity_cache(IdentityCache::no_cache())
            .force_path_style(path_style)
            .http_client(http)
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(READ_ATTEMPTS));
        if let Some(endpoint) = &destination.endpoint {
            config = config.endpoint_url(endpoint.trim_end_matches('/'));
        }
        let reader = config.clone().build();
        let writer = config.retry_config(RetryConfig::disabled()).build();
        Ok(Self {
            reader: Client::from_conf(reader),
            writer: Client::from_conf(writer),
            credentials,
            name: destination.bucket.clone(),
            checksum: destination.checksum_mode.unwrap_or_default(),
            patience: reach.patience,
            max_object: reach.max_object,
            part: reach.part,
        })
    }

    /// What lies under a key.
    ///
    /// # Errors
    /// If it cannot be found out.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, Error> {
        self.renewing(|| self.head_now(key)).await
    }

    async fn head_now(&self, key: &str) -> Result<Option<Head>, Error> {
        let used = self.credentials.now();
        let request = self
            .reader
            .head_object()
            .bucket(&self.name)
            .key(key)
            .checksum_mode(AskChecksum::Enabled)
            .send();
        let found = match self.bounded(0, request).await {
            Ok(found) => found,
            Err(Answer::Absent) => return Ok(None),
            // An answer to HEAD has no body that says why; one to a listing has.
            Err(Answer::Refused { why }) => {
                self.page(key, None).await?;
                // A listing that came with newer credentials does not say why either.
                let answer = if self.credentials.now() == used {
                    Answer::Refused { why }
                } else {
                    Answer::Expired { why }
                };
                return Err(answer.of_reading("look at", &self.place(key)));
            }
            Err(answer) => return Err(answer.of_reading("look at", &self.place(key))),
        };
        let said = |name: &str| found.metadata().and_then(|metadata| metadata.get(name)).cloned();
        Ok(Some(Head {
            policy_uid: said(POLICY_UID),
            slot: said(SLOT),
            sha256: said(SHA256),
            bytes: found
                .content_length()
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or_default(),
            modified: found
                .last_modified()
                .and_then(|at| DateTime::from_timestamp(at.secs(), 0)),
            attested: found
                .checksum_sha256()
                .and_then(|text| BASE64_STANDARD.decode(text).ok())
                .map(hex::encode),
            checksum: found.checksum_sha256().map(str::to_owned),
        }))
    }

    /// The one write.
    ///
    /// # Errors
    /// [`Error::Call`]: it may have been stored. Any other: it was not.
    pub async fn put(&self, key: &str, archive: &Path, digest: &Digest, labels: &Labels<'_>) -> Result<Put, Error> {
        let body = ByteStream::read_from()
            .path(archive)
            .buffer_size(PIECE)
            .build()
            .await
            .map_err(|error| Error::File {
                action: "open the archive on scratch".into(),
                source: std::io::Error::other(error),
            })?;
        let length = i64::try_from(digest.bytes).unwrap_or(i64::MAX);
        let mut request = self
            .writer
            .put_object()
            .bucket(&self.name)
            .key(key)
            .if_none_match("*")
            .content_type("application/zstd")
            .content_length(length)
            .set_metadata(Some(labels.of(digest)))
            .body(body);
        if self.checksum == ChecksumMode::WhenSupported {
            request = request.set_checksum_sha256(
                hex::decode(&digest.sha256)
                    .ok()
                    .map(|hash| BASE64_STANDARD.encode(hash)),
            );
        }
        match self.bounded(digest.bytes, request.send()).await {
            Ok(_) => Ok(Put::Stored),
            Err(Answer::Exists) => Ok(Put::Exists),
            Err(Answer::NoConditions { why }) => Err(Error::NoConditions {
                place: self.place(key),
                why,
            }),
            Err(answer) => Err(answer.of_reading("store", &self.place(key))),
        }
    }

    /// What the store makes of `If-None-Match: *`: writes a few bytes under `key` twice, unless the first time tells.
    pub async fn conditional_writes(&self, key: &str) -> ConditionalWrites {
        for _ in 0..2 {
            let request = self
                .writer
                .put_object()
                .bucket(&self.name)
                .key(key)
                .if_none_match("*")
                .content_type("text/plain")
                .body(ByteStream::from_static(
                    b"Shows whether this store refuses to overwrite.\n",
                ))
                .send();
            match self.bounded(0, request).await {
                Ok(_) => {}
                Err(Answer::Exists) => return ConditionalWrites::Enforced,
                Err(Answer::NoConditions { .. }) => return ConditionalWrites::Ignored,
                Err(answer) => {
                    let error = answer.of_reading("ask what the store makes of If-None-Match at", &self.place(key));
                    tracing::warn!(%error, "it is not known whether the store refuses to overwrite");
                    return ConditionalWrites::Unknown;
                }
            }
        }
        ConditionalWrites::Ignored
    }

    /// Every key that begins with `prefix`, in the store's order.
    ///
    /// # Errors
    /// If the store does not list them.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let page = self.renewing(|| self.page(prefix, next.clone())).await?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
            next = page.next_continuation_token().map(str::to_owned);
            if page.is_truncated() != Some(true) || next.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn page(&self, prefix: &str, next: Option<String>) -> Result<ListObjectsV2Output, Error> {
        let request = self
            .reader
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .set_continuation_token(next)
            .send();
        let page = self.bounded(0, request).await;
        page.map_err(|answer| answer.of_reading("list", &self.place(prefix)))
    }

    /// Removes an object; one that is not there is as good.
    ///
    /// # Errors
    /// If the store does not do it.
    pub async fn remove(&self, key: &str) -> Result<(), Error> {
        let request = self.reader.delete_object().bucket(&self.name).key(key).send();
        match self.bounded(0, request).await {
            Ok(_) | Err(Answer::Absent) => Ok(()),
            Err(answer) => Err(answer.of_reading("remove", &self.place(key))),
        }
    }

    /// How long a request with so many bytes may take.
    pub fn time(&self, bytes: u64) -> Duration {
        self.patience + Duration::from_secs(bytes / SLOWEST)
    }

    /// Does something again that the store has not done because the credentials were over, once there are new ones.
    async fn renewing<Output, Attempt>(&self, attempt: impl Fn() -> Attempt) -> Result<Output, Error>
    where
        Attempt: Future<Output = Result<Output, Error>>,
    {
        loop {
            let used = self.credentials.now();
            match attempt().await {
                Err(Error::Expired { .. }) if self.credentials.renewed(&used).await => {}
                done => return done,
            }
        }
    }

    async fn bounded<Output, E>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<Output, aws_sdk_s3::error::SdkError<E>>>,
    ) -> Result<Output, Answer>
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let time = self.time(bytes);
        // Boxed: what the client holds is large.
        match tokio::time::timeout(time, Box::pin(request)).await {
            Ok(answer) => answer.map_err(|error| answer::read(&error)),
            Err(_) => Err(Answer::Unclear {
                why: format!("no answer within {} s", time.as_secs()),
            }),
        }
    }

    fn place(&self, key: &str) -> String {
        format!("{key} in bucket {}", self.name)
    }

    fn broken(&self, key: &str, why: &str) -> Error {
        Error::Call {
            action: "read",
            place: self.place(key),
            why: why.to_owned(),
        }
    }
}
