//! The mounted folder: its three files read as one, the last good policy kept across a restart, changes noticed.
//! Does file IO and nothing else.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Notify;
use valerix_policy::{FAULTS_FILE, MAX_DOCUMENT_BYTES, POLICY_FILE, RUNTIME_FILE};

/// Changes that come within this time are read once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How often the folder is read where the kernel reports nothing (inotify missing, or a file system without it).
const POLL: Duration = Duration::from_secs(1);
/// How often it is read although the kernel reports changes: a lost event costs at most this.
const POLL_BESIDE_WATCH: Duration = Duration::from_secs(10);

/// How often a reading begins anew because the kubelet swapped the folder under it.
const READINGS: usize = 16;

/// One file of a reading: its bytes, `None` where it is not there, or why it cannot be read.
pub(crate) type File = io::Result<Option<Vec<u8>>>;

/// The three files of one version of the folder. One that cannot be read says nothing about the others.
pub(crate) struct Reading {
    pub(crate) policy: File,
    pub(crate) faults: File,
    pub(crate) runtime: File,
}

/// Reads the three files of one version of the folder. Errors name the path.
pub(crate) fn read(folder: &Path) -> Reading {
    read_while(folder, |_| {})
}

/// Reads until the version that was read is still the one in force, so that a version removed while it was being read
/// never looks like a folder without files. `between` runs before each look back, for tests.
fn read_while(folder: &Path, mut between: impl FnMut(usize)) -> Reading {
    let unreadable = |error: &io::Error| {
        let again = || Err(io::Error::new(error.kind(), error.to_string()));
        Reading {
            policy: again(),
            faults: again(),
            runtime: again(),
        }
    };
    let mut version = match current_version(folder) {
        Ok(version) => version,
        Err(error) => return unreadable(&error),
    };
    for round in 0..READINGS {
        let reading = Reading {
            policy: read_file(&version.join(POLICY_FILE)),
            faults: read_file(&version.join(FAULTS_FILE)),
            runtime: read_file(&version.join(RUNTIME_FILE)),
        };
        between(round);
        match current_version(folder) {
            Ok(current) if current == version => return reading,
            Ok(current) => version = current,
            Err(error) => return unreadable(&error),
        }
    }
    let cause = format!("failed to read {}: it changes all the time", folder.display());
    unreadable(&io::Error::other(cause))
}

/// Where the files of the version in force are. A ConfigMap's files are links through `..data`, which the kubelet
/// swaps: resolved once, all three files are of the same version. A folder without it is its own only version.
fn current_version(folder: &Path) -> io::Result<PathBuf> {
    let data = folder.join("..data");
    match fs::canonicalize(&data) {
        Ok(version) => Ok(version),
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&data).is_err() => {
            Ok(folder.to_owned())
        }
        Err(error) => Err(named(&data, &error)),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to read {}: {error}", path.display()))
}

fn read_file(path: &Path) -> File {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(path, &error)),
    };
    let size = file.metadata().map_err(|error| named(path, &error))?.len();
    // Not even read: what is refused must not cost memory. What grows meanwhile is refused by the parser.
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_DOCUMENT_BYTES {
        let cause =
            format!("it has {size} bytes, at most {MAX_DOCUMENT_BYTES} are allowed: name fewer targets or routes");
        return Err(named(path, &io::Error::other(cause)));
    }
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(MAX_DOCUMENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| named(path, &error))?;
    Ok(Some(bytes))
}

/// Keeps the bytes of a good policy, whole or not at all.
pub(crate) fn keep_last_good(state_folder: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(state_folder)?;
    let temporary = state_folder.join(format!("{POLICY_FILE}.new"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, state_folder.join(POLICY_FILE))
}

/// The bytes that an earlier process of this pod kept.
pub(crate) fn last_good(state_folder: &Path) -> Option<Vec<u8>> {
    read_file(&state_folder.join(POLICY_FILE)).ok().flatten()
}

/// Tells of changes for as long as it lives; without the feature `reload` there is none.
#[cfg(feature = "reload")]
type Watcher = notify::RecommendedWatcher;
#[cfg(not(feature = "reload"))]
type Watcher = std::convert::Infallible;

/// Notices changes of a folder: by the kernel's word with the feature `reload`, else by looking every second.
pub(crate) struct Watch {
    folder: PathBuf,
    changed: std::sync::Arc<Notify>,
    watcher: Option<Watcher>,
    /// A change was noticed and not yet told: who waited may have turned to something else meanwhile.
    untold: bool,
}

impl Watch {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let mut watch = Self {
            folder,
            changed: std::sync::Arc::new(Notify::new()),
            watcher: None,
            untold: false,
        };
        watch.attach();
        watch
    }

    #[cfg(not(feature = "reload"))]
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "there is nothing to attach"
    )]
    const fn attach(&mut self) {}

    #[cfg(feature = "reload")]
    fn attach(&mut self) {
        use notify::{RecursiveMode, Watcher};
        let changed = std::sync::Arc::clone(&self.changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files makes access events, which must not make us read them again.
            if !matches!(
                event,
                Ok(notify::Event {
                    kind: notify::EventKind::Access(_),
                    ..
                })
            ) {
                changed.notify_one();
            }
        })
        .and_then(|mut watcher| {
            watcher
                .watch(&self.folder, RecursiveMode::NonRecursive)
                .map(|()| watcher)
        });
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                tracing::debug!(folder = %self.folder.display(), %error, "folder is polled, failed to watch it");
            }
        }
    }

    /// Returns when the folder may have changed. Dropped and asked anew, it forgets nothing.
    pub(crate) async fn changed(&mut self) {
        if self.watcher.is_none() && !self.untold {
            tokio::time::sleep(POLL).await;
            // The folder may have come into being.
            self.attach();
            return;
        }
        if !self.untold {
            let noticed = tokio::time::timeout(POLL_BESIDE_WATCH, self.changed.notified()).await;
            self.untold = noticed.is_ok();
        }
        if self.untold {
            tokio::time::sleep(DEBOUNCE).await;
            self.untold = false;
        }
        if !self.folder.exists() {
            self.watcher = None;
        }
    }
}

