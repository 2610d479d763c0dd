//! Which slots must have a record, and which Job must go before its name is needed. Pure.

use super::super::{
    dereference::Observed,
    job::{JobState, job_state},
    slot::Slot,
    validate::Plan,
};
use crate::runtime::{apply::controller_of, clock};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use std::sync::Arc;
use valerix_crds::{UploadState, backup_runner};

/// The most days back that a record is made for. Unit: days.
const MOST_PASSED: u64 = 14;
/// How long before a run is due its Job's name must be free. Until then a failed run by hand stays, to be looked at.
const LEAD: TimeDelta = TimeDelta::minutes(2);

/// The slots that must have a record: the next one; the newest that is due, while the CronJob controller may still start
/// its run; those of Jobs that are at work, whose runners wait for it; and those of Jobs that waited for it in vain while
/// nobody made records, whether these Jobs are still there or not.
pub fn wanted(plan: &Plan, observed: &Observed, now: DateTime<Utc>) -> Vec<Slot> {
    let mut slots = Vec::new();
    if !plan.spec.suspend {
        slots.push(plan.next);
        let due = plan.schedule.latest(now);
        slots.extend(due.filter(|slot| now < plan.schedule.closes(slot.at) && may_start(observed, slot.at)));
        slots.extend(passed(plan, observed, now));
    }
    // Who deletes the record of an earlier day does not get it back.
    let newest = observed.records.iter().map(|record| record.spec.slot.as_str()).max();
    for job in &observed.jobs {
        let Some(at) = backup_runner::scheduled_at(&plan.name, &job.name_any()) else {
            continue;
        };
        let day = backup_runner::slot(at, &plan.schedule.zone);
        let wanted = match job_state(job) {
            JobState::Active => true,
            JobState::Failed => is_of(job, observed) && newest.is_none_or(|newest| *newest < *day.to_string()),
            JobState::Complete | JobState::Terminating => false,
        };
        if wanted {
            slots.push(Slot { day, at });
        }
    }
    slots.sort_by_key(|slot| slot.day);
    slots.dedup_by_key(|slot| slot.day);
    slots
}

/// Whether a Job is of this policy's CronJob, and not of one that an earlier policy of the name has left.
fn is_of(job: &Job, observed: &Observed) -> bool {
    let owner = controller_of(job).map(|owner| owner.uid.as_str());
    owner.is_some()
        && owner
            == observed
                .cron_job
                .as_ref()
                .and_then(|cron_job| cron_job.metadata.uid.as_deref())
}

/// Whether the CronJob controller would start a run that was due at this moment: not one from before the CronJob, and
/// none twice.
fn may_start(observed: &Observed, at: DateTime<Utc>) -> bool {
    let Some(cron_job) = &observed.cron_job else {
        return false;
    };
    let last = cron_job
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref());
    is_older(cron_job, at) && last.is_none_or(|last| clock::from_time(last) < at)
}

fn is_older(cron_job: &CronJob, at: DateTime<Utc>) -> bool {
    let made = cron_job.creation_timestamp().map(|made| clock::from_time(&made));
    made.is_some_and(|made| made < at)
}

/// The days since the newest record whose runs can start no more and of which no Job is left: nobody was there to say so.
/// None where the CronJob is still suspended, as the operator leaves it when it is there and no run is meant to be.
fn passed(plan: &Plan, observed: &Observed, now: DateTime<Utc>) -> Vec<Slot> {
    let newest: Option<NaiveDate> = observed
        .records
        .iter()
        .filter_map(|record| record.spec.slot.parse().ok())
        .max();
    let (Some(newest), Some(cron_job), Some(latest)) = (newest, &observed.cron_job, plan.schedule.latest(now)) else {
        return Vec::new();
    };
    if cron_job.spec.as_ref().is_none_or(|spec| spec.suspend == Some(true)) {
        return Vec::new();
    }
    let has_job = |day| {
        observed.jobs.iter().any(|job| {
            backup_runner::scheduled_at(&plan.name, &job.name_any())
                .is_some_and(|at| backup_runner::slot(at, &plan.schedule.zone) == day)
        })
    };
    (0..MOST_PASSED)
        .filter_map(|days| plan.schedule.slot(latest.day.checked_sub_days(Days::new(days))?))
        .take_while(|slot| slot.day > newest && is_older(cron_job, slot.at))
        .filter(|slot| now >= plan.schedule.closes(slot.at) && !has_job(slot.day))
        .collect()
}

