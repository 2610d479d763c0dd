//! Which configuration the pods run: `ConfigApplied` and the counts. Pure.

use super::{
    draft::{ConditionDraft, before, count},
    inputs::Work,
    reason::Reason,
};
use crate::{
    resilient_service::{
        dereference::{Observed, ReadyPod},
        reports::UNREACHABLE,
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

/// How long pods may take to report a new configuration before that is worth an alarm, unless the specification says
/// otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// The condition of the configuration, with its counts.
pub struct Config {
    pub applied: ConditionDraft,
    pub status: Option<ConfigStatus>,
    pub look_again: Option<Duration>,
}

/// What one ready pod says about its configuration.
enum PodConfig {
    Current,
    Rejected(String),
    Unreachable(String),
    Behind(String),
    Silent(String),
}

/// The hash of the configuration that the pods are to run, if there is one: what the ConfigMap holds is what they can
/// run, and what we built is what they should.
pub fn wanted(service: &ResilientService, observed: &Observed, work: &Work) -> Option<String> {
    match work {
        Work::Applied { plan, .. } => Some(plan.policy_hash.clone()),
        Work::Paused | Work::Invalid(_) => observed.document_hashes(&policy_config_map(&service.name_any())).policy,
    }
}

/// Since when the old status says that this very configuration is overdue.
pub fn overdue_since(old: &ResilientServiceStatus, wanted: &str) -> Option<DateTime<Utc>> {
    if old.config.as_ref().is_none_or(|config| config.hash != wanted) {
        return None;
    }
    before(old, condition::CONFIG_APPLIED)
        .filter(|condition| condition.reason == Reason::DeadlineExceeded.as_str())
        .map(|condition| clock::from_time(&condition.last_transition_time))
}

impl Config {
    /// Judges; a configuration that has been awaited of a ready pod since `awaited_since` has its deadline from then.
    pub fn judge(
        service: &ResilientService,
        observed: &Observed,
        work: &Work,
        rollout: &Rollout,
        old: &ResilientServiceStatus,
        awaited_since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        let wanted = wanted(service, observed, work);
        let Some(wanted) = wanted else {
            return Self {
                applied: ConditionDraft::new(
                    ConditionStatus::Unknown,
                    Reason::NotBuilt,
                    "there is no configuration yet",
                ),
                status: None,
                look_again: None,
            };
        };
        let reports = report_port(&service.spec).is_some();
        let tally = if reports {
            let was_unreachable = said_before(old, &wanted, Reason::PodUnreachable);
            // Which pods stay is not known before Kubernetes has seen the newest template. What was said already stays so.
            let is_early = (work.wrote_deployment() || !rollout.observed)
                && ![Reason::RejectedByPods, Reason::DeadlineExceeded]
                    .into_iter()
                    .any(|reason| said_before(old, &wanted, reason));
            Tally::of(observed, rollout, &wanted, was_unreachable, is_early, now)
        } else {
            Tally::without_reports(observed, rollout)
        };
        let waited = awaited_since.map_or(Duration::ZERO, |since| (now - since).to_std().unwrap_or_default());
        let (applied, look_again) = tally.condition(
            observed.asked_replicas(service),
            reports,
            &wanted,
            waited,
            deadline(service),
        );
        let before = old.config.as_ref().filter(|config| config.hash == wanted);
        let more = tally.applied > before.map_or(0, |config| config.applied_replicas);
        let last_applied_time = if more {
            Some(clock::whole_seconds(now))
        } else {
            before.and_then(|config| config.last_applied_time)
        };
        Self {
            applied,
            status: Some(ConfigStatus {
                hash: wanted,
                applied_replicas: tally.applied,
                rejected_replicas: tally.rejected,
                last_applied_time,
            }),
            look_again: look_again.into_iter().chain(tally.unreachable_in).min(),
        }
    }

    /// Whether nothing is awaited.
    pub fn is_settled(&self) -> bool {
        self.applied.holds()
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
    /// Of those on their way out: the rollout has its own deadline.
    leaving: Option<String>,
    /// When the next pod becomes unreachable by its silence alone.
    unreachable_in: Option<Duration>,
}

impl Tally {
    fn of(
        observed: &Observed,
        rollout: &Rollout,
        wanted: &str,
        was_unreachable: bool,
        is_early: bool,
        now: DateTime<Utc>,
    ) -> Self {
        let mut tally = Self {
            ready: count(observed.ready_pods.len()),
            ..Self::default()
        };
        let mut pods: Vec<&ReadyPod> = observed.ready_pods.values().collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        for pod in pods {
            let silence = pod.contact.unreachable_in(now).filter(|wait| !wait.is_zero());
            tally.unreachable_in = tally.unreachable_in.into_iter().chain(silence).min();
            match pod_config(pod, wanted, was_unreachable, now) {
                PodConfig::Current => tally.applied += 1,
                _ if rollout.replaces(pod) => {
                    tally
                        .leaving
                        .get_or_insert(format!("pod {} is of an earlier template and still ready", pod.name));
                }
                PodConfig::Unreachable(why) => {
                    tally.unreachable.get_or_insert(format!("pod {} {why}", pod.name));
                }
                _ if is_early => {
                    tally
                        .leaving
                        .get_or_insert("Kubernetes has not begun to roll the newest Deployment out".to_owned());
                }
                PodConfig::Rejected(why) => {
                    tally.rejected += 1;
                    tally.rejection.get_or_insert(format!(
                        "pod {} refuses it and keeps the last good one: {why}",
                        pod.name
                    ));
                }
                PodConfig::Behind(why) => {
                    tally
                        .awaited
                        .get_or_insert(format!("pod {} still runs another one{why}", pod.name));
                }
                PodConfig::Silent(why) => {
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
        let applied = count(rollout.current);
        Self {
            ready,
            applied,
            leaving: (applied < ready).then(|| "pods of an earlier template are still ready".to_owned()),
            ..Self::default()
        }
    }

    fn condition(
        &self,
        desired: i32,
        reports: bool,
        wanted: &str,
        waited: Duration,
        deadline: Duration,
    ) -> (ConditionDraft, Option<Duration>) {
        use ConditionStatus::{False, True, Unknown};
        let draft = |status, reason: Reason, message: String| ConditionDraft::new(status, reason, message);
        let short: String = wanted.chars().take(12).collect();
        let figures = format!(
            "{} of {} ready pods run configuration {short}",
            self.applied, self.ready
        );
        if let Some(why) = &self.rejection {
            let message = format!("{figures}; {why}");
            return (draft(False, Reason::RejectedByPods, message), None);
        }
        if desired == 0 && self.ready == 0 {
            let message = "there is no pod to ask".to_owned();
            return (draft(True, Reason::ScaledToZero, message), None);
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
            return (draft(True, Reason::AllPodsCurrent, message), None);
        }
        let awaited = self.awaited.as_ref().or(self.leaving.as_ref());
        if let (Some(why), None) = (&self.unreachable, awaited) {
            return (
                draft(Unknown, Reason::PodUnreachable, format!("{figures}; {why}")),
                None,
            );
        }
        let why = match awaited {
            Some(why) => format!("{figures}; {why}"),
            None => "no pod is ready yet".to_owned(),
        };
        // Only pods that are ready, stay and do not report can exceed the deadline; the rest is the rollout's to say.
        if self.awaited.is_none() {
            return (draft(False, Reason::WaitingForPods, why), None);
        }
        if waited >= deadline {
            return (draft(False, Reason::DeadlineExceeded, why), None);
        }
        let look_again = Some(deadline.saturating_sub(waited));
        (draft(False, Reason::WaitingForPods, why), look_again)
    }
}

fn deadline(service: &ResilientService) -> Duration {
    let wanted = service
        .spec
        .config_reload
        .as_ref()
        .and_then(|reload| reload.deadline.as_ref());
    wanted.and_then(|wanted| wanted.value().ok()).unwrap_or(DEADLINE)
}

/// Whether the old status says this of this very configuration.
fn said_before(old: &ResilientServiceStatus, wanted: &str, reason: Reason) -> bool {
    let is_same = old.config.as_ref().is_some_and(|config| config.hash == wanted);
    let said = before(old, condition::CONFIG_APPLIED).map(|condition| condition.reason.as_str());
    is_same && said == Some(reason.as_str())
}

fn pod_config(pod: &ReadyPod, wanted: &str, was_unreachable: bool, now: DateTime<Utc>) -> PodConfig {
    let failing = pod.contact.failing.as_ref();
    if pod.is_unreachable(now) {
        return PodConfig::Unreachable(format!("has not answered for {}s", UNREACHABLE.as_secs()));
    }
    let Some(report) = pod.evidence(now) else {
        // What this pod said was forgotten with an earlier life of this process; that it does not answer was not.
        if let Some(failing) = failing.filter(|_| was_unreachable) {
            return PodConfig::Unreachable(format!("does not answer: {}", failing.error));
        }
        return PodConfig::Silent(failing.map_or(String::new(), |failing| {
            format!(
                ": {} (an image without the library needs spec.guard.mode: Sidecar, or spec.resilience.protocol: None)",
                failing.error
            )
        }));
    };
    let policy = &report.policy;
    if policy.hash.as_deref() == Some(wanted) {
        // An error beside the right hash speaks of a document that has since been put right.
        return PodConfig::Current;
    }
    match &policy.error {
        Some(error) => PodConfig::Rejected(error.chars().take(256).collect()),
        None => PodConfig::Behind(failing.map_or(String::new(), |failing| {
            format!(" as far as it was heard: {}", failing.error)
        })),
    }
}
