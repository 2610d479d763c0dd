//! Asks the probes' questions while a run is under way, one task per probe, and keeps the answers.
//!
//! In: a run's plan. Out: samples, read by `step`. Reads the network and the API server; writes nothing. When a run ends
//! or the process does, the tasks end; what was seen by then stands in status.

pub mod address;
mod condition;
mod grpc;
pub mod http;
mod mark;
pub mod plan;
mod prometheus;
pub mod samples;

use super::identity::EntryName;
use super::memory::Key;
use crate::runtime::Clients;
use address::Resolver;
use chrono::Utc;
use grpc::GrpcAsker;
use http::HttpAsker;
use mark::Mark;
use plan::ProbePlan;
use prometheus::PrometheusAsker;
use samples::{ProbeResult, ProbeSamples, Sample, Samples};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use valerix_crds::{ProbeMode, ProbeStatus};

/// The probes of every run under way in this process.
pub struct Probes {
    clients: Clients,
    http: HttpAsker,
    grpc: GrpcAsker,
    prometheus: PrometheusAsker,
    runs: Mutex<HashMap<Key, Run>>,
}

struct Run {
    /// UID of the experiment, the run, and the hash of its spec: what is asked may be changed until the run has an intent.
    of: (String, String, String),
    samples: Arc<Mutex<Samples>>,
    fault_on: watch::Sender<bool>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Probes {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(clients: Clients) -> Result<Self, reqwest::Error> {
        Ok(Self {
            clients,
            http: HttpAsker::new()?,
            grpc: GrpcAsker::new()?,
            prometheus: PrometheusAsker::new()?,
            runs: Mutex::default(),
        })
    }

    /// Begins to ask for a run of the experiment of this name, on top of what status recorded; ends an older run's.
    pub fn start(
        &self,
        key: &Key,
        name: &EntryName,
        spec_hash: &str,
        plans: &[ProbePlan],
        recorded: &[ProbeStatus],
        resolver: Arc<dyn Resolver>,
    ) {
        let samples: Samples = plans
            .iter()
            .map(|plan| {
                let name = &plan.probe.name;
                let known = recorded.iter().find(|status| status.name == *name).cloned();
                ProbeSamples::resumed(known.unwrap_or_else(|| ProbeStatus {
                    name: name.clone(),
                    ..ProbeStatus::default()
                }))
            })
            .collect();
        let samples = Arc::new(Mutex::new(samples));
        let (fault_on, _) = watch::channel(false);
        let tasks = plans.iter().enumerate().map(|(index, plan)| {
            let asker = Asker {
                clients: self.clients.clone(),
                http: self.http.clone(),
                grpc: self.grpc.clone(),
                prometheus: self.prometheus.clone(),
                resolver: resolver.clone(),
                mark: Mark::new(&key.0, name),
                plan: plan.clone(),
            };
            let task = asker.ask_for_ever(index, samples.clone(), fault_on.subscribe());
            AbortOnDropHandle::new(tokio::spawn(task))
        });
        let own = Run {
            of: of(name, spec_hash),
            _tasks: tasks.collect(),
            samples: samples.clone(),
            fault_on,
        };
        self.lock().insert(key.clone(), own);
    }

    /// What was seen for this run of this spec; none when it was not started in this process.
    pub fn samples(&self, key: &Key, name: &EntryName, spec_hash: &str) -> Option<Samples> {
        let of = of(name, spec_hash);
        let samples = self.lock().get(key).filter(|own| own.of == of)?.samples.clone();
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        Some(samples.clone())
    }

    /// Tells whether the fault is on: meanwhile edge probes are silent, and else those that ask about the fault.
    pub fn set_fault_on(&self, key: &Key, on: bool) {
        if let Some(own) = self.lock().get(key) {
            own.fault_on
                .send_if_modified(|value| std::mem::replace(value, on) != on);
        }
    }

    /// Ends the questions for an experiment.
    pub fn stop(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose run it is. The time of its intent is left out: probes are asked before there is one.
fn of(name: &EntryName, spec_hash: &str) -> (String, String, String) {
    (name.uid.clone(), name.run.clone(), spec_hash.to_owned())
}

/// One probe of one run.
struct Asker {
    clients: Clients,
    http: HttpAsker,
    grpc: GrpcAsker,
    prometheus: PrometheusAsker,
    resolver: Arc<dyn Resolver>,
    mark: Mark,
    plan: ProbePlan,
}

impl Asker {
    async fn ask_for_ever(self, index: usize, samples: Arc<Mutex<Samples>>, mut fault_on: watch::Receiver<bool>) {
        let mut next = tokio::time::Instant::now();
        loop {
            tokio::time::sleep_until(next).await;
            let its_time = |on: &bool| match self.plan.mode {
                ProbeMode::Continuous | ProbeMode::Unknown => true,
                ProbeMode::Edge => !on,
                ProbeMode::OnFault => *on,
            };
            if fault_on.wait_for(its_time).await.is_err() {
                return;
            }
            let (started, begun) = (Utc::now(), tokio::time::Instant::now());
            if let Some(own) = samples.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                own.asking_since = Some(started);
            }
            let result = self.ask().await;
            let sample = Sample {
                started,
                finished: Utc::now(),
                result,
            };
            if let Some(own) = samples.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                own.push(sample);
            }
            // From question to question, but never two at a time.
            next = (begun + self.plan.interval).max(tokio::time::Instant::now());
        }
    }

    async fn ask(&self) -> ProbeResult {
        let probe = &self.plan.probe;
        let (resolver, mark) = (&*self.resolver, &self.mark);
        if let Some(question) = &probe.http {
            return self.http.ask(resolver, mark, question).await;
        }
        if let Some(question) = &probe.grpc {
            return self.grpc.ask(resolver, mark, question).await;
        }
        if let Some(question) = &probe.condition {
            return condition::ask(&self.clients, &mark.namespace, question).await;
        }
        match &probe.prometheus {
            Some(question) => self.prometheus.ask(resolver, mark, question).await,
            None => ProbeResult::NotAsked("the probe has no question".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::probe_plan;
    use address::testing::Fixed;
    use std::time::Duration;

    const SPEC: &str = "hash";

    fn key() -> Key {
        ("shop".into(), "slow".into())
    }

    fn name(run: &str) -> EntryName {
        EntryName {
            experiment: "slow".into(),
            uid: "uid".into(),
            intent: 0,
            run: run.into(),
        }
    }

    async fn until(probes: &Probes, count: usize) -> Samples {
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let samples = probes.samples(&key(), &name("run"), SPEC).unwrap();
                if samples[0].samples.len() >= count {
                    return samples;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap()
    }

    fn probes() -> (Probes, Arc<dyn Resolver>) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let never = tower::service_fn(|_: ::http::Request<kube::client::Body>| async {
            Err::<::http::Response<kube::client::Body>, _>(std::io::Error::other("no API server here"))
        });
        let clients = Clients::single(kube::Client::new(never, "default"));
        // Nothing listens there: every answer is a failure, and a quick one.
        let resolver: Arc<dyn Resolver> = Arc::new(Fixed("127.0.0.1:1".parse().unwrap()));
        (Probes::new(clients).unwrap(), resolver)
    }

    #[tokio::test]
    async fn a_probe_asks_again_and_again_until_it_is_stopped() {
        let (probes, resolver) = probes();
        let mut plan = probe_plan("checkout");
        plan.interval = Duration::from_millis(5);
        probes.start(&key(), &name("run"), SPEC, &[plan], &[], resolver);
        let samples = until(&probes, 3).await;
        assert!(
            samples[0]
                .samples
                .iter()
                .all(|sample| matches!(sample.result, ProbeResult::Failed(_)))
        );
        assert!(
            samples[0].samples[0].finished <= samples[0].samples[1].started,
            "never two at a time"
        );
        assert!(probes.samples(&key(), &name("another run"), SPEC).is_none());
        assert!(
            probes.samples(&key(), &name("run"), "another hash").is_none(),
            "what is asked was changed, so it is asked anew"
        );
        probes.stop(&key());
        assert!(probes.samples(&key(), &name("run"), SPEC).is_none());
    }

    #[tokio::test]
    async fn an_edge_probe_is_silent_while_the_fault_is_on() {
        let (probes, resolver) = probes();
        let mut plan = probe_plan("checkout");
        (plan.interval, plan.mode) = (Duration::from_millis(1), ProbeMode::Edge);
        probes.start(&key(), &name("run"), SPEC, &[plan], &[], resolver);
        until(&probes, 1).await;
        probes.set_fault_on(&key(), true);
        let count = || probes.samples(&key(), &name("run"), SPEC).unwrap()[0].samples.len();
        // One question may be under way when the fault begins.
        let mut before = count();
        let silent = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = count();
                if now == before {
                    return now;
                }
                before = now;
            }
        });
        let silent = silent.await.expect("it falls silent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(count(), silent);
        probes.set_fault_on(&key(), false);
        until(&probes, silent + 1).await;
    }

    #[tokio::test]
    async fn a_probe_of_the_fault_is_silent_until_the_fault_is_on() {
        let (probes, resolver) = probes();
        let mut plan = probe_plan("checkout");
        (plan.interval, plan.mode) = (Duration::from_millis(1), ProbeMode::OnFault);
        let mut other = probe_plan("other");
        other.interval = Duration::from_millis(1);
        probes.start(&key(), &name("run"), SPEC, &[other, plan], &[], resolver);
        // Both began at once; the other one has asked several times by now.
        until(&probes, 3).await;
        assert!(
            probes.samples(&key(), &name("run"), SPEC).unwrap()[1]
                .samples
                .is_empty()
        );
        probes.set_fault_on(&key(), true);
        tokio::time::timeout(Duration::from_secs(10), async {
            while probes.samples(&key(), &name("run"), SPEC).unwrap()[1]
                .samples
                .is_empty()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}
