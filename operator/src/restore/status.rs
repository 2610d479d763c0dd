//! Fifth step: what the Restore's status says. Pure.
//!
//! The runner's own fields stay as they were read, unless the story of a runner that cannot is ended here.

use super::{dereference::Observed, error::Error, reason::Reason};
use crate::{
    backup_policy::job::{JobState, hindrance, job_condition, job_state, termination},
    runtime::{
        Category, News,
        conditions::{ConditionUpdate, remove_condition, set_condition},
    },
};
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use valerix_crds::{
    ConditionStatus, Restore, RestoreDatabasePhase, RestoreJobStatus, RestorePhase, RestoreSourceStatus, RestoreStatus,
    names::condition::{COMPLETED, READY, STALLED},
    restore_runner::{SOURCE_ENV, SourceArchive, drop_by_hand, dropped_name, job_name, quoted},
};

/// What events of this kind are about.
const ACTION: &str = "Restore";
/// The longest message that the status takes. Unit: characters.
const MAX_MESSAGE: usize = 1024;

/// What the steps before have found.
pub struct Found<'a> {
    /// What stands in the way.
    pub error: Option<&'a Error>,
    /// What the caches have.
    pub observed: &'a Observed,
    /// The Job, if it was made just now.
    pub made: Option<&'a Job>,
    /// The Job was there and is not any more.
    pub job_gone: bool,
}

/// Computes the status.
pub fn status(restore: &Restore, found: &Found<'_>, now: DateTime<Utc>) -> RestoreStatus {
    let mut status = restore.status.clone().unwrap_or_default();
    let generation = restore.metadata.generation.unwrap_or_default();
    status.observed_generation = generation;
    let job = found.made.or(found.observed.job.as_deref());
    if let Some(job) = job.filter(|_| status.job.is_none()) {
        status.job = Some(RestoreJobStatus {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
        });
        status.source = status.source.or_else(|| source_of(job));
    }
    if !status.phase.is_terminal() {
        end_or_hinder(&mut status, found, job, now);
    }
    let word = word(&status, found);
    let message = sentence(&status, found);
    let (ready, completed) = match status.phase {
        RestorePhase::Completed => (ConditionStatus::True, ConditionStatus::True),
        RestorePhase::Failed => (ConditionStatus::False, ConditionStatus::True),
        _ if found.error.is_some() => (ConditionStatus::False, ConditionStatus::False),
        _ => (ConditionStatus::Unknown, ConditionStatus::False),
    };
    let mut set = |kind, status_of| {
        let update = ConditionUpdate {
            kind,
            status: status_of,
            reason: &word,
            message: message.clone(),
        };
        set_condition(&mut status.conditions, update, generation, now);
    };
    set(READY, ready);
    set(COMPLETED, completed);
    if status.phase == RestorePhase::Failed || found.error.is_some_and(|error| matches!(error, Error::Invalid { .. })) {
        set(STALLED, ConditionStatus::True);
    } else {
        remove_condition(&mut status.conditions, STALLED);
    }
    status
}

/// What is worth an event in the step from one status to the next.
pub fn news(old: &RestoreStatus, new: &RestoreStatus) -> Vec<News> {
    let mut news = Vec::new();
    let text = || new.message.clone().unwrap_or_default();
    if let (None, Some(job)) = (&old.job, &new.job) {
        let note = format!("Job {} was made; there is never a second one", job.name);
        news.push(News::good("Started", ACTION, note));
    }
    if old.phase != new.phase {
        match new.phase {
            RestorePhase::Completed => news.push(News::good(Reason::Restored.as_str(), ACTION, text())),
            RestorePhase::Failed => news.push(News::bad("RestoreFailed", ACTION, text())),
            _ => {}
        }
    }
    news
}

