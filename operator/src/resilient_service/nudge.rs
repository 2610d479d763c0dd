//! Nudges: a pod whose report is behind the ConfigMap gets a new annotation value, and its kubelet looks at once.
//!
//! Deciding is pure; [`Nudger`] is the one place that sends, at most fifty a second over all services. A pod that is
//! current, or that says nothing, is never written.

use super::{
    dereference::{DocumentHashes, Observed},
    reports::ReportStore,
};
use crate::runtime::{Runtime, failure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use valerix_crds::names::NUDGE_ANNOTATION;
use valerix_policy::Report;

/// When a pod that stays behind is nudged, counted from when it was first seen behind: the kubelet's watches of pods
/// and ConfigMaps are not ordered, so one nudge can come too early.
const MOMENTS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Pause between two nudges: fifty a second.
const PACE: Duration = Duration::from_millis(20);

/// The UIDs of ready pods whose newest report shows other documents than the live ConfigMap holds.
pub fn behind<'a>(observed: &'a Observed, live: &DocumentHashes) -> Vec<&'a str> {
    // Without a policy document the ConfigMap is not there yet: nothing can be behind it.
    if live.policy.is_none() {
        return Vec::new();
    }
    observed
        .ready_pods
        .iter()
        .filter(|(_, pod)| {
            pod.report
                .as_ref()
                .is_some_and(|report| is_behind(&report.report, live))
        })
        .map(|(uid, _)| uid.as_str())
        .collect()
}

fn is_behind(report: &Report, live: &DocumentHashes) -> bool {
    report.policy.hash != live.policy || report.faults_hash != live.faults
}

/// The pods of one service that are behind, and how often each was nudged for it.
#[derive(Debug, Default)]
pub struct Pacing {
    pods: HashMap<String, Pending>,
}

#[derive(Debug)]
struct Pending {
    wanted: DocumentHashes,
    since: Instant,
    sent: usize,
}

impl Pacing {
    /// The pods to nudge now, and when to ask again.
    pub fn due(&mut self, behind: &[&str], wanted: &DocumentHashes, now: Instant) -> (Vec<String>, Option<Duration>) {
        self.pods
            .retain(|uid, pending| pending.wanted == *wanted && behind.contains(&uid.as_str()));
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        for uid in behind {
            let pending = self.pods.entry((*uid).to_owned()).or_insert_with(|| Pending {
                wanted: wanted.clone(),
                since: now,
                sent: 0,
            });
            let age = now.duration_since(pending.since);
            if MOMENTS.get(pending.sent).is_some_and(|at| age >= *at) {
                due.push((*uid).to_owned());
                pending.sent += 1;
            }
            if let Some(at) = MOMENTS.get(pending.sent) {
                let wait = at.saturating_sub(age);
                next = Some(next.map_or(wait, |next| next.min(wait)));
            }
        }
        (due, next)
    }
}

/// Sends nudges, one at a time.
#[derive(Clone)]
pub struct Nudger {
    queue: Arc<Queue>,
}

/// The pods that wait for their nudge, each once. Services take turns, so that one with few pods does not wait behind all
/// those of the others; the pods of each come in the order in which they were asked for.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    turns: VecDeque<ServiceKey>,
    /// The UIDs that wait, of each service that has a turn.
    order: HashMap<ServiceKey, VecDeque<String>>,
    nudges: HashMap<String, Nudge>,
}

/// Namespace and name.
type ServiceKey = (String, String);

struct Nudge {
    namespace: String,
    service: String,
    pod: String,
    uid: String,
    /// What the pod is to run.
    wanted: DocumentHashes,
}

impl Nudger {
    /// Starts the sender; it ends with the process.
    pub fn start(runtime: &Runtime, reports: ReportStore) -> Self {
        let queue = Arc::new(Queue::default());
        runtime.spawn("nudger", send_all(runtime.clone(), reports, queue.clone()));
        Self { queue }
    }

    /// Asks for one nudge; a pod that waits already keeps its place.
    pub fn nudge(&self, (namespace, service): (&str, &str), pod: &str, uid: &str, wanted: &DocumentHashes) {
        self.queue.put(Nudge {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
            wanted: wanted.clone(),
        });
    }
}

impl Queue {
    fn put(&self, nudge: Nudge) {
        self.lock().put(nudge);
        self.filled.notify_one();
    }

