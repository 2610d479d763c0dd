//! The one decision that counts: may this pod store, has it been done, or must it keep its hands off? Pure.
//!
//! In: the record's fence, where this pod would store, what lies there, and what this pod knows of holds of the fence.
//! Out: one [`Action`]. The table in the tests is the specification.
//!
//! A hold is a whole [`Upload`], with the moment at which the fence was passed: the same pod may pass it twice, and what
//! is known of its first hold says nothing about its second.

use crate::archive::Digest;
use valerix_crds::{Upload, UploadState};

/// Where a slot's archive belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What has the key.
    pub location: Location,
    /// The key.
    pub key: String,
}

/// What archives are kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The claim of this name.
    Claim(String),
    /// A bucket.
    Bucket {
        /// Its name.
        name: String,
        /// URL of the store that has it.
        endpoint: String,
    },
}

impl Place {
    /// Whether a holder of the fence was about to store here. One that did not say where was.
    pub fn is_of(&self, upload: &Upload) -> bool {
        let same = |said: &Option<String>, here: &String| said.as_ref().is_none_or(|said| said == here);
        same(&upload.key, &self.key)
            && match &self.location {
                Location::Claim(claim) => upload.bucket.is_none() && same(&upload.claim_name, claim),
                Location::Bucket { name, endpoint } => {
                    upload.claim_name.is_none() && same(&upload.bucket, name) && same(&upload.endpoint, endpoint)
                }
            }
    }

    /// Says on a record's upload where its archive is.
    pub fn put(self, upload: &mut Upload) {
        upload.key = Some(self.key);
        (upload.claim_name, upload.bucket, upload.endpoint) = match self.location {
            Location::Claim(claim) => (Some(claim), None, None),
            Location::Bucket { name, endpoint } => (None, Some(name), Some(endpoint)),
        };
    }
}

/// What lies under the slot's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A whole archive of this policy for this slot.
    Ours(Digest),
    /// A file that is no whole archive.
    Damaged {
        /// What does not fit.
        why: String,
    },
    /// A whole archive of somebody else, or no file.
    Foreign {
        /// Why it is not ours.
        why: String,
    },
    /// It could not be found out.
    Unreadable {
        /// Why.
        why: String,
        /// Whether that may pass by itself.
        passing: bool,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the slot is used.
    Finished,
    /// Make an archive, pass the fence from None, store it.
    Store,
    /// The holder can store no more and has not stored: give its hold back, so that the slot is free again.
    Release,
    /// This pod has passed the fence: store.
    Write,
    /// The archive is stored: say so on the record.
    Complete(Digest),
    /// A holder may still store, this pod by the request that it has sent or another one: look again, and after a while
    /// make its hold worthless where that can be done.
    Settle,
    /// Something else lies under the key: never overwrite it.
    SlotTaken {
        /// What it is.
        why: String,
    },
    /// The archive that was stored under the key does not read any more.
    Damaged {
        /// What does not fit.
        why: String,
    },
    /// The holder was about to store elsewhere, where this pod cannot look; nothing is stored a second time.
    Elsewhere,
    /// A request may still be on its way to the key and nothing tells how it ended; nothing is stored a second time.
    Uncertain,
    /// Only reading again can tell.
    ReadAgain {
        /// Why it could not be read.
        why: String,
        /// Whether that may pass by itself.
        passing: bool,
    },
}

/// What this pod knows of holds of the fence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The fence as this pod passed it.
    pub hold: Option<&'a Upload>,
    /// The hold by which this pod has sent a write that can neither be called back nor sent again.
    pub sent: Option<&'a Upload>,
    /// The hold by which nothing can be stored any more.
    pub withdrawn: Option<&'a Upload>,
    /// The hold that cannot be made worthless and whose holder was given its time.
    pub awaited: Option<&'a Upload>,
}

