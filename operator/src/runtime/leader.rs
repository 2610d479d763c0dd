//! Leadership: one process acts, the others keep their caches warm and wait.
//!
//! Timing comes from a monotonic clock and from [`super::lease`]; every request has a timeout. Losing the Lease ends
//! [`run`] with an error, and the caller ends the process: nothing goes on acting without it.

use super::{
    Clients, Identity, Runtime, clock,
    failure::is_status,
    lease::{Decision, LEASE_DURATION, RENEW_DEADLINE, RENEW_PERIOD, RETRY_PERIOD, Record, evaluate_lease},
};
use futures::StreamExt;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::watcher,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Name of the Lease in the operator's namespace.
pub const LEASE_NAME: &str = "valerix-operator";
/// A single request to the Lease may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Proof of one term of leadership, to be recorded with side effects outside of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// UID of the Lease.
    pub lease: String,
    /// Transitions of the Lease: grows with every new holder.
    pub term: i32,
}

/// Whether this process leads, for everyone who wants to know.
#[derive(Clone, Debug)]
pub struct Leadership {
    sender: Arc<watch::Sender<Option<Fence>>>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl Leadership {
    /// Waits until this process leads.
    pub async fn acquired(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = receiver.wait_for(Option::is_some).await;
    }

    /// The current term, if this process leads.
    pub fn fence(&self) -> Option<Fence> {
        self.sender.borrow().clone()
    }

    /// Begins or ends a term.
    pub fn set(&self, fence: Option<Fence>) {
        self.sender.send_replace(fence);
    }
}

/// Why leading ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody could be told in time that this process still leads.
    #[error("failed to renew the lease for {0:?}; another process may lead now")]
    Lost(Duration),
    /// Somebody else is named as the holder.
    #[error("failed to keep the lease: it is held by {0} now")]
    Taken(String),
}

/// Takes the Lease, keeps it until `release` is cancelled, gives it back. Ends early if the process ends before it leads.
///
/// # Errors
/// When the Lease is lost: the process must end.
pub async fn run(runtime: &Runtime, namespace: &str, release: &CancellationToken) -> Result<(), Error> {
    let elector = Elector {
        api: api(&runtime.clients, namespace),
        identity: runtime.identity.clone(),
    };
    let Some(held) = (tokio::select! {
        held = elector.acquire() => Some(held),
        () = runtime.shutdown.cancelled() => None,
    }) else {
        release.cancelled().await;
        return Ok(());
    };
    tracing::info!(term = transitions(&held), "this process leads");
    runtime.leadership.set(Some(Fence {
        lease: held.uid().unwrap_or_default(),
        term: transitions(&held),
    }));
    runtime.metrics.leader.set(1);
    let kept = elector.keep(held, release).await;
    runtime.leadership.set(None);
    runtime.metrics.leader.set(0);
    kept
}

fn api(clients: &Clients, namespace: &str) -> Api<Lease> {
    clients.api(namespace)
}

struct Elector {
    api: Api<Lease>,
    identity: Identity,
}

