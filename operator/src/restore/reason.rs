//! Why a Restore stands as it does, beside what its runner says itself.

use crate::runtime::reason::reasons;

reasons! {
    /// One word for the conditions of a Restore.
    pub enum Reason {
        /// The Job is made, and its runner has not ended.
        Running,
        /// Every database is in its place.
        Restored,
        /// No record is of an archive as it is asked for; it is waited for.
        NoArchive,
        /// The archive is in a bucket that the policy does not name any more.
        NoAccess,
        /// A field cannot be as it is. The specification never changes: make another Restore.
        InvalidSpec,
        /// The operator was not told which image the Job runs.
        NoRunnerImage,
        /// Another Job has the name of this Restore's.
        JobTaken,
        /// The Job has failed and its runner could not say why.
        JobFailed,
        /// The Job that was to drop what was replaced has failed; told as an event.
        DropFailed,
        /// The Job was deleted. A Restore never has a second one: make another Restore.
        JobGone,
    }
}
