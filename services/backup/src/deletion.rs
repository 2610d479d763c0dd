//! The archives of a policy that was deleted with `deletionPolicy: Delete` go.
//!
//! In: the destination, and the policy's UID. Out: what was removed and what is left, as the pod's termination message.
//! Removed is what says itself that it is this policy's: an object by the labels that it was stored with, a file on a volume
//! by its manifest, once it was read to its end. What runs have begun and never stored goes before that: uploads in parts
//! that the records tell of, unfinished files on a volume. The API server is not spoken to.

use crate::{
    destination::{Destination, Removed, Site},
    failure::Failure,
    settings::{self, PolicyArguments, read_spec},
};
use chrono::{NaiveDate, Utc};
use std::{collections::BTreeSet, fs, future::Future, path::PathBuf, time::Duration};
use tokio::time::Instant;
use valerix_crds::{
    OpenUpload,
    backup_runner::{self, RemovalReport},
};

/// The first pause before a destination that did not answer is asked again; each is twice as long.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The most slots that a report names, and the most characters that a complaint has: a termination message has 4 KiB.
const MAX_LEFT: usize = 64;
const MAX_TEXT: usize = 1024;

/// The environment of the pod, as the operator writes it.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "backup remove", version, about = "Removes the archives of one BackupPolicy.")]
pub struct Arguments {
    /// Whose pod this is, and where the archives are.
    #[command(flatten)]
    pub shared: PolicyArguments,
    /// Uploads in parts that runs have begun and not ended, as JSON.
    #[arg(long, env = backup_runner::OPEN_UPLOADS_ENV, default_value = "[]")]
    pub open_uploads: String,
    /// Folder for what is looked at.
    #[arg(long, env = "VALERIX_BACKUP_SCRATCH_FOLDER", default_value = backup_runner::SCRATCH_FOLDER)]
    pub scratch_folder: PathBuf,
    /// How long a destination that does not answer is asked again, from when something was removed last. Unit: seconds.
    #[arg(long, env = "VALERIX_BACKUP_REMOVAL_SECONDS", default_value_t = 20 * 60)]
    pub patience_seconds: u64,
    /// Where the pod's last word goes.
    #[arg(long, env = "VALERIX_BACKUP_TERMINATION_LOG", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
}

/// Removes, and leaves its last word. `stop` resolves when the pod is asked to end.
///
/// # Errors
/// Why some of what is this policy's may still be there.
pub async fn remove(arguments: Arguments, stop: impl Future<Output = ()>) -> Result<RemovalReport, Failure> {
    let log = arguments.termination_log.clone();
    let mut tally = Tally::default();
    let result = tokio::select! {
        biased;
        () = stop => Err(Failure::Interrupted),
        result = Box::pin(removed(arguments, &mut tally)) => result,
    };
    let report = match &result {
        Ok(()) => Some(tally.report()),
        Err(failure) => tally.report_of_failure(failure),
    };
    let word = match (&report, &result) {
        (Some(report), _) => serde_json::to_string(report).unwrap_or_default(),
        (None, Err(failure)) => failure.to_string().chars().take(MAX_TEXT).collect(),
        (None, Ok(())) => String::new(),
    };
    if let Err(error) = fs::write(&log, word) {
        tracing::warn!(%error, "failed to leave a last word");
    }
    result.map(|()| report.unwrap_or_default())
}

