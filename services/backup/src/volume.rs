//! The destination: a folder on a mounted volume.
//!
//! In: a verified archive on scratch. Out: the same bytes under the slot's key, by exactly one link(2) of a finished,
//! fsynced file. link(2) never overwrites and has no half-way: afterwards the key is there or it is not. Blocking.
//!
//! The unfinished file carries the pod's UID, so that whoever doubts another pod can withdraw that pod's file: from
//! then on its link(2) fails, which settles for certain what an S3 upload leaves open.

use crate::{
    archive::{self, ARCHIVE, Digest},
    decision::Stored,
    hashing::Hashing,
    manifest::Manifest,
};
use chrono::NaiveDate;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// An unfinished file that nothing was written to for this long was left by a killed pod.
const ABANDONED_AFTER: Duration = Duration::from_secs(15 * 60);
/// Who may enter the folders of archives: their owner, and the volume's group.
const FOLDER_MODE: u32 = 0o750;
/// What a mount whose server does not answer gives, and has no name in the standard library: EIO, EHOSTDOWN, EREMOTEIO.
const PASSING: [i32; 3] = [5, 112, 121];
/// How much is copied at a time. Unit: bytes.
const CHUNK: usize = 256 * 1024;
/// End of an unfinished file's name.
const UNFINISHED: &str = ".unfinished";

/// Where one slot's archive belongs.
#[derive(Clone, Debug)]
pub struct Volume {
    root: PathBuf,
    folder: PathBuf,
    slot: NaiveDate,
    pod_uid: String,
}

/// The destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("failed to {action} on the destination's volume: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The copy on the volume is not what was copied.
    #[error("the copy on the destination's volume is not what was written to it")]
    Copy,
    /// What is to be stored cannot be read, or is not what was checked: no fault of the volume.
    #[error("{0}")]
    Source(archive::Error),
}

/// What became of the copy next to the key.
#[derive(Debug, PartialEq, Eq)]
pub enum Staged {
    /// It is there and was read back.
    Whole,
    /// Another pod has stored the slot and removed it.
    Withdrawn,
}

/// How the one write ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Linked {
    /// The key is ours now.
    Stored,
    /// Something lies under the key.
    Exists,
    /// The unfinished file was withdrawn by another pod.
    Withdrawn,
}

/// The folders that lead to a stored archive.
#[derive(Debug)]
pub struct Folders(Vec<(PathBuf, File)>);

impl Folders {
    /// Makes the stored archive's name durable. Who finds an archive of a pod that was killed after its link(2) does this
    /// too.
    ///
    /// # Errors
    /// If the volume refuses: a loss of power may take the archive away, and asking once more tells nothing, since the
    /// kernel reports what it could not write once.
    pub fn make_durable(self) -> Result<(), Error> {
        for (path, folder) in self.0 {
            folder
                .sync_all()
                .map_err(io_error(format!("fsync {}", path.display())))?;
        }
        Ok(())
    }
}

fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let action = action.into();
    move |source| Error::Io { action, source }
}

impl Volume {
    /// The place of a slot: `<root>/<path>/<namespace>/<policy>/<yyyymmdd>.tar.zst`.
    pub fn new(root: &Path, path: Option<&str>, namespace: &str, policy: &str, slot: NaiveDate, pod_uid: &str) -> Self {
        let folder = root
            .join(path.unwrap_or_default().trim_matches('/'))
            .join(namespace)
            .join(policy);
        Self {
            root: root.to_owned(),
            folder,
            slot,
            pod_uid: pod_uid.to_owned(),
        }
    }

    /// The place of another slot of the same policy.
    #[must_use]
    pub fn of(&self, slot: NaiveDate) -> Self {
        Self { slot, ..self.clone() }
    }

