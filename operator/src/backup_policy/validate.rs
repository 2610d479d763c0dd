//! Second step: the policy as a plan that can be carried out, or why it cannot. Pure.

use super::{
    error::Error,
    job::Runner,
    slot::{Schedule, Slot},
};
use crate::runtime::Violation;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use valerix_crds::{BackupPolicy, BackupPolicySpec, DestinationChoice, backup_runner};

/// A policy that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name of the policy and of its CronJob.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID of the policy.
    pub uid: String,
    /// The reference that the children carry.
    pub owner: OwnerReference,
    /// The specification.
    pub spec: BackupPolicySpec,
    /// The checked schedule.
    pub schedule: Schedule,
    /// The next scheduled run.
    pub next: Slot,
    /// The run of today, due or not.
    pub today: Slot,
    /// Where the archive goes.
    pub destination: DestinationChoice,
    /// How long a run may take. Unit: seconds.
    pub deadline_seconds: i64,
    /// The runner.
    pub runner: Runner,
}

/// Checks what the schema cannot.
///
/// # Errors
/// Which field is wrong and what to write instead.
pub fn validate(policy: &BackupPolicy, runner: &Runner, now: DateTime<Utc>) -> Result<Plan, Error> {
    let schedule = Schedule::new(&policy.spec.schedule, now).map_err(|source| Error::Schedule { source })?;
    let invalid = |field: &str, message: &str, remedy: &str| Error::Invalid {
        source: Violation::new(field, message, remedy),
    };
    let never = || {
        invalid(
            "spec.schedule.timeOfDay",
            "it does not come within a week",
            "write another time",
        )
    };
    let next = schedule.next(now).ok_or_else(never)?;
    let today = schedule.today(now).ok_or_else(never)?;
    let destination = policy.spec.destination.choice().ok_or_else(|| {
        invalid(
            "spec.destination",
            "it names none or several",
            "write exactly one of s3 and volumeClaim",
        )
    })?;
    let deadline = match policy.spec.job.as_ref().and_then(|job| job.deadline.as_ref()) {
        Some(deadline) => deadline
            .value()
            .map_err(|error| invalid("spec.job.deadline", &error.to_string(), "write for example 2h"))?
            .as_secs(),
        None => backup_runner::DEFAULT_DEADLINE_SECONDS,
    };
    if deadline == 0 || deadline > backup_runner::MAX_DEADLINE_SECONDS {
        return Err(invalid(
            "spec.job.deadline",
            "a run that hangs must not eat the next day",
            "write more than 0s and at most 20h",
        ));
    }
    let job = policy.spec.job.as_ref();
    if job.and_then(|job| job.service_account_name.clone()) == Some(format!("{}-verify", policy.name_any())) {
        return Err(invalid(
            "spec.job.serviceAccountName",
            "it is the account of the policy's trial restores, and who makes archives does not check them",
            "name another one, or remove it",
        ));
    }
    let verification = policy.spec.verification.as_ref();
    for (index, query) in verification
        .into_iter()
        .flat_map(|found| found.queries.iter().enumerate())
    {
        if !policy
            .spec
            .databases
            .iter()
            .any(|database| database.name == query.database)
        {
            return Err(invalid(
                &format!("spec.verification.queries[{index}].database"),
                &format!("the policy has no database {}", query.database),
                "write the name of one of spec.databases",
            ));
        }
    }
    if runner.image.is_empty() {
        return Err(Error::NoImage);
    }
    Ok(Plan {
        name: policy.name_any(),
        namespace: policy.namespace().unwrap_or_default(),
        uid: policy.uid().unwrap_or_default(),
        owner: policy
            .controller_owner_ref(&())
            .ok_or_else(|| invalid("metadata.uid", "it is not there yet", "wait"))?,
        spec: policy.spec.clone(),
        schedule,
        next,
        today,
        destination,
        deadline_seconds: i64::try_from(deadline).unwrap_or(i64::MAX),
        runner: runner.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use crate::runtime::Category;
    use valerix_crds::BackupJob;

    fn refused(change: impl FnOnce(&mut BackupPolicy, &mut Runner)) -> Option<(&'static str, String)> {
        let (mut policy, mut runner) = (fixtures::policy(), fixtures::runner());
        change(&mut policy, &mut runner);
        let error = validate(&policy, &runner, fixtures::now()).err()?;
        assert!(!error.is_retryable(), "only an edit helps: {error}");
        Some((error.category(), error.to_string()))
    }

    #[test]
    fn a_deadline_is_more_than_nothing_and_at_most_twenty_hours() {
        for (deadline, accepted) in [
            ("0s", false),
            ("999ms", false),
            ("1s", true),
            ("20h", true),
            ("20h1s", false),
        ] {
            let found = refused(|policy, _| {
                policy.spec.job = Some(BackupJob {
                    deadline: Some(deadline.parse().unwrap()),
                    ..BackupJob::default()
                });
            });
            assert_eq!(found.is_none(), accepted, "{deadline}: {found:?}");
            assert!(found.is_none_or(|(word, text)| word == "InvalidSpec" && text.contains("job.deadline")));
        }
    }

    #[test]
    fn what_only_an_edit_can_mend_is_named_and_not_tried_again() {
        let (word, text) = refused(|_, runner| runner.image.clear()).unwrap();
        assert_eq!(word, "NoRunnerImage");
        assert!(text.contains("BACKUP_IMAGE"), "{text}");
        let (word, text) = refused(|policy, _| policy.spec.destination.volume_claim = None).unwrap();
        assert_eq!(word, "InvalidSpec");
        assert!(text.starts_with("spec.destination"), "{text}");
        let (word, text) = refused(|policy, _| {
            let queries =
                serde_json::json!({"queries": [{"name": "q", "database": "x", "query": "SELECT 1", "equals": 1}]});
            policy.spec.verification = serde_json::from_value(queries).unwrap();
        })
        .unwrap();
        assert_eq!(word, "InvalidSpec");
        assert!(text.starts_with("spec.verification.queries[0].database"), "{text}");
        let (word, text) = refused(|policy, _| {
            let job = serde_json::json!({"serviceAccountName": "shop-verify"});
            policy.spec.job = serde_json::from_value(job).unwrap();
        })
        .unwrap();
        assert_eq!(word, "InvalidSpec");
        assert!(text.starts_with("spec.job.serviceAccountName"), "{text}");
        let (word, _) = refused(|policy, _| policy.spec.schedule.time_of_day = "02:30".into()).unwrap();
        assert_eq!(word, "InvalidSchedule");
    }
}
