//! A thousand reloads under load, in a process of its own, where open files and memory can be counted: what was learned
//! survives them all, and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{HeaderMap, Request, StatusCode};
use tokio::sync::Notify;
use tower::ServiceExt;
use valerix_resilience::policy::{
    self, CircuitState, Concurrency, Duration as PolicyDuration, Mode, Policy, RateLimitRule, Target,
};
use valerix_resilience::{CallError, Outcome, Resilience, ResilientClient};

use crate::process::{Process, say, setting};
use crate::support::{Mount, PATIENCE, Seen, eventually, policy, serve};

/// Reloads before memory is measured: caches and arenas have their size then.
const WARM_UP: usize = 50;
/// What the page allows memory to grow by.
const MOST_GROWTH_KIB: u64 = 2 * 1024;

/// `VALERIX_RELOADS` says how many, 20 ms each.
#[tokio::test]
async fn nothing_is_lost_and_nothing_leaks_through_reloads_under_load() {
    let reloads = std::env::var("VALERIX_RELOADS").unwrap_or_else(|_| "1000".to_owned());
    let mut process = Process::start("reload", &[("RELOADS", &reloads)]);
    // Several times what they take on an idle machine.
    let patience = PATIENCE + Duration::from_millis(200) * reloads.parse().unwrap();
    let said = process.hear_within(patience).await;
    assert!(process.end().await.success(), "see its panic above; it said {said:?}");
    println!("{}", said.unwrap());
}

/// Reports are read while documents come in, each of which names a target that was not there before. In a process of its
/// own, because what waits for ever could not be ended in this one.
#[tokio::test]
async fn reading_the_report_and_reloading_do_not_wait_for_each_other_for_ever() {
    let mut process = Process::start("report", &[]);
    assert_eq!(process.hear().await.as_deref(), Some("read"), "see its panic above");
    assert!(process.end().await.success());
}

/// The process of the test above.
pub(crate) async fn read_reports() {
    let mut mount = Mount::with_policy(&document(0));
    let resilience = mount.start().await;
    let timeout = |round: u64| Duration::from_millis(1_000 + round);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let resilience = resilience.clone();
            std::thread::spawn(move || {
                while resilience.policy().inbound.timeout.get() < timeout(40) {
                    assert_eq!(resilience.report().service, "inventory");
                }
            })
        })
        .collect();
    for round in 1..=40 {
        let mut document = document(usize::try_from(round).unwrap());
        document.targets.push(Target::named(format!("added-{round}")));
        mount.policy = Some(document.render());
        mount.publish();
        eventually("it is in force", || {
            resilience.policy().inbound.timeout.get() == timeout(round)
        })
        .await;
    }
    for reader in readers {
        reader.join().unwrap();
    }
    say("read");
}

fn document(round: usize) -> Policy {
    policy(|policy, upstream| {
        policy.mode = Mode::Enforce;
        policy.inbound.timeout = PolicyDuration::from_millis(1_000 + round as u64);
        policy.inbound.rate_limit.rules.push(RateLimitRule {
            name: "limited".to_owned(),
            scope: policy::LimitScope::Replica,
            routes: vec!["GET /limited".to_owned()],
            requests: 5,
            window: PolicyDuration::from_secs(3_600),
            burst: None,
            algorithm: Some(policy::LimitAlgorithm::Window),
            key: None,
        });
        policy.inbound.concurrency = Some(Concurrency {
            max: 40,
            ..Concurrency::default()
        });
        upstream.circuit_breaker.open_duration = PolicyDuration::from_secs(600);
        upstream.circuit_breaker.max_open_duration = PolicyDuration::from_secs(600);
        let mut busy = Target::named("busy");
        busy.bulkhead.max_concurrent = 3;
        busy.timeout.request = PolicyDuration::from_secs(600);
        busy.timeout.attempt = PolicyDuration::from_secs(600);
        policy.targets.push(busy);
        let mut counting = Target::named("counting");
        counting.circuit_breaker.window.duration = Some(PolicyDuration::from_secs(600));
        policy.targets.push(counting);
    })
}

