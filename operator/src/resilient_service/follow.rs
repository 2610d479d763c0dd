//! Follows the pods: one hanging request to each ready pod, answered when something about it changes.
//!
//! What goes in: the ready pods of each service. What comes out: their newest reports in the [`ReportStore`], and a
//! trigger for the service. A pod can lie about itself only: its answer must carry the UID that the API server gave
//! it, is limited in size, follows no redirect and is sent no credential.

use super::{
    dereference::ReadyPod,
    reports::{PodReport, ReportStore},
};
use crate::runtime::Triggers;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{StatusCode, header};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use valerix_crds::ResilientService;
use valerix_policy::Report;

/// How long after that its head must be there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Larger answers are refused. Unit: bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// Pause before asking again a pod that just answered: bounds what a pod that answers without end can cost.
const PACE: Duration = Duration::from_millis(100);
/// Pause after an answer that came at once and said nothing new (too many waiters).
const CROWDED: Duration = Duration::from_secs(1);
/// Pauses after failures.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// A clock that is off by so much more or less than when the pod reported was set since. A date is cut to the second.
const CLOCK_WAS_SET: TimeDelta = TimeDelta::seconds(1);
const HALF_A_SECOND: TimeDelta = TimeDelta::milliseconds(500);
/// What a pod changes at a known moment it is asked for this much later.
const LATER: TimeDelta = TimeDelta::seconds(1);

/// Namespace and name of a ResilientService.
type ServiceKey = (String, String);

type Moments = Arc<Mutex<Vec<DateTime<Utc>>>>;

/// Follows every ready pod of every service.
#[derive(Clone)]
pub struct Follower {
    http: reqwest::Client,
    reports: ReportStore,
    triggers: Triggers<ResilientService>,
    wait: Duration,
    followed: Arc<Mutex<HashMap<ServiceKey, FollowedService>>>,
}

#[derive(Default)]
struct FollowedService {
    pods: HashMap<String, Followed>,
    /// When something changes in the pods by the clock alone.
    changes_at: Moments,
}

struct Followed {
    address: SocketAddr,
    /// Ends the task when the pod is not followed any more.
    _task: AbortOnDropHandle<()>,
}

/// Why a pod's answer does not count.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer: {}", crate::runtime::failure::chain(.source))]
    Request { source: reqwest::Error },
    #[error("no answer in time")]
    Timeout,
    #[error("answered with status {0}")]
    Status(StatusCode),
    #[error("answered with more than {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("answered with something that is no report: {source}")]
    NoReport { source: serde_json::Error },
    #[error("answered as another pod: {0}")]
    OtherPod(String),
}

enum PodAnswer {
    Changed(Box<Report>, String),
    /// Nothing is new, said at that time by the pod's clock.
    Unchanged(Option<DateTime<Utc>>),
}

