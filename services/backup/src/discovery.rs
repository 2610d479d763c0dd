//! Archives that no record tells of: those of a cluster that is lost, those whose record was deleted.
//!
//! In: what lies on the destination, and the records. Out: what the day's record says of it; the operator makes a Backup of
//! each. Newest first and bounded: what is left is found by the next run, since what was found has a record then. What
//! hinders it is told and fails nothing: the day's archive comes first.

use crate::{
    destination::Destination,
    failure::Failure,
    record::{MAX_MESSAGE, Record},
    settings::Settings,
};
use chrono::NaiveDate;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;
use valerix_crds::{
    Backup, BackupStatus, FoundArchive, FoundArchives, UploadState,
    backup_runner::{found_name, record_name},
};

/// The most that is told in one run.
const MOST: usize = 64;
/// The most databases of which it is told what their dumps hold: a record has its bounds.
const MOST_DATABASES: usize = 512;
/// How many of the newest archives are asked about in one run.
const LOOKED_AT: usize = 400;
/// Which part of the deadline may go by before an archive is read that nothing asks for yet.
const PART_OF_DEADLINE: u32 = 10;

/// Slots whose archives say nothing of this policy's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strangers {
    /// Other policies have stored them.
    pub(crate) foreign: BTreeSet<NaiveDate>,
    /// What lies there tells nothing that can be used, and why.
    pub(crate) silent: BTreeMap<NaiveDate, String>,
}

/// What was seen.
#[derive(Default)]
struct Seen {
    archives: Vec<FoundArchive>,
    strangers: Strangers,
    /// How many were not looked at.
    left: usize,
}

/// Tells the record which archives have none of their own. Those that are not this policy's, or tell nothing, come back:
/// nothing that it says of its own is about them.
///
/// # Errors
/// If the destination or the records do not tell all of them.
pub(crate) async fn discover(
    settings: &Settings,
    record: &Record,
    destination: &Destination,
) -> Result<Strangers, Failure> {
    let mut seen = Seen::default();
    let looked = look(settings, record, destination, &mut seen).await;
    if let Err(failure) = &looked {
        tracing::warn!(%failure, "failed to look for archives without a record");
    }
    if !seen.archives.is_empty() || !seen.strangers.silent.is_empty() {
        let found = FoundArchives {
            message: seen.message(looked.as_ref().err()),
            archives: std::mem::take(&mut seen.archives),
        };
        tracing::info!(
            archives = found.archives.len(),
            message = found.message,
            "archives without a record"
        );
        let written = record.update(|status| {
            Some(BackupStatus {
                found: Some(found.clone()),
                ..status.clone()
            })
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "failed to say on the record which archives have none");
        }
    }
    looked.map(|()| seen.strangers)
}

async fn look(settings: &Settings, record: &Record, destination: &Destination, seen: &mut Seen) -> Result<(), Failure> {
    let until = Instant::now() + settings.deadline / PART_OF_DEADLINE;
    let shared = &settings.arguments.shared;
    let mut databases = 0;
    let slots = destination.slots().await?;
    for (index, slot) in slots.iter().rev().enumerate() {
        match known(&shared.policy, &shared.policy_uid, record, *slot).await? {
            Known::Ours => continue,
            Known::Foreign => {
                seen.strangers.foreign.insert(*slot);
                continue;
            }
            Known::Nothing => {}
        }
        let full = seen.archives.len() >= MOST || databases >= MOST_DATABASES || index >= LOOKED_AT;
        if full || Instant::now() >= until {
            seen.left = slots.len() - index;
            break;
        }
        let found = match destination.describe(*slot).await {
            Ok(found) => found,
            Err(why) => {
                seen.strangers.silent.insert(*slot, why);
                continue;
            }
        };
        if found.policy_uid != shared.policy_uid {
            seen.strangers.foreign.insert(*slot);
        } else if *slot >= settings.slot {
            // Whether today's archive is stored is what this run is about.
            continue;
        }
        databases += found.databases.len();
        seen.archives.push(found);
    }
    Ok(())
}

/// What the records say of a slot's archive.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// It is this policy's, or an earlier one's of its name in this cluster.
    Ours,
    /// It was found before, and another policy has stored it.
    Foreign,
    /// Nothing.
    Nothing,
}

async fn known(policy: &str, policy_uid: &str, record: &Record, slot: NaiveDate) -> Result<Known, Failure> {
    let find = async |name: String| record.named(&name).find().await.map_err(Failure::Record);
    if find(record_name(policy, slot))
        .await?
        .is_some_and(|own| is_stored(&own))
    {
        return Ok(Known::Ours);
    }
    let found = find(found_name(policy, slot)).await?.filter(is_stored);
    Ok(match found {
        Some(found) if found.spec.policy_ref.uid != policy_uid => Known::Foreign,
        // It was stored by this policy since, in place of the one that was found.
        Some(_) | None => Known::Nothing,
    })
}

fn is_stored(record: &Backup) -> bool {
    record
        .status
        .as_ref()
        .is_some_and(|status| status.upload.state == UploadState::Completed)
}

impl Seen {
    fn message(&self, failure: Option<&Failure>) -> String {
        let mut message = format!(
            "{} archives lie on the destination without a record",
            self.archives.len()
        );
        let foreign = self.archives.iter().filter(|archive| {
            let slot = archive.slot.parse::<NaiveDate>();
            slot.is_ok_and(|slot| self.strangers.foreign.contains(&slot))
        });
        match foreign.count() {
            0 => {}
            count => message.push_str(&format!(
                ", {count} of them stored by another policy: retention never removes those"
            )),
        }
        if self.left > 0 {
            message.push_str(&format!(
                "; up to {} older ones are looked at by the next run",
                self.left
            ));
        }
        if let Some(failure) = failure {
            message.push_str(&format!("; the others were not looked at: {failure}"));
        }
        if !self.strangers.silent.is_empty() {
            let silent = self.strangers.silent.iter().rev();
            let silent: Vec<_> = silent.map(|(slot, why)| format!("{slot}: {why}")).collect();
            message.push_str(&format!("; not recorded: {}", silent.join("; ")));
        }
        message.chars().take(MAX_MESSAGE).collect()
    }
}
