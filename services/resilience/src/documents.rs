//! The mounted folder: its three files read as one, the last good policy kept across a restart, changes noticed.
//! Does file IO and nothing else.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;
use valerix_policy::{FAULTS_FILE, MAX_DOCUMENT_BYTES, POLICY_FILE, RUNTIME_FILE};

/// Changes that come within this time are read once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How often the folder is read where the kernel reports nothing (inotify missing, or a file system without it).
const POLL: Duration = Duration::from_secs(1);
/// How often it is read although the kernel reports changes: a lost event costs at most this.
const POLL_BESIDE_WATCH: Duration = Duration::from_secs(10);

/// The bytes of one reading; a file that is not there is `None`.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) policy: Option<Vec<u8>>,
    pub(crate) faults: Option<Vec<u8>>,
    pub(crate) runtime: Option<Vec<u8>>,
}

/// Reads the three files of one version of the folder.
///
/// # Errors
/// When the folder or a file in it cannot be read; the error names the path.
pub(crate) fn read(folder: &Path) -> io::Result<Bytes> {
    // A ConfigMap's files are links through `..data`, which the kubelet swaps: resolved once, all three files are of
    // the same version.
    let version = fs::canonicalize(folder.join("..data")).unwrap_or_else(|_| folder.to_owned());
    Ok(Bytes {
        policy: read_file(&version.join(POLICY_FILE))?,
        faults: read_file(&version.join(FAULTS_FILE))?,
        runtime: read_file(&version.join(RUNTIME_FILE))?,
    })
}

fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("failed to read {}: {error}", path.display()));
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(error)),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser can refuse what is too large.
    file.take(MAX_DOCUMENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(named)?;
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

/// Notices changes of a folder.
pub(crate) struct Watch {
    folder: PathBuf,
    changed: std::sync::Arc<Notify>,
    watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let mut watch = Self {
            folder,
            changed: std::sync::Arc::new(Notify::new()),
            watcher: None,
        };
        watch.attach();
        watch
    }

    fn attach(&mut self) {
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

    /// Returns when the folder may have changed.
    pub(crate) async fn changed(&mut self) {
        if self.watcher.is_none() {
            tokio::time::sleep(POLL).await;
            // The folder may have come into being.
            self.attach();
            return;
        }
        if tokio::time::timeout(POLL_BESIDE_WATCH, self.changed.notified())
            .await
            .is_ok()
        {
            tokio::time::sleep(DEBOUNCE).await;
        }
        if !self.folder.exists() {
            self.watcher = None;
        }
    }
}
