//! The one decision that counts: may this pod store, has it been done, or must it keep its hands off? Pure.
//!
//! In: the record's fence, what lies under the slot's key, whether another holder's unfinished file was withdrawn.
//! Out: one [`Action`]. The table in the tests is the specification; each row says how many writes it leads to.

use valerix_crds::{Upload, UploadState};

/// What lies under the slot's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A whole archive of this policy for this slot.
    Ours {
        /// sha256 of the archive.
        sha256: String,
        /// Size of the archive. Unit: bytes.
        bytes: u64,
    },
    /// Anything else.
    Foreign {
        /// Why it is not ours.
        why: String,
    },
    /// It could not be found out.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// Whether a pod that passed the fence can still store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// It may be about to.
    NotTried,
    /// Its unfinished file is gone from the destination, so its link(2) can only fail.
    Done,
    /// The destination has no way to know (an upload that may still be under way).
    Impossible,
}

/// The archive that this pod holds, once it has passed the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mine<'a> {
    /// UID of this pod.
    pub pod_uid: &'a str,
    /// sha256 of its archive.
    pub sha256: &'a str,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the slot is used.
    Finished,
    /// Make an archive, pass the fence from None, store it.
    Store,
    /// The holder can store no more and has not stored: give its fence back, so that the slot is free again.
    Release {
        /// UID of that holder.
        from: String,
    },
    /// This pod has passed the fence: store.
    Write,
    /// The archive is stored: say so on the record.
    Complete {
        /// sha256 of the archive.
        sha256: String,
        /// Size of the archive. Unit: bytes.
        bytes: u64,
    },
    /// Another holder may still store: look again, and after a while withdraw its unfinished file.
    Settle,
    /// Something else lies under the key: never overwrite it.
    SlotTaken {
        /// What it is.
        why: String,
    },
    /// Nobody can know whether it is stored; nothing is stored a second time.
    Uncertain,
    /// Only reading again can tell.
    ReadAgain {
        /// Why it could not be read.
        why: String,
    },
}