/// Ends the story of a Job that has failed or is gone, and says what keeps one from starting.
fn end_or_hinder(status: &mut RestoreStatus, found: &Found<'_>, job: Option<&Job>, now: DateTime<Utc>) {
    let said = status.message.clone().filter(|_| status.reason.is_some());
    let fail = |reason: &str, message: String| {
        // What to do comes first: what does not fit is cut.
        let mut message = message + &left_open(status);
        if let Some(said) = said {
            message.push_str(&format!("; its runner said last: {said}"));
        }
        status.phase = RestorePhase::Failed;
        status.reason.get_or_insert_with(|| reason.to_owned());
        status.message = Some(message.chars().take(MAX_MESSAGE).collect());
        status.completed_at = Some(now);
    };
    if found.job_gone {
        fail(
            Reason::JobGone.as_str(),
            "the Job was deleted, and a Restore never has a second one".into(),
        );
        return;
    }
    let Some(job) = job else { return };
    let name = job.name_any();
    match job_state(job) {
        JobState::Failed => {
            let condition = job_condition(job, "Failed");
            let why = condition
                .map(|condition| {
                    let text = condition.message.clone().unwrap_or_default();
                    format!("{} ({text})", condition.reason.clone().unwrap_or_default())
                })
                .unwrap_or_default();
            let ended = found.observed.pods_of(&name).find_map(termination);
            let ended = ended.map(|ended| format!("; {ended}")).unwrap_or_default();
            fail(
                Reason::JobFailed.as_str(),
                format!("the Job {name} has failed: {why}{ended}"),
            );
        }
        JobState::Active if status.pod_uid.is_none() => {
            let hindered = hindrance(found.observed.pods_of(&name), found.observed.refused.as_deref());
            status.reason = hindered.as_ref().map(|hindered| hindered.reason.as_str().to_owned());
            status.message = hindered.map(|hindered| hindered.message.chars().take(MAX_MESSAGE).collect());
        }
        JobState::Active | JobState::Complete | JobState::Terminating => {}
    }
}

/// What a runner that was killed in the swap for good may have left, and what to do about it.
fn left_open(status: &RestoreStatus) -> String {
    let begun = status
        .databases
        .iter()
        .filter(|database| database.phase >= RestoreDatabasePhase::Restoring);
    let texts: Vec<_> = begun
        .map(|database| {
            let mut text = String::new();
            if let Some(previous) = database.previous.as_deref().filter(|_| database.phase == RestoreDatabasePhase::Swapping) {
                text.push_str(&format!(
                    "; if {0} accepts no connections: ALTER DATABASE {0} ALLOW_CONNECTIONS true; if there is a database {1}, it is the old one, closed, and {0} the restored one",
                    quoted(&database.target),
                    quoted(previous)
                ));
            }
            if let Some(staged) = &database.staged {
                text.push_str(&format!("; left over: {}", drop_by_hand(staged, database.oid)));
            }
            text
        })
        .collect();
    texts.concat()
}

/// What was replaced and is still there, under whichever name it has by now.
pub fn not_dropped(status: &RestoreStatus) -> String {
    let kept = status.databases.iter().filter(|database| !database.previous_dropped);
    let names = kept.filter_map(|database| {
        let previous = database.previous.as_ref()?;
        Some(match database.previous_oid {
            Some(oid) => format!("{previous}, or {} by now", dropped_name(previous, oid)),
            None => previous.clone(),
        })
    });
    names.collect::<Vec<_>>().join("; ")
}

fn word(status: &RestoreStatus, found: &Found<'_>) -> String {
    let known = status.reason.clone().filter(|reason| !reason.is_empty());
    match status.phase {
        RestorePhase::Completed => Reason::Restored.as_str().to_owned(),
        RestorePhase::Failed => known.unwrap_or_else(|| Reason::JobFailed.as_str().to_owned()),
        _ => match found.error {
            Some(error) => error.category().to_owned(),
            None => known
                .filter(|_| status.pod_uid.is_none())
                .unwrap_or_else(|| Reason::Running.as_str().to_owned()),
        },
    }
}

/// Of a Restore that is at work the steps stand in `phase` and `message`: a condition would change with each.
fn sentence(status: &RestoreStatus, found: &Found<'_>) -> String {
    let said = || status.message.clone().unwrap_or_default();
    match (status.phase.is_terminal(), found.error) {
        (true, _) => said(),
        (false, Some(error)) => error.to_string(),
        (false, None) if status.pod_uid.is_none() && status.message.is_some() => said(),
        (false, None) => "the Job is made; status.phase says how far it is".into(),
    }
}

/// What the Job was told of the archive: this, and no other, is restored.
fn source_of(job: &Job) -> Option<RestoreSourceStatus> {
    let container = job.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let variable = container
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == SOURCE_ENV)?;
    let source: SourceArchive = serde_json::from_str(variable.value.as_ref()?).ok()?;
    Some(RestoreSourceStatus {
        slot: source.slot,
        key: source.key,
        sha256: source.sha256,
        claim_name: source.destination.volume_claim.map(|claim| claim.claim_name),
    })
}

/// Name of the Job that a Restore has or had.
pub fn job_of(restore: &Restore) -> String {
    job_name(&restore.name_any())
}
