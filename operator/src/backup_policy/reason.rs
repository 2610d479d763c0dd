//! Why a condition of a BackupPolicy stands as it does.

use crate::runtime::reason::reasons;

reasons! {
    /// One word for the conditions of a BackupPolicy.
    pub enum Reason {
        /// `Ready`: the CronJob stands and the record of the next slot is made.
        Reconciled,
        /// `Ready`, `Scheduled`: the schedule, its zone or its day cannot be carried out.
        InvalidSchedule,
        /// `Ready`, `Scheduled`: a field cannot be as it is; the message names it.
        InvalidSpec,
        /// `Ready`, `Scheduled`: the operator was not told which image runs a backup.
        NoRunnerImage,
        /// `Ready`: the day's Backup belongs to an earlier policy of this name; it passes with the day.
        RecordTaken,
        /// `Ready`: a Job of the name that a run needs is somebody else's.
        JobTaken,
        /// `Ready`: the policy is being deleted, and its archives with it (`spec.deletionPolicy`); the message says what that waits for.
        RemovingArchives,
        /// `Scheduled`: when the next run starts is in the message.
        NextRunKnown,
        /// `Scheduled`: `spec.suspend` is true; a run by hand starts all the same.
        Suspended,
        /// `Scheduled`: the CronJob is not applied yet.
        NoCronJob,
        /// `LastBackupSucceeded`: no run has ended yet.
        NoBackupYet,
        /// `LastBackupSucceeded`: the last run stored its archive.
        Stored,
        /// `LastBackupSucceeded`: no Job ran within `schedule.catchUpWindow`.
        Missed,
        /// `LastBackupSucceeded`: whether the last run stored its archive could not be found out; the next run settles it.
        UploadUnknown,
        /// `LastBackupSucceeded`: the last run failed; the message has its Backup's words.
        Failed,
        /// `Stale`: the newest archive is young enough.
        Fresh,
        /// `Stale`: the policy is too young for an archive.
        New,
        /// `Stale`: the newest archive is older than 26 hours.
        Overdue,
        /// `Stale`: no archive was ever stored, and one was due.
        NeverStored,
        /// `Verified`: `spec.verification` asks for no trial restore.
        NotConfigured,
        /// `Verified`: no archive was restored on trial yet.
        NotRestored,
        /// `Verified`: the newest trial restored its archive.
        Restored,
        /// `Verified`: the newest trial found the archive unusable.
        RestoreFailed,
        /// `Verified`: the newest trial says nothing about the archive; the message says why.
        Inconclusive,
        /// `RetentionHealthy`: no run has looked at old archives yet.
        NotYet,
        /// `RetentionHealthy`: what `spec.retention` lets go is gone.
        Applied,
        /// `RetentionHealthy`: old archives could not be removed; the message says why.
        NotApplied,
        /// `ConditionalWrites`: the store refuses a second archive under one key.
        Enforced,
        /// `ConditionalWrites`: the store takes no notice of `If-None-Match`; the fence alone guards the key.
        Ignored,
        /// `ConditionalWrites`: no run has asked the store yet.
        NotAsked,
    }
}
