//! The clock of the model, and what happens as time passes.

use super::*;
use valerix_crds::ProbeMode;

impl Cluster {
    /// Time passes: pods read the document, faults begin, pods go and come, probes are asked.
    pub fn pass(&mut self, by: TimeDelta) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + TimeDelta::milliseconds(100)).min(end);
            let now = self.now;
            for pod in &mut self.pods {
                if self.map_removed || pod.document == self.document {
                    pod.document_since = now;
                }
                if !self.map_removed && pod.document != self.document && now - pod.document_since >= pod.reads_after {
                    pod.document.clone_from(&self.document);
                    let entry = self
                        .document
                        .as_deref()
                        .and_then(|text| Faults::parse(text.as_bytes()).ok());
                    let entry = entry.and_then(|parsed| parsed.document.faults.into_iter().next());
                    for (run, (_, until)) in &mut pod.faults {
                        if entry.as_ref().is_none_or(|entry| entry.run != *run) {
                            *until = (*until).min(now);
                        }
                    }
                    if let Some(entry) =
                        entry.filter(|entry| entry.pod_uids.contains(&pod.view.uid) && entry.fault.pod_kill.is_none())
                    {
                        let crash = entry.fault.crash.as_ref();
                        let lasts = match crash {
                            Some(_) => TimeDelta::zero(),
                            None if pod.refuses.is_some() => TimeDelta::zero(),
                            None => TimeDelta::from_std(entry.duration.get())
                                .unwrap()
                                .min(entry.not_after - now),
                        };
                        if let Some(crash) = crash.filter(|_| !pod.faults.contains_key(&entry.run)) {
                            pod.crashes_left = crash.times;
                            pod.crash(now, TimeDelta::seconds(1));
                        }
                        pod.faults.entry(entry.run).or_insert((now, now + lasts));
                    }
                }
                if pod.starts_at.is_some_and(|at| now >= at) {
                    pod.start(now);
                }
                if pod.view.removal == Removal::None
                    && !pod.view.ready
                    && pod.starts_at.is_none()
                    && now >= pod.ready_at
                {
                    pod.view.ready = true;
                    // As Kubernetes keeps it: to the second.
                    pod.view.ready_since = DateTime::from_timestamp(now.timestamp(), 0);
                }
            }
            self.pods.retain(|pod| pod.gone_at.is_none_or(|gone| now < gone));
            while self.pods.iter().filter(|pod| pod.view.removal == Removal::None).count() < self.replicas {
                let number = usize::try_from(self.version).unwrap() + 100 + self.pods.len();
                self.version += 1;
                let mut fresh = pod(number, now);
                fresh.ready_at = now + REPLACEMENT;
                (fresh.view.ready, fresh.view.ready_since) = (false, None);
                self.pods.push(fresh);
            }
            self.ask();
        }
    }

    pub fn ask(&mut self) {
        let due = self.samples.as_ref().is_some_and(|samples| {
            samples.iter().any(|own| match (own.samples.last(), own.asking_since) {
                (Some(last), _) => self.now - last.started >= self.interval,
                (None, Some(since)) => self.now - since >= self.first_answer_after,
                (None, None) => true,
            })
        });
        if !due {
            return;
        }
        let result = if !(self.askable)(self, self.now) {
            ProbeResult::NotAsked("there is no Service order".into())
        } else if (self.answer)(self, self.now) {
            ProbeResult::Passed
        } else {
            ProbeResult::Failed("status 503".into())
        };
        let modes = self.modes();
        let status = self
            .experiment
            .as_ref()
            .and_then(|experiment| experiment.status.as_ref());
        let on = status.and_then(|status| status.phase) == Some(ChaosPhase::Running);
        for (own, mode) in self.samples.iter_mut().flatten().zip(modes) {
            let silent = match mode {
                ProbeMode::Continuous | ProbeMode::Unknown => false,
                ProbeMode::Edge => on,
                ProbeMode::OnFault => !on,
            };
            if silent {
                own.asking_since = None;
                continue;
            }
            own.push(Sample {
                started: own.asking_since.unwrap_or(self.now),
                finished: self.now,
                result: result.clone(),
            });
        }
    }

    /// When each probe asks.
    fn modes(&self) -> Vec<ProbeMode> {
        let spec = self.experiment.as_ref().map(|experiment| &experiment.spec);
        let probes = spec
            .and_then(|spec| spec.steady_state.as_ref())
            .map(|state| &state.probes);
        probes.into_iter().flatten().map(|probe| probe.mode).collect()
    }

    /// The process dies and another one begins after `after`.
    pub fn restart(&mut self, after: TimeDelta) {
        self.samples = None;
        self.evictions.clear();
        let since = self.now;
        self.pass(after);
        self.away.push((since, self.now));
    }
}
