//! The destination as the run uses it: a volume or a bucket behind one interface, for any slot of the policy.
//!
//! What differs is said by three answers: whether a write is certain ([`Written`]), whether a hold can be made worthless
//! ([`Destination::withdraw`]), and how old a hold must be before it counts as given up ([`Destination::left_open_after`]).

mod reading;
mod removing;

pub(crate) use reading::slot_of;
pub(crate) use removing::Removed;

use crate::{
    archive::{self, ARCHIVE, Digest},
    decision::{Location, Place},
    failure::Failure,
    s3::{
        self, Bucket, Labels, Put, Reach,
        parts::{MAX_PARTS, Parts, Sent},
    },
    settings::PolicyArguments,
    volume::{self, Linked, Staged, Volume},
};
use chrono::{NaiveDate, TimeDelta, Utc};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, OnceCell};
use valerix_crds::{
    ConditionalWrites, DestinationChoice, OpenUpload, S3Destination,
    backup_runner::{self, store_url},
};

/// How often the destination is read before it counts as unreadable, and a write tried before it counts as failed.
pub(crate) const ATTEMPTS: u32 = 3;
/// Pause between two such attempts.
pub(crate) const ATTEMPT_PAUSE: Duration = Duration::from_secs(2);
/// A hold on a volume that is younger may be of a pod that is still at work.
const VOLUME_LEFT_OPEN: TimeDelta = TimeDelta::hours(1);
/// On a bucket nobody can call a write back: no pod lives longer than this.
const BUCKET_LEFT_OPEN: TimeDelta = TimeDelta::seconds(backup_runner::MAX_DEADLINE_SECONDS.cast_signed() + 3600);

/// Which destination, and whose.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) choice: DestinationChoice,
    pub(crate) namespace: String,
    pub(crate) policy: String,
    pub(crate) policy_uid: String,
    /// The slot of this run; for one that only reads, any.
    pub(crate) slot: NaiveDate,
    pub(crate) pod_uid: String,
    /// Where the claim is mounted.
    pub(crate) volume_folder: PathBuf,
    /// Where the Secrets of the bucket are mounted.
    pub(crate) reach: Reach,
}

impl Site {
    pub(crate) fn new(choice: DestinationChoice, shared: &PolicyArguments, slot: NaiveDate) -> Self {
        Self {
            choice,
            namespace: shared.namespace.clone(),
            policy: shared.policy.clone(),
            policy_uid: shared.policy_uid.clone(),
            slot,
            pod_uid: shared.pod_uid.clone(),
            volume_folder: shared.destination_folder.clone(),
            reach: shared.s3.reach(),
        }
    }
}

/// Where the archives of one policy belong.
pub(crate) struct Destination {
    site: Site,
    medium: Medium,
}

enum Medium {
    Volume { volume: Arc<Volume>, claim: String },
    S3(Box<Remote>),
}

/// A bucket, opened when it is first asked for, so that what is wrong with its Secrets is a failure like any other.
struct Remote {
    destination: S3Destination,
    bucket: OnceCell<Bucket>,
    /// This pod's upload in parts, where one request cannot carry the archive.
    parts: Mutex<Option<Parts>>,
}

/// How the one write ended.
pub(crate) enum Written {
    /// The destination has answered; what lies under the key tells the rest.
    Answered(Option<ConditionalWrites>),
    /// Another pod has made this hold worthless.
    Withdrawn,
    /// It was certainly not done, and by this hold it never will be.
    Refused(Failure, Option<ConditionalWrites>),
    /// Its outcome is open.
    Open(Failure),
}

impl Destination {
    pub(crate) fn new(site: Site) -> Self {
        let medium = match &site.choice {
            DestinationChoice::VolumeClaim(claim) => Medium::Volume {
                volume: Arc::new(Volume::new(
                    &site.volume_folder,
                    claim.path.as_deref(),
                    &site.namespace,
                    &site.policy,
                    site.slot,
                    &site.pod_uid,
                )),
                claim: claim.claim_name.clone(),
            },
            DestinationChoice::S3(destination) => Medium::S3(Box::new(Remote {
                destination: destination.clone(),
                bucket: OnceCell::new(),
                parts: Mutex::new(None),
            })),
        };
        Self { site, medium }
    }

