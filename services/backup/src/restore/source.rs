//! The archive: copied to scratch, held against what it must be, and taken apart one dump at a time.
//!
//! In: where it lies and what is known of it. Out: its manifest, and files on scratch that have the sha256 of their
//! members. Reads the destination, writes scratch. Nothing of it is believed before it has been read to its end.

use super::{
    failure::{Failure, of_archive},
    plan::Item,
    settings::Settings,
};
use crate::{
    archive,
    destination::{off_thread, slot_of},
    hashing::Hashing,
    manifest::{ArchivedFile, Manifest},
    roles::Roles,
    s3::{self, Bucket},
    sealing::{self, Keys},
    volume,
};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use valerix_crds::{DestinationChoice, restore_runner::SourceArchive};

/// What names the Secret with a key.
const KEY_FIELD: &str = "spec.source.identitySecretRef";
/// The archive's name on scratch.
const ARCHIVE: &str = "archive.tar.zst";

/// Scratch of this run.
pub(crate) struct Scratch {
    folder: PathBuf,
    /// Where the Secret with a key is mounted.
    age_folder: PathBuf,
    /// What opens the archive, where it is encrypted.
    keys: OnceLock<Arc<Keys>>,
}

impl Scratch {
    pub(crate) fn new(folder: &Path, age_folder: &Path) -> Self {
        Self {
            folder: folder.join("restore"),
            age_folder: age_folder.to_owned(),
            keys: OnceLock::new(),
        }
    }

    /// Empty, and for nobody else.
    pub(crate) fn fresh(&self) -> Result<(), Failure> {
        self.tidy();
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.folder)
            .map_err(|error| Failure::Scratch(error.to_string()))
    }

    pub(crate) fn tidy(&self) {
        if let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "failed to tidy the scratch folder");
        }
    }

    fn archive(&self) -> PathBuf {
        self.folder.join(ARCHIVE)
    }

    /// Copies the archive from the mounted volume or the bucket that it is on.
    pub(crate) async fn fetch(&self, settings: &Settings) -> Result<(), Failure> {
        let key = settings.source.key.clone();
        let unavailable = |why: String| Failure::Fetch { key: key.clone(), why };
        match settings.source.destination.choice() {
            Some(DestinationChoice::VolumeClaim(_)) => {
                let from = settings.arguments.destination_folder.join(&key);
                let (to, key) = (self.archive(), key.clone());
                off_thread(move || copy(&from, &to, &key))
                    .await
                    .map_err(|error| Failure::Task(error.to_string()))?
            }
            Some(DestinationChoice::S3(destination)) => {
                let reach = settings.arguments.s3.reach();
                let bucket = Bucket::open(&destination, &reach).map_err(|error| unavailable(error.to_string()))?;
                let fetched = bucket.fetch(&key, &self.archive()).await;
                let error = match fetched {
                    Ok(_) => return Ok(()),
                    Err(s3::Error::File { source, .. }) => return Err(Failure::Scratch(source.to_string())),
                    Err(error) => error,
                };
                let (folder, _) = key.rsplit_once('/').map_or(("", ""), |(folder, name)| (folder, name));
                let names: Vec<_> = bucket.keys(folder).await.unwrap_or_default();
                let beside = names
                    .iter()
                    .filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'));
                Err(unavailable(format!("{error}{}", neighbours(beside))))
            }
            None => Err(unavailable("its destination is neither a claim nor a bucket".into())),
        }
    }

    /// Reads the copy to its end and holds it against its own manifest and against what is known of it. If it is encrypted,
    /// there must be a key.
    pub(crate) async fn verify(&self, source: &SourceArchive) -> Result<Manifest, Failure> {
        let path = self.archive();
        let (manifest, digest) = off_thread(move || archive::verify(&path))
            .await
            .map_err(|error| Failure::Task(error.to_string()))?
            .map_err(|error| of_archive(&source.key, &error))?;
        let found = [
            ("sha256", &source.sha256, digest.sha256),
            ("slot", &source.slot, manifest.slot.to_string()),
            ("policy UID", &source.policy_uid, manifest.policy.uid.clone()),
        ];
        for (what, wanted, found) in found {
            if let Some(wanted) = wanted
                && *wanted != found
            {
                return Err(Failure::Damaged {
                    key: source.key.clone(),
                    why: format!("its {what} is {found} and not {wanted}, as its record says"),
                });
            }
        }
        if let Some(encryption) = &manifest.encryption {
            let reference = source.identity_secret_ref.as_ref();
            let keys = Keys::read(&self.age_folder, KEY_FIELD, reference).and_then(|keys| {
                keys.check(encryption)?;
                Ok(keys)
            });
            let recipients = encryption.recipients.join(", ");
            let keys = keys.map_err(|error| Failure::Sealed {
                key: source.key.clone(),
                recipients,
                why: error.to_string(),
            })?;
            // The archive is read once.
            let _ = self.keys.set(Arc::new(keys));
        }
        Ok(manifest)
    }

    /// One member of the archive, as a file that a client reads; the one before it is gone then.
    pub(crate) async fn extract(
        &self,
        key: &str,
        member: ArchivedFile<'_>,
        plain: ArchivedFile<'_>,
    ) -> Result<PathBuf, Failure> {
        let (archive, path, key) = (self.archive(), self.folder.join("member"), key.to_owned());
        let (file, sha256) = (member.file.to_owned(), member.sha256.to_owned());
        let sealed = (member != plain).then(|| (self.folder.join("opened"), plain.sha256.to_owned()));
        let keys = self.keys.get().cloned();
        let work = move || {
            extract(&archive, &file, &sha256, &path, &key)?;
            let (Some((opened, sha256)), Some(keys)) = (sealed, keys) else {
                return Ok(path);
            };
            remove(&opened)?;
            keys.open(&path, &opened, &file, &sha256).map_err(|error| match error {
                sealing::Error::Io { .. } => Failure::Scratch(error.to_string()),
                sealing::Error::Key(why) | sealing::Error::Damaged(why) => Failure::Damaged { key, why },
            })?;
            remove(&path)?;
            Ok(opened)
        };
        off_thread(work)
            .await
            .map_err(|error| Failure::Task(error.to_string()))?
    }

    /// The roles that come with these databases; `None` if the archive holds none.
    pub(crate) async fn roles(&self, key: &str, items: &[Item]) -> Result<Option<Roles>, Failure> {
        let mut roles: Option<Roles> = None;
        for globals in items.iter().filter_map(|item| item.member.globals.as_ref()) {
            let path = self.extract(key, globals.archived(), globals.plain()).await?;
            let script = fs::read(path).map_err(|error| Failure::Scratch(error.to_string()))?;
            let found = Roles::read(&String::from_utf8_lossy(&script)).map_err(|why| Failure::Damaged {
                key: key.to_owned(),
                why: format!("{}: {why}", globals.file),
            })?;
            roles.get_or_insert_default().merge(found);
        }
        Ok(roles)
    }
}

