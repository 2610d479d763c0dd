//! The destination: a folder on a mounted volume.
//!
//! In: a verified archive on scratch. Out: the same bytes under the slot's key, by exactly one link(2) of a finished,
//! fsynced file. link(2) never overwrites and has no half-way: afterwards the key is there or it is not. Blocking.
//!
//! The unfinished file carries the pod's UID, so that whoever doubts another pod can withdraw that pod's file: from
//! then on its link(2) fails, which settles for certain what an S3 upload leaves open.

use crate::{
    archive::{self, Digest},
    decision::Stored,
    destination::ARCHIVE,
    hashing::Hashing,
    manifest::Manifest,
};
use chrono::NaiveDate;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
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
        let mut source = File::open(archive).map_err(io_error("open the archive on scratch for the copy"))?;
        let mut target = Hashing::new(archive::create(&path).map_err(io_error(at()))?);
        io::copy(&mut source, &mut target).map_err(io_error(at()))?;
        target.flush().map_err(io_error(at()))?;
        let (file, sha256, bytes) = target.finish();
        file.sync_all().map_err(io_error(at()))?;
        drop(file);
        if (Digest { sha256, bytes }) != *expected {
            return Err(Error::Copy);
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

    /// Names of the files in the policy's folder; none while there is no folder.
    ///
    /// # Errors
    /// If the volume does not tell: what it hides must not count as gone.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        names(&self.folder).map_err(io_error(format!("list {}", self.folder.display())))
    }

    /// Copies the slot's archive into a new file.
    ///
    /// # Errors
    /// If it is not there or cannot be read, or the file cannot be written.
    pub fn fetch(&self, path: &Path) -> Result<(), Error> {
        let source = self.archive(self.slot);
        let mut from = File::open(&source).map_err(io_error(format!("open {}", source.display())))?;
        let copying = || format!("copy {}", source.display());
        let mut to = archive::create(path).map_err(io_error(copying()))?;
        io::copy(&mut from, &mut to).map(|_| ()).map_err(io_error(copying()))
    }

    /// The manifest and the digest of a stored slot, after reading the whole archive.
    ///
    /// # Errors
    /// If it is no file, cannot be read or is damaged.
    pub fn read(&self, slot: NaiveDate) -> Result<(Manifest, Digest), archive::Error> {
        let path = self.archive(slot);
        let opening = |source| archive::Error::Io {
            action: format!("open {}", path.display()),
            source,
        };
        // A link could lead anywhere; an archive is a file.
        if !fs::symlink_metadata(&path).map_err(opening)?.is_file() {
            return Err(opening(io::Error::other("it is not a file")));
        }
        archive::verify(&path)
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
mod tests {
    use super::*;

    fn volume(root: &Path, pod_uid: &str) -> Volume {
        let slot = NaiveDate::from_ymd_opt(2026, 8, 21).unwrap();
        Volume::new(root, Some("pg/"), "shop", "nightly", slot, pod_uid)
    }

    fn staged(root: &Path, pod_uid: &str) -> Volume {
        let scratch = tempfile::NamedTempFile::new().unwrap();
        fs::write(scratch.path(), pod_uid).unwrap();
        let volume = volume(root, pod_uid);
        volume
            .stage(scratch.path(), &archive::digest(scratch.path()).unwrap())
            .unwrap();
        volume
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_not_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let volume = volume(root.path(), "a");
        assert_eq!(volume.names().unwrap(), Vec::<String>::new());
        fs::create_dir_all(root.path().join("pg/shop")).unwrap();
        fs::write(root.path().join("pg/shop/nightly"), "no folder").unwrap();
        let error = volume.names().unwrap_err().to_string();
        assert!(
            error.contains("failed to list") && error.contains("pg/shop/nightly"),
            "{error}"
        );
    }

    #[test]
    fn the_second_link_never_overwrites_the_first() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (staged(root.path(), "a"), staged(root.path(), "b"));
        assert_eq!(first.key(), "pg/shop/nightly/20260821.tar.zst");
        assert_eq!(first.look(&|_| Ok(())).0, Stored::Absent);
        assert_eq!(first.link().unwrap(), Linked::Stored);
        assert_eq!(second.link().unwrap(), Linked::Exists);
        assert_eq!(fs::read_to_string(root.path().join(first.key())).unwrap(), "a");
        first.folders().unwrap().make_durable().unwrap();
        assert!(matches!(second.look(&|_| Ok(())).0, Stored::Damaged { .. }));
        second.sweep(true);
        assert_eq!(fs::read_dir(root.path().join("pg/shop/nightly")).unwrap().count(), 1);
    }

    #[test]
    fn a_withdrawn_pod_can_store_no_more() {
        let root = tempfile::tempdir().unwrap();
        let (paused, other) = (staged(root.path(), "a"), volume(root.path(), "b"));
        other.withdraw("a").unwrap();
        other.withdraw("a").unwrap();
        assert_eq!(paused.link().unwrap(), Linked::Withdrawn);
        assert_eq!(other.look(&|_| Ok(())).0, Stored::Absent);
    }

    #[test]
    fn a_copy_that_another_pod_removed_before_it_was_read_back_is_no_fault_of_the_volume() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (staged(root.path(), "a"), staged(root.path(), "b"));
        let expected = archive::digest(&root.path().join("pg/shop/nightly/.20260821.b.unfinished")).unwrap();
        assert_eq!(second.read_back(&expected).unwrap(), Staged::Whole);
        first.sweep(true);
        assert_eq!(second.read_back(&expected).unwrap(), Staged::Withdrawn);
    }

    #[test]
    fn only_the_owner_and_the_volumes_group_can_read_an_archive() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let volume = staged(root.path(), "a");
        volume.link().unwrap();
        for path in ["pg", "pg/shop", "pg/shop/nightly", &volume.key()] {
            let mode = fs::metadata(root.path().join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o007, 0, "{path}: {mode:o}");
        }
    }

    #[test]
    fn a_folder_that_is_gone_cannot_be_made_durable() {
        let root = tempfile::tempdir().unwrap();
        let volume = staged(root.path(), "a");
        volume.link().unwrap();
        fs::remove_dir_all(root.path().join("pg")).unwrap();
        let error = volume.folders().unwrap_err().to_string();
        assert!(error.starts_with("failed to open"), "{error}");
    }

    #[test]
    fn a_server_of_files_that_is_away_passes_and_a_volume_that_refuses_does_not() {
        for (number, expected) in [
            // EIO, ESTALE, ETIMEDOUT, EHOSTDOWN, EAGAIN.
            (5, true),
            (116, true),
            (110, true),
            (112, true),
            (11, true),
            // EACCES, ENOTDIR, ENOSPC, EROFS, EDQUOT.
            (13, false),
            (20, false),
            (28, false),
            (30, false),
            (122, false),
        ] {
            assert_eq!(passes(&io::Error::from_raw_os_error(number)), expected, "{number}");
        }
    }

    #[test]
    fn a_sweep_leaves_what_may_be_alive() {
        let root = tempfile::tempdir().unwrap();
        let volume = staged(root.path(), "b");
        let folder = root.path().join("pg/shop/nightly");
        let long_ago = SystemTime::now() - ABANDONED_AFTER * 2;
        for (name, old) in [
            (".20260821.a.unfinished", false),
            (".20260821.c.unfinished", true),
            (".20260820.a.unfinished", true),
            (".20260822.a.unfinished", true),
            ("20260820.tar.zst", true),
            (".other", true),
        ] {
            let file = File::create(folder.join(name)).unwrap();
            if old {
                file.set_modified(long_ago).unwrap();
            }
        }
        volume.sweep(false);
        let left = || {
            let mut names: Vec<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            left(),
            [
                ".20260821.a.unfinished",
                ".20260822.a.unfinished",
                ".other",
                "20260820.tar.zst"
            ]
        );
        volume.sweep(true);
        assert_eq!(left(), [".20260822.a.unfinished", ".other", "20260820.tar.zst"]);
        assert!(volume.names().unwrap().contains(&"20260820.tar.zst".to_owned()));
    }

    #[test]
    fn a_copy_that_is_not_the_archive_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let scratch = tempfile::NamedTempFile::new().unwrap();
        fs::write(scratch.path(), "x").unwrap();
        let wrong = Digest {
            sha256: "0".repeat(64),
            bytes: 1,
        };
        assert!(matches!(
            volume(root.path(), "a").stage(scratch.path(), &wrong),
            Err(Error::Copy)
        ));
    }
}