impl Elector {
    /// Waits for the Lease and takes it. Ends only with the Lease in hand.
    async fn acquire(&self) -> Lease {
        let mut seen: Option<(Record, Instant)> = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {
                    let wait = seen.as_ref().map_or(RETRY_PERIOD, |(record, since)| {
                        match evaluate_lease(Some(record), &self.identity.uid, since.elapsed()) {
                            Decision::Wait(wait) => wait,
                            _ => Duration::ZERO,
                        }
                    });
                    self.wait_for_change(wait, seen.as_ref().map(|(record, _)| record))
                        .await;
                }
                Err(error) => {
                    tracing::warn!(error, "failed to ask for the lease");
                    tokio::time::sleep(RETRY_PERIOD).await;
                }
            }
        }
    }

    /// One look at the Lease and, if it is free, one attempt to take it.
    async fn attempt(&self, seen: &mut Option<(Record, Instant)>) -> Result<Option<Lease>, String> {
        let found = call(self.api.get_opt(LEASE_NAME)).await?;
        let record = found.as_ref().map(record);
        if let Some(record) = &record
            && seen.as_ref().is_none_or(|(known, _)| known != record)
        {
            *seen = Some((record.clone(), Instant::now()));
        }
        let unchanged = seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let written = match (evaluate_lease(record.as_ref(), &self.identity.uid, unchanged), found) {
            (Decision::Wait(_), _) => return Ok(None),
            (Decision::Create, _) | (_, None) => {
                let lease = self.lease(None, 0, None);
                call_raw(self.api.create(&PostParams::default(), &lease)).await?
            }
            (Decision::Renew, Some(found)) => {
                let count = transitions(&found);
                let lease = self.lease(Some(found.metadata), count, None);
                call_raw(self.api.replace(LEASE_NAME, &PostParams::default(), &lease)).await?
            }
            (Decision::Take { transitions }, Some(found)) => {
                let lease = self.lease(Some(found.metadata), transitions, None);
                call_raw(self.api.replace(LEASE_NAME, &PostParams::default(), &lease)).await?
            }
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            // Somebody was quicker.
            Err(error) if is_status(&error, 409) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Watches the Lease, so that one that is given back is taken at once, and waits no longer than `longest`.
    async fn wait_for_change(&self, longest: Duration, known: Option<&Record>) {
        let changes = watcher::watch_object(self.api.clone(), LEASE_NAME).filter_map(|lease| {
            // A failed watch does not matter: the wait ends by itself.
            let current = lease.ok().map(|lease| lease.as_ref().map(record));
            std::future::ready(current)
        });
        let mut changes = std::pin::pin!(changes);
        let changed = async {
            while let Some(current) = changes.next().await {
                if current.as_ref() != known {
                    return;
                }
            }
        };
        let _ = timeout(longest, changed).await;
    }

    /// Renews until told to give the Lease back, or until it is lost.
    async fn keep(&self, mut held: Lease, release: &CancellationToken) -> Result<(), Error> {
        let mut renewed = Instant::now();
        let mut next = renewed + RENEW_PERIOD;
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = release.cancelled() => {
                    self.release(held).await;
                    return Ok(());
                }
            }
            let lost_at = renewed + RENEW_DEADLINE;
            let asked = Instant::now();
            match tokio::time::timeout_at(lost_at, self.renew(&held)).await {
                Ok(Ok(lease)) => {
                    held = lease;
                    // Counted from before the request: the others count from when they see it.
                    renewed = asked;
                    next = asked + RENEW_PERIOD;
                }
                Ok(Err(Renewal::Taken(holder))) => return Err(Error::Taken(holder)),
                Ok(Err(Renewal::Failed(error))) => {
                    tracing::warn!(error, "failed to renew the lease");
                    next = Instant::now() + RETRY_PERIOD;
                    if next >= lost_at {
                        next = lost_at;
                    }
                    if Instant::now() >= lost_at {
                        return Err(Error::Lost(RENEW_DEADLINE));
                    }
                }
                Err(_) => return Err(Error::Lost(RENEW_DEADLINE)),
            }
        }
    }

    async fn renew(&self, held: &Lease) -> Result<Lease, Renewal> {
        let lease = self.lease(Some(held.metadata.clone()), transitions(held), acquired(held));
        let written = call_raw(self.api.replace(LEASE_NAME, &PostParams::default(), &lease))
            .await
            .map_err(Renewal::Failed)?;
        let error = match written {
            Ok(lease) => return Ok(lease),
            Err(error) => error,
        };
        if !is_status(&error, 409) && !is_status(&error, 404) {
            return Err(Renewal::Failed(error.to_string()));
        }
        // Somebody wrote it, perhaps ourselves with an answer that got lost: look who holds it.
        match call(self.api.get_opt(LEASE_NAME)).await.map_err(Renewal::Failed)? {
            Some(current) if record(&current).holder == self.identity.uid => Ok(current),
            Some(current) => Err(Renewal::Taken(record(&current).holder)),
            None => Err(Renewal::Taken("nobody, since it was deleted".to_owned())),
        }
    }

    async fn release(&self, held: Lease) {
        let mut lease = self.lease(Some(held.metadata.clone()), transitions(&held), acquired(&held));
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        match call_raw(self.api.replace(LEASE_NAME, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => tracing::info!("gave the lease back"),
            Ok(Err(error)) => tracing::warn!(%error, "failed to give the lease back"),
            Err(error) => tracing::warn!(error, "failed to give the lease back"),
        }
    }

    /// The Lease as ours; `acquired` is kept while the holder stays the same.
    fn lease(&self, metadata: Option<ObjectMeta>, transitions: i32, acquired: Option<MicroTime>) -> Lease {
        let now = clock::micro_time(chrono::Utc::now());
        Lease {
            metadata: metadata.map_or_else(
                || ObjectMeta {
                    name: Some(LEASE_NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                |metadata| ObjectMeta {
                    managed_fields: None,
                    ..metadata
                },
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.uid.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                lease_transitions: Some(transitions),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

enum Renewal {
    Failed(String),
    Taken(String),
}

/// A call under its timeout; errors of both kinds as text.
async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    call_raw(request).await?.map_err(|error| super::failure::chain(&error))
}

async fn call_raw<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<Result<T, kube::Error>, String> {
    timeout(CALL_TIMEOUT, request)
        .await
        .map_err(|_| format!("no answer within {CALL_TIMEOUT:?}"))
}

fn acquired(lease: &Lease) -> Option<MicroTime> {
    lease.spec.as_ref().and_then(|spec| spec.acquire_time.clone())
}

fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0)
}

fn record(lease: &Lease) -> Record {
    let Some(spec) = &lease.spec else {
        return Record::default();
    };
    Record {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or(0),
        renewed: spec.renew_time.as_ref().map(|time| time.0.to_string()),
        duration: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::{FakeApi, Fault},
        runtime::Scope,
    };

    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/valerix-system/leases/valerix-operator";

    fn process(api: &FakeApi, uid: &str) -> Runtime {
        let identity = Identity {
            pod: uid.into(),
            uid: uid.into(),
        };
        Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster])
    }

    fn start(runtime: &Runtime) -> tokio::task::JoinHandle<Result<(), Error>> {
        let runtime = runtime.clone();
        tokio::spawn(async move { run(&runtime, "valerix-system", &runtime.shutdown).await })
    }

    async fn leads(runtime: &Runtime) -> Duration {
        let begun = Instant::now();
        timeout(Duration::from_secs(60), runtime.leadership.acquired())
            .await
            .expect("the process leads");
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_leader_is_followed_within_the_lease_and_a_restarted_one_goes_on_at_once() {
        let api = FakeApi::default();
        let (first, second) = (process(&api, "one"), process(&api, "two"));
        let running = start(&first);
        leads(&first).await;
        let waiting = start(&second);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(second.leadership.fence(), None, "two lead at once");
        running.abort();
        let again = process(&api, "one");
        let restarted = start(&again);
        assert!(leads(&again).await < Duration::from_secs(1));
        restarted.abort();
        let waited = leads(&second).await;
        assert!(waited <= LEASE_DURATION + Duration::from_secs(1), "{waited:?}");
        assert_eq!(second.leadership.fence().unwrap().term, 1);
        waiting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_back_is_taken_at_once() {
        let api = FakeApi::default();
        let (first, second) = (process(&api, "one"), process(&api, "two"));
        let running = start(&first);
        leads(&first).await;
        let waiting = start(&second);
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.shutdown.cancel();
        assert!(running.await.unwrap().is_ok());
        assert!(leads(&second).await < Duration::from_secs(1));
        waiting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_ends_before_another_may_begin() {
        for fault in [Fault::Refuse(500), Fault::Delay(Duration::from_secs(3600))] {
            let api = FakeApi::default();
            let leader = process(&api, "one");
            let running = start(&leader);
            leads(&leader).await;
            tokio::time::sleep(Duration::from_secs(12)).await;
            let renewed = api.requests().len();
            api.inject(move |request| request.is_write().then_some(fault));
            let begun = Instant::now();
            let ended = running.await.unwrap();
            assert!(matches!(ended, Err(Error::Lost(_))), "{ended:?}");
            assert!(
                begun.elapsed() < LEASE_DURATION - RENEW_PERIOD + Duration::from_secs(1),
                "{:?}",
                begun.elapsed()
            );
            assert!(renewed > 2);
            assert_eq!(leader.leadership.fence(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_displaced_ends() {
        let api = FakeApi::default();
        let leader = process(&api, "one");
        let running = start(&leader);
        leads(&leader).await;
        api.merge(LEASE, serde_json::json!({"spec": {"holderIdentity": "two"}}));
        assert!(matches!(running.await.unwrap(), Err(Error::Taken(holder)) if holder == "two"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_got_lost_costs_nothing_and_rest_is_twelve_renewals_a_minute() {
        let api = FakeApi::default();
        let leader = process(&api, "one");
        let running = start(&leader);
        leads(&leader).await;
        let mut lost = false;
        api.inject(move |request| {
            let lose = request.is_write() && !lost;
            lost |= lose;
            lose.then_some(Fault::LoseAnswer)
        });
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(leader.leadership.fence().is_some());
        api.forget_requests();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let count = api.requests().len();
        assert!((20..=26).contains(&count), "{count}");
        running.abort();
    }
}
