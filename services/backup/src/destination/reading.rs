//! What lies on the destination: under one key, and altogether. Reads only.

use super::{ARCHIVE, Destination, Medium, off_thread};
use crate::{
    archive::{self, Digest},
    decision::Stored,
    failure::Failure,
    manifest::Manifest,
    s3::{self, Bucket},
};
use chrono::NaiveDate;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

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
                match self.look_into(bucket, slot, mine).await {
                    Err(s3::Error::File { action, source }) => {
                        Err(Failure::Archive(archive::Error::Io { action, source }))
                    }
                    Err(error @ (s3::Error::Refused { .. } | s3::Error::Untrusted { .. })) => {
                        Err(Failure::Bucket(error))
                    }
                    Err(error) => Ok((Stored::Unreadable { why: error.to_string() }, None)),
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
            && head.attested.as_ref() == Some(&mine.sha256)
            && head.bytes == mine.bytes
        {
            return Ok((Stored::Ours(mine.clone()), None));
        }
        let path = self.fresh("stored")?;
        let fetched = bucket.fetch(&key, &path).await;
        let verified = match fetched {
            Ok(_) => {
                let archive = path.clone();
                tokio::task::spawn_blocking(move || archive::verify(&archive)).await
            }
            Err(error) => {
                discard(&path);
                return Err(error);
            }
        };
        discard(&path);
        let verified = verified.map_err(|error| s3::Error::File {
            action: "read an archive".into(),
            source: io::Error::other(error),
        })?;
        Ok(match verified {
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

    /// Puts a slot's archive into a new file, reads it to its end and holds it against its own manifest.
    pub(crate) async fn fetch(&self, slot: NaiveDate, path: &Path) -> Result<(Manifest, Digest), Failure> {
        let key = self.place(slot).key;
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let (volume, path) = (volume.of(slot), path.to_owned());
                off_thread(move || volume.fetch(&path))
                    .await?
                    .map_err(Failure::Volume)?;
            }
            Medium::S3(remote) => {
                let bucket = self.bucket(remote).await?;
                bucket.fetch(&key, path).await.map_err(Failure::Bucket)?;
            }
        }
        let archive = path.to_owned();
        off_thread(move || archive::verify(&archive))
            .await?
            .map_err(Failure::Archive)
    }

    /// The manifest of a stored slot, after reading the whole archive.
    pub(crate) async fn manifest(&self, slot: NaiveDate) -> Result<Manifest, Failure> {
        match &self.medium {
            Medium::Volume { volume, .. } => {
                let volume = volume.clone();
                off_thread(move || volume.manifest(slot))
                    .await?
                    .map_err(Failure::Archive)
            }
            Medium::S3(_) => {
                let path = self.fresh("manifest").map_err(Failure::Bucket)?;
                let fetched = self.fetch(slot, &path).await;
                discard(&path);
                Ok(fetched?.0)
            }
        }
    }

    /// A file on scratch that is not there yet.
    fn fresh(&self, name: &str) -> Result<PathBuf, s3::Error> {
        let path = self.site.scratch.join(format!("{name}{ARCHIVE}"));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(s3::Error::File {
                action: format!("remove {}", path.display()),
                source,
            }),
            _ => Ok(path),
        }
    }
}

/// What stays costs room until the pod ends, nothing else.
fn discard(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "failed to remove an archive from scratch");
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
