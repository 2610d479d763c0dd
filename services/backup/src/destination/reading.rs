//! What lies on the destination: under one key, and altogether. Reads only.

use super::{Destination, Medium, off_thread};
use crate::{
    archive::{self, ARCHIVE, Digest},
    decision::Stored,
    failure::{Failure, chain},
    manifest::Manifest,
    record::database_status,
    s3::{self, Bucket, parts::Parts, ranges},
};
use chrono::NaiveDate;
use std::io::{self, Read};
use tokio::runtime::Handle;
use valerix_crds::{FoundArchive, Upload, UploadState};

/// What a record takes of an archive's own words. Unit: bytes, and databases.
const MAX_SAID: usize = 64;
/// Length of a sha256 in hex. Unit: characters.
const SHA256_LENGTH: usize = 64;

impl Destination {
    /// What lies under a slot's key, and what it says of itself if it is ours and was read. An archive that the store
    /// vouches for, and that is the one in hand, is not read once more.
    pub(crate) async fn look(
        &self,
        slot: NaiveDate,
        mine: Option<&Digest>,
    ) -> Result<(Stored, Option<Manifest>), Failure> {
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let (volume, policy_uid) = (volume.of(slot), self.site.policy_uid.clone());
                off_thread(move || volume.look(&|manifest| is_ours(&policy_uid, slot, manifest))).await
            }
            Medium::S3(remote) => {
                let bucket = self.bucket(remote).await?;
                let sent = remote.parts.lock().await;
                let sent = sent.as_ref().filter(|parts| Some(&parts.digest) == mine);
                let composed = sent.and_then(Parts::checksum);
                match self.look_into(bucket, slot, mine, composed.as_ref()).await {
                    Err(s3::Error::File { action, source }) => {
                        Err(Failure::Archive(archive::Error::Io { action, source }))
                    }
                    Err(
                        error @ (s3::Error::Refused { .. } | s3::Error::Expired { .. } | s3::Error::Untrusted { .. }),
                    ) => Err(Failure::Bucket(error)),
                    Err(error) => {
                        let (why, passing) = (error.to_string(), matches!(error, s3::Error::Call { .. }));
                        Ok((Stored::Unreadable { why, passing }, None))
                    }
                    Ok(found) => Ok(found),
                }
            }
        }
    }

    async fn look_into(
        &self,
        bucket: &Bucket,
        slot: NaiveDate,
        mine: Option<&Digest>,
        composed: Option<&String>,
    ) -> Result<(Stored, Option<Manifest>), s3::Error> {
        let key = self.place(slot).key;
        let Some(head) = bucket.head(&key).await? else {
            return Ok((Stored::Absent, None));
        };
        let foreign = |why: String| Ok((Stored::Foreign { why }, None));
        match (&head.policy_uid, &head.slot) {
            (None, _) => return foreign("an object lies there that no policy has stored".into()),
            (Some(uid), _) if *uid != self.site.policy_uid => {
                return foreign(format!("an archive of another policy lies there (UID {uid})"));
            }
            (_, Some(other)) if *other != slot.to_string() => {
                return foreign(format!("an archive of another slot lies there ({other})"));
            }
            _ => {}
        }
        if let Some(mine) = mine
            && (head.attested.as_ref() == Some(&mine.sha256)
                || (composed.is_some() && head.checksum.as_ref() == composed))
            && head.bytes == mine.bytes
        {
            return Ok((Stored::Ours(mine.clone()), None));
        }
        let object = ranges::Reader::new(Handle::current(), bucket.clone(), key);
        let scanned = tokio::task::spawn_blocking(move || archive::scan(object, &mut |_, _| Ok(()))).await;
        let scanned = scanned.map_err(|error| s3::Error::File {
            action: "read an archive".into(),
            source: io::Error::other(error),
        })?;
        Ok(match scanned {
            // What cannot be read is not damaged.
            Err(archive::Error::Io { action, source }) => {
                let of_bucket = source.downcast::<s3::Error>();
                return Err(of_bucket.unwrap_or_else(|source| s3::Error::File { action, source }));
            }
            Err(error) => (Stored::Damaged { why: error.to_string() }, None),
            Ok((_, digest)) if head.sha256.as_ref().is_some_and(|sha256| *sha256 != digest.sha256) => (
                Stored::Damaged {
                    why: "it does not have the sha256 that it was stored with".into(),
                },
                None,
            ),
            Ok((manifest, digest)) => match is_ours(&self.site.policy_uid, slot, &manifest) {
                Ok(()) => (Stored::Ours(digest), Some(manifest)),
                Err(why) => (Stored::Foreign { why }, None),
            },
        })
    }

    /// The stored slots, oldest first.
    pub(crate) async fn slots(&self) -> Result<Vec<NaiveDate>, Failure> {
        let names: Vec<String> = match &self.medium {
            Medium::Volume { volume, .. } => {
                let volume = volume.clone();
                off_thread(move || volume.names()).await?.map_err(Failure::Volume)?
            }
            Medium::S3(remote) => {
                let folder = self.folder(&remote.destination);
                let keys = self
                    .bucket(remote)
                    .await?
                    .keys(&folder)
                    .await
                    .map_err(Failure::Bucket)?;
                keys.iter()
                    .filter_map(|key| key.strip_prefix(&folder).map(str::to_owned))
                    .collect()
            }
        };
        let mut slots: Vec<_> = names.iter().filter_map(|name| slot_of(name)).collect();
        slots.sort_unstable();
        Ok(slots)
    }

    /// Whether anything lies under a slot's key. The key itself is asked: a listing may know of it later.
    pub(crate) async fn holds(&self, slot: NaiveDate) -> Result<bool, Failure> {
        match &self.medium {
            Medium::Volume { .. } => Ok(self.slots().await?.contains(&slot)),
            Medium::S3(remote) => {
                let head = self.bucket(remote).await?.head(&self.place(slot).key).await;
                Ok(head.map_err(Failure::Bucket)?.is_some())
            }
        }
    }

    /// A slot's archive where it lies, to be read where blocking is allowed, by who would not ask for it again.
    pub(crate) async fn open(&self, slot: NaiveDate) -> Result<Box<dyn Read + Send>, Failure> {
        self.open_as(slot, ranges::Reader::patient).await
    }

    async fn open_as(
        &self,
        slot: NaiveDate,
        reading: impl FnOnce(ranges::Reader) -> ranges::Reader,
    ) -> Result<Box<dyn Read + Send>, Failure> {
        Ok(match &self.medium {
            Medium::Volume { volume, .. } => {
                let volume = volume.of(slot);
                let opened = off_thread(move || volume.open()).await?;
                Box::new(opened.map_err(|error| self.unread(slot, error.to_string()))?)
            }
            Medium::S3(remote) => {
                let bucket = self.bucket(remote).await?.clone();
                let object = ranges::Reader::new(Handle::current(), bucket, self.place(slot).key);
                Box::new(reading(object))
            }
        })
    }

    /// The manifest of a stored slot, after reading the whole archive.
    pub(crate) async fn manifest(&self, slot: NaiveDate) -> Result<Manifest, Failure> {
        let archive = self.open_as(slot, |object| object).await?;
        let scanned = off_thread(move || archive::scan(archive, &mut |_, _| Ok(()))).await?;
        scanned
            .map(|(manifest, _)| manifest)
            .map_err(|error| self.unread(slot, chain(&error)))
    }

    fn unread(&self, slot: NaiveDate, why: String) -> Failure {
        Failure::Unreadable {
            key: self.place(slot).key,
            why,
            fenced: false,
            passing: false,
        }
    }

    /// What a stored slot's archive tells of itself: an object by the labels that it was stored with, a file on a volume by
    /// its manifest, once it was read to its end. Else why it tells nothing.
    pub(crate) async fn describe(&self, slot: NaiveDate) -> Result<FoundArchive, String> {
        let mut upload = Upload {
            state: UploadState::Completed,
            ..Upload::default()
        };
        let place = self.place(slot);
        let key = place.key.clone();
        place.put(&mut upload);
        let mut found = match &self.medium {
            Medium::Volume { volume, .. } => {
                let volume = volume.clone();
                let read = off_thread(move || volume.read(slot)).await;
                let (manifest, digest) = read
                    .map_err(|failure| failure.to_string())?
                    .map_err(|error| error.to_string())?;
                upload.sha256 = Some(digest.sha256);
                upload.bytes = i64::try_from(digest.bytes).ok();
                FoundArchive {
                    slot: manifest.slot.to_string(),
                    policy_uid: manifest.policy.uid,
                    made_at: manifest.created_at,
                    databases: manifest.databases.iter().map(database_status).collect(),
                    upload,
                }
            }
            Medium::S3(remote) => {
                let bucket = self.bucket(remote).await.map_err(|failure| failure.to_string())?;
                let head = bucket.head(&key).await.map_err(|error| error.to_string())?;
                let head = head.ok_or("it went meanwhile")?;
                let unsaid = "it does not say which policy has stored it, as an object that was copied without its metadata: a Restore can name it by its key";
                upload.sha256 = head.sha256.filter(|sha256| sha256.len() == SHA256_LENGTH);
                upload.bytes = i64::try_from(head.bytes).ok();
                FoundArchive {
                    slot: head.slot.ok_or(unsaid)?,
                    policy_uid: head.policy_uid.ok_or(unsaid)?,
                    made_at: head.modified.ok_or("the store does not say when it was stored")?,
                    databases: Vec::new(),
                    upload,
                }
            }
        };
        if found.slot != slot.to_string() {
            let said: String = found.slot.chars().take(MAX_SAID).collect();
            return Err(format!("it is an archive of another slot ({said})"));
        }
        if found.policy_uid.is_empty() || found.policy_uid.len() > MAX_SAID {
            return Err("what it gives as its policy's UID is none".into());
        }
        // What a record cannot hold is not worth losing the archive over.
        found.databases.retain(|database| database.name.len() < MAX_SAID);
        found.databases.truncate(MAX_SAID);
        Ok(found)
    }
}

/// The slot that an archive's name stands for.
pub(crate) fn slot_of(name: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(name.strip_suffix(ARCHIVE)?, "%Y%m%d").ok()
}

fn is_ours(policy_uid: &str, slot: NaiveDate, manifest: &Manifest) -> Result<(), String> {
    if manifest.policy.uid != policy_uid {
        return Err(format!(
            "an archive of another policy lies there (UID {})",
            manifest.policy.uid
        ));
    }
    if manifest.slot != slot {
        return Err(format!("an archive of another slot lies there ({})", manifest.slot));
    }
    Ok(())
}