/// The measured process.
pub(crate) async fn run() {
    let reloads: usize = setting("RELOADS").unwrap().parse().unwrap();
    let mut mount = Mount::with_policy(&document(0));
    let resilience = mount.start().await;
    let router = Router::new()
        .route("/limited", get(|| async {}))
        .route("/free", get(|| async {}))
        .layer(resilience.server_layer());

    let (upstream, counting) = (resilience.target("upstream"), resilience.target("counting"));
    for _ in 0..20 {
        upstream.breaker().try_acquire().unwrap().record(Outcome::Failure);
    }
    for _ in 0..19 {
        counting.breaker().try_acquire().unwrap().record(Outcome::Failure);
    }
    let (release, seen) = (Arc::new(Notify::new()), Seen::default());
    let client = busy_client(&resilience, &release, &seen).await;
    let places: Vec<_> = (0..3).map(|_| tokio::spawn(client.get("/").send())).collect();
    eventually("three places are taken", || seen.count() == 3).await;
    let full = || async {
        matches!(
            client.get("/").send().await,
            Err(CallError::Overloaded { limit: 3, .. })
        )
    };
    assert!(full().await);
    for _ in 0..5 {
        assert_eq!(ask(&router, "/limited").await, StatusCode::OK);
    }
    let next_probe = upstream.breaker().snapshot().next_probe_in.unwrap();

    let load = Load::start(&resilience, &router, &client);
    let mut before = None;
    for round in 1..=reloads {
        if round == WARM_UP.min(reloads / 2) {
            before = Some((open_files(), resident_kib()));
        }
        if round % 10 == 0 {
            spoil(&mut mount, round);
            eventually("garbage is refused", || resilience.report().policy.error.is_some()).await;
        }
        mount.policy = Some(document(round).render());
        mount.publish();
        let timeout = Duration::from_millis(1_000 + round as u64);
        eventually("it is in force", || {
            resilience.policy().inbound.timeout.get() == timeout
        })
        .await;
        assert_eq!(upstream.breaker().snapshot().state, CircuitState::Open, "round {round}");
    }
    let calls = load.stop().await;
    assert!(calls > reloads, "there was load: {calls} calls");

    assert!(upstream.breaker().snapshot().next_probe_in.unwrap() <= next_probe);
    assert!(full().await, "places that are held are still taken");
    release.notify_waiters();
    for place in places {
        assert_eq!(place.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(ask(&router, "/limited").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(counting.breaker().snapshot().state, CircuitState::Closed);
    counting.breaker().try_acquire().unwrap().record(Outcome::Failure);
    assert_eq!(
        counting.breaker().snapshot().state,
        CircuitState::Open,
        "19 failures before the reloads and one behind them are twenty"
    );

    let (files_before, kib_before) = before.unwrap();
    let (files, kib) = (open_files(), resident_kib());
    assert_eq!(files, files_before, "open files");
    let growth = kib.saturating_sub(kib_before);
    assert!(growth <= MOST_GROWTH_KIB, "{kib_before} KiB became {kib} KiB");
    say(&format!(
        "{reloads} reloads, {calls} calls beside them: {files} open files before and after, memory grew by {growth} KiB"
    ));
}

/// A client of a server that answers nobody before it is told to.
async fn busy_client(resilience: &Resilience, release: &Arc<Notify>, seen: &Seen) -> ResilientClient {
    let (release, seen) = (Arc::clone(release), seen.clone());
    let handler = get(move |headers: HeaderMap| async move {
        let released = release.notified();
        seen.note(&headers);
        released.await;
    });
    let address = serve(Router::new().route("/", handler)).await;
    let url = format!("http://{address}");
    resilience.client("busy").url(url).build().unwrap()
}

/// Callers that never rest while documents change.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(resilience: &Resilience, router: &Router, busy: &ResilientClient) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..4).map(|_| {
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            let (resilience, router, busy) = (resilience.clone(), router.clone(), busy.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let upstream = resilience.target("upstream");
                    assert!(
                        upstream.breaker().try_acquire().is_err(),
                        "the breaker let a call through"
                    );
                    assert!(busy.get("/").send().await.is_err(), "a place was given twice");
                    assert_eq!(ask(&router, "/limited").await, StatusCode::TOO_MANY_REQUESTS);
                    assert_eq!(ask(&router, "/free").await, StatusCode::OK);
                    calls.fetch_add(4, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        Self {
            tasks: tasks.collect(),
            stop,
            calls,
        }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.calls.load(Ordering::Relaxed)
    }
}

async fn ask(router: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

/// Publishes a policy that must not be taken.
fn spoil(mount: &mut Mount, round: usize) {
    let good = document(round).render();
    let garbage = match round / 10 % 4 {
        0 => String::new(),
        1 => good[..good.len() / 2].to_owned(),
        2 => "garbage".to_owned(),
        _ => good,
    };
    mount.policy = Some(garbage);
    mount.publish_with(|version| {
        if round / 10 % 4 == 3 {
            // Too large, without this process ever holding it in memory.
            let file = std::fs::File::options()
                .write(true)
                .open(version.join(policy::POLICY_FILE));
            file.unwrap().set_len(policy::MAX_DOCUMENT_BYTES as u64 + 1).unwrap();
        }
    });
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
