//! Which run of which experiment an entry of `faults.json` is of. Pure.

use sha2::{Digest, Sha256};

/// The identity of an entry. It names the experiment, so that an entry whose experiment is gone can be found, and the
/// run with the time of its intent, because a pod obeys each identity once: a run of a name that was used before is a new
/// one, and what a pod says of the former is no evidence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// Name of the experiment.
    pub experiment: String,
    /// UID of the experiment.
    pub uid: String,
    /// When the run's intent was recorded, in milliseconds since 1970; 0 before that.
    pub intent: i64,
    /// The run.
    pub run: String,
}

impl EntryName {
    /// The text that stands in the entry's `run`.
    pub fn text(&self) -> String {
        format!("{}/{}/{}/{}", self.experiment, self.uid, self.intent, self.run)
    }

    /// What the lots of this run are drawn with, whenever its intent is or was recorded.
    pub fn seed(&self) -> String {
        let run = Self {
            intent: 0,
            ..self.clone()
        };
        hex::encode(&Sha256::digest(run.text())[..16])
    }

    /// Reads the text of an entry; none when somebody else wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '/');
        Some(Self {
            experiment: parts.next()?.to_owned(),
            uid: parts.next()?.to_owned(),
            intent: parts.next()?.parse().ok()?,
            run: parts.next()?.to_owned(),
        })
    }
}