    /// The key, relative to the volume's root.
    pub fn key(&self) -> String {
        let path = self.archive(self.slot);
        path.strip_prefix(&self.root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned()
    }

    fn archive(&self, slot: NaiveDate) -> PathBuf {
        self.folder.join(format!("{}{ARCHIVE}", slot.format("%Y%m%d")))
    }

    fn unfinished(&self, pod_uid: &str) -> PathBuf {
        self.folder
            .join(format!(".{}.{pod_uid}{UNFINISHED}", self.slot.format("%Y%m%d")))
    }

    /// What lies under the slot's key, and what it says of itself if it is ours. Reads the whole archive if there is one.
    pub fn look(&self, ours: &dyn Fn(&Manifest) -> Result<(), String>) -> (Stored, Option<Manifest>) {
        let path = self.archive(self.slot);
        let stored = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::Absent,
            Err(error) => unreadable(error.to_string(), &error),
            Ok(metadata) if !metadata.is_file() => Stored::Foreign {
                why: "it is not a file".into(),
            },
            Ok(_) => match archive::verify(&path) {
                Ok((manifest, digest)) => match ours(&manifest) {
                    Ok(()) => return (Stored::Ours(digest), Some(manifest)),
                    Err(why) => Stored::Foreign { why },
                },
                Err(archive::Error::Io { source, .. }) => unreadable(source.to_string(), &source),
                // A volume that cannot be read looks like a damaged archive to the decoder: read it without one.
                Err(archive::Error::Damaged { why }) => match archive::digest(&path) {
                    Err(archive::Error::Io { source, .. }) => unreadable(why, &source),
                    Ok(_) | Err(archive::Error::Damaged { .. }) => Stored::Damaged { why },
                },
            },
        };
        (stored, None)
    }

