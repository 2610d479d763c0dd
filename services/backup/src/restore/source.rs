//! The archive: read once, held against what it must be, and taken apart one dump at a time.
//!
//! In: where it lies and what is known of it. Out: its manifest, and files on scratch that have the sha256 of their
//! members. Reads the destination, writes scratch. Nothing of it is believed before it has been read to its end; what will be
//! needed first is put aside on the way there, and the rest, where there may be any, is taken from a copy.

use super::{
    failure::{Failure, of_archive, of_bucket, of_scratch},
    plan::Item,
    settings::Settings,
};
use crate::{
    archive::{self, Digest},
    destination::{off_thread, slot_of},
    hashing::Hashing,
    manifest::{ArchivedFile, Globals, Manifest, globals_file, member_file},
    member::SEALED,
    roles::Roles,
    s3::{Bucket, ranges},
    sealing::{self, Keys},
    volume,
};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    panic,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
};
use tokio::runtime::Handle;
use valerix_crds::{DestinationChoice, RestoreRoles, restore_runner::SourceArchive};

/// What names the Secret with a key.
const KEY_FIELD: &str = "spec.source.identitySecretRef";
/// How much is put aside at a time. Unit: bytes.
const CHUNK: usize = 256 * 1024;
/// How many of these may wait to be written.
const CHUNKS: usize = 8;
/// The archive's name on scratch.
const ARCHIVE: &str = "archive.tar.zst";

/// Scratch of this run.
pub(crate) struct Scratch {
    folder: PathBuf,
    /// Where the Secret with a key is mounted.
    age_folder: PathBuf,
    /// What opens the archive, where it is encrypted.
    keys: OnceLock<Arc<Keys>>,
    /// Members that were put aside while the archive was read, by their names.
    aside: Mutex<BTreeMap<String, PathBuf>>,
    /// The file that was handed out last: it goes before the next one comes.
    handed: Mutex<Option<PathBuf>>,
}

/// What is put aside while the archive is read.
struct Wanted {
    /// The first dump: of the database that is restored first, or of whichever comes first.
    database: Option<String>,
    /// Whether roles are made, too.
    roles: bool,
}

impl Wanted {
    fn of(settings: &Settings) -> Self {
        Self {
            database: settings.spec.databases.first().map(|database| database.name.clone()),
            roles: settings.spec.roles.unwrap_or_default() != RestoreRoles::Skip,
        }
    }

    fn is_met_by(&self, member: &str, aside: &BTreeMap<String, PathBuf>) -> bool {
        // A name that is there twice is damage, and seen as such at the end.
        if aside.contains_key(member) {
            return false;
        }
        let plain = member.strip_suffix(SEALED).unwrap_or(member);
        if plain.ends_with(&globals_file("")) {
            return self.roles;
        }
        let is_dump = |name: &String| !name.contains(&globals_file(""));
        match &self.database {
            Some(database) => plain == member_file(database),
            None => plain.ends_with(&member_file("")) && !aside.keys().any(is_dump),
        }
    }
}

/// Reads the destination, and keeps a copy where more than one database may be wanted.
struct Copying<Source> {
    from: Source,
    to: Option<File>,
}

impl<Source: Read> Read for Copying<Source> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Some(to) = &mut self.to {
            to.write_all(&buffer[..count]).map_err(of_scratch)?;
        }
        Ok(count)
    }
}

impl Scratch {
    pub(crate) fn new(folder: &Path, age_folder: &Path) -> Self {
        Self {
            folder: folder.join("restore"),
            age_folder: age_folder.to_owned(),
            keys: OnceLock::new(),
            aside: Mutex::default(),
            handed: Mutex::default(),
        }
    }

    /// Empty, and for nobody else.
    pub(crate) fn fresh(&self) -> Result<(), Failure> {
        self.tidy();
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.folder)
            .map_err(|error| Failure::Scratch(error.into()))
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