async fn removed(arguments: Arguments, tally: &mut Tally) -> Result<(), Failure> {
    let (_, choice, _) = read_spec(&arguments.shared.spec).map_err(Failure::Settings)?;
    tally.uploads = serde_json::from_str(&arguments.open_uploads)
        .map_err(|source| Failure::Settings(settings::Error::OpenUploads { source }))?;
    let patience = Duration::from_secs(arguments.patience_seconds);
    // It only has to be one: each is named where it is removed.
    let slot = Utc::now().date_naive();
    let site = Site::new(choice, &arguments.shared, slot);
    let destination = Destination::new(site);
    let mut until = Instant::now() + patience;
    let mut pause = PAUSE;
    loop {
        let before = tally.removed;
        let passed = tally.pass(&destination).await;
        if tally.removed > before {
            // To read an archive takes its time, which is not the destination's silence.
            (until, pause) = (Instant::now() + patience, PAUSE);
        }
        match passed {
            Err(failure) if failure.is_passing() && Instant::now() + pause < until => {
                tracing::warn!(%failure, "the destination is asked again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            passed => return passed,
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Tally {
    removed: usize,
    others: usize,
    left: Vec<(NaiveDate, String)>,
    /// What lies there, once it was told. No run is left that could add to it.
    there: Option<BTreeSet<NaiveDate>>,
    /// What is still to be aborted.
    uploads: Vec<OpenUpload>,
    /// Why one of them was not.
    not_aborted: Option<String>,
}

impl Tally {
    /// Looks at everything once. What fails hinders nothing else.
    async fn pass(&mut self, destination: &Destination) -> Result<(), Failure> {
        (self.others, self.left, self.not_aborted) = (0, Vec::new(), None);
        let mut failed = destination.remove_unfinished().await.err();
        let mut open = Vec::new();
        for upload in &self.uploads {
            let why = match destination.abort(upload).await {
                Ok(true) => continue,
                Ok(false) => "it is in another bucket".to_owned(),
                Err(failure) => {
                    let why = failure.to_string();
                    // Parts that a store does not let go hold up no archive.
                    failed = failed.or(Some(failure).filter(Failure::is_passing));
                    why
                }
            };
            self.not_aborted.get_or_insert(why);
            open.push(upload.clone());
        }
        self.uploads = open;
        let slots = destination.slots().await?;
        self.there = Some(slots.iter().copied().collect());
        for slot in slots {
            match destination.remove(slot).await {
                Ok(Removed::Gone) => {
                    self.removed += 1;
                    self.there.get_or_insert_default().remove(&slot);
                }
                Ok(Removed::Foreign) => self.others += 1,
                Ok(Removed::Left { why }) => self.left.push((slot, why)),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn report(&self) -> RemovalReport {
        let mut message = format!("{} archives removed", self.removed);
        if self.others > 0 {
            message.push_str(&format!("; {} of other policies are theirs and stay", self.others));
        }
        if let Some(why) = &self.not_aborted {
            let count = self.uploads.len();
            message.push_str(&format!("; {count} uploads in parts are not aborted: {why}"));
        }
        if !self.left.is_empty() {
            let left = self.left.iter().map(|(slot, why)| format!("{slot}: {why}"));
            let left = left.collect::<Vec<_>>().join("; ");
            message.push_str(&format!(
                "; left where they are, since nothing tells whose they are: {left}"
            ));
        }
        self.reported(self.left.iter().map(|(slot, _)| *slot), &message)
    }

    /// What is known of a removal that has failed: whatever does not lie there any more is gone. `None` before it was told
    /// what does.
    fn report_of_failure(&self, failure: &Failure) -> Option<RemovalReport> {
        let there = self.there.as_ref()?;
        let message = format!("{failure}; {} archives removed before", self.removed);
        Some(self.reported(there.iter().copied(), &message))
    }

    fn reported(&self, left: impl Iterator<Item = NaiveDate>, message: &str) -> RemovalReport {
        let mut left: Vec<String> = left.map(|slot| slot.to_string()).collect();
        let is_cut = left.len() > MAX_LEFT;
        left.truncate(MAX_LEFT);
        RemovalReport {
            removed: self.removed,
            left,
            is_cut,
            open_uploads: self.uploads.len(),
            message: message.chars().take(MAX_TEXT).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::Error;

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_yo_opt(2026, day).unwrap()
    }

    #[test]
    fn a_report_that_cannot_name_all_that_is_left_says_so() {
        let left = |count: u32| Tally {
            left: (1..=count).map(|at| (day(at), "w".into())).collect(),
            ..Tally::default()
        };
        for (count, is_cut) in [(64, false), (65, true)] {
            let report = left(count).report();
            assert_eq!((report.left.len(), report.is_cut), (64, is_cut), "{count}");
            assert!(serde_json::to_string(&report).unwrap().len() < 4096);
        }
    }

    #[test]
    fn a_removal_that_fails_says_what_may_still_lie_there_once_it_knows() {
        let failure = Failure::Bucket(Error::Refused {
            action: "remove",
            place: "k".into(),
            why: "it answered 403: AccessDenied".into(),
        });
        assert_eq!(Tally::default().report_of_failure(&failure), None);
        let tally = Tally {
            removed: 2,
            there: Some([day(3), day(4)].into()),
            ..Tally::default()
        };
        let report = tally.report_of_failure(&failure).unwrap();
        assert_eq!(
            (report.removed, report.left),
            (2, vec!["2026-01-03".into(), "2026-01-04".into()])
        );
        assert!(report.message.contains("AccessDenied"), "{}", report.message);
    }
}