    /// Where a slot's archive belongs.
    pub(crate) fn place(&self, slot: NaiveDate) -> Place {
        match &self.medium {
            Medium::Volume { volume, claim } => Place {
                location: Location::Claim(claim.clone()),
                key: volume.of(slot).key(),
            },
            Medium::S3(remote) => Place {
                location: Location::Bucket {
                    name: remote.destination.bucket.clone(),
                    endpoint: store_url(&remote.destination),
                },
                key: format!("{}{}{ARCHIVE}", self.folder(&remote.destination), slot.format("%Y%m%d")),
            },
        }
    }

    /// Begins an upload in parts, where one request cannot carry the archive and this pod has begun none. The record is to
    /// know of it before it holds anything.
    pub(crate) async fn begin(&self, digest: &Digest) -> Result<Option<OpenUpload>, Failure> {
        let Medium::S3(remote) = &self.medium else {
            return Ok(None);
        };
        let Some(in_parts) = self.in_parts(digest) else {
            return Ok(None);
        };
        let most = in_parts.saturating_mul(MAX_PARTS);
        if digest.bytes > most {
            let bytes = digest.bytes;
            return Err(Failure::Bucket(s3::Error::TooLarge { bytes, most }));
        }
        let mut parts = remote.parts.lock().await;
        if parts
            .as_ref()
            .is_some_and(|parts| parts.digest == *digest && !parts.sent)
        {
            return Ok(None);
        }
        let key = self.place(self.site.slot).key;
        let begun = self.bucket(remote).await?.begin(&key, digest, &self.labels()).await;
        let begun = parts.insert(begun.map_err(Failure::Bucket)?);
        Ok(Some(OpenUpload {
            id: begun.id.clone(),
            bucket: remote.destination.bucket.clone(),
            endpoint: Some(store_url(&remote.destination)),
            key,
            started_at: Utc::now(),
        }))
    }