/// Decides.
pub fn decide(upload: &Upload, mine: Option<Mine<'_>>, stored: &Stored, withdrawal: Withdrawal) -> Action {
    if upload.state == UploadState::Completed {
        return Action::Finished;
    }
    if let Stored::Unreadable { why } = stored {
        return Action::ReadAgain { why: why.clone() };
    }
    if let Stored::Foreign { why } = stored {
        return Action::SlotTaken { why: why.clone() };
    }
    let holder = upload.pod_uid.as_deref().unwrap_or_default();
    let held_by_me = mine.is_some_and(|mine| mine.pod_uid == holder && Some(mine.sha256) == upload.sha256.as_deref());
    match (upload.state, stored) {
        (UploadState::None, Stored::Ours { sha256, bytes }) => Action::Complete {
            sha256: sha256.clone(),
            bytes: *bytes,
        },
        (UploadState::None, _) => Action::Store,
        (_, Stored::Ours { sha256, bytes }) => {
            if upload.sha256.as_ref() == Some(sha256) {
                Action::Complete {
                    sha256: sha256.clone(),
                    bytes: *bytes,
                }
            } else {
                Action::SlotTaken {
                    why: format!("an archive of this policy with another sha256 ({sha256}) lies there"),
                }
            }
        }
        _ if held_by_me && withdrawal == Withdrawal::NotTried => Action::Write,
        _ => match withdrawal {
            Withdrawal::NotTried => Action::Settle,
            Withdrawal::Done => Action::Release {
                from: holder.to_owned(),
            },
            Withdrawal::Impossible => Action::Uncertain,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mine<'static> = Mine {
        pod_uid: "me",
        sha256: "aaa",
    };

    fn upload(state: UploadState, pod_uid: &str, sha256: &str) -> Upload {
        Upload {
            state,
            pod_uid: (!pod_uid.is_empty()).then(|| pod_uid.to_owned()),
            sha256: (!sha256.is_empty()).then(|| sha256.to_owned()),
            ..Upload::default()
        }
    }

    /// Every row of the decision table. Columns: row, fence, this pod's archive, under the key, withdrawn, action.
    #[test]
    fn every_row_of_the_table() {
        use UploadState::{Completed, None as NotBegun, Started, Unknown};
        let ours = |sha256: &str| Stored::Ours {
            sha256: sha256.into(),
            bytes: 7,
        };
        let complete = |sha256: &str| Action::Complete {
            sha256: sha256.into(),
            bytes: 7,
        };
        let foreign = Stored::Foreign { why: "f".into() };
        let unreadable = Stored::Unreadable { why: "u".into() };
        let taken = Action::SlotTaken { why: "f".into() };
        let other_sha = Action::SlotTaken {
            why: "an archive of this policy with another sha256 (bbb) lies there".into(),
        };
        let again = Action::ReadAgain { why: "u".into() };
        let release = Action::Release { from: "other".into() };
        let none = upload(NotBegun, "", "");
        let mine = upload(Started, "me", "aaa");
        let other = upload(Started, "other", "ccc");
        let doubt = upload(Unknown, "other", "ccc");
        let done = upload(Completed, "other", "ccc");
        use Withdrawal::{Done, Impossible, NotTried};
        let rows = [
            // The slot is used: no write whatever lies there.
            (
                "completed, present",
                &done,
                None,
                ours("ccc"),
                NotTried,
                Action::Finished,
            ),
            (
                "completed, absent",
                &done,
                None,
                Stored::Absent,
                NotTried,
                Action::Finished,
            ),
            (
                "completed, foreign",
                &done,
                Some(ME),
                foreign.clone(),
                NotTried,
                Action::Finished,
            ),
            (
                "completed, unreadable",
                &done,
                None,
                unreadable.clone(),
                NotTried,
                Action::Finished,
            ),
            // Nobody was allowed to write yet: one write, or none where something lies there.
            ("none, absent", &none, None, Stored::Absent, NotTried, Action::Store),
            (
                "none, ours (record lost)",
                &none,
                None,
                ours("bbb"),
                NotTried,
                complete("bbb"),
            ),
            ("none, foreign", &none, None, foreign.clone(), NotTried, taken.clone()),
            (
                "none, unreadable",
                &none,
                None,
                unreadable.clone(),
                NotTried,
                again.clone(),
            ),
            // This pod holds the fence: the one write, and the answer to it.
            (
                "mine, before link",
                &mine,
                Some(ME),
                Stored::Absent,
                NotTried,
                Action::Write,
            ),
            ("mine, linked", &mine, Some(ME), ours("aaa"), NotTried, complete("aaa")),
            (
                "mine, EEXIST other sha",
                &mine,
                Some(ME),
                ours("bbb"),
                NotTried,
                other_sha.clone(),
            ),
            (
                "mine, EEXIST foreign",
                &mine,
                Some(ME),
                foreign.clone(),
                NotTried,
                taken.clone(),
            ),
            (
                "mine, unreadable",
                &mine,
                Some(ME),
                unreadable.clone(),
                NotTried,
                again.clone(),
            ),
            // Another pod held it: no write before it is certain that it cannot write any more.
            ("other, present", &other, None, ours("ccc"), NotTried, complete("ccc")),
            (
                "other, present, I hold one",
                &other,
                Some(ME),
                ours("ccc"),
                NotTried,
                complete("ccc"),
            ),
            (
                "other, present, other sha",
                &other,
                None,
                ours("bbb"),
                NotTried,
                other_sha,
            ),
            ("other, foreign", &other, None, foreign, NotTried, taken),
            ("other, unreadable", &other, None, unreadable, NotTried, again),
            ("other, absent", &other, None, Stored::Absent, NotTried, Action::Settle),
            (
                "other, absent, I hold one",
                &other,
                Some(ME),
                Stored::Absent,
                NotTried,
                Action::Settle,
            ),
            (
                "other, absent, withdrawn",
                &other,
                None,
                Stored::Absent,
                Done,
                release.clone(),
            ),
            (
                "other, absent, not to be withdrawn",
                &other,
                None,
                Stored::Absent,
                Impossible,
                Action::Uncertain,
            ),
            (
                "other, linked before the withdrawal",
                &other,
                None,
                ours("ccc"),
                Done,
                complete("ccc"),
            ),
            // Unknown is Started that somebody gave up on.
            (
                "unknown, absent",
                &doubt,
                None,
                Stored::Absent,
                NotTried,
                Action::Settle,
            ),
            (
                "unknown, absent, withdrawn",
                &doubt,
                None,
                Stored::Absent,
                Done,
                release,
            ),
            ("unknown, present", &doubt, None, ours("ccc"), NotTried, complete("ccc")),
            // My own earlier life: the same pod UID without an archive in hand holds nothing.
            ("mine, restarted", &mine, None, Stored::Absent, NotTried, Action::Settle),
            (
                "mine, withdrawn",
                &mine,
                Some(ME),
                Stored::Absent,
                Done,
                Action::Release { from: "me".into() },
            ),
        ];
        for (row, upload, mine, stored, withdrawal, expected) in rows {
            assert_eq!(decide(upload, mine, &stored, withdrawal), expected, "{row}");
        }
    }
}
