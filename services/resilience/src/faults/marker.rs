//! Marks on the state folder (an emptyDir) that outlive the process and not the pod. Does file IO.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// Marks kept; older ones are removed.
const KEPT: usize = 64;

/// Where marks are kept; `None` without a state folder.
#[derive(Debug)]
pub(crate) struct Markers(Option<PathBuf>);

/// What [`Markers::begin`] found.
#[derive(Debug)]
pub(super) enum Mark {
    /// The first time in this pod.
    Fresh,
    /// So many earlier processes of this pod have begun this run.
    Seen(u64),
    /// The mark could not be written.
    Failed(io::Error),
}

impl Markers {
    pub(crate) fn new(state_folder: Option<PathBuf>) -> Self {
        Self(state_folder.map(|folder| folder.join("runs")))
    }

    /// Whether a process of this pod has begun this run.
    pub(super) fn seen(&self, run: &str) -> bool {
        self.0.as_ref().is_some_and(|folder| path(folder, run).exists())
    }

    /// Marks a run as begun, on disk before this returns.
    pub(super) fn begin(&self, run: &str) -> Mark {
        let Some(folder) = &self.0 else {
            return Mark::Failed(io::Error::other("no state folder (VALERIX_STATE_DIR)"));
        };
        match write(folder, run) {
            Ok(()) => Mark::Fresh,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                again(folder, run).map_or_else(Mark::Failed, Mark::Seen)
            }
            Err(error) => Mark::Failed(error),
        }
    }
}

fn write(folder: &std::path::Path, run: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = fs::File::create_new(path(folder, run))?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::File::open(folder)?.sync_all()?;
    prune(folder)
}

/// A run's id may hold any visible character: its hash is a safe file name.
fn path(folder: &std::path::Path, run: &str) -> PathBuf {
    folder.join(valerix_policy::hash(run.as_bytes()))
}

/// Adds this process to a mark; returns how many there were before.
fn again(folder: &std::path::Path, run: &str) -> io::Result<u64> {
    let mut file = fs::OpenOptions::new().append(true).open(path(folder, run))?;
    let before = file.metadata()?.len();
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(before)
}

fn prune(folder: &std::path::Path) -> io::Result<()> {
    let mut marks: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    marks.sort();
    for (_, path) in marks.iter().rev().skip(KEPT) {
        fs::remove_file(path)?;
    }
    Ok(())
}
