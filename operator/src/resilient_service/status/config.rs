//! Which configuration the pods run: `ConfigApplied` and the counts. Pure.

use super::{Verdict, Work, before, count};
use crate::{
    resilient_service::{
        dereference::{Observed, ReadyPod},
        follow::WAIT,
        rollout::Rollout,
        validate::report_port,
    },
    runtime::clock,
};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::time::Duration;
use valerix_crds::{
    ConditionStatus, ConfigStatus, ResilientService, ResilientServiceStatus,
    names::{condition, policy_config_map},
};

/// How long pods may take to report a new configuration before that is worth an alarm.
const DEADLINE: Duration = Duration::from_secs(60);
/// A pod that has not answered for twice the wait is unreachable.
const UNREACHABLE: Duration = Duration::from_secs(2 * WAIT.as_secs());

/// The verdict on the configuration, with its counts.
pub struct Config {
    pub verdict: Verdict,
    pub status: Option<ConfigStatus>,
    pub look_again: Option<Duration>,
}

/// What one ready pod says about its configuration.
enum Answer {
    Current,
    Rejected(String),
    Unreachable,
    Behind,
    Silent(String),
}

impl Config {
    pub fn judge(
        service: &ResilientService,
        observed: &Observed,
        work: &Work,
        rollout: &Rollout,
        old: &ResilientServiceStatus,
        now: DateTime<Utc>,
    ) -> Self {
        let config_map = policy_config_map(&service.name_any());
        // What the pods can run is what the ConfigMap holds; what they should run is what we built.
        let wanted = match work {
            Work::Applied { plan, .. } => Some(plan.policy_hash.clone()),
            Work::Paused | Work::Invalid(_) => observed.document_hashes(&config_map).policy,
        };
        let Some(wanted) = wanted else {
            return Self {
                verdict: Verdict::new(ConditionStatus::Unknown, "NotBuilt", "there is no configuration yet"),
                status: None,
                look_again: None,
            };
        };
        let reports = report_port(&service.spec).is_some();
        let tally = if reports {
            Tally::of(observed, &wanted, now)
        } else {
            Tally::without_reports(observed, rollout)
        };
        let (verdict, look_again) = tally.verdict(service.spec.replicas, reports, &wanted, old, now);
        let before = old.config.as_ref().filter(|config| config.hash == wanted);
        let more = tally.applied > before.map_or(0, |config| config.applied_replicas);
        let last_applied_time = if more {
            Some(clock::whole_seconds(now))
        } else {
            before.and_then(|config| config.last_applied_time)
        };
        Self {
            verdict,
            status: Some(ConfigStatus {
                hash: wanted,
                applied_replicas: tally.applied,
                rejected_replicas: tally.rejected,
                last_applied_time,
            }),
            look_again,
        }
    }

    /// Whether nothing is awaited.
    pub fn is_settled(&self) -> bool {
        self.verdict.holds()
    }
}

/// The ready pods by what they say; the texts are of the first pod by name.
#[derive(Default)]
struct Tally {
    ready: i32,
    applied: i32,
    rejected: i32,
    rejection: Option<String>,
    unreachable: Option<String>,
    awaited: Option<String>,
}

impl Tally {
    fn of(observed: &Observed, wanted: &str, now: DateTime<Utc>) -> Self {
        let mut tally = Self {
            ready: count(observed.ready_pods.len()),
            ..Self::default()
        };
        let mut pods: Vec<&ReadyPod> = observed.ready_pods.values().collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        for pod in pods {
            match answer(pod, wanted, now) {
                Answer::Current => tally.applied += 1,
                Answer::Rejected(why) => {
                    tally.rejected += 1;
                    tally.rejection.get_or_insert(format!(
                        "pod {} refuses it and keeps the last good one: {why}",
                        pod.name
                    ));
                }
                Answer::Unreachable => {
                    tally.unreachable.get_or_insert(format!(
                        "pod {} has not answered for {}s",
                        pod.name,
                        UNREACHABLE.as_secs()
                    ));
                }
                Answer::Behind => {
                    tally
                        .awaited
                        .get_or_insert(format!("pod {} still runs another one", pod.name));
                }
                Answer::Silent(why) => {
                    tally
                        .awaited
                        .get_or_insert(format!("pod {} has not reported yet{why}", pod.name));
                }
            }
        }
        tally
    }

