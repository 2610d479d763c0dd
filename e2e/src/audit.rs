//! What the API server's audit log says that the operator asked for, and when.

use crate::world::OPERATOR_USER;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Whether at rest there are such requests: watches, and those for the Lease.
pub fn is_of_rest(event: &Value) -> bool {
    event["verb"] == "watch" || event["objectRef"]["resource"] == "leases"
}

/// The operator's requests that began within a span of time.
///
/// # Errors
/// If the log cannot be read.
pub fn requests(log: &Path, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Value>> {
    whole(|| parts(log), |parts| requests_of(parts, from, to))
}

/// What was read of all parts. A log that is put aside meanwhile is read under its new name: once more from the beginning.
fn whole<T>(
    list: impl Fn() -> Result<BTreeSet<PathBuf>>,
    mut read: impl FnMut(&BTreeSet<PathBuf>) -> Result<T>,
) -> Result<T> {
    let mut parts = list()?;
    loop {
        let found = read(&parts);
        let now = list()?;
        if now == parts {
            return found;
        }
        parts = now;
    }
}

fn requests_of(parts: &BTreeSet<PathBuf>, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Value>> {
    let mut requests = Vec::new();
    for path in parts {
        let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        for line in BufReader::new(file).lines() {
            let line = line?;
            if !line.contains(OPERATOR_USER) {
                continue;
            }
            let event: Value = serde_json::from_str(&line)?;
            let at = event["requestReceivedTimestamp"]
                .as_str()
                .and_then(|text| text.parse::<DateTime<Utc>>().ok());
            // A watch is one request with two lines: when it begins to answer and when it ends.
            if event["user"]["username"] == OPERATOR_USER && at.is_some_and(|at| at >= from && at <= to) {
                requests.push(event);
            }
        }
    }
    Ok(requests)
}

/// The log, and what was put aside when it had become too long: `audit-<time>.log`.
fn parts(log: &Path) -> Result<BTreeSet<PathBuf>> {
    let folder = log.parent().context("the audit log lies in no folder")?;
    let entries = std::fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut found = BTreeSet::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if path == log || name.is_some_and(|name| name.starts_with("audit-") && name.ends_with(".log")) {
            found.insert(path);
        }
    }
    Ok(found)
}

/// How many requests there were for the Lease, and of each other kind, such as `watch pods`.
pub fn counted(requests: &[Value]) -> (usize, BTreeMap<String, usize>) {
    let (mut leases, mut others) = (0, BTreeMap::new());
    for event in requests {
        let (verb, resource) = (
            event["verb"].as_str().unwrap_or_default(),
            event["objectRef"]["resource"].as_str().unwrap_or_default(),
        );
        if resource == "leases" && verb != "watch" {
            leases += 1;
        } else {
            *others.entry(format!("{verb} {resource}")).or_default() += 1;
        }
    }
    (leases, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_is_read_too_and_only_the_operators_own_counts() {
        let folder = tempfile::tempdir().unwrap();
        let line = |user: &str, verb: &str, resource: &str| {
            serde_json::json!({
                "user": {"username": user}, "verb": verb, "objectRef": {"resource": resource},
                "requestReceivedTimestamp": "2026-11-28T10:00:00.000001Z",
            })
            .to_string()
        };
        let log = folder.path().join("audit.log");
        let now = [
            line(OPERATOR_USER, "update", "leases"),
            line("admin", "patch", "pods"),
            // It names the operator and is somebody else's.
            line("admin", "get", OPERATOR_USER),
        ];
        std::fs::write(&log, now.join("\n")).unwrap();
        std::fs::write(
            folder.path().join("audit-2026-11-28T09-59-59.000.log"),
            line(OPERATOR_USER, "watch", "pods"),
        )
        .unwrap();
        std::fs::write(folder.path().join("kubeconfig"), line(OPERATOR_USER, "patch", "pods")).unwrap();

        let of_that_day = requests(&log, "2026-11-28T00:00:00Z".parse().unwrap(), Utc::now()).unwrap();
        assert!(of_that_day.iter().all(is_of_rest), "{of_that_day:?}");
        let (leases, others) = counted(&of_that_day);
        assert_eq!((leases, others.get("watch pods"), others.len()), (1, Some(&1), 1));
        let later = requests(&log, "2026-11-28T10:00:01Z".parse().unwrap(), Utc::now()).unwrap();
        assert!(later.is_empty(), "{later:?}");
    }

    #[test]
    fn what_is_put_aside_while_it_is_read_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        std::fs::write(&log, "before\n").unwrap();
        let mut reads = 0;
        let read = whole(
            || parts(&log),
            |parts| {
                reads += 1;
                if reads == 1 {
                    std::fs::rename(&log, folder.path().join("audit-2026-11-28T09-59-59.000.log"))?;
                    std::fs::write(&log, "after\n")?;
                }
                let texts = parts.iter().map(std::fs::read_to_string);
                Ok(texts.collect::<std::io::Result<String>>()?)
            },
        );
        assert_eq!((read.unwrap().as_str(), reads), ("before\nafter\n", 2));
        let gone = whole(|| parts(&log), |_| -> Result<()> { anyhow::bail!("it is gone") });
        assert!(gone.is_err(), "what fails over the same parts fails");
    }
}