    async fn take(&self) -> Nudge {
        loop {
            let next = self.lock().take();
            match next {
                Some(nudge) => return nudge,
                None => self.filled.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, nudge: Nudge) {
        if !self.nudges.contains_key(&nudge.uid) {
            let service = (nudge.namespace.clone(), nudge.service.clone());
            let order = self.order.entry(service.clone()).or_default();
            if order.is_empty() {
                self.turns.push_back(service);
            }
            order.push_back(nudge.uid.clone());
        }
        self.nudges.insert(nudge.uid.clone(), nudge);
    }

    fn take(&mut self) -> Option<Nudge> {
        let service = self.turns.pop_front()?;
        let order = self.order.get_mut(&service)?;
        let uid = order.pop_front()?;
        if order.is_empty() {
            self.order.remove(&service);
        } else {
            self.turns.push_back(service);
        }
        self.nudges.remove(&uid)
    }
}

async fn send_all(runtime: Runtime, reports: ReportStore, queue: Arc<Queue>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let nudge = tokio::select! {
            nudge = queue.take() => nudge,
            () = runtime.shutdown.cancelled() => return,
        };
        // Since it was asked for, the pod may have become current, or gone.
        let is_still_behind = reports
            .get(&nudge.uid)
            .is_some_and(|report| is_behind(&report.report, &nudge.wanted));
        if is_still_behind && runtime.leadership.leads() {
            pace.tick().await;
            send(&runtime, &nudge).await;
        }
    }
}

async fn send(runtime: &Runtime, nudge: &Nudge) {
    let api: Api<Pod> = runtime.clients.api(&nudge.namespace);
    // The value has no meaning but that it is new. The UID keeps a pod of the same name from being written.
    let value = format!("{:x}", chrono::Utc::now().timestamp_micros());
    let patch = json!({"metadata": {"uid": nudge.uid, "annotations": {NUDGE_ANNOTATION: value}}});
    runtime
        .metrics
        .writes
        .with_label_values(&[super::CONTROLLER, "nudge"])
        .inc();
    let parameters = PatchParams::default();
    if let Err(error) = api.patch_status(&nudge.pod, &parameters, &Patch::Merge(&patch)).await {
        // Without it the kubelet finds out by itself, later.
        if !failure::is_status(&error, 404) && !failure::is_status(&error, 409) {
            tracing::warn!(
                namespace = nudge.namespace,
                pod = nudge.pod,
                error = failure::chain(&error),
                "failed to nudge a pod; its configuration arrives later"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::FakeApi,
        resilient_service::{
            dereference::ReadyPod,
            reports::{Contact, PodReport},
        },
        runtime::{Clients, Identity, Scope},
    };
    use std::sync::Arc;

    fn hashes(policy: &str) -> DocumentHashes {
        DocumentHashes {
            policy: Some(policy.into()),
            faults: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_stays_behind_is_nudged_four_times_and_a_current_one_never() {
        let mut pacing = Pacing::default();
        let start = Instant::now();
        let mut nudged = Vec::new();
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            let (due, _) = pacing.due(&["a"], &hashes("1"), now);
            nudged.extend(due.into_iter().map(|uid| (second, uid)));
        }
        assert_eq!(
            nudged,
            [(0, "a".into()), (3, "a".into()), (10, "a".into()), (30, "a".into())]
        );
        assert_eq!(pacing.due(&[], &hashes("1"), start), (vec![], None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_falls_behind_again_is_nudged_at_once() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        for behind in [vec!["a"], vec![], vec!["a"]] {
            assert_eq!(pacing.due(&behind, &hashes("1"), now).0, behind);
        }
    }

    #[test]
    fn only_a_pod_that_says_another_hash_is_behind() {
        let live = DocumentHashes {
            policy: Some("1".into()),
            faults: Some("f".into()),
        };
        let pod = |report: Option<serde_json::Value>| ReadyPod {
            name: "order-1".into(),
            address: [127, 0, 0, 1].into(),
            template: None,
            contact: Contact::default(),
            report: report.map(|report| {
                let now = chrono::DateTime::UNIX_EPOCH;
                let mut full = json!({"podUID": "a", "service": "order", "now": now, "policy": {"versions": [1]}});
                json_patch::merge(&mut full, &report);
                Arc::new(PodReport {
                    namespace: "shop".into(),
                    service: "order".into(),
                    pod: "order-1".into(),
                    report: serde_json::from_value(full).unwrap(),
                    received_at: now,
                })
            }),
        };
        let is_behind = |report, live: &DocumentHashes| {
            let observed = Observed {
                ready_pods: [("a".to_owned(), pod(report))].into(),
                ..Observed::default()
            };
            !behind(&observed, live).is_empty()
        };
        for (report, expected) in [
            (None, false),
            (Some(json!({"policy": {"hash": "1"}, "faultsHash": "f"})), false),
            (Some(json!({"policy": {"hash": "0"}, "faultsHash": "f"})), true),
            (Some(json!({"policy": {"hash": "1"}, "faultsHash": "e"})), true),
            (Some(json!({"policy": {"hash": "1"}})), true),
            (Some(json!({})), true),
        ] {
            assert_eq!(is_behind(report.clone(), &live), expected, "{report:?}");
        }
        let removed = DocumentHashes { faults: None, ..live };
        let still = json!({"policy": {"hash": "1"}, "faultsHash": "f"});
        assert!(
            is_behind(Some(still.clone()), &removed),
            "an entry that went is news too"
        );
        assert!(
            !is_behind(Some(still), &DocumentHashes::default()),
            "there is no ConfigMap yet"
        );
    }

    fn report(uid: &str, hash: &str) -> PodReport {
        let now = chrono::DateTime::UNIX_EPOCH;
        let report = json!({"podUID": uid, "service": "order", "now": now, "policy": {"versions": [1], "hash": hash}});
        PodReport {
            namespace: "shop".into(),
            service: "order".into(),
            pod: uid.into(),
            report: serde_json::from_value(report).unwrap(),
            received_at: now,
        }
    }

    fn runtime(api: &FakeApi) -> Runtime {
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster])
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_leader_sends_at_most_fifty_a_second_and_each_names_its_pod() {
        let api = FakeApi::default();
        let runtime = runtime(&api);
        let reports = ReportStore::default();
        let nudger = Nudger::start(&runtime, reports.clone());
        let ask_for_five = || {
            for number in 0..5 {
                let uid = format!("uid-{number}");
                reports.put(&uid, report(&uid, "old"));
                nudger.nudge(("shop", "order"), &format!("order-{number}"), &uid, &hashes("new"));
            }
        };
        ask_for_five();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(api.requests().len(), 0, "another process leads");
        runtime.leadership.set(true);
        ask_for_five();
        tokio::time::sleep(PACE * 3).await;
        assert!(api.requests().len() < 5, "more than fifty a second");
        tokio::time::sleep(PACE * 3).await;
        let requests = api.requests();
        assert_eq!(requests.len(), 5);
        for (number, request) in requests.iter().enumerate() {
            assert_eq!(
                request.path,
                format!("/api/v1/namespaces/shop/pods/order-{number}/status")
            );
            assert_eq!(request.body["metadata"]["uid"], format!("uid-{number}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_waits_once_and_gets_nothing_when_it_is_current_at_its_turn() {
        let api = FakeApi::default();
        let runtime = runtime(&api);
        runtime.leadership.set(true);
        let reports = ReportStore::default();
        let nudger = Nudger::start(&runtime, reports.clone());
        for uid in ["late", "current", "gone", "late", "late"] {
            reports.put(uid, report(uid, "old"));
            nudger.nudge(("shop", "order"), uid, uid, &hashes("new"));
        }
        reports.put("current", report("current", "new"));
        reports.remove("gone");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(api.writes(), ["PATCH /api/v1/namespaces/shop/pods/late/status"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_pod_of_a_service_does_not_wait_behind_a_thousand_of_others() {
        let api = FakeApi::default();
        let runtime = runtime(&api);
        runtime.leadership.set(true);
        let reports = ReportStore::default();
        let nudger = Nudger::start(&runtime, reports.clone());
        let ask_for = |service: &str, number: usize| {
            let uid = format!("{service}-{number}");
            reports.put(&uid, report(&uid, "old"));
            nudger.nudge(("shop", service), &uid, &uid, &hashes("new"));
        };
        for number in 0..1000 {
            ask_for(&format!("upgraded-{}", number % 10), number);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask_for("patched", 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let path = "PATCH /api/v1/namespaces/shop/pods/patched-1/status";
        assert!(api.writes().iter().any(|write| write == path), "{:?}", api.writes());
        tokio::time::sleep(PACE * 1100).await;
        assert_eq!(api.writes().len(), 1001, "each is nudged once");
    }

    #[tokio::test(start_paused = true)]
    async fn another_document_starts_the_schedule_again() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        let (due, next) = pacing.due(&["a"], &hashes("1"), now);
        assert_eq!((due.len(), next), (1, Some(Duration::from_secs(3))));
        let (due, _) = pacing.due(&["a"], &hashes("1"), now + Duration::from_secs(1));
        assert!(due.is_empty());
        let (due, next) = pacing.due(&["a"], &hashes("2"), now + Duration::from_secs(1));
        assert_eq!((due.len(), next), (1, Some(Duration::from_secs(3))));
        let (due, next) = pacing.due(&["a", "b"], &hashes("2"), now + Duration::from_secs(3));
        assert_eq!((due, next), (vec!["b".to_owned()], Some(Duration::from_secs(1))));
    }
}