    /// Copies the archive next to its key, fsyncs it and reads it back. Nothing is visible under the key yet.
    ///
    /// # Errors
    /// If the volume cannot be written, or what is read back is not what was written.
    pub fn stage(&self, archive: &Path, expected: &Digest) -> Result<Staged, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&self.folder)
            .map_err(io_error(format!("create {}", self.folder.display())))?;
        let path = self.unfinished(&self.pod_uid);
        remove(&path)?;
        let at = || format!("write {}", path.display());
        let reading = |source| {
            Error::Source(archive::Error::Io {
                action: "read the archive on scratch".into(),
                source,
            })
        };
        let mut source = Hashing::new(File::open(archive).map_err(reading)?);
        let mut target = archive::create(&path).map_err(io_error(at()))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = source.read(&mut buffer).map_err(reading)?;
            if count == 0 {
                break;
            }
            target.write_all(&buffer[..count]).map_err(io_error(at()))?;
        }
        target.sync_all().map_err(io_error(at()))?;
        drop(target);
        let (_, sha256, bytes) = source.finish();
        if (Digest { sha256, bytes }) != *expected {
            return Err(Error::Source(archive::changed()));
        }
        self.read_back(expected)
    }

    fn read_back(&self, expected: &Digest) -> Result<Staged, Error> {
        let path = self.unfinished(&self.pod_uid);
        match archive::digest(&path) {
            Ok(read) if read == *expected => Ok(Staged::Whole),
            Err(archive::Error::Io { action, source }) if passes(&source) => Err(Error::Io { action, source }),
            Err(_) if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {
                Ok(Staged::Withdrawn)
            }
            _ => Err(Error::Copy),
        }
    }

    /// The one write.
    ///
    /// # Errors
    /// If link(2) fails in a way that leaves the outcome open; read the key to find out.
    pub fn link(&self) -> Result<Linked, Error> {
        let key = self.archive(self.slot);
        match fs::hard_link(self.unfinished(&self.pod_uid), &key) {
            Ok(()) => Ok(Linked::Stored),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Linked::Exists),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Linked::Withdrawn),
            Err(error) => Err(io_error(format!("link {}", key.display()))(error)),
        }
    }

    /// The folders that lead to the stored archive, up to the volume's root, opened to be made durable: they may be new.
    ///
    /// # Errors
    /// If one cannot be opened; that may be tried again.
    pub fn folders(&self) -> Result<Folders, Error> {
        let mut folders = Vec::new();
        for folder in self.folder.ancestors() {
            let opened = File::open(folder).map_err(io_error(format!("open {}", folder.display())))?;
            folders.push((folder.to_owned(), opened));
            if folder == self.root {
                break;
            }
        }
        Ok(Folders(folders))
    }

    /// Removes the slot's archive; nothing to remove is as good.
    ///
    /// # Errors
    /// If the volume refuses.
    pub fn remove(&self) -> Result<(), Error> {
        remove(&self.archive(self.slot))
    }

    /// Takes a pod's unfinished file away, so that it can store no more. Nothing to take away is as good.
    ///
    /// # Errors
    /// If the volume refuses.
    pub fn withdraw(&self, pod_uid: &str) -> Result<(), Error> {
        remove(&self.unfinished(pod_uid))
    }

    /// Removes this pod's unfinished file and those that killed pods left: of earlier slots, of this slot when it is
    /// `used` or the file is old. Errors are logged: what stays costs room, nothing else.
    pub fn sweep(&self, used: bool) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((day, pod_uid)) = parse_unfinished(&name) else {
                continue;
            };
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| SystemTime::now().duration_since(modified).ok())
                .is_some_and(|age| age > ABANDONED_AFTER);
            let mine = pod_uid == self.pod_uid && day == self.slot;
            if (day <= self.slot && old) || (day == self.slot && used) || mine {
                match fs::remove_file(entry.path()) {
                    Ok(()) => tracing::info!(file = name, "removed an unfinished file"),
                    Err(error) => tracing::warn!(file = name, %error, "failed to remove an unfinished file"),
                }
            }
        }
    }

    /// Removes every unfinished file of the policy, of whatever slot and age.
    ///
    /// # Errors
    /// If the volume refuses.
    pub fn remove_unfinished(&self) -> Result<(), Error> {
        let names = self.names()?;
        let mut unfinished = names.iter().filter(|name| parse_unfinished(name).is_some());
        unfinished.try_for_each(|name| remove(&self.folder.join(name)))
    }

    /// Names of the files in the policy's folder; none while there is no folder.
    ///
    /// # Errors
    /// If the volume does not tell: what it hides must not count as gone.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        names(&self.folder).map_err(io_error(format!("list {}", self.folder.display())))
    }

    /// The slot's archive, to be read.
    ///
    /// # Errors
    /// If it is no file, or cannot be opened.
    pub fn open(&self) -> io::Result<File> {
        let path = self.archive(self.slot);
        // A link could lead anywhere; an archive is a file.
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        File::open(path)
    }

    /// The manifest and the digest of a stored slot, after reading the whole archive.
    ///
    /// # Errors
    /// If it is no file, cannot be read or is damaged.
    pub fn read(&self, slot: NaiveDate) -> Result<(Manifest, Digest), archive::Error> {
        let archive = self.of(slot);
        let file = archive.open().map_err(|source| archive::Error::Io {
            action: format!("open {}", archive.archive(slot).display()),
            source,
        })?;
        archive::scan(file, &mut |_, _| Ok(()))
    }
}

fn unreadable(why: String, error: &io::Error) -> Stored {
    Stored::Unreadable {
        why,
        passing: passes(error),
    }
}

/// Whether an error is one that a server of files, or the way to it, gives while it is away or starts again.
pub(crate) fn passes(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StaleNetworkFileHandle
            | ErrorKind::TimedOut
            | ErrorKind::NotConnected
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::ResourceBusy
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
    ) || PASSING.into_iter().any(|number| error.raw_os_error() == Some(number))
}

/// Names of the files in a folder; none while there is no folder.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn parse_unfinished(name: &str) -> Option<(NaiveDate, &str)> {
    let (day, pod_uid) = name.strip_prefix('.')?.strip_suffix(UNFINISHED)?.split_once('.')?;
    Some((NaiveDate::parse_from_str(day, "%Y%m%d").ok()?, pod_uid))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
