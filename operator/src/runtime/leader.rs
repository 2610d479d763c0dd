//! Leadership: one process acts, the others keep their caches warm and wait.
//!
//! Timing comes from a monotonic clock and from [`super::lease`]; every request has a timeout. Losing the Lease ends
//! [`run`] with an error, and the caller ends the process: nothing goes on acting without it.

use super::{
    Clients, Identity, Runtime, clock,
    failure::{is_status, sentence},
    lease::{Decision, LEASE_DURATION, RENEW_DEADLINE, RENEW_PERIOD, RETRY_PERIOD, Record, evaluate_lease},
};
use futures::StreamExt;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Name of the Lease in the operator's namespace.
pub const LEASE_NAME: &str = "valerix-operator";
/// A single request to the Lease may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two attempts on a Lease that seems free and was not.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Whether this process leads, for everyone who wants to know. No write carries the term of the Lease: each is
/// conditional on what it was decided from (docs/adr/0032-writes-carry-what-they-were-decided-from.md).
#[derive(Clone, Debug)]
pub struct Leadership {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Leadership {
    /// Waits until this process leads.
    pub async fn acquired(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = receiver.wait_for(|leads| *leads).await;
    }

    /// Whether this process leads now.
    pub fn leads(&self) -> bool {
        *self.sender.borrow()
    }

    /// Begins or ends leading.
    pub fn set(&self, leads: bool) {
        self.sender.send_replace(leads);
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
        watched: Api::namespaced(runtime.clients.read.clone(), namespace),
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
    runtime.leadership.set(true);
    runtime.metrics.leader.set(1);
    let kept = elector.keep(held, release).await;
    runtime.leadership.set(false);
    runtime.metrics.leader.set(0);
    kept
}

fn api(clients: &Clients, namespace: &str) -> Api<Lease> {
    clients.api(namespace)
}

struct Elector {
    api: Api<Lease>,
    /// The same for what may stay silent from one renewal to the next, and longer.
    watched: Api<Lease>,
    identity: Identity,
}

impl Elector {
    /// Waits for the Lease and takes it. Ends only with the Lease in hand.
    ///
    /// One watch stays open meanwhile: a Lease that is given back is taken at once, and one that is renewed costs no
    /// request. A request is made when the watch shows nothing for as long as the Lease lasts.
    async fn acquire(&self) -> Lease {
        let mut seen: Option<(Record, Instant)> = None;
        let changes = watcher::watch_object(self.watched.clone(), LEASE_NAME)
            .default_backoff()
            // A failed watch does not matter: the wait ends by itself.
            .filter_map(|lease| std::future::ready(lease.ok()));
        let mut changes = std::pin::pin!(changes);
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {
                    let first = self.wait(seen.as_ref()).max(SHORTEST_WAIT);
                    let mut until = Instant::now() + first;
                    while let Ok(Some(current)) = timeout_at(until, changes.next()).await {
                        let Some(current) = current.as_ref().map(record) else {
                            break;
                        };
                        if note(&mut seen, &current) {
                            until = Instant::now() + self.wait(seen.as_ref());
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error, "failed to ask for the lease");
                    tokio::time::sleep(RETRY_PERIOD).await;
                }
            }
        }
    }

    /// How long the Lease as last seen is to be left to its holder.
    fn wait(&self, seen: Option<&(Record, Instant)>) -> Duration {
        seen.map_or(RETRY_PERIOD, |(record, since)| {
            match evaluate_lease(Some(record), &self.identity.uid, since.elapsed()) {
                Decision::Wait(wait) => wait,
                _ => Duration::ZERO,
            }
        })
    }

    /// One look at the Lease and, if it is free, one attempt to take it.
    async fn attempt(&self, seen: &mut Option<(Record, Instant)>) -> Result<Option<Lease>, String> {
        let found = call(self.api.get_opt(LEASE_NAME)).await?;
        let record = found.as_ref().map(record);
        if let Some(record) = &record {
            note(seen, record);
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
            Err(error) => Err(sentence(&error)),
        }
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
            match timeout_at(lost_at, self.renew(&held)).await {
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
        let is_renewed = |current: &Lease| record(current).renewed != record(held).renewed;
        let mut current = self.renew_once(held).await?;
        if !is_renewed(&current) {
            // Somebody else wrote it (an annotation, say) and nobody renewed it: only a renewal of ours counts.
            current = self.renew_once(&current).await?;
        }
        if is_renewed(&current) {
            return Ok(current);
        }
        Err(Renewal::Failed("somebody else keeps writing the lease".to_owned()))
    }

    /// Writes the Lease; when somebody was quicker, returns it as it is now if it is still ours.
    async fn renew_once(&self, held: &Lease) -> Result<Lease, Renewal> {
        let lease = self.lease(Some(held.metadata.clone()), transitions(held), acquired(held));
        let written = call_raw(self.api.replace(LEASE_NAME, &PostParams::default(), &lease))
            .await
            .map_err(Renewal::Failed)?;
        let error = match written {
            Ok(lease) => return Ok(lease),
            Err(error) => error,
        };
        if !is_status(&error, 409) && !is_status(&error, 404) {
            return Err(Renewal::Failed(sentence(&error)));
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
            Ok(Err(error)) => tracing::warn!(error = sentence(&error), "failed to give the lease back"),
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
    call_raw(request).await?.map_err(|error| sentence(&error))
}

async fn call_raw<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<Result<T, kube::Error>, String> {
    timeout(CALL_TIMEOUT, request)
        .await
        .map_err(|_| format!("no answer within {CALL_TIMEOUT:?}"))
}

/// Keeps a record with the time at which it was first seen; says whether it is another one than before.
fn note(seen: &mut Option<(Record, Instant)>, record: &Record) -> bool {
    let is_new = seen.as_ref().is_none_or(|(known, _)| known != record);
    if is_new {
        *seen = Some((record.clone(), Instant::now()));
    }
    is_new
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
mod tests;