impl Follower {
    /// A follower that asks pods to wait for `wait`.
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn new(
        reports: ReportStore,
        triggers: Triggers<ResilientService>,
        wait: Duration,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(HEAD_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15))
            .build()?;
        Ok(Self {
            http,
            reports,
            triggers,
            wait,
            followed: Arc::default(),
        })
    }

    /// Follows exactly these pods of one service from now on; none if `port` is absent. At each of `changes_at` something
    /// changes in them by the clock alone, which they do not tell: they are asked anew then.
    pub fn follow(
        &self,
        namespace: &str,
        service: &str,
        pods: &BTreeMap<String, ReadyPod>,
        port: Option<u16>,
        changes_at: Vec<DateTime<Utc>>,
    ) {
        let key = (namespace.to_owned(), service.to_owned());
        let wanted: BTreeMap<&str, (&ReadyPod, SocketAddr)> = port
            .into_iter()
            .flat_map(|port| {
                pods.iter()
                    .map(move |(uid, pod)| (uid.as_str(), (pod, SocketAddr::new(IpAddr::clone(&pod.address), port))))
            })
            .collect();
        let mut all = self.lock();
        let service = all.entry(key.clone()).or_default();
        *service.changes_at.lock().unwrap_or_else(PoisonError::into_inner) = changes_at;
        let followed = &mut service.pods;
        followed.retain(|uid, current| {
            let keep = wanted
                .get(uid.as_str())
                .is_some_and(|(_, address)| *address == current.address);
            if !keep {
                self.reports.remove(uid);
            }
            keep
        });
        for (uid, (pod, address)) in wanted {
            followed.entry(uid.to_owned()).or_insert_with(|| {
                let pursuit = Pursuit {
                    follower: self.clone(),
                    namespace: key.0.clone(),
                    service: key.1.clone(),
                    pod: pod.name.clone(),
                    uid: uid.to_owned(),
                    address,
                    changes_at: service.changes_at.clone(),
                };
                Followed {
                    address,
                    _task: AbortOnDropHandle::new(tokio::spawn(pursuit.run())),
                }
            });
        }
        if followed.is_empty() {
            all.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceKey, FollowedService>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pod that is followed.
struct Pursuit {
    follower: Follower,
    namespace: String,
    service: String,
    pod: String,
    uid: String,
    address: SocketAddr,
    changes_at: Moments,
}

impl Pursuit {
    async fn run(self) {
        let mut since: Option<String> = None;
        let mut retry = RETRY;
        // How far the pod's clock, by which all this happens, is behind ours.
        let mut late = TimeDelta::zero();
        loop {
            let asked = Instant::now();
            match self.ask(since.as_deref(), late).await {
                Ok(PodAnswer::Changed(report, etag)) => {
                    retry = RETRY;
                    late = (Utc::now() - report.now).max(TimeDelta::zero());
                    let news = since.as_ref() != Some(&etag);
                    since = Some(etag);
                    self.received(*report);
                    if !news && asked.elapsed() < CROWDED {
                        sleep(CROWDED).await;
                    } else {
                        sleep(PACE.saturating_sub(asked.elapsed())).await;
                    }
                }
                Ok(PodAnswer::Unchanged(date)) => {
                    retry = RETRY;
                    // The clock is no news to the pod, and whoever is to hurt it asks how far it is off.
                    if let (Some(date), Some(skew)) = (date, self.skew())
                        && clock_was_set(skew, date, Utc::now())
                    {
                        since = None;
                    }
                    if self.note(|reports| reports.unchanged(&self.uid, Utc::now())) {
                        self.trigger();
                    }
                    if asked.elapsed() < Duration::from_millis(500) {
                        sleep(CROWDED).await;
                    }
                }
                Err(error) => {
                    // The next answer is to come at once, and to be looked at.
                    since = None;
                    if self.note(|reports| reports.failed(&self.uid, &error.to_string(), Utc::now())) {
                        tracing::info!(
                            namespace = self.namespace,
                            service = self.service,
                            pod = self.pod,
                            %error,
                            "a pod does not report"
                        );
                        self.trigger();
                    }
                    sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// How long a pod whose clock is `late` may hold its answer back.
    fn wait(&self, late: TimeDelta) -> Duration {
        let now = Utc::now();
        let changes_at = self.changes_at.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |at: &DateTime<Utc>| (*at - now + late + LATER).to_std().ok();
        let first = changes_at.iter().filter_map(left).min();
        first.map_or(self.follower.wait, |left| left.min(self.follower.wait))
    }

    async fn ask(&self, since: Option<&str>, late: TimeDelta) -> Result<PodAnswer, Error> {
        let mut request = self.follower.http.get(format!("http://{}/resilience", self.address));
        let mut patience = HEAD_TIMEOUT;
        if let Some(etag) = since {
            let wait = self.wait(late);
            let (seconds, milliseconds) = (wait.as_secs(), wait.subsec_millis());
            let text = if milliseconds == 0 {
                format!("{seconds}s")
            } else {
                format!("{seconds}s{milliseconds}ms")
            };
            request = request.query(&[("since", etag), ("wait", &text)]);
            patience += wait;
        }
        let mut response = timeout(patience, request.send())
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|source| Error::Request {
                source: source.without_url(),
            })?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if since.is_some() => return Ok(PodAnswer::Unchanged(date(&response))),
            status => return Err(Error::Status(status)),
        }
        let etag = response
            .headers()
            .get(header::ETAG)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = timeout(HEAD_TIMEOUT, read(&mut response))
            .await
            .map_err(|_| Error::Timeout)??;
        let report = parse(&body).map_err(|source| Error::NoReport { source })?;
        if report.pod_uid != self.uid {
            return Err(Error::OtherPod(report.pod_uid.chars().take(64).collect()));
        }
        let etag = etag.unwrap_or_else(|| report.etag());
        Ok(PodAnswer::Changed(Box::new(report), etag))
    }

    /// How far the pod's clock was off when it reported.
    fn skew(&self) -> Option<TimeDelta> {
        let known = self.follower.reports.get(&self.uid)?;
        Some(known.report.now - known.received_at)
    }

    fn received(&self, report: Report) {
        let report = PodReport {
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            pod: self.pod.clone(),
            report,
            received_at: Utc::now(),
        };
        self.note(|reports| reports.put(&self.uid, report));
        self.trigger();
    }

    /// Under the lock: a pod that is not followed any more must not come back into the store.
    fn note<T: Default>(&self, note: impl FnOnce(&ReportStore) -> T) -> T {
        let followed = self.follower.lock();
        let service = followed.get(&(self.namespace.clone(), self.service.clone()));
        let is_followed = service.is_some_and(|service| service.pods.contains_key(&self.uid));
        if is_followed {
            note(&self.follower.reports)
        } else {
            T::default()
        }
    }

    fn trigger(&self) {
        self.follower.triggers.trigger(&self.namespace, &self.service);
    }
}

/// Reads what is needed. Nobody here reads its limits.
fn parse(body: &[u8]) -> Result<Report, serde_json::Error> {
    let report: Report = serde_json::from_slice(body)?;
    Ok(Report {
        limits: Vec::new(),
        ..report
    })
}

/// Whether the pod's clock, or the operator's, is another one by now than when it was off by `skew`.
fn clock_was_set(skew: TimeDelta, date: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (date + HALF_A_SECOND - now - skew).abs() > CLOCK_WAS_SET
}

/// When it was answered by the pod's clock, to the second.
fn date(response: &reqwest::Response) -> Option<DateTime<Utc>> {
    let text = response.headers().get(header::DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(text).ok()?.to_utc())
}

async fn read(response: &mut reqwest::Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|source| Error::Request {
            source: source.without_url(),
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests;
