//! The archives of a policy that was deleted with `deletionPolicy: Delete` go.
//!
//! In: the destination, and the policy's UID. Out: what was removed and what is left, as the pod's termination message.
//! Removed is what says itself that it is this policy's: an object by the labels that it was stored with, a file on a volume
//! by its manifest, once it was read to its end. The API server is not spoken to.

use crate::{
    destination::{Destination, Removed, Site},
    failure::Failure,
    settings::{S3Arguments, read_spec},
};
use chrono::{NaiveDate, Utc};
use std::{fs, future::Future, path::PathBuf, time::Duration};
use tokio::time::Instant;
use valerix_crds::backup_runner::{self, RemovalReport};

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
    /// Name of the BackupPolicy.
    #[arg(long, env = backup_runner::POLICY_ENV)]
    pub policy: String,
    /// UID of the BackupPolicy.
    #[arg(long, env = backup_runner::POLICY_UID_ENV)]
    pub policy_uid: String,
    /// The policy's spec as JSON.
    #[arg(long, env = backup_runner::SPEC_ENV)]
    pub spec: String,
    /// Namespace of the policy.
    #[arg(long, env = backup_runner::NAMESPACE_ENV)]
    pub namespace: String,
    /// UID of this pod.
    #[arg(long, env = backup_runner::POD_UID_ENV)]
    pub pod_uid: String,
    /// Folder for what is looked at.
    #[arg(long, env = "VALERIX_BACKUP_SCRATCH_FOLDER", default_value = backup_runner::SCRATCH_FOLDER)]
    pub scratch_folder: PathBuf,
    /// Where the destination's volume is mounted.
    #[arg(long, env = "VALERIX_BACKUP_DESTINATION_FOLDER", default_value = backup_runner::DESTINATION_FOLDER)]
    pub destination_folder: PathBuf,
    /// How a bucket is reached.
    #[command(flatten)]
    pub s3: S3Arguments,
    /// How long a destination that does not answer is asked again. Unit: seconds.
    #[arg(long, env = "VALERIX_BACKUP_REMOVAL_SECONDS", default_value_t = 20 * 60)]
    pub patience_seconds: u64,
    /// Where the pod's last word goes.
    #[arg(long, env = "VALERIX_BACKUP_TERMINATION_LOG", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
    /// Form of the log: json or text.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: String,
}

/// Removes, and leaves its last word. `stop` resolves when the pod is asked to end.
///
/// # Errors
/// Why some of what is this policy's may still be there.
pub async fn remove(arguments: Arguments, stop: impl Future<Output = ()>) -> Result<RemovalReport, Failure> {
    let log = arguments.termination_log.clone();
    let result = tokio::select! {
        biased;
        () = stop => Err(Failure::Interrupted),
        result = Box::pin(removed(arguments)) => result,
    };
    let word = match &result {
        Ok(report) => serde_json::to_string(report).unwrap_or_default(),
        Err(failure) => failure.to_string().chars().take(MAX_TEXT).collect(),
    };
    if let Err(error) = fs::write(&log, word) {
        tracing::warn!(%error, "failed to leave a last word");
    }
    result
}

async fn removed(arguments: Arguments) -> Result<RemovalReport, Failure> {
    let (_, choice, _) = read_spec(&arguments.spec).map_err(Failure::Settings)?;
    let until = Instant::now() + Duration::from_secs(arguments.patience_seconds);
    let destination = Destination::new(Site {
        choice,
        namespace: arguments.namespace,
        policy: arguments.policy,
        policy_uid: arguments.policy_uid,
        // It only has to be one: each is named where it is removed.
        slot: Utc::now().date_naive(),
        pod_uid: arguments.pod_uid,
        volume_folder: arguments.destination_folder,
        reach: arguments.s3.reach(),
        scratch: arguments.scratch_folder,
    });
    let mut tally = Tally::default();
    let mut pause = PAUSE;
    loop {
        match tally.pass(&destination).await {
            Err(failure) if failure.is_passing() && Instant::now() + pause < until => {
                tracing::warn!(%failure, "the destination is asked again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(failure) => return Err(failure),
            Ok(()) => return Ok(tally.report()),
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Tally {
    removed: usize,
    others: usize,
    left: Vec<(NaiveDate, String)>,
}

impl Tally {
    /// Looks at everything once. What fails hinders nothing else.
    async fn pass(&mut self, destination: &Destination) -> Result<(), Failure> {
        (self.others, self.left) = (0, Vec::new());
        let mut failed = None;
        for slot in destination.slots().await? {
            match destination.remove(slot).await {
                Ok(Removed::Gone) => self.removed += 1,
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
        if !self.left.is_empty() {
            let left = self.left.iter().map(|(slot, why)| format!("{slot}: {why}"));
            let left = left.collect::<Vec<_>>().join("; ");
            message.push_str(&format!(
                "; left where they are, since nothing tells whose they are: {left}"
            ));
        }
        let slots = self.left.iter().take(MAX_LEFT).map(|(slot, _)| slot.to_string());
        RemovalReport {
            removed: self.removed,
            left: slots.collect(),
            message: message.chars().take(MAX_TEXT).collect(),
        }
    }
}
