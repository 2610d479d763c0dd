//! Why a restore ended without its databases in place, and what each reason means for the status and for the Job. Pure.

use super::{report, settings};
use crate::{
    archive, client, connection,
    failure::chain,
    s3,
    scratch::{causes, remedy},
    sql,
};
use std::fmt::Display;
use valerix_crds::backup_runner::exit;

/// How much room a Restore needs.
const ROOM: &str = "spec.scratch.sizeLimit must hold the archive and its largest dump";

/// Why a restore ended without its databases in place.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The environment is wrong.
    #[error("{}", chain(.0))]
    Settings(#[source] settings::Error),
    /// Secrets are missing or wrong.
    #[error("{}", joined(.0))]
    Secrets(Vec<connection::Error>),
    /// No client can be used.
    #[error("{0}")]
    Client(#[source] client::Error),
    /// The server refuses, or could not be reached.
    #[error("{0}")]
    Server(#[source] sql::Error),
    /// The archive cannot be had.
    #[error("failed to fetch {key}: {why}")]
    Fetch {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// The credentials or the authority of the archive's bucket are missing, wrong or over.
    #[error("failed to fetch {key}: {why}")]
    BucketSecret {
        /// Its key.
        key: String,
        /// Which field, and what helps.
        why: String,
    },
    /// The archive is not what it should be.
    #[error("{key} is not restored: {why}; nothing on the target was touched")]
    Damaged {
        /// Its key.
        key: String,
        /// What does not fit.
        why: String,
    },
    /// Nothing opens the archive.
    #[error("{key} is encrypted for {recipients} and not restored: {why}; nothing on the target was touched")]
    Sealed {
        /// Its key.
        key: String,
        /// For whom.
        recipients: String,
        /// What is missing.
        why: String,
    },
    /// What was asked for cannot be done on this archive and this server.
    #[error("{0}")]
    Refused(String),
    /// Scratch cannot be used.
    #[error("failed to use the scratch folder: {}{}", .0, remedy(&**.0, ROOM))]
    Scratch(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// pg_restore failed.
    #[error("failed to restore {name}: {why}")]
    Restore {
        /// The database.
        name: String,
        /// What pg_restore said.
        why: String,
    },
    /// What was restored is not what the manifest says.
    #[error("{name} was restored and does not hold what the archive's manifest says: {why}")]
    Different {
        /// The database.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// The databases did not get their names.
    #[error("failed to give the restored databases their names: {0}")]
    Swap(String),
    /// The status cannot be written.
    #[error("{0}")]
    Report(#[source] report::Error),
    /// SIGTERM.
    #[error("stopped by SIGTERM before anything was replaced")]
    Interrupted,
    /// The deadline passed.
    #[error("the deadline of {seconds} s passed (job.deadline)")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
    /// A task of the runner died.
    #[error("a task of the runner died: {0}")]
    Task(String),
    /// It failed, and what it had begun could not be put back.
    #[error("{failure}; and {why}")]
    NotUndone {
        /// Why it failed.
        failure: Box<Failure>,
        /// What could not be put back, and how to do it by hand.
        why: String,
    },
}

impl Failure {
    /// One word for the status' reason, from [`valerix_crds::restore_runner::REASONS`].
    pub fn category(&self) -> &'static str {
        match self {
            Self::Settings(_) => "InvalidConfiguration",
            Self::Secrets(_) | Self::BucketSecret { .. } => "SecretInvalid",
            Self::Client(_) => "ClientUnsuitable",
            Self::Server(sql::Error::Unreachable { .. }) => "DatabaseUnreachable",
            Self::Server(sql::Error::Connection { .. }) => "DatabaseRefused",
            Self::Server(sql::Error::Statement { .. }) => "StatementFailed",
            Self::Fetch { .. } => "ArchiveUnavailable",
            Self::Damaged { .. } => "ArchiveDamaged",
            Self::Sealed { .. } => "KeyMissing",
            Self::Refused(_) => "TargetRefused",
            Self::Scratch(_) => "ScratchFailed",
            Self::Restore { .. } => "RestoreFailed",
            Self::Different { .. } => "RestoreDiffers",
            Self::Swap(_) => "SwapFailed",
            Self::Report(_) => "StatusUnavailable",
            Self::Interrupted => "Interrupted",
            Self::Deadline { .. } => "DeadlineExceeded",
            Self::Task(_) => "Internal",
            Self::NotUndone { .. } => "NotUndone",
        }
    }

    /// The process's exit code; the Job's podFailurePolicy reads it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_)
            | Self::Secrets(_)
            | Self::BucketSecret { .. }
            | Self::Client(_)
            | Self::Sealed { .. } => exit::CONFIGURATION,
            Self::Server(sql::Error::Unreachable { .. }) => exit::UNREACHABLE,
            Self::Server(_) => exit::CONFIGURATION,
            Self::Fetch { .. } | Self::Scratch(_) => exit::STORAGE,
            Self::Damaged { .. } | Self::Refused(_) | Self::Different { .. } => exit::REFUSED,
            Self::Restore { .. } | Self::Swap(_) => exit::DUMP,
            Self::Deadline { .. } => exit::DEADLINE,
            // Another pod can put back what this one could not.
            Self::Report(_) | Self::Interrupted | Self::Task(_) | Self::NotUndone { .. } => exit::RETRY,
        }
    }

    /// Whether the Restore has ended; else another pod of the Job goes on.
    pub fn is_final(&self) -> bool {
        self.exit_code() != exit::RETRY
    }
}

impl From<sql::Error> for Failure {
    fn from(error: sql::Error) -> Self {
        Self::Server(error)
    }
}

impl From<report::Error> for Failure {
    fn from(error: report::Error) -> Self {
        Self::Report(error)
    }
}

/// What is wrong with an archive of this key.
pub(crate) fn of_archive(key: &str, error: archive::Error) -> Failure {
    let key = key.to_owned();
    match error {
        archive::Error::Damaged { .. } => {
            let why = chain(&error);
            Failure::Damaged { key, why }
        }
        archive::Error::Io { action, source } => match source.downcast::<OfScratch>() {
            Ok(OfScratch(source)) => Failure::Scratch(source.into()),
            Err(source) => {
                let said = causes(&source).find_map(|cause| cause.downcast_ref::<s3::Error>());
                if let Some(expired @ s3::Error::Expired { .. }) = said {
                    return of_bucket(&key, expired);
                }
                let why = chain(&archive::Error::Io { action, source });
                Failure::Fetch { key, why }
            }
        },
    }
}

/// Why nothing can be fetched from the bucket of an archive of this key.
pub(crate) fn of_bucket(key: &str, error: &s3::Error) -> Failure {
    let (key, why) = (key.to_owned(), error.to_string());
    match error {
        s3::Error::Secret { .. } | s3::Error::Expired { .. } => Failure::BucketSecret { key, why },
        _ => Failure::Fetch { key, why },
    }
}

/// Why scratch could not be written while the archive was read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OfScratch(std::io::Error);

pub(crate) fn of_scratch(error: std::io::Error) -> std::io::Error {
    std::io::Error::other(OfScratch(error))
}

fn joined(errors: &[impl Display]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::{backup_runner::FINAL_EXIT_CODES, restore_runner::REASONS};

    fn all() -> Vec<Failure> {
        let text = || "x".to_owned();
        let (secret, why, name, key) = (text, text, text, text);
        vec![
            Failure::Secrets(vec![]),
            Failure::Client(client::Error::None { folder: "f".into() }),
            Failure::Server(sql::Error::Unreachable {
                secret: secret(),
                why: why(),
            }),
            Failure::Server(sql::Error::Connection {
                secret: secret(),
                why: why(),
            }),
            Failure::Server(sql::Error::Statement {
                action: text(),
                why: why(),
                code: None,
            }),
            Failure::Fetch { key: key(), why: why() },
            Failure::BucketSecret { key: key(), why: why() },
            Failure::Damaged { key: key(), why: why() },
            Failure::Sealed {
                key: key(),
                recipients: text(),
                why: why(),
            },
            Failure::Refused(why()),
            Failure::Scratch(why().into()),
            Failure::Restore {
                name: name(),
                why: why(),
            },
            Failure::Different {
                name: name(),
                why: why(),
            },
            Failure::Swap(why()),
            Failure::Interrupted,
            Failure::Deadline { seconds: 1 },
            Failure::Task(why()),
            Failure::NotUndone {
                failure: Box::new(Failure::Interrupted),
                why: why(),
            },
        ]
    }

    #[test]
    fn a_restore_ends_exactly_where_the_job_does_and_its_reason_is_documented() {
        for failure in all() {
            assert_eq!(
                failure.is_final(),
                FINAL_EXIT_CODES.contains(&failure.exit_code()),
                "{}",
                failure.category()
            );
            assert_ne!(failure.exit_code(), 0);
            assert!(
                REASONS.iter().any(|(word, _)| *word == failure.category()),
                "{} is in no table",
                failure.category()
            );
        }
    }
}