    /// An image that does not report proves its configuration by its template.
    fn without_reports(observed: &Observed, rollout: &Rollout) -> Self {
        let ready = count(observed.ready_pods.len());
        let applied = if rollout.observed {
            ready.min(rollout.updated)
        } else {
            0
        };
        Self {
            ready,
            applied,
            awaited: (applied < ready).then(|| "pods of the last template are still ready".to_owned()),
            ..Self::default()
        }
    }

    fn verdict(
        &self,
        desired: i32,
        reports: bool,
        wanted: &str,
        old: &ResilientServiceStatus,
        now: DateTime<Utc>,
    ) -> (Verdict, Option<Duration>) {
        let short: String = wanted.chars().take(12).collect();
        let figures = format!(
            "{} of {} ready pods run configuration {short}",
            self.applied, self.ready
        );
        if let Some(why) = &self.rejection {
            let message = format!("{figures}; {why}");
            return (Verdict::new(ConditionStatus::False, "RejectedByPods", message), None);
        }
        if desired == 0 && self.ready == 0 {
            return (
                Verdict::new(ConditionStatus::True, "ScaledToZero", "there is no pod to ask"),
                None,
            );
        }
        if self.ready > 0 && self.applied == self.ready {
            let message = if reports {
                figures
            } else {
                format!(
                    "{} ready pods run the current template; the image does not report",
                    self.ready
                )
            };
            return (Verdict::new(ConditionStatus::True, "AllPodsCurrent", message), None);
        }
        if let (Some(why), None) = (&self.unreachable, &self.awaited) {
            let message = format!("{figures}; {why}");
            return (Verdict::new(ConditionStatus::Unknown, "PodUnreachable", message), None);
        }
        let why = match &self.awaited {
            Some(why) => format!("{figures}; {why}"),
            None => "no pod is ready yet".to_owned(),
        };
        // Only pods that are ready and do not report can exceed the deadline; the rest is Available's to say.
        let waited =
            waiting_since(old, wanted).map_or(Duration::ZERO, |since| (now - since).to_std().unwrap_or_default());
        if self.ready > 0 && waited >= DEADLINE {
            return (Verdict::new(ConditionStatus::False, "DeadlineExceeded", why), None);
        }
        let look_again = (self.ready > 0).then(|| DEADLINE.saturating_sub(waited));
        (Verdict::new(ConditionStatus::False, "WaitingForPods", why), look_again)
    }
}

/// Since when this very configuration has been awaited, as the old status says.
fn waiting_since(old: &ResilientServiceStatus, wanted: &str) -> Option<DateTime<Utc>> {
    if old.config.as_ref().is_none_or(|config| config.hash != wanted) {
        return None;
    }
    before(old, condition::CONFIG_APPLIED)
        .filter(|condition| condition.status == "False")
        .map(|condition| clock::from_time(&condition.last_transition_time))
}

fn answer(pod: &ReadyPod, wanted: &str, now: DateTime<Utc>) -> Answer {
    let silent_for = |since: DateTime<Utc>| (now - since).to_std().unwrap_or_default();
    let Some(report) = &pod.report else {
        let why = pod
            .contact
            .failing
            .as_ref()
            .map_or(String::new(), |failing| format!(": {}", failing.error));
        return Answer::Silent(why);
    };
    let answered_at = pod.contact.answered_at.unwrap_or(report.received_at);
    if pod.contact.failing.is_some() && silent_for(answered_at) >= UNREACHABLE {
        return Answer::Unreachable;
    }
    let policy = &report.report.policy;
    if policy.hash.as_deref() == Some(wanted) {
        // An error beside the right hash speaks of a document that has since been put right.
        return Answer::Current;
    }
    match &policy.error {
        Some(error) => Answer::Rejected(error.chars().take(256).collect()),
        None => Answer::Behind,
    }
}