    /// Makes everything ready for the one write. On a volume the bytes are copied next to the key; to a bucket the parts are
    /// sent of what one request cannot carry.
    pub(crate) async fn stage(&self, archive: &Path, digest: &Digest) -> Result<Staged, Failure> {
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let (volume, archive, digest) = (volume.clone(), archive.to_owned(), digest.clone());
                off_thread(move || volume.stage(&archive, &digest))
                    .await?
                    .map_err(Failure::of_staging)
            }
            Medium::S3(remote) => {
                let mut parts = remote.parts.lock().await;
                let Some(begun) = parts.as_mut().filter(|parts| parts.digest == *digest) else {
                    return Ok(Staged::Whole);
                };
                let key = self.place(self.site.slot).key;
                let sent = self.bucket(remote).await?.send_parts(&key, archive, begun).await;
                match sent.map_err(Failure::Bucket)? {
                    Sent::Whole => Ok(Staged::Whole),
                    Sent::Gone => {
                        *parts = None;
                        Err(Failure::Bucket(s3::Error::Call {
                            action: "store the parts of",
                            place: key,
                            why: "somebody has aborted the upload".into(),
                        }))
                    }
                    Sent::Changed => Err(Failure::Archive(archive::changed())),
                }
            }
        }
    }

    /// Aborts an upload that a record knows of; says whether it is in this bucket. Another store of a bucket of this name
    /// knows nothing of it, and would say so.
    pub(crate) async fn abort(&self, upload: &OpenUpload) -> Result<bool, Failure> {
        let is_of = |destination: &S3Destination| {
            let here = store_url(destination);
            destination.bucket == upload.bucket && upload.endpoint.as_ref().is_none_or(|said| *said == here)
        };
        match &self.medium {
            Medium::S3(remote) if is_of(&remote.destination) => {
                let bucket = self.bucket(remote).await?;
                bucket.abort(&upload.key, &upload.id).await.map_err(Failure::Bucket)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What the store makes of the condition not to overwrite, found out with a key of its own: nothing that is worth
    /// keeping is ever written twice. A PutObject tells nothing of the completion that an archive in parts is stored by, and a
    /// store may know the condition of the one alone. `None` for a volume.
    pub(crate) async fn conditional_writes(
        &self,
        digest: &Digest,
        seen: Option<ConditionalWrites>,
    ) -> Result<Option<ConditionalWrites>, Failure> {
        let Medium::S3(remote) = &self.medium else {
            return Ok(None);
        };
        if self.in_parts(digest).is_some() {
            return Ok(Some(ConditionalWrites::Unknown));
        }
        if seen.is_some_and(|seen| seen != ConditionalWrites::Unknown) {
            return Ok(seen);
        }
        let key = format!("{}.conditional-writes", self.folder(&remote.destination));
        Ok(Some(self.bucket(remote).await?.conditional_writes(&key).await))
    }

    /// The one write.
    pub(crate) async fn write(&self, archive: &Path, digest: &Digest) -> Result<Written, Failure> {
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let volume = volume.clone();
                Ok(match off_thread(move || volume.link()).await? {
                    Ok(Linked::Stored | Linked::Exists) => Written::Answered(None),
                    Ok(Linked::Withdrawn) => Written::Withdrawn,
                    Err(error) => Written::Open(Failure::Volume(error)),
                })
            }
            Medium::S3(remote) => {
                let key = self.place(self.site.slot).key;
                let bucket = self.bucket(remote).await?;
                let put = if self.in_parts(digest).is_none() {
                    bucket.put(&key, archive, digest, &self.labels()).await
                } else {
                    self.complete(remote, bucket, &key, digest).await
                };
                Ok(match put {
                    Ok(Put::Stored) => Written::Answered(None),
                    Ok(Put::Exists) => Written::Answered(Some(ConditionalWrites::Enforced)),
                    Err(error @ s3::Error::Call { .. }) => Written::Open(Failure::Bucket(error)),
                    Err(error @ s3::Error::NoConditions { .. }) => {
                        Written::Refused(Failure::Bucket(error), Some(ConditionalWrites::Ignored))
                    }
                    Err(error) => Written::Refused(Failure::Bucket(error), None),
                })
            }
        }
    }

    /// The one write of what was sent in parts.
    async fn complete(&self, remote: &Remote, bucket: &Bucket, key: &str, digest: &Digest) -> Result<Put, s3::Error> {
        let mut parts = remote.parts.lock().await;
        let Some(begun) = parts.as_mut().filter(|parts| parts.digest == *digest && !parts.sent) else {
            // Only a pod that has sent its parts passes the fence.
            return Err(s3::Error::Refused {
                action: "store",
                place: key.to_owned(),
                why: "its parts are not there".into(),
            });
        };
        begun.sent = true;
        let put = bucket.complete(key, begun).await;
        let is_over = match &put {
            Ok(Put::Stored) | Err(s3::Error::Call { .. }) => false,
            // The store has done nothing, and the parts are there for who has new credentials.
            Err(s3::Error::Expired { .. }) => {
                begun.sent = false;
                false
            }
            Ok(Put::Exists) | Err(_) => true,
        };
        if is_over && let Err(error) = bucket.abort(key, &begun.id).await {
            tracing::warn!(%error, "failed to abort the upload that was refused");
        }
        put
    }

    /// How much one request carries, where the archive is larger.
    fn in_parts(&self, digest: &Digest) -> Option<u64> {
        let most = self.site.reach.max_object;
        (digest.bytes > most).then_some(most)
    }

    fn labels(&self) -> Labels<'_> {
        Labels {
            policy_uid: &self.site.policy_uid,
            slot: self.site.slot,
            run_id: &self.site.pod_uid,
        }
    }

    /// Whether a write that was begun may still take, whatever is done: then there is no second one.
    pub(crate) fn writes_once(&self) -> bool {
        matches!(self.medium, Medium::S3(_))
    }

    /// Makes a holder's hold worthless, where that can be done: says whether it is.
    pub(crate) async fn withdraw(&self, slot: NaiveDate, holder: &str) -> Result<bool, Failure> {
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let (volume, holder) = (volume.of(slot), holder.to_owned());
                off_thread(move || volume.withdraw(&holder))
                    .await?
                    .map_err(Failure::Volume)?;
                Ok(true)
            }
            Medium::S3(_) => Ok(false),
        }
    }

    /// How long after a hold was taken, with nothing stored, its holder is certainly gone.
    pub(crate) fn left_open_after(&self) -> TimeDelta {
        match &self.medium {
            Medium::Volume { .. } => VOLUME_LEFT_OPEN,
            Medium::S3(_) => BUCKET_LEFT_OPEN,
        }
    }

    /// How long a holder that stores so many bytes is given, beyond the usual.
    pub(crate) fn time_to_write(&self, bytes: u64) -> Duration {
        match &self.medium {
            Medium::S3(remote) => remote.bucket.get().map_or(Duration::ZERO, |bucket| {
                bucket.time(bytes.min(self.site.reach.max_object))
            }),
            Medium::Volume { .. } => Duration::ZERO,
        }
    }

    /// Makes the name of a slot's archive durable. As long as the volume refuses, it is not certain that it is stored.
    pub(crate) async fn make_durable(&self, slot: NaiveDate) -> Result<(), Failure> {
        let Medium::Volume { volume, .. } = &self.medium else {
            return Ok(());
        };
        let uncertain = |error: volume::Error| Failure::Uncertain {
            key: self.place(slot).key,
            why: error.to_string(),
        };
        let mut attempts = 0;
        let folders = loop {
            attempts += 1;
            let volume = volume.of(slot);
            match off_thread(move || volume.folders()).await? {
                Ok(folders) => break folders,
                Err(error) if attempts >= ATTEMPTS => return Err(uncertain(error)),
                Err(error) => tracing::warn!(%error, attempts, "the archive's name may not be durable"),
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        };
        off_thread(move || folders.make_durable()).await?.map_err(uncertain)
    }

    /// Removes what killed pods left; `used`: the slot needs none of it.
    pub(crate) async fn sweep(&self, used: bool) -> Result<(), Failure> {
        if let Medium::Volume { volume, .. } = &self.medium {
            let volume = volume.clone();
            off_thread(move || volume.sweep(used)).await?;
        }
        if let Medium::S3(remote) = &self.medium
            // Once the one write was sent nobody calls it back.
            && let Some(parts) = remote.parts.lock().await.take_if(|parts| !parts.sent)
        {
            let key = self.place(self.site.slot).key;
            let aborted = self.bucket(remote).await?.abort(&key, &parts.id).await;
            if let Err(error) = aborted {
                tracing::warn!(%error, "failed to abort an upload: the next run tries again");
            }
        }
        Ok(())
    }

    async fn bucket<'a>(&self, remote: &'a Remote) -> Result<&'a Bucket, Failure> {
        let open = async || Bucket::open(&remote.destination, &self.site.reach);
        remote.bucket.get_or_try_init(open).await.map_err(Failure::Bucket)
    }

    fn folder(&self, destination: &S3Destination) -> String {
        let prefix = destination.prefix.as_deref().unwrap_or_default().trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("{prefix}{slash}{}/{}/", self.site.namespace, self.site.policy)
    }
}

pub(crate) async fn off_thread<Output: Send + 'static>(
    work: impl FnOnce() -> Output + Send + 'static,
) -> Result<Output, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::Task(error.to_string()))
}
