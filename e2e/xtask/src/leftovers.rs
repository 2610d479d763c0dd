//! Proves that a test run left nothing behind: looks at the host before and after, and names what is new.
//!
//! Only what carries the mark of the test cluster or of the test services is looked at, so that other work on the same
//! machine, another cluster included, does not disturb. Reads /proc and /sys; on other systems there is nothing to see.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// What a test run could leave, as lines for a person.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// Looks at processes, mounts and control groups that carry one of `marks` in their command, path or name, and at
    /// network links of clusters that are gone.
    pub fn look(marks: &[&str]) -> Self {
        let is_marked = |text: &str| marks.iter().any(|mark| text.contains(mark));
        let mut found = BTreeSet::new();
        let mut indexes = BTreeSet::new();
        for process in folder(Path::new("/proc")) {
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            indexes.extend(index_of_node(&command));
            let id = process.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_marked(&command) && id != std::process::id().to_string() {
                found.insert(format!(
                    "process {id}: {}",
                    crate::failure::shorten(command.trim(), 120)
                ));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| is_marked(point))
        {
            found.insert(format!("mount {point}"));
        }
        // Version 1 has a hierarchy per controller below the root, version 2 has one.
        let root = Path::new("/sys/fs/cgroup");
        for group in folder(root).chain(folder(root).flat_map(|controller| folder(&controller).collect::<Vec<_>>())) {
            let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_marked(&name) {
                found.insert(format!("control group {}", group.display()));
            }
        }
        // A cluster's link to the host is named by the cluster's index; without a node of that index it is nobody's.
        for link in folder(Path::new("/sys/class/net")) {
            let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.strip_prefix("vlx").is_some_and(|index| !indexes.contains(index)) {
                found.insert(format!("network link {name}"));
            }
        }
        Self(found)
    }

    /// Fails when `after` has something that was not there before.
    ///
    /// # Errors
    /// Names everything that is new.
    pub fn compare(&self, after: &Self) -> Result<()> {
        let new: Vec<&str> = after.0.difference(&self.0).map(String::as_str).collect();
        if new.is_empty() {
            return Ok(());
        }
        bail!("the test run left behind:\n{}", new.join("\n"))
    }
}

/// The index in the command line of a node's first process: `.../cluster node --cluster test ... --index 2`.
fn index_of_node(command: &str) -> Option<String> {
    let mut words = command.split_whitespace();
    words.find(|word| *word == "node")?;
    words.find(|word| *word == "--index")?;
    words.next().map(str::to_owned)
}

fn folder(path: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Program;
    use crate::steps::Log;
    use std::time::{Duration, Instant};

    #[test]
    fn a_nodes_index_is_read_from_its_command() {
        let command = "/x/bin/cluster node --state /x --cluster test --number 1 --index 12 ";
        assert_eq!(index_of_node(command).as_deref(), Some("12"));
        assert_eq!(index_of_node("/usr/bin/node server.js"), None);
    }

    #[test]
    fn a_process_that_stays_is_named() {
        let logs = tempfile::tempdir().expect("a folder");
        let log = Log::create(logs.path().join("log")).expect("a log");
        let marks = ["/a-mark-of-this-test/"];
        let before = Leftovers::look(&marks);
        let arguments = ["-c", "sleep 300; exit", "/a-mark-of-this-test/x"];
        let running = Program::new("sh").args(arguments).start(&log).expect("it starts");
        // For a moment after its start a program's command line is empty.
        let deadline = Instant::now() + Duration::from_secs(10);
        let error = loop {
            match before.compare(&Leftovers::look(&marks)) {
                Err(error) => break error,
                Ok(()) => assert!(Instant::now() < deadline, "it is not found"),
            }
            std::thread::yield_now();
        };
        assert!(error.to_string().contains("/a-mark-of-this-test/x"), "{error}");
        drop(running);
        before.compare(&Leftovers::look(&marks)).expect("nothing is left");
    }
}