    /// Reads the archive from the mounted volume or the bucket that it is on to its end, and holds it against its own manifest.
    pub(crate) async fn fetch(&self, settings: &Settings) -> Result<(Manifest, Digest), Failure> {
        let key = settings.source.key.clone();
        let unavailable = |why: String| Failure::Fetch { key: key.clone(), why };
        match settings.source.destination.choice() {
            Some(DestinationChoice::VolumeClaim(_)) => {
                let (from, key) = (settings.arguments.destination_folder.join(&key), key.clone());
                self.read(settings, move || open(&from, &key)).await
            }
            Some(DestinationChoice::S3(destination)) => {
                let reach = settings.arguments.s3.reach();
                let bucket = Bucket::open(&destination, &reach).map_err(|error| of_bucket(&key, &error))?;
                let reader = ranges::Reader::new(Handle::current(), bucket.clone(), key.clone()).patient();
                let why = match self.read(settings, move || Ok(reader)).await {
                    Err(Failure::Fetch { why, .. }) => why,
                    read => return read,
                };
                let (folder, _) = key.rsplit_once('/').map_or(("", ""), |(folder, name)| (folder, name));
                let beside = match bucket.keys(folder).await {
                    Ok(names) if !names.contains(&key) => {
                        let names = names.iter();
                        neighbours(names.filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/')))
                    }
                    // It is there, or the store does not tell: what lies beside it is no help.
                    _ => String::new(),
                };
                Err(unavailable(why + &beside))
            }
            None => Err(unavailable("its destination is neither a claim nor a bucket".into())),
        }
    }

    async fn read<Source: Read + Send>(
        &self,
        settings: &Settings,
        open: impl FnOnce() -> Result<Source, Failure> + Send + 'static,
    ) -> Result<(Manifest, Digest), Failure> {
        let (folder, copy, key) = (self.folder.clone(), self.archive(), settings.source.key.clone());
        let (wanted, copied) = (Wanted::of(settings), settings.spec.databases.len() != 1);
        let work = move || {
            let from = open()?;
            let to = copied.then(|| archive::create(&copy)).transpose();
            let to = to.map_err(|error| Failure::Scratch(error.into()))?;
            let mut aside = BTreeMap::new();
            let scanned = archive::scan(Copying { from, to }, &mut |member, reader| {
                if wanted.is_met_by(member, &aside) {
                    let path = folder.join(format!("aside-{}", aside.len()));
                    put_aside(reader, &path, member)?;
                    aside.insert(member.to_owned(), path);
                }
                Ok(())
            });
            scanned
                .map(|found| (found, aside))
                .map_err(|error| of_archive(&key, error))
        };
        let (found, aside) = off_thread(work)
            .await
            .map_err(|error| Failure::Task(error.to_string()))??;
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = aside;
        Ok(found)
    }

    /// Holds what was read against what is known of it. If it is encrypted, there must be a key.
    pub(crate) fn check(&self, source: &SourceArchive, manifest: &Manifest, digest: Digest) -> Result<(), Failure> {
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
        Ok(())
    }

    /// Gives the copy's room back, where one database is restored and everything that it needs was put aside.
    pub(crate) fn release(&self, settings: &Settings, items: &[Item]) -> Result<(), Failure> {
        let [Item { member, .. }] = items else {
            return Ok(());
        };
        let script = member.globals.as_ref().filter(|_| Wanted::of(settings).roles);
        let files = [Some(member.archived()), script.map(Globals::archived)];
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let lacking = files.iter().flatten().find(|needed| !aside.contains_key(needed.file));
        match lacking {
            None => remove(&self.archive()),
            Some(needed) if settings.spec.databases.len() == 1 => Err(Failure::Damaged {
                key: settings.source.key.clone(),
                why: format!(
                    "it calls a member of {} {}, as no runner does",
                    member.name, needed.file
                ),
            }),
            Some(_) => Ok(()),
        }
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
        let before = self.handed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let aside = self
            .aside
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(member.file);
        let work = move || {
            if let Some(before) = before {
                remove(&before)?;
            }
            let path = match aside {
                Some(path) => path,
                None => extract(&archive, &file, &sha256, path, &key)?,
            };
            let (Some((opened, sha256)), Some(keys)) = (sealed, keys) else {
                return Ok::<_, Failure>(path);
            };
            remove(&opened)?;
            keys.open(&path, &opened, &file, &sha256).map_err(|error| match error {
                sealing::Error::Io { .. } => Failure::Scratch(error.into()),
                sealing::Error::Key(why) | sealing::Error::Damaged(why) => Failure::Damaged { key, why },
            })?;
            remove(&path)?;
            Ok(opened)
        };
        let path = off_thread(work)
            .await
            .map_err(|error| Failure::Task(error.to_string()))??;
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        Ok(path)
    }

    /// The roles that come with these databases; `None` if the archive holds none.
    pub(crate) async fn roles(&self, key: &str, items: &[Item]) -> Result<Option<Roles>, Failure> {
        let mut roles: Option<Roles> = None;
        for globals in items.iter().filter_map(|item| item.member.globals.as_ref()) {
            let path = self.extract(key, globals.archived(), globals.plain()).await?;
            let script = fs::read(path).map_err(|error| Failure::Scratch(error.into()))?;
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

/// An archive on a mounted volume.
fn open(from: &Path, key: &str) -> Result<File, Failure> {
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
    File::open(from).map_err(unavailable)
}

/// What cannot be read is the archive's fault, what cannot be written is the folder's. Another thread writes, so that reading,
/// which is taking apart and hashing, has a core for itself.
fn put_aside(reader: &mut dyn Read, path: &Path, member: &str) -> Result<(), archive::Error> {
    let writing = |source| archive::Error::Io {
        action: format!("put {member} aside"),
        source: of_scratch(source),
    };
    let mut target = archive::create(path).map_err(writing)?;
    thread::scope(|scope| {
        let (sender, chunks) = mpsc::sync_channel::<Vec<u8>>(CHUNKS);
        let writer = scope.spawn(move || chunks.iter().try_for_each(|chunk| target.write_all(&chunk)));
        let read = loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            match (&mut *reader).take(CHUNK as u64).read_to_end(&mut chunk) {
                Ok(0) => break Ok(()),
                // Where nobody takes it, the writer says why.
                Ok(_) if sender.send(chunk).is_err() => break Ok(()),
                Ok(_) => {}
                Err(error) => {
                    break Err(archive::Error::Damaged {
                        why: format!("{member}: {error}"),
                    });
                }
            }
        };
        drop(sender);
        let written = writer.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
        written.map_err(writing).and(read)
    })
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::Scratch(error.into())),
        _ => Ok(()),
    }
}

fn extract(archive: &Path, member: &str, sha256: &str, path: PathBuf, key: &str) -> Result<PathBuf, Failure> {
    let damaged = |why: String| Failure::Damaged {
        key: key.to_owned(),
        why,
    };
    let unreadable = |error: io::Error| damaged(format!("{member}: {error}"));
    let file = File::open(archive).map_err(|error| Failure::Scratch(error.into()))?;
    let mut tar = tar::Archive::new(zstd::Decoder::new(file).map_err(unreadable)?);
    for entry in tar.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().map_err(unreadable)?.to_string_lossy() != member {
            continue;
        }
        remove(&path)?;
        let mut target = archive::create(&path).map_err(|error| Failure::Scratch(error.into()))?;
        let mut reader = Hashing::new(entry);
        io::copy(&mut reader, &mut target).map_err(|error| Failure::Scratch(error.into()))?;
        let (_, found, _) = reader.finish();
        if found != sha256 {
            return Err(damaged(format!("{member} changed on scratch")));
        }
        return Ok(path);
    }
    Err(damaged(format!("{member} is missing")))
}