/// A run by hand that failed before the day's time holds the name of the scheduled Job, and the CronJob controller would
/// take it for its own and start nothing. The Job that must go now, or when to look again.
pub fn in_the_way(plan: &Plan, observed: &Observed, now: DateTime<Utc>) -> (Option<Arc<Job>>, Option<DateTime<Utc>>) {
    if plan.spec.suspend {
        return (None, None);
    }
    let name = backup_runner::job_name(&plan.name, plan.next.at);
    let stored = observed
        .record(&backup_runner::record_name(&plan.name, plan.next.day))
        .and_then(|record| record.status.as_ref())
        .is_some_and(|status| status.upload.state == UploadState::Completed);
    let failed = observed
        .jobs
        .iter()
        .find(|job| job.name_any() == name && job_state(job) == JobState::Failed);
    match failed {
        Some(job) if !stored && now >= plan.next.at - LEAD => (Some(job.clone()), None),
        Some(_) if !stored => (None, Some(plan.next.at - LEAD)),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{fixtures, validate::validate};
    use super::*;
    use serde_json::{Value, json};

    /// The fixtures' policy runs at 02:15 UTC; its CronJob was made the day before the fixtures' day.
    fn observed(last_schedule_time: Option<&str>, jobs: Vec<Value>) -> Observed {
        let cron_job = json!({
            "metadata": {"name": "shop", "uid": "cron-job", "creationTimestamp": "2026-08-20T09:00:00Z"},
            "status": {"lastScheduleTime": last_schedule_time},
        });
        Observed {
            cron_job: Some(Arc::new(serde_json::from_value(cron_job).unwrap())),
            jobs: jobs
                .into_iter()
                .map(|job| Arc::new(serde_json::from_value(job).unwrap()))
                .collect(),
            ..Observed::default()
        }
    }

    fn job(at: &str, conditions: Value) -> Value {
        let name = backup_runner::job_name("shop", fixtures::at(at));
        let owner =
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "shop", "uid": "cron-job", "controller": true});
        json!({"metadata": {"name": name, "ownerReferences": [owner]}, "status": {"conditions": conditions}})
    }

    fn days(suspend: bool, observed: &Observed, now: &str) -> Vec<String> {
        let mut policy = fixtures::policy();
        policy.spec.suspend = suspend;
        let now = fixtures::at(now);
        let plan = validate(&policy, &fixtures::runner(), now).unwrap();
        wanted(&plan, observed, now)
            .iter()
            .map(|slot| slot.day.to_string())
            .collect()
    }

    #[test]
    fn a_slot_whose_run_may_still_start_has_a_record() {
        let (due, closed) = ("2026-08-21T02:16:00Z", "2026-08-21T08:15:00Z");
        let (yesterday, today) = (Some("2026-08-20T02:15:00Z"), Some("2026-08-21T02:15:00Z"));
        // As after a suspension, or when the operator was away when the record was to be made.
        assert_eq!(
            days(false, &observed(yesterday, vec![]), due),
            ["2026-08-21", "2026-08-22"]
        );
        assert_eq!(days(false, &observed(None, vec![]), due), ["2026-08-21", "2026-08-22"]);
        // It has been started: who deleted its record does not get it back.
        assert_eq!(days(false, &observed(today, vec![]), due), ["2026-08-22"]);
        assert_eq!(days(false, &observed(yesterday, vec![]), closed), ["2026-08-22"]);
        assert_eq!(days(true, &observed(yesterday, vec![]), due), Vec::<String>::new());
        // The CronJob is younger than the moment.
        assert_eq!(
            days(false, &observed(None, vec![]), "2026-08-20T02:16:00Z"),
            ["2026-08-21"]
        );
        assert_eq!(days(false, &Observed::default(), due), ["2026-08-22"]);
    }

    #[test]
    fn a_job_at_work_has_a_record_whatever_the_clock_says() {
        let at_work = job("2026-08-21T02:15:00Z", json!([]));
        let observed = observed(Some("2026-08-21T02:15:00Z"), vec![at_work]);
        assert_eq!(days(true, &observed, "2026-08-21T20:00:00Z"), ["2026-08-21"]);
    }

    #[test]
    fn a_job_that_failed_while_nobody_made_records_has_one() {
        let failed = |at: &str| job(at, json!([{"type": "Failed", "status": "True"}]));
        let jobs = || {
            let mut strangers = failed("2026-08-18T02:15:00Z");
            strangers["metadata"]["ownerReferences"][0]["uid"] = json!("of-an-earlier-policy");
            let complete = job("2026-08-17T02:15:00Z", json!([{"type": "Complete", "status": "True"}]));
            vec![
                failed("2026-08-20T02:15:00Z"),
                failed("2026-08-19T02:15:00Z"),
                strangers,
                complete,
            ]
        };
        let mut observed = observed(Some("2026-08-20T02:15:00Z"), jobs());
        let record = |slot: &str| {
            Arc::new(
                serde_json::from_value(json!({
                    "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": slot},
                    "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": "2026-08-18T02:15:00Z"},
                }))
                .unwrap(),
            )
        };
        // The operator comes back before the next day's time.
        let now = "2026-08-20T20:00:00Z";
        observed.records = vec![record("2026-08-18")];
        assert_eq!(days(false, &observed, now), ["2026-08-19", "2026-08-20", "2026-08-21"]);
        // Once there is a newer record, one that is not there was deleted.
        observed.records.push(record("2026-08-21"));
        assert_eq!(days(false, &observed, now), ["2026-08-21"]);
    }

    #[test]
    fn a_day_that_passed_while_nobody_made_records_has_one() {
        let of = |newest: &[&str], suspended: bool, jobs: Vec<Value>| {
            let mut observed = observed(None, jobs);
            let cron_job = json!({
                "metadata": {"name": "shop", "uid": "cron-job", "creationTimestamp": "2026-08-01T09:00:00Z"},
                "spec": {"schedule": "15 4 * * *", "suspend": suspended, "jobTemplate": {}},
            });
            observed.cron_job = Some(Arc::new(serde_json::from_value(cron_job).unwrap()));
            observed.records = newest
                .iter()
                .map(|slot| {
                    Arc::new(serde_json::from_value(json!({
                        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": slot},
                        "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": slot, "scheduledAt": "2026-08-18T02:15:00Z"},
                    })).unwrap())
                })
                .collect();
            observed
        };
        let now = "2026-08-21T20:00:00Z";
        let passed = of(&["2026-08-18"], false, vec![]);
        assert_eq!(
            days(false, &passed, now),
            ["2026-08-19", "2026-08-20", "2026-08-21", "2026-08-22"]
        );
        // The run of this day may still start.
        let early = "2026-08-21T02:16:00Z";
        assert_eq!(
            days(false, &passed, early),
            ["2026-08-19", "2026-08-20", "2026-08-21", "2026-08-22"]
        );
        // A Job speaks for its day, and one that ended well needs no record.
        let complete = job("2026-08-20T02:15:00Z", json!([{"type": "Complete", "status": "True"}]));
        assert_eq!(
            days(false, &of(&["2026-08-18"], false, vec![complete]), now),
            ["2026-08-19", "2026-08-21", "2026-08-22"]
        );
        // Two weeks at the most, and none from before the CronJob.
        let long_ago = days(false, &of(&["2026-08-02"], false, vec![]), now);
        assert_eq!((long_ago.len(), long_ago[0].as_str()), (15, "2026-08-08"));
        let younger = days(false, &of(&["2026-07-20"], false, vec![]), "2026-08-03T20:00:00Z");
        assert_eq!(younger, ["2026-08-02", "2026-08-03", "2026-08-04"]);
        // Meant not to run, deleted by somebody, or of a policy that has no record at all.
        for observed in [
            of(&["2026-08-18"], true, vec![]),
            of(&["2026-08-18", "2026-08-22"], false, vec![]),
            of(&[], false, vec![]),
        ] {
            assert_eq!(days(false, &observed, now), ["2026-08-22"]);
        }
        assert_eq!(days(true, &passed, now), Vec::<String>::new());
    }

    #[test]
    fn a_failed_run_by_hand_stays_to_be_looked_at_and_goes_before_its_name_is_needed() {
        let failed = json!([{"type": "Failed", "status": "True"}]);
        let goes = |job: Value, suspend: bool, record: Option<Value>, now: &str| {
            let mut policy = fixtures::policy();
            policy.spec.suspend = suspend;
            let now = fixtures::at(now);
            let plan = validate(&policy, &fixtures::runner(), now).unwrap();
            let mut observed = observed(None, vec![job]);
            observed.records = record
                .map(|status| {
                    Arc::new(serde_json::from_value(json!({
                        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup", "metadata": {"name": "shop-20260822"},
                        "spec": {"policyRef": {"name": "shop", "uid": "policy-uid"}, "slot": "2026-08-22", "scheduledAt": "2026-08-22T02:15:00Z"},
                        "status": status,
                    })).unwrap())
                })
                .into_iter()
                .collect();
            let (job, look_again) = in_the_way(&plan, &observed, now);
            (job.is_some(), look_again)
        };
        let tonight = || job("2026-08-22T02:15:00Z", failed.clone());
        let (early, late) = ("2026-08-22T00:30:00Z", "2026-08-22T02:13:00Z");
        let then = Some(fixtures::at("2026-08-22T02:13:00Z"));
        assert_eq!(goes(tonight(), false, None, early), (false, then));
        assert_eq!(goes(tonight(), false, None, late), (true, None));
        assert_eq!(goes(tonight(), true, None, late), (false, None));
        let stored = json!({"phase": "Completed", "upload": {"state": "Completed"}});
        assert_eq!(goes(tonight(), false, Some(stored), late), (false, None));
        let working = job("2026-08-22T02:15:00Z", json!([]));
        assert_eq!(goes(working, false, None, late), (false, None));
        let yesterday = job("2026-08-21T02:15:00Z", failed.clone());
        assert_eq!(goes(yesterday, false, None, late), (false, None));
    }
}
