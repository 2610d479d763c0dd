//! Nudges: a pod whose report is behind the ConfigMap gets a new annotation value, and its kubelet looks at once.
//!
//! Deciding is pure; [`Nudger`] is the one place that sends, at most fifty a second over all services. A pod that is
//! current, or that says nothing, is never written.

use super::dereference::{DocumentHashes, Observed};
use crate::runtime::{Runtime, failure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::{collections::HashMap, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use valerix_crds::names::NUDGE_ANNOTATION;

/// When a pod that stays behind is nudged, counted from when it was first seen behind: the kubelet's watches of pods
/// and ConfigMaps are not ordered, so one nudge can come too early.
const SCHEDULE: [Duration; 4] = [
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
            pod.report.as_ref().is_some_and(|report| {
                let report = &report.report;
                report.policy.hash != live.policy || report.faults_hash != live.faults
            })
        })
        .map(|(uid, _)| uid.as_str())
        .collect()
}

/// The pods of one service that are behind, and how often each was nudged for it.
#[derive(Debug, Default)]
pub struct Schedule {
    pods: HashMap<String, Pending>,
}

#[derive(Debug)]
struct Pending {
    wanted: DocumentHashes,
    since: Instant,
    sent: usize,
}

impl Schedule {
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
            if SCHEDULE.get(pending.sent).is_some_and(|at| age >= *at) {
                due.push((*uid).to_owned());
                pending.sent += 1;
            }
            if let Some(at) = SCHEDULE.get(pending.sent) {
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
    queue: UnboundedSender<Nudge>,
}

struct Nudge {
    namespace: String,
    pod: String,
    uid: String,
}

impl Nudger {
    /// Starts the sender; it ends with the process.
    pub fn start(runtime: &Runtime) -> Self {
        let (queue, nudges) = unbounded_channel();
        tokio::spawn(send_all(runtime.clone(), nudges));
        Self { queue }
    }

    /// Asks for one nudge.
    pub fn nudge(&self, namespace: &str, pod: &str, uid: &str) {
        // The queue is closed only while the process ends.
        let _ = self.queue.send(Nudge {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
        });
    }
}

async fn send_all(runtime: Runtime, mut nudges: UnboundedReceiver<Nudge>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while let Some(nudge) = nudges.recv().await {
        pace.tick().await;
        if runtime.leadership.fence().is_none() {
            continue;
        }
        send(&runtime, &nudge).await;
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
        runtime::{Clients, Fence, Identity, Scope},
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
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let mut nudged = Vec::new();
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            let (due, _) = schedule.due(&["a"], &hashes("1"), now);
            nudged.extend(due.into_iter().map(|uid| (second, uid)));
        }
        assert_eq!(
            nudged,
            [(0, "a".into()), (3, "a".into()), (10, "a".into()), (30, "a".into())]
        );
        assert_eq!(schedule.due(&[], &hashes("1"), start), (vec![], None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_falls_behind_again_is_nudged_at_once() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        for behind in [vec!["a"], vec![], vec!["a"]] {
            assert_eq!(schedule.due(&behind, &hashes("1"), now).0, behind);
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

    #[tokio::test(start_paused = true)]
    async fn only_the_leader_sends_at_most_fifty_a_second_and_each_names_its_pod() {
        let api = FakeApi::default();
        let identity = Identity {
            pod: "operator-1".into(),
            uid: "operator-uid".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        let send_five = || async {
            let (queue, nudges) = unbounded_channel();
            for number in 0..5 {
                let _ = queue.send(Nudge {
                    namespace: "shop".into(),
                    pod: format!("order-{number}"),
                    uid: format!("uid-{number}"),
                });
            }
            drop(queue);
            let begun = Instant::now();
            send_all(runtime.clone(), nudges).await;
            begun.elapsed()
        };
        send_five().await;
        assert_eq!(api.requests().len(), 0, "another process leads");
        runtime.leadership.set(Some(Fence {
            lease: "lease".into(),
            term: 1,
        }));
        assert!(send_five().await >= PACE * 4);
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
    async fn another_document_starts_the_schedule_again() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        let (due, next) = schedule.due(&["a"], &hashes("1"), now);
        assert_eq!((due.len(), next), (1, Some(Duration::from_secs(3))));
        let (due, _) = schedule.due(&["a"], &hashes("1"), now + Duration::from_secs(1));
        assert!(due.is_empty());
        let (due, next) = schedule.due(&["a"], &hashes("2"), now + Duration::from_secs(1));
        assert_eq!((due.len(), next), (1, Some(Duration::from_secs(3))));
        let (due, next) = schedule.due(&["a", "b"], &hashes("2"), now + Duration::from_secs(3));
        assert_eq!((due, next), (vec!["b".to_owned()], Some(Duration::from_secs(1))));
    }
}
