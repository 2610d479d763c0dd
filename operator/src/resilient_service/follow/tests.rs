//! The follower against real HTTP servers on loopback.

use super::*;
use crate::resilient_service::reports::Contact;
use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    http::Response,
    routing::get,
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// A pod: what it answers can be changed while it is asked.
struct Pod {
    address: SocketAddr,
    answer: Arc<watch::Sender<Said>>,
    asked: Arc<AtomicUsize>,
    queries: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Said {
    /// Answers at once though it has nothing new.
    eager: bool,
    status: u16,
    body: Vec<u8>,
    location: Option<String>,
    hangs: bool,
}

#[derive(Clone)]
struct PodState {
    answer: watch::Receiver<Said>,
    asked: Arc<AtomicUsize>,
    queries: Arc<Mutex<Vec<String>>>,
}

fn report(uid: &str, hash: &str) -> Value {
    json!({"podUID": uid, "service": "order", "now": "2026-01-01T00:00:00Z", "policy": {"versions": [1], "hash": hash}})
}

fn good(body: &Value) -> Said {
    Said {
        eager: false,
        status: 200,
        body: body.to_string().into_bytes(),
        location: None,
        hangs: false,
    }
}

impl Pod {
    async fn start(first: Said) -> Self {
        let (sender, receiver) = watch::channel(first);
        let state = PodState {
            answer: receiver,
            asked: Arc::default(),
            queries: Arc::default(),
        };
        let (asked, queries) = (state.asked.clone(), state.queries.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/resilience", get(answer)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            answer: Arc::new(sender),
            asked,
            queries,
        }
    }
}

/// Answers at once what is new, and waits for something new otherwise.
async fn answer(State(mut state): State<PodState>, RawQuery(query): RawQuery) -> Response<Body> {
    state.asked.fetch_add(1, Ordering::SeqCst);
    let query = query.unwrap_or_default();
    state.queries.lock().unwrap().push(query.clone());
    loop {
        let current = state.answer.borrow_and_update().clone();
        let etag = format!("\"{}\"", valerix_policy::hash(&current.body));
        let known = query.contains(etag.trim_matches('"'));
        if !current.hangs && (!known || current.eager) {
            let mut response = Response::builder().status(current.status).header("etag", etag);
            if let Some(location) = current.location {
                response = response.header("location", location);
            }
            return response.body(Body::from(current.body)).unwrap();
        }
        if state.answer.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Following {
    reports: ReportStore,
    follower: Follower,
}

fn following(wait: Duration) -> Following {
    let reports = ReportStore::default();
    let follower = Follower::new(reports.clone(), Triggers::default(), wait).unwrap();
    Following { reports, follower }
}

impl Following {
    fn follow(&self, uid: &str, pod: &Pod) {
        let ready = ReadyPod {
            name: "order-1".into(),
            address: pod.address.ip(),
            template: None,
            report: None,
            contact: Contact::default(),
        };
        let pods = [(uid.to_owned(), ready)].into();
        self.follower
            .follow("shop", "order", &pods, Some(pod.address.port()), Vec::new());
    }

    async fn until(&self, what: &str, wanted: impl Fn(&ReportStore) -> bool) {
        let found = timeout(Duration::from_secs(60), async {
            while !wanted(&self.reports) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(found.await.is_ok(), "{what}");
    }

    async fn until_error(&self, uid: &str, expected: &str) {
        let failing = |reports: &ReportStore| {
            reports
                .contact(uid)
                .failing
                .is_some_and(|failing| failing.error.contains(expected))
        };
        self.until(expected, failing).await;
    }
}

fn has_hash(uid: &str, hash: &str) -> impl Fn(&ReportStore) -> bool {
    move |reports| {
        reports
            .get(uid)
            .is_some_and(|report| report.report.policy.hash.as_deref() == Some(hash))
    }
}

#[tokio::test]
async fn a_change_is_known_at_once_and_one_request_hangs_meanwhile() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    let mut changes = following.reports.subscribe();
    changes.mark_unchanged();
    pod.answer.send_replace(good(&report("a", "2")));
    let known = timeout(Duration::from_secs(60), changes.changed());
    known.await.expect("long before the next question is due").unwrap();
    assert!(has_hash("a", "2")(&following.reports));
    let asked = || pod.asked.load(Ordering::SeqCst);
    following.until("the next request hangs", |_| asked() >= 3).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(asked(), 3, "the pod was asked more than once per answer");
    let queries = pod.queries.lock().unwrap().clone();
    assert_eq!(queries[0], "");
    assert!(
        queries[1].starts_with("since=%22") && queries[1].ends_with("&wait=120s"),
        "{queries:?}"
    );
}

#[tokio::test]
async fn a_pod_cannot_speak_for_another() {
    let pod = Pod::start(good(&report("somebody-else", "1"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following
        .until_error("a", "answered as another pod: somebody-else")
        .await;
    assert!(following.reports.get("a").is_none() && following.reports.get("somebody-else").is_none());
}

#[tokio::test]
async fn bad_answers_are_named_and_change_nothing() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let other = Pod::start(good(&report("a", "evil"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    let mut large = good(&report("a", "2"));
    large.body.resize(70 * 1024, b' ');
    let cases = [
        (
            Said {
                body: b"no json".to_vec(),
                ..good(&Value::Null)
            },
            "no report",
        ),
        (large, "more than 65536 bytes"),
        (
            Said {
                status: 500,
                ..good(&report("a", "3"))
            },
            "status 500",
        ),
        (
            Said {
                status: 302,
                location: Some(format!("http://{}/resilience", other.address)),
                ..good(&report("a", "4"))
            },
            "status 302",
        ),
    ];
    for (answer, expected) in cases {
        pod.answer.send_replace(answer);
        following.until_error("a", expected).await;
        assert!(has_hash("a", "1")(&following.reports), "{expected}");
    }
    assert_eq!(other.asked.load(Ordering::SeqCst), 0, "a redirect was followed");
    pod.answer.send_replace(good(&report("a", "5")));
    following.until("the pod is heard again", has_hash("a", "5")).await;
    assert_eq!(following.reports.contact("a").failing, None);
}

#[tokio::test]
async fn a_pod_that_hangs_beyond_its_wait_is_failing() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let wait = Duration::from_secs(1);
    let following = following(wait);
    let begun = Instant::now();
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    pod.answer.send_replace(Said {
        hangs: true,
        ..good(&report("a", "2"))
    });
    following.until_error("a", "no answer in time").await;
    // It may hold its answer back for the whole wait; only then is it late.
    assert!(begun.elapsed() >= wait + HEAD_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pod_that_is_not_ready_any_more_is_forgotten() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    following
        .follower
        .follow("shop", "order", &BTreeMap::new(), Some(1), Vec::new());
    assert!(following.reports.get("a").is_none());
    let asked = pod.asked.load(Ordering::SeqCst);
    pod.answer.send_replace(good(&report("a", "2")));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(pod.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn a_pod_that_answers_without_end_is_asked_ten_times_a_second_at_most() {
    let pod = Pod::start(good(&report("a", "0"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        count += 1;
        pod.answer.send_replace(good(&report("a", &count.to_string())));
        sleep(Duration::from_millis(2)).await;
    }
    let asked = pod.asked.load(Ordering::SeqCst);
    // A machine that stood still made the second longer.
    let most = 3 + usize::try_from(begun.elapsed().as_millis() / 100).unwrap();
    assert!((3..=most).contains(&asked), "{asked} of {most}");
}

#[tokio::test]
async fn that_nothing_is_new_is_an_answer_but_not_the_first_one() {
    let nothing_new = Said {
        status: 304,
        ..good(&Value::Null)
    };
    let pod = Pod::start(nothing_new.clone()).await;
    let following = following(Duration::from_millis(100));
    following.follow("a", &pod);
    following.until_error("a", "status 304").await;
    pod.answer.send_replace(good(&report("a", "1")));
    following.until("the first report", has_hash("a", "1")).await;
    let first = following.reports.contact("a").answered_at;
    pod.answer.send_replace(nothing_new);
    let later = |reports: &ReportStore| reports.contact("a").answered_at > first;
    following.until("that nothing is new counts as an answer", later).await;
    assert!(has_hash("a", "1")(&following.reports));
}

/// Its clock is no news to a pod, so one that was wrong when it reported would be so for ever.
#[tokio::test]
async fn a_pod_whose_clock_was_set_is_asked_anew() {
    let mut off = report("a", "1");
    off["now"] = json!(Utc::now() + TimeDelta::seconds(5));
    let pod = Pod::start(good(&off)).await;
    let following = following(Duration::from_millis(100));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    // The server says by its date that its clock is right by now.
    let nothing_new = Said {
        status: 304,
        ..good(&Value::Null)
    };
    pod.answer.send_replace(nothing_new);
    following
        .until("a question that asks for everything", |_| {
            pod.queries.lock().unwrap().iter().skip(1).any(String::is_empty)
        })
        .await;
    off["now"] = json!(Utc::now());
    pod.answer.send_replace(good(&off));
    let in_time = |reports: &ReportStore| {
        let known = reports.get("a").unwrap();
        (known.report.now - known.received_at).abs() < TimeDelta::seconds(4)
    };
    following.until("the clock as it is now", in_time).await;
}

#[test]
fn a_date_that_is_cut_to_the_second_is_no_other_clock() {
    let now = Utc::now();
    for (skew, date, expected) in [
        (0, 0, false),
        (0, -990, false),
        (0, 1_000, true),
        (0, -2_000, true),
        (5_000, 0, true),
        (5_000, 4_500, false),
        (-5_000, -5_500, false),
    ] {
        let (skew, date) = (TimeDelta::milliseconds(skew), now + TimeDelta::milliseconds(date));
        assert_eq!(clock_was_set(skew, date, now), expected, "{skew} {date}");
    }
}

#[tokio::test]
async fn a_pod_that_moved_is_asked_at_its_new_address() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let moved = Pod::start(good(&report("a", "2"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    following.follow("a", &moved);
    following.until("the report from there", has_hash("a", "2")).await;
}

#[tokio::test]
async fn a_pod_that_does_not_wait_is_asked_once_a_second() {
    let eager = Said {
        eager: true,
        ..good(&report("a", "1"))
    };
    let pod = Pod::start(eager).await;
    let following = following(Duration::from_secs(120));
    let begun = Instant::now();
    following.follow("a", &pod);
    following
        .until("the fourth question", |_| pod.asked.load(Ordering::SeqCst) >= 4)
        .await;
    assert!(begun.elapsed() >= CROWDED * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pod_that_was_silent_is_asked_what_it_runs_and_not_whether_something_is_new() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    let mut changes = following.reports.subscribe();
    pod.answer.send_replace(Said {
        status: 500,
        ..good(&report("a", "2"))
    });
    following.until_error("a", "status 500").await;
    changes.mark_unchanged();
    // The same as before it fell silent: with the tag of its last report it would say nothing for the whole wait.
    pod.answer.send_replace(good(&report("a", "1")));
    timeout(Duration::from_secs(60), changes.changed())
        .await
        .expect("nobody was told that the pod answers again")
        .unwrap();
    assert_eq!(following.reports.contact("a").failing, None);
    let queries = pod.queries.lock().unwrap().clone();
    assert_eq!(queries.last().map(String::as_str), Some(""), "{queries:?}");
}

#[tokio::test]
async fn a_pod_is_asked_anew_when_something_changes_in_it_by_the_clock_alone() {
    let pod = Pod::start(good(&report("a", "1"))).await;
    let following = following(Duration::from_secs(120));
    following.follow("a", &pod);
    following.until("the first report", has_hash("a", "1")).await;
    let ready = ReadyPod {
        name: "order-1".into(),
        address: pod.address.ip(),
        template: None,
        report: None,
        contact: Contact::default(),
    };
    let pods = [("a".to_owned(), ready)].into();
    // One end is over, and the pod's clock is half a minute behind.
    let changes_at = vec![
        Utc::now() - TimeDelta::seconds(60),
        Utc::now() + TimeDelta::seconds(90),
        Utc::now() + TimeDelta::seconds(20),
    ];
    following
        .follower
        .follow("shop", "order", &pods, Some(pod.address.port()), changes_at);
    let mut next = report("a", "2");
    next["now"] = json!(Utc::now() - TimeDelta::seconds(30));
    pod.answer.send_replace(good(&next));
    following.until("the next report", has_hash("a", "2")).await;
    following
        .until("the next question", |_| pod.asked.load(Ordering::SeqCst) >= 3)
        .await;
    let queries = pod.queries.lock().unwrap().clone();
    let wait = queries.last().unwrap().rsplit_once("wait=").unwrap().1.to_owned();
    let wait: valerix_policy::Duration = wait.parse().unwrap();
    assert!(
        wait > valerix_policy::Duration::from_secs(45) && wait <= valerix_policy::Duration::from_secs(52),
        "{wait}"
    );
}

#[test]
fn a_report_of_a_newer_library_counts_without_what_nobody_here_knows() {
    let mut newer = report("a", "1");
    newer["policy"]["source"] = json!("Remote");
    newer["circuitBreakers"] = json!([
        {"target": "b", "state": "Closed"}, {"target": "c", "state": "Isolated"},
        {"target": "d", "state": "Open", "override": "ForcedSlow"}
    ]);
    newer["limits"] = json!([{"name": "b", "kind": "Tokens", "limit": 1}]);
    newer["faults"] = json!([
        {"run": "r", "type": "Latency", "state": "Paused"}, {"run": "r", "type": "Latency", "state": "Active"}
    ]);
    let read = parse(newer.to_string().as_bytes()).unwrap();
    assert_eq!(read.policy.hash.as_deref(), Some("1"));
    let circuits = read.circuit_breakers.iter();
    let states: Vec<_> = circuits
        .map(|circuit| (circuit.target.as_str(), circuit.state.as_str()))
        .collect();
    assert_eq!(
        states,
        [("b", "Closed"), ("c", "Unknown"), ("d", "Open")],
        "whatever holds it open"
    );
    assert_eq!(read.circuit_breakers[1].new_state.as_deref(), Some("Isolated"));
    assert_eq!((read.limits.len(), read.faults.len()), (0, 1));
    assert!(parse(b"{}").is_err());
}