/// Decides.
pub fn decide(upload: &Upload, here: &Place, stored: &Stored, known: Known<'_>) -> Action {
    if upload.state == UploadState::Completed {
        return Action::Finished;
    }
    let free = upload.state == UploadState::None;
    match stored {
        Stored::Unreadable { why, passing } => Action::ReadAgain {
            why: why.clone(),
            passing: *passing,
        },
        Stored::Damaged { why } if !free => Action::Damaged { why: why.clone() },
        Stored::Damaged { why } | Stored::Foreign { why } => Action::SlotTaken { why: why.clone() },
        // Whoever held the fence: a whole archive of this policy for this slot is this slot's archive.
        Stored::Ours(digest) => Action::Complete(digest.clone()),
        Stored::Absent if free => Action::Store,
        Stored::Absent if !here.is_of(upload) => Action::Elsewhere,
        Stored::Absent if known.withdrawn == Some(upload) => Action::Release,
        Stored::Absent if known.awaited == Some(upload) => Action::Uncertain,
        Stored::Absent if known.sent == Some(upload) => Action::Settle,
        Stored::Absent if known.hold == Some(upload) => Action::Write,
        Stored::Absent => Action::Settle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    /// A hold of `pod`, its `count`-th.
    fn held(state: UploadState, pod: &str, count: i64) -> Upload {
        Upload {
            state,
            pod_uid: Some(pod.to_owned()),
            claim_name: Some("backups".into()),
            key: Some("shop/nightly/20260821.tar.zst".into()),
            sha256: Some(format!("{pod}-sha")),
            started_at: DateTime::from_timestamp(1_787_000_000 + count, 0),
            ..Upload::default()
        }
    }

    /// Every row of the decision table.
    #[test]
    fn every_row_of_the_table() {
        use UploadState::{Completed, Started, Unknown};
        let here = Place {
            location: Location::Claim("backups".into()),
            key: "shop/nightly/20260821.tar.zst".into(),
        };
        let ours = |sha256: &str| {
            Stored::Ours(Digest {
                sha256: sha256.into(),
                bytes: 7,
            })
        };
        let complete = |sha256: &str| {
            Action::Complete(Digest {
                sha256: sha256.into(),
                bytes: 7,
            })
        };
        let foreign = Stored::Foreign { why: "f".into() };
        let damaged = Stored::Damaged { why: "d".into() };
        let unreadable = Stored::Unreadable {
            why: "u".into(),
            passing: true,
        };
        let taken = |why: &str| Action::SlotTaken { why: why.into() };
        let broken = Action::Damaged { why: "d".into() };
        let again = Action::ReadAgain {
            why: "u".into(),
            passing: true,
        };
        let none = Upload::default();
        let mine = held(Started, "me", 1);
        let mine_again = held(Started, "me", 2);
        let other = held(Started, "other", 1);
        let other_again = held(Started, "other", 2);
        let doubt = held(Unknown, "other", 1);
        let done = held(Completed, "other", 1);
        let other_folder = Upload {
            key: Some("pg/shop/nightly/20260821.tar.zst".into()),
            ..other.clone()
        };
        let other_claim = Upload {
            claim_name: Some("old".into()),
            ..doubt.clone()
        };
        let unsaid = Upload {
            claim_name: None,
            key: None,
            ..other.clone()
        };
        let (me, gone) = (Some(&mine), Some(&other));
        use Action::{Elsewhere, Finished, Release, Settle, Store, Write};
        use Stored::Absent;
        // Columns: row, fence, under the key, this pod's hold, the hold that was withdrawn, action.
        let rows = [
            // The slot is used: no write whatever lies there.
            ("completed, present", &done, ours("x"), None, None, Finished),
            ("completed, absent", &done, Absent, None, None, Finished),
            ("completed, foreign", &done, foreign.clone(), me, None, Finished),
            ("completed, unreadable", &done, unreadable.clone(), None, None, Finished),
            // Nobody was allowed to write yet: one write, or none where something lies there.
            ("none, absent", &none, Absent, None, None, Store),
            ("none, absent, released before", &none, Absent, None, gone, Store),
            (
                "none, ours: the record was lost",
                &none,
                ours("x"),
                None,
                None,
                complete("x"),
            ),
            ("none, foreign", &none, foreign.clone(), None, None, taken("f")),
            ("none, damaged", &none, damaged.clone(), None, None, taken("d")),
            ("none, unreadable", &none, unreadable.clone(), None, None, again.clone()),
            // This pod holds the fence: the one write, and the answer to it.
            ("mine, before link", &mine, Absent, me, None, Write),
            ("mine, linked", &mine, ours("me-sha"), me, None, complete("me-sha")),
            ("mine, another of this slot", &mine, ours("x"), me, None, complete("x")),
            ("mine, foreign", &mine, foreign.clone(), me, None, taken("f")),
            ("mine, damaged", &mine, damaged.clone(), me, None, broken.clone()),
            ("mine, unreadable", &mine, unreadable.clone(), me, None, again.clone()),
            ("mine, withdrawn", &mine, Absent, None, me, Release),
            ("mine, restarted", &mine, Absent, None, None, Settle),
            ("mine, held before, not now", &mine_again, Absent, me, None, Settle),
            // What was withdrawn was an earlier hold: this one is as good as any.
            (
                "mine again, the first withdrawn",
                &mine_again,
                Absent,
                Some(&mine_again),
                me,
                Write,
            ),
            (
                "other again, the first withdrawn",
                &other_again,
                Absent,
                None,
                gone,
                Settle,
            ),
            // Another pod held it: no write before it is certain that it cannot write any more.
            ("other, present", &other, ours("x"), None, None, complete("x")),
            ("other, present, I hold one", &other, ours("x"), me, None, complete("x")),
            ("other, foreign", &other, foreign, None, None, taken("f")),
            ("other, damaged", &other, damaged, None, None, broken),
            ("other, unreadable", &other, unreadable, None, None, again),
            ("other, absent", &other, Absent, None, None, Settle),
            ("other, absent, I held one", &other, Absent, me, None, Settle),
            ("other, absent, withdrawn", &other, Absent, None, gone, Release),
            (
                "other, linked before that",
                &other,
                ours("x"),
                None,
                gone,
                complete("x"),
            ),
            ("other, did not say where", &unsaid, Absent, None, None, Settle),
            // Where the holder would have stored cannot be seen from here.
            ("other folder", &other_folder, Absent, None, None, Elsewhere),
            ("other claim", &other_claim, Absent, None, None, Elsewhere),
            (
                "other folder, moved here",
                &other_folder,
                ours("x"),
                None,
                None,
                complete("x"),
            ),
            // Unknown is Started that somebody gave up on.
            ("unknown, absent", &doubt, Absent, None, None, Settle),
            ("unknown, present", &doubt, ours("x"), None, None, complete("x")),
            ("unknown, withdrawn", &doubt, Absent, None, Some(&doubt), Release),
        ];
        for (row, upload, stored, hold, withdrawn, expected) in rows {
            let known = Known {
                hold,
                withdrawn,
                ..Known::default()
            };
            assert_eq!(decide(upload, &here, &stored, known), expected, "{row}");
        }
    }

    /// The rows that a bucket adds: a request that was sent is sent once, and nobody can call it back.
    #[test]
    fn a_bucket_is_written_once_whatever_it_answers() {
        use UploadState::{None as NotBegun, Started, Unknown};
        let location = |name: &str, endpoint: &str| Location::Bucket {
            name: name.into(),
            endpoint: endpoint.into(),
        };
        let key = || "shop/nightly/20260821.tar.zst".to_owned();
        let here = Place {
            location: location("b", "https://s3"),
            key: key(),
        };
        let held = |state| {
            let mut upload = held(state, "me", 1);
            here.clone().put(&mut upload);
            upload
        };
        let (mine, doubt) = (held(Started), held(Unknown));
        let ours = Stored::Ours(Digest {
            sha256: "x".into(),
            bytes: 7,
        });
        let known = |hold: bool, sent: bool, refused: bool, awaited: bool| {
            let mine = |is: bool| is.then_some(&mine);
            Known {
                hold: mine(hold),
                sent: mine(sent),
                withdrawn: mine(refused),
                awaited: mine(awaited),
            }
        };
        let absent = || Stored::Absent;
        for (row, upload, stored, known, expected) in [
            (
                "before the request",
                &mine,
                absent(),
                known(true, false, false, false),
                Action::Write,
            ),
            (
                "sent, unclear",
                &mine,
                absent(),
                known(true, true, false, false),
                Action::Settle,
            ),
            (
                "sent, unclear, waited",
                &mine,
                absent(),
                known(true, true, false, true),
                Action::Uncertain,
            ),
            (
                "sent and refused for certain",
                &mine,
                absent(),
                known(false, true, true, false),
                Action::Release,
            ),
            (
                "restarted",
                &mine,
                absent(),
                known(false, false, false, false),
                Action::Settle,
            ),
            (
                "restarted, waited",
                &mine,
                absent(),
                known(false, false, false, true),
                Action::Uncertain,
            ),
            (
                "given up on before",
                &doubt,
                absent(),
                known(false, false, false, false),
                Action::Settle,
            ),
        ] {
            assert_eq!(decide(upload, &here, &stored, known), expected, "{row}");
        }
        // Whatever was waited for: what lies there counts.
        let all = known(true, true, true, true);
        assert!(matches!(decide(&mine, &here, &ours, all), Action::Complete(_)));
        assert_eq!(
            decide(
                &Upload {
                    state: NotBegun,
                    ..Upload::default()
                },
                &here,
                &absent(),
                all
            ),
            Action::Store
        );
        for elsewhere in [
            Location::Claim("backups".into()),
            location("other", "https://s3"),
            location("b", "https://other"),
        ] {
            let there = Place {
                location: elsewhere,
                key: key(),
            };
            assert_eq!(decide(&mine, &there, &absent(), all), Action::Elsewhere, "{there:?}");
        }
    }
}
