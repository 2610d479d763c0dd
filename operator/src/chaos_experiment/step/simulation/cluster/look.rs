//! One look of the controller, what it does then, and what goes wrong with that.

use super::*;

/// What goes wrong at one mutating action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    None,
    /// The API server says 409 and nothing is done.
    Conflict,
    /// An error comes back and nothing was done.
    Refused,
    /// An error comes back and it was done all the same.
    AnswerLost,
    /// The process is killed before the request leaves.
    KilledBefore,
    /// The process is killed after it was done.
    KilledAfter,
}

impl Cluster {
    /// One look of the controller. Returns how long it wants to wait, or none when it has nothing to do.
    pub fn look(&mut self, mishap: &mut dyn FnMut(usize) -> Mishap) -> Option<TimeDelta> {
        let experiment = self.experiment.clone()?;
        let plan = validate(&experiment.spec, &self.limits);
        let schedule = schedule(&experiment.spec);
        let action = match idle(
            &experiment,
            plan.as_ref(),
            schedule.as_ref().map(Option::as_ref),
            self.now,
        ) {
            Idle::Active => decide(&experiment, plan.as_ref(), &self.limits, &self.observed()),
            Idle::Write(status) => Action::Write(status),
            Idle::Rest { until } => Action::Rest { until },
        };
        match action {
            Action::Rest { until } => return until.map(|until| until - self.now),
            Action::Look(after) => return Some(TimeDelta::from_std(after).unwrap()),
            Action::StartProbes => {
                let recorded = experiment
                    .status
                    .as_ref()
                    .map(|status| status.probes.clone())
                    .unwrap_or_default();
                let count = experiment
                    .spec
                    .steady_state
                    .as_ref()
                    .map_or(0, |state| state.probes.len());
                let own = |index: usize| ProbeSamples::resumed(recorded.get(index).cloned().unwrap_or_default());
                let now = self.now;
                let asking = |mut own: ProbeSamples| {
                    own.asking_since = Some(now);
                    own
                };
                self.samples = Some((0..count).map(own).map(asking).collect());
                return Some(TimeDelta::milliseconds(100));
            }
            action => self.mutate(&action, mishap(self.mutations)),
        }
        Some(TimeDelta::milliseconds(10))
    }

    pub fn mutate(&mut self, action: &Action, mishap: Mishap) {
        self.mutations += 1;
        self.attempts += usize::from(matches!(action, Action::Evict { .. }));
        let done = matches!(mishap, Mishap::None | Mishap::AnswerLost | Mishap::KilledAfter);
        if done {
            self.apply(action, mishap == Mishap::None);
        } else if let (Action::Evict { uid, .. }, Mishap::Conflict | Mishap::Refused) = (action, mishap) {
            self.evictions
                .insert(uid.clone(), EvictionResult::Unclear("connection reset".into()));
        }
        if let (Action::Evict { uid, .. }, Mishap::AnswerLost) = (action, mishap) {
            self.evictions
                .insert(uid.clone(), EvictionResult::Unclear("timed out".into()));
        }
        if matches!(mishap, Mishap::KilledBefore | Mishap::KilledAfter) {
            self.restart(TimeDelta::seconds(20));
        }
    }

    pub fn apply(&mut self, action: &Action, answered: bool) {
        self.version += 1;
        let experiment = self.experiment.as_mut().unwrap();
        match action {
            Action::Write(status) => {
                // The API server keeps what the schema allows; a text that is too long would be refused.
                let round: Value = serde_json::to_value(&**status).unwrap();
                experiment.status = Some(serde_json::from_value(round).unwrap());
            }
            Action::AddFinalizer => experiment.finalizers_mut().push(CHAOS_FINALIZER.into()),
            Action::RemoveFinalizer => {
                experiment.finalizers_mut().clear();
                if experiment.metadata.deletion_timestamp.is_some() {
                    self.experiment = None;
                }
            }
            Action::Lock(text) | Action::Release(text) => {
                assert!(!self.map_removed, "nobody writes what is not there");
                self.document = Some(text.clone());
            }
            Action::Evict { pod, uid, delete, .. } => {
                self.requests.push(uid.clone());
                let answer = self.evict(pod, uid, *delete);
                if answered {
                    self.evictions.insert(uid.clone(), answer);
                }
            }
            Action::Rest { .. } | Action::Look(_) | Action::StartProbes => unreachable!(),
        }
    }

    pub fn serving(&self) -> usize {
        self.pods.iter().filter(|pod| pod.view.serves()).count()
    }

    pub fn evict(&mut self, name: &str, uid: &str, delete: bool) -> EvictionResult {
        let now = self.now;
        let spent = self.budget || self.serving() <= self.kept;
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.view.name == name) else {
            return EvictionResult::Gone;
        };
        if pod.view.uid != uid {
            return EvictionResult::Gone;
        }
        if spent && !delete && pod.view.removal == Removal::None {
            return EvictionResult::NotNow("would violate the pod's disruption budget".into());
        }
        if let Some(why) = self.refusal {
            return EvictionResult::Refused(why.to_owned());
        }
        if pod.view.removal == Removal::None {
            self.evicted.push(uid.to_owned());
            pod.view.removal = if delete {
                Removal::Deleted(now)
            } else {
                Removal::Evicted(now)
            };
            pod.gone_at = Some(now + TimeDelta::seconds(2));
        }
        EvictionResult::Accepted(now)
    }
}
