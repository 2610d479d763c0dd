//! A run by hand: what the day's record and Job say about it. Pure.

use super::job::JobState;
use valerix_crds::{BackupStatus, UploadState};

/// What to do about the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The day's archive is stored: nothing is started.
    SlotUsed,
    /// A Job of this slot is at work: it counts as this run.
    UnderWay,
    /// Nothing stands in the way: start.
    Start,
    /// An ended Job has the name, or one that is kept from starting: it goes first.
    Remove,
    /// It is going.
    Wait,
}

/// Decides. `stuck`: the Job's pod cannot be made or cannot start; another run has the policy as it is now, which may be
/// what was wrong. A slot whose write may or may not have happened is started too: the runner reads the destination before it
/// does anything, and settles it.
pub fn decide(record: &BackupStatus, job: Option<JobState>, stuck: bool) -> Step {
    if record.upload.state == UploadState::Completed {
        return Step::SlotUsed;
    }
    match job {
        None => Step::Start,
        Some(JobState::Active) if stuck => Step::Remove,
        Some(JobState::Active) => Step::UnderWay,
        Some(JobState::Terminating) => Step::Wait,
        Some(JobState::Failed | JobState::Complete) => Step::Remove,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::Upload;

    #[test]
    fn the_table() {
        use JobState::{Active, Complete, Failed, Terminating};
        use UploadState::{Completed, None as NotBegun, Started, Unknown};
        for (upload, job, expected) in [
            (Completed, None, Step::SlotUsed),
            (Completed, Some(Active), Step::SlotUsed),
            (Completed, Some(Failed), Step::SlotUsed),
            (NotBegun, None, Step::Start),
            (NotBegun, Some(Active), Step::UnderWay),
            (NotBegun, Some(Failed), Step::Remove),
            (NotBegun, Some(Complete), Step::Remove),
            (NotBegun, Some(Terminating), Step::Wait),
            (Started, Some(Active), Step::UnderWay),
            (Started, Some(Failed), Step::Remove),
            (Unknown, None, Step::Start),
        ] {
            let record = BackupStatus {
                upload: Upload {
                    state: upload,
                    ..Upload::default()
                },
                ..BackupStatus::default()
            };
            assert_eq!(decide(&record, job, false), expected, "{upload:?} {job:?}");
            let stuck = match expected {
                Step::UnderWay => Step::Remove,
                other => other,
            };
            assert_eq!(decide(&record, job, true), stuck, "stuck: {upload:?} {job:?}");
        }
    }
}
