//! Why a run ended without a stored archive, and what each reason means for the record and for the Job. Pure.

use crate::{archive, client, connection, dump, plausibility, record, s3, scratch::remedy, server, settings, volume};
use std::fmt::Display;
use valerix_crds::{BackupPhase, backup_runner::exit};

/// How much room a run needs.
const ROOM: &str = "scratch.sizeLimit must hold the archive";

/// Why a run ended without a stored archive.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The environment is wrong.
    #[error("{0}")]
    Settings(#[source] settings::Error),
    /// Secrets are missing or wrong.
    #[error("{}", joined(.0))]
    Secrets(Vec<connection::Error>),
    /// Nobody can be encrypted for.
    #[error("{0}")]
    Encryption(String),
    /// Servers refused or could not be reached.
    #[error("{}", joined(.0))]
    Servers(Vec<server::Error>),
    /// No client can be used.
    #[error("{0}")]
    Client(#[source] client::Error),
    /// A dump failed.
    #[error("{}", dumped(.0))]
    Dump(#[source] dump::Error),
    /// A dump is not believed.
    #[error("{0}")]
    Implausible(#[source] plausibility::Error),
    /// The archive could not be made, or is damaged.
    #[error("{}{}", chain(.0), remedy(.0, ROOM))]
    Archive(#[source] archive::Error),
    /// Scratch cannot be used.
    #[error("failed to use the scratch folder: {}{}", .0, remedy(.0, ROOM))]
    Scratch(#[source] std::io::Error),
    /// The destination's volume cannot be used.
    #[error("{0}")]
    Volume(#[source] volume::Error),
    /// The destination's bucket cannot be used.
    #[error("{}{}", .0, remedy(.0, ROOM))]
    Bucket(#[source] s3::Error),
    /// The destination cannot be read.
    #[error("failed to read {key} on the destination: {why}")]
    Unreadable {
        /// The key.
        key: String,
        /// Why.
        why: String,
        /// Whether somebody had been allowed to write.
        fenced: bool,
        /// Whether that may pass by itself.
        passing: bool,
    },
    /// The record cannot be used.
    #[error("{0}")]
    Record(#[source] record::Error),
    /// The record belongs to another policy.
    #[error(
        "the record {name} belongs to another policy ({owner}), not to {policy}: delete the Backup {name} if that policy is gone"
    )]
    RecordTaken {
        /// Name of the record.
        name: String,
        /// UID that it names.
        owner: String,
        /// UID of the policy of this run.
        policy: String,
    },
    /// Something else lies under the key.
    #[error("{key} on the destination is taken: {why}; it is never overwritten: move it away to have this slot stored")]
    SlotTaken {
        /// The key.
        key: String,
        /// What lies there.
        why: String,
    },
    /// The archive that was stored does not read any more.
    #[error(
        "{key} on the destination was stored for this slot and the archive is damaged: {why}; it is never overwritten: move it away to have this slot stored again"
    )]
    StoredDamaged {
        /// The key.
        key: String,
        /// What does not fit.
        why: String,
    },
    /// Nobody can know whether the archive is stored, or whether it will last.
    #[error("it is not certain that {key} is stored: {why}; nothing is stored a second time")]
    Uncertain {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// SIGTERM.
    #[error("stopped by SIGTERM before anything was stored")]
    Interrupted,
    /// The policy's deadline passed.
    #[error("the deadline of {seconds} s passed (job.deadline)")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
    /// A task of the runner died.
    #[error("a task of the runner died: {0}")]
    Task(String),
}

impl Failure {
    /// Why a copy of the archive is not on a volume.
    pub(crate) fn of_staging(error: volume::Error) -> Self {
        match error {
            volume::Error::Source(error) => Self::Archive(error),
            error => Self::Volume(error),
        }
    }

    /// One word for the record's reason.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Settings(_) | Self::Encryption(_) => "InvalidConfiguration",
            Self::Secrets(_) => "SecretInvalid",
            Self::Servers(errors) => servers_category(errors),
            Self::Client(_) => "ClientUnsuitable",
            Self::Dump(dump::Error::Scratch { .. }) => "ScratchFailed",
            Self::Dump(_) => "DumpFailed",
            Self::Implausible(_) => "DumpImplausible",
            Self::Archive(archive::Error::Damaged { .. }) | Self::StoredDamaged { .. } => "ArchiveDamaged",
            Self::Archive(archive::Error::Io { .. }) | Self::Scratch(_) => "ScratchFailed",
            Self::Bucket(error) => match error {
                s3::Error::Secret { .. } | s3::Error::Expired { .. } => "SecretInvalid",
                s3::Error::Refused { .. } | s3::Error::NoConditions { .. } => "DestinationRefused",
                s3::Error::Untrusted { .. } => "CertificateNotTrusted",
                s3::Error::TooLarge { .. } => "ArchiveTooLarge",
                s3::Error::Call { .. } => "DestinationFailed",
                s3::Error::File { .. } => "ScratchFailed",
            },
            Self::Volume(_) => "DestinationFailed",
            Self::Unreadable { .. } => "DestinationUnreadable",
            Self::Record(_) => "RecordUnavailable",
            Self::RecordTaken { .. } => "RecordTaken",
            Self::SlotTaken { .. } => "SlotTaken",
            Self::Uncertain { .. } => "UploadUncertain",
            Self::Interrupted => "Interrupted",
            Self::Deadline { .. } => "DeadlineExceeded",
            Self::Task(_) => "Internal",
        }
    }

    /// The process's exit code; the Job's podFailurePolicy reads it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Secrets(_) | Self::Client(_) | Self::Encryption(_) => exit::CONFIGURATION,
            Self::Bucket(s3::Error::Call { .. } | s3::Error::File { .. }) => exit::STORAGE,
            Self::Bucket(s3::Error::TooLarge { .. }) => exit::REFUSED,
            Self::Bucket(_) => exit::CONFIGURATION,
            Self::Servers(_) if self.is_passing() => exit::UNREACHABLE,
            Self::Servers(_) => exit::CONFIGURATION,
            Self::Dump(dump::Error::Scratch { .. }) => exit::STORAGE,
            Self::Dump(_) => exit::DUMP,
            Self::Implausible(_) | Self::Archive(archive::Error::Damaged { .. }) | Self::StoredDamaged { .. } => {
                exit::REFUSED
            }
            Self::Archive(archive::Error::Io { .. }) | Self::Scratch(_) | Self::Volume(_) => exit::STORAGE,
            Self::Unreadable { fenced: false, .. } => exit::STORAGE,
            Self::Unreadable { fenced: true, .. } | Self::Uncertain { .. } => exit::UNCERTAIN,
            Self::RecordTaken { .. } | Self::SlotTaken { .. } => exit::SLOT_TAKEN,
            Self::Deadline { .. } | Self::Record(record::Error::Missing { .. }) => exit::DEADLINE,
            Self::Record(_) | Self::Interrupted | Self::Task(_) => exit::RETRY,
        }
    }

    /// Whether trying the same again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Servers(errors) => errors
                .iter()
                .all(|error| matches!(error, server::Error::Unreachable { .. })),
            Self::Dump(error) => matches!(error, dump::Error::Passing { .. }),
            Self::Bucket(error) => matches!(error, s3::Error::Call { .. }),
            Self::Volume(volume::Error::Io { source, .. }) => volume::passes(source),
            Self::Unreadable { passing, .. } => *passing,
            _ => false,
        }
    }

    /// Whether it speaks of what lies under the key: then it is said on a record whose fence was passed, too.
    pub fn is_about_the_key(&self) -> bool {
        matches!(
            self,
            Self::SlotTaken { .. } | Self::StoredDamaged { .. } | Self::Uncertain { .. } | Self::Unreadable { .. }
        )
    }

    /// The phase that the record ends in; `None` where another pod of the Job goes on, or the record is not ours.
    pub fn phase(&self) -> Option<BackupPhase> {
        match self {
            Self::Unreadable { fenced: true, .. } | Self::Uncertain { .. } => Some(BackupPhase::Unknown),
            Self::RecordTaken { .. } => None,
            other if other.exit_code() == exit::RETRY => None,
            _ => Some(BackupPhase::Failed),
        }
    }
}