/// The newest archives of a folder, for whoever has named one that is not there.
fn neighbours<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const NAMED: usize = 5;
    let mut archives: Vec<_> = names.filter(|name| slot_of(name).is_some()).collect();
    archives.sort_unstable_by(|one, other| other.cmp(one));
    if archives.is_empty() {
        return "; there is no archive in its folder: is the key whole, <prefix or path>/<namespace>/<policy>/<yyyymmdd>.tar.zst?".into();
    }
    let more = match archives.len() {
        count if count > NAMED => format!(" and {} older ones", count - NAMED),
        _ => String::new(),
    };
    archives.truncate(NAMED);
    format!("; in its folder lie {}{more}", archives.join(", "))
}

fn copy(from: &Path, to: &Path, key: &str) -> Result<(), Failure> {
    let unavailable = |error: io::Error| Failure::Fetch {
        key: key.to_owned(),
        why: if error.kind() == io::ErrorKind::NotFound {
            let folder = from.parent().unwrap_or(from);
            let names = volume::names(folder).unwrap_or_default();
            let beside = neighbours(names.iter().map(String::as_str));
            format!("it is not on the destination: was it moved or removed?{beside}")
        } else {
            error.to_string()
        },
    };
    // A link could lead anywhere; an archive is a file.
    if !fs::symlink_metadata(from).map_err(unavailable)?.is_file() {
        return Err(unavailable(io::Error::other("it is not a file")));
    }
    let mut source = File::open(from).map_err(unavailable)?;
    let mut target = archive::create(to).map_err(|error| Failure::Scratch(error.to_string()))?;
    io::copy(&mut source, &mut target).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Scratch(error.to_string()),
        _ => unavailable(error),
    })?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::Scratch(error.to_string())),
        _ => Ok(()),
    }
}

fn extract(archive: &Path, member: &str, sha256: &str, path: &Path, key: &str) -> Result<(), Failure> {
    let damaged = |why: String| Failure::Damaged {
        key: key.to_owned(),
        why,
    };
    let unreadable = |error: io::Error| damaged(format!("{member}: {error}"));
    let file = File::open(archive).map_err(|error| Failure::Scratch(error.to_string()))?;
    let mut tar = tar::Archive::new(zstd::Decoder::new(file).map_err(unreadable)?);
    for entry in tar.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().map_err(unreadable)?.to_string_lossy() != member {
            continue;
        }
        remove(path)?;
        let mut target = archive::create(path).map_err(|error| Failure::Scratch(error.to_string()))?;
        let mut reader = Hashing::new(entry);
        io::copy(&mut reader, &mut target).map_err(|error| Failure::Scratch(error.to_string()))?;
        let (_, found, _) = reader.finish();
        if found != sha256 {
            return Err(damaged(format!("{member} changed on scratch")));
        }
        return Ok(());
    }
    Err(damaged(format!("{member} is missing")))
}