/// A document of a service's own in a mounted folder, followed as the library follows its policy.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let path = std::env::temp_dir().join("valerix-example-of-no-file.json");
/// let mut routes = valerix_resilience::DocumentFile::new(&path);
/// assert_eq!(routes.read()?, None);
/// // Who follows it waits here, and reads again.
/// let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), routes.changed());
/// assert!(waiting.await.is_err());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct DocumentFile {
    path: PathBuf,
    watch: Watch,
}

impl DocumentFile {
    /// The document at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let watch = Watch::new(folder.unwrap_or_else(|| Path::new(".")).to_owned());
        Self { path, watch }
    }

    /// Its bytes, none where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than any document may be. The error names the path.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.path)
    }

    /// Returns when the document may have changed: at once by the kernel's word, else within seconds. Dropped and asked
    /// anew, it forgets nothing.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }
}

impl std::fmt::Debug for DocumentFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DocumentFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder as the kubelet makes it, with `..data` at version 1.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), 1);
        folder
    }

    fn publish(folder: &Path, version: usize) {
        let name = format!("..version_{version}");
        fs::create_dir(folder.join(&name)).unwrap();
        for file in [POLICY_FILE, FAULTS_FILE, RUNTIME_FILE] {
            fs::write(folder.join(&name).join(file), version.to_string()).unwrap();
        }
        symlink(&name, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        if version > 1 {
            fs::remove_dir_all(folder.join(format!("..version_{}", version - 1))).unwrap();
        }
    }

    fn text(file: &File) -> &str {
        std::str::from_utf8(file.as_ref().unwrap().as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_version_removed_while_it_is_read_is_never_taken_for_a_folder_without_files() {
        let folder = folder();
        // What the kubelet may do between resolving `..data` and opening the files.
        fs::remove_file(folder.path().join("..version_1").join(FAULTS_FILE)).unwrap();
        let reading = read_while(folder.path(), |round| {
            if round == 0 {
                publish(folder.path(), 2);
            }
        });
        assert_eq!(
            [&reading.policy, &reading.faults, &reading.runtime].map(text),
            ["2", "2", "2"]
        );
    }

    #[test]
    fn a_folder_that_never_rests_is_an_error_and_not_an_empty_one() {
        let folder = folder();
        let reading = read_while(folder.path(), |round| publish(folder.path(), round + 2));
        for file in [reading.policy, reading.faults, reading.runtime] {
            assert!(file.unwrap_err().to_string().contains("changes all the time"));
        }
    }

    #[test]
    fn a_link_to_nowhere_is_an_error_and_a_plain_folder_is_not() {
        let folder = folder();
        fs::remove_dir_all(folder.path().join("..version_1")).unwrap();
        assert!(read(folder.path()).policy.unwrap_err().to_string().contains("..data"));
        let plain = tempfile::tempdir().unwrap();
        fs::write(plain.path().join(POLICY_FILE), "plain").unwrap();
        let reading = read(plain.path());
        assert_eq!(text(&reading.policy), "plain");
        assert!(reading.faults.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_not_forgotten_by_who_turns_to_something_else() {
        let folder = folder();
        let mut watch = Watch::new(folder.path().to_owned());
        watch.changed.notify_one();
        let begun = tokio::time::Instant::now();
        // Given up in the middle of the debounce, as the follower does when a fault ends at that moment.
        assert!(tokio::time::timeout(DEBOUNCE / 2, watch.changed()).await.is_err());
        watch.changed().await;
        assert!(begun.elapsed() < POLL, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_cannot_be_watched_is_polled() {
        let folder = folder();
        let mut watch = Watch::new(folder.path().join("not-there"));
        assert!(watch.watcher.is_none());
        let begun = tokio::time::Instant::now();
        watch.changed().await;
        assert!(begun.elapsed() < POLL * 2, "{:?}", begun.elapsed());

        // And one whose watch is silent, as on file systems that tell the kernel nothing.
        let mut watch = Watch::new(folder.path().to_owned());
        assert!(watch.watcher.is_some());
        let begun = tokio::time::Instant::now();
        watch.changed().await;
        assert!(begun.elapsed() < POLL_BESIDE_WATCH * 2, "{:?}", begun.elapsed());
    }
}