/// The word for the worst of what several servers said.
fn servers_category(errors: &[server::Error]) -> &'static str {
    let any = |is: fn(&server::Error) -> bool| errors.iter().any(is);
    if any(|error| matches!(error, server::Error::Refused { .. })) {
        "DatabaseRefused"
    } else if any(|error| matches!(error, server::Error::Untrusted { .. })) {
        "CertificateNotTrusted"
    } else {
        "DatabaseUnreachable"
    }
}

fn joined(errors: &[impl Display]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a dump failed; where its archive could not be written, with what helps.
fn dumped(error: &dump::Error) -> String {
    match error {
        dump::Error::Scratch { .. } => chain(error) + &remedy(error, ROOM),
        error => chain(error),
    }
}

/// An error with what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::backup_runner::{FINAL_EXIT_CODES, REASONS};

    #[test]
    fn a_record_ends_exactly_where_the_job_does_and_its_reason_is_documented() {
        let io = || std::io::Error::other("x");
        let failures = [
            Failure::Secrets(vec![]),
            Failure::Servers(vec![]),
            Failure::Dump(dump::Error::Start {
                label: "d".into(),
                program: "p",
                source: io(),
            }),
            Failure::Dump(dump::Error::Scratch {
                label: "d".into(),
                source: archive::Error::Damaged { why: "w".into() },
            }),
            Failure::Archive(archive::Error::Damaged { why: "w".into() }),
            Failure::Archive(archive::Error::Io {
                action: "a".into(),
                source: io(),
            }),
            Failure::Scratch(io()),
            Failure::Volume(volume::Error::Copy),
            Failure::Bucket(s3::Error::TooLarge { bytes: 2, most: 1 }),
            Failure::Bucket(s3::Error::Call {
                action: "read",
                place: "k".into(),
                why: "w".into(),
            }),
            Failure::Bucket(s3::Error::NoConditions {
                place: "k".into(),
                why: "w".into(),
            }),
            Failure::Unreadable {
                key: "k".into(),
                why: "w".into(),
                fenced: false,
                passing: true,
            },
            Failure::Unreadable {
                key: "k".into(),
                why: "w".into(),
                fenced: true,
                passing: true,
            },
            Failure::SlotTaken {
                key: "k".into(),
                why: "w".into(),
            },
            Failure::Uncertain {
                key: "k".into(),
                why: "w".into(),
            },
            Failure::StoredDamaged {
                key: "k".into(),
                why: "w".into(),
            },
            Failure::Servers(vec![server::Error::Untrusted {
                label: "d".into(),
                secret: "s".into(),
                why: "w".into(),
            }]),
            Failure::Interrupted,
            Failure::Deadline { seconds: 1 },
            Failure::Task("t".into()),
            Failure::Record(record::Error::Missing {
                name: "n".into(),
                why: "w".into(),
            }),
            Failure::Record(record::Error::Call {
                action: "a",
                name: "n".into(),
                why: "w".into(),
            }),
        ];
        for failure in failures {
            assert_eq!(
                failure.phase().is_some(),
                FINAL_EXIT_CODES.contains(&failure.exit_code()),
                "{}",
                failure.category()
            );
            let documented = REASONS.iter().any(|(word, _)| *word == failure.category());
            assert!(documented, "{} is in no table", failure.category());
            assert_ne!(failure.exit_code(), 0);
        }
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again_and_has_its_own_word() {
        let (label, secret, why) = (|| "databases[0] x".to_owned(), || "x-db".to_owned(), || "w".to_owned());
        let unreachable = || server::Error::Unreachable {
            label: label(),
            secret: secret(),
            why: why(),
        };
        let refused = server::Error::Refused {
            label: label(),
            secret: secret(),
            why: why(),
        };
        let untrusted = server::Error::Untrusted {
            label: label(),
            secret: secret(),
            why: why(),
        };
        for (errors, word, code, passes) in [
            (vec![unreachable()], "DatabaseUnreachable", exit::UNREACHABLE, true),
            (
                vec![unreachable(), refused],
                "DatabaseRefused",
                exit::CONFIGURATION,
                false,
            ),
            (
                vec![untrusted, unreachable()],
                "CertificateNotTrusted",
                exit::CONFIGURATION,
                false,
            ),
        ] {
            let failure = Failure::Servers(errors);
            assert_eq!(
                (failure.category(), failure.exit_code(), failure.is_passing()),
                (word, code, passes)
            );
        }
    }

    #[test]
    fn a_destination_that_is_away_passes_and_one_that_refuses_does_not() {
        let volume = |number| {
            Failure::Volume(volume::Error::Io {
                action: "a".into(),
                source: std::io::Error::from_raw_os_error(number),
            })
        };
        let place = || "k".to_owned();
        let unreadable = |passing| Failure::Unreadable {
            key: place(),
            why: "w".into(),
            fenced: false,
            passing,
        };
        let (stale, denied) = (116, 13);
        for (failure, passes) in [
            (unreadable(true), true),
            (unreadable(false), false),
            (volume(stale), true),
            (volume(denied), false),
            (Failure::Volume(volume::Error::Copy), false),
            (
                Failure::Bucket(s3::Error::Call {
                    action: "list",
                    place: place(),
                    why: "w".into(),
                }),
                true,
            ),
            (
                Failure::Bucket(s3::Error::Refused {
                    action: "list",
                    place: place(),
                    why: "it answered 404: NoSuchBucket".into(),
                }),
                false,
            ),
            (
                Failure::Bucket(s3::Error::Untrusted {
                    place: place(),
                    why: "w".into(),
                }),
                false,
            ),
        ] {
            assert_eq!(failure.is_passing(), passes, "{failure}");
        }
    }

    #[test]
    fn causes_are_told() {
        let failure = Failure::Archive(archive::Error::Io {
            action: "write x".into(),
            source: std::io::Error::other("disk full"),
        });
        assert_eq!(failure.to_string(), "failed to write x: disk full");
    }

    #[test]
    fn a_scratch_that_cannot_be_used_is_told_with_what_helps() {
        let (no_room, read_only) = (28, 30);
        let io = std::io::Error::from_raw_os_error;
        let archive = |number| archive::Error::Io {
            action: "write x".into(),
            source: io(number),
        };
        for (number, helps) in [
            (no_room, "; scratch.sizeLimit must hold the archive"),
            (read_only, "node"),
        ] {
            for failure in [
                Failure::Scratch(io(number)),
                Failure::Archive(archive(number)),
                Failure::Dump(dump::Error::Scratch {
                    label: "databases[0] orders".into(),
                    source: archive(number),
                }),
                Failure::Bucket(s3::Error::File {
                    action: "read the archive on scratch".into(),
                    source: io(number),
                }),
                Failure::Bucket(s3::Error::File {
                    action: "open the archive on scratch".into(),
                    source: std::io::Error::other(io(number)),
                }),
            ] {
                let said = failure.to_string();
                assert_eq!(failure.category(), "ScratchFailed", "{said}");
                assert!(said.contains(helps), "{said}");
                assert_eq!(said.contains("sizeLimit"), number == no_room, "{said}");
            }
        }
        // A program that cannot be run is no matter of scratch.
        let failure = Failure::Dump(dump::Error::Start {
            label: "databases[0] orders".into(),
            program: "pg_dump",
            source: io(13),
        });
        assert_eq!(
            failure.to_string(),
            "databases[0] orders: failed to run pg_dump: Permission denied (os error 13)"
        );
    }
}
