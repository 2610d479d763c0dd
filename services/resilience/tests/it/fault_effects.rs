//! What faults do at a client, and that they end on time: measured over real sockets, and on a clock that only the test
//! moves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use valerix_resilience::policy::{
    AbortFault, Admission, CpuStressFault, CrashFault, ErrorsFault, Fault, FaultState, LatencyFault, MemoryStressFault,
    PartitionDirection, PartitionFault, Policy, RefuseFault,
};
use valerix_resilience::{AbortConnection, CallError, Injection, Resilience};

use crate::support::{Mount, PATIENCE, Seen, eventually, faults, policy, serve};

/// A policy that consents to faults.
pub(crate) fn allowed() -> Policy {
    policy(|policy, _| policy.chaos.admission = Admission::Allowed)
}

fn errors(percent: u32) -> Fault {
    let errors = ErrorsFault {
        percent,
        status: 500,
        routes: vec![],
    };
    Fault {
        errors: Some(errors),
        ..Fault::default()
    }
}

fn latency(delay: &str, percent: u32) -> Fault {
    let latency = LatencyFault {
        delay: delay.parse().unwrap(),
        jitter: "0s".parse().unwrap(),
        percent,
        routes: vec![],
    };
    Fault {
        latency: Some(latency),
        ..Fault::default()
    }
}

pub(crate) fn partition(direction: PartitionDirection, peer: &str) -> Fault {
    let partition = PartitionFault {
        direction,
        peer: peer.to_owned(),
    };
    Fault {
        partition: Some(partition),
        ..Fault::default()
    }
}

/// A service that shows one fault and draws the same lots each time.
async fn showing(fault: Fault, duration: &str) -> (Mount, Resilience) {
    let mut mount = Mount::with_policy(&allowed());
    mount.faults = Some(faults("run", fault, duration).render());
    mount.publish();
    let resilience = Resilience::builder()
        .service("inventory")
        .namespace("shop")
        .pod_uid("uid-1")
        .policy_folder(mount.folder())
        .state_folder(mount.state_folder())
        .fault_seed(7)
        .start()
        .await
        .unwrap();
    assert_eq!(resilience.report().faults[0].state, FaultState::Active);
    (mount, resilience)
}

async fn served(resilience: &Resilience) -> String {
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(resilience.server_layer());
    format!("http://{}", serve(app).await)
}

/// Asks `count` times, `at_once` at a time: each answer's status, and how long it took.
async fn ask(url: &str, count: usize, at_once: usize) -> Vec<(u16, Duration)> {
    use futures::StreamExt;
    let http = reqwest::Client::new();
    futures::stream::iter(0..count)
        .map(|_| {
            let (http, url) = (http.clone(), url.to_owned());
            async move {
                let begun = Instant::now();
                let status = http.get(url).send().await.unwrap().status().as_u16();
                (status, begun.elapsed())
            }
        })
        .buffer_unordered(at_once)
        .collect()
        .await
}

pub(crate) fn within_a_tenth(measured: f64, asked: f64) -> bool {
    (asked * 0.9..=asked * 1.1).contains(&measured)
}

/// 2,000 draws at 30 %: a tenth is three standard deviations, and the seed makes it the same draws each time.
#[tokio::test]
async fn the_share_of_errors_at_a_client_is_as_asked() {
    let (_mount, resilience) = showing(errors(30), "60s").await;
    let answers = ask(&served(&resilience).await, 2_000, 20).await;
    let hit = answers.iter().filter(|(status, _)| *status == 500).count();
    assert!(within_a_tenth(hit as f64, 600.0), "{hit} of 2000");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 2_000 - hit);
}

/// On a clock that stands still while anybody works, so that what is measured is the fault and not the machine.
#[tokio::test(start_paused = true)]
async fn delay_and_share_of_latency_are_as_asked() {
    use tower::ServiceExt;
    let (_mount, resilience) = showing(latency("400ms", 50), "60s").await;
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(resilience.server_layer());
    let asked = (0..1_000).map(|_| {
        let app = app.clone();
        async move {
            let begun = Instant::now();
            let request = http::Request::get("/").body(axum::body::Body::empty()).unwrap();
            assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
            begun.elapsed()
        }
    });
    let times = futures::future::join_all(asked).await;
    let (delayed, others): (Vec<_>, Vec<_>) = times.into_iter().partition(|time| *time > Duration::from_millis(40));
    assert!(within_a_tenth(delayed.len() as f64, 500.0), "{} of 1000", delayed.len());
    for time in &delayed {
        assert!(within_a_tenth(time.as_secs_f64(), 0.4), "{time:?}");
    }
    assert!(!others.is_empty());
}

/// Over sockets no answer is early, and the quickest of many, which the machine held up least, is not late either.
#[tokio::test]
async fn the_delay_at_a_client_is_as_asked() {
    let (_mount, resilience) = showing(latency("400ms", 100), "60s").await;
    let answers = ask(&served(&resilience).await, 40, 4).await;
    let quickest = answers.iter().map(|(_, time)| *time).min().unwrap();
    assert!(quickest >= Duration::from_millis(400), "{quickest:?}");
    assert!(within_a_tenth(quickest.as_secs_f64(), 0.4), "{quickest:?}");
}

/// Only the test moves the monotonic clock, and it throws the wall clock about while the fault is on.
#[tokio::test(start_paused = true)]
async fn a_fault_ends_on_time_whatever_is_done_to_the_wall_clock() {
    let step = TimeDelta::hours(7);
    for signs in [[1, 1, 1], [-1, -1, -1], [1, -1, 1], [-1, 1, 1]] {
        let wall: Arc<Mutex<DateTime<Utc>>> = Arc::new(Mutex::new(Utc::now()));
        let mut mount = Mount::with_policy(&allowed());
        mount.faults = Some(faults("run", errors(100), "10s").render());
        mount.publish();
        let told = Arc::clone(&wall);
        let resilience = Resilience::builder()
            .pod_uid("uid-1")
            .policy_folder(mount.folder())
            .state_folder(mount.state_folder())
            .wall_clock(move || *told.lock().unwrap())
            .start()
            .await
            .unwrap();
        let begun = Instant::now();
        let state = || resilience.report().faults[0].state;
        assert_eq!(state(), FaultState::Active);
        for sign in signs {
            tokio::time::advance(Duration::from_secs(3)).await;
            *wall.lock().unwrap() += step * sign;
            // A reload looks at the wall clock again, and must not decide anew.
            resilience.apply_policy(allowed().render().as_bytes()).unwrap();
            assert_eq!(state(), FaultState::Active, "{signs:?} at {:?}", begun.elapsed());
            assert!(resilience.faults().inbound("GET", "/").is_some());
        }
        while resilience.faults().inbound("GET", "/").is_some() {
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let lasted = begun.elapsed();
        assert!(
            (Duration::from_secs(10)..=Duration::from_millis(10_100)).contains(&lasted),
            "{signs:?}: {lasted:?}"
        );
        assert_eq!(state(), FaultState::Ended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_does_not_outlast_its_fault() {
    let (_mount, resilience) = showing(latency("60s", 100), "10s").await;
    tokio::time::advance(Duration::from_secs(4)).await;
    let Some(Injection::Delay(delay)) = resilience.faults().inbound("GET", "/") else {
        panic!("no delay")
    };
    assert!(delay <= Duration::from_secs(6), "{delay:?}");
}

#[tokio::test]
async fn a_withdrawn_latency_lets_go_of_those_it_holds() {
    let registry = prometheus::Registry::new();
    let mut mount = Mount::with_policy(&allowed());
    mount.faults = Some(faults("run", latency("10s", 100), "60s").render());
    mount.publish();
    let builder = Resilience::builder().pod_uid("uid-1").registry(registry.clone());
    let builder = builder.policy_folder(mount.folder()).state_folder(mount.state_folder());
    let resilience = builder.start().await.unwrap();
    let held = tokio::spawn(reqwest::get(served(&resilience).await));
    let injected = || {
        let metrics = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        metrics.contains("resilience_faults_injected_total{type=\"Latency\"} 1")
    };
    eventually("a request is held", injected).await;
    mount.faults = Some(valerix_resilience::policy::Faults::default().render());
    mount.publish();
    let begun = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, held).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_partition_cuts_the_peer_off_on_the_side_that_is_asked() {
    for (direction, cuts_in, cuts_out) in [
        (PartitionDirection::Ingress, true, false),
        (PartitionDirection::Egress, false, true),
        (PartitionDirection::Both, true, true),
    ] {
        let (_mount, resilience) = showing(partition(direction, "shop/peer"), "60s").await;
        let url = served(&resilience).await;
        let http = reqwest::Client::new();
        for (client, cut) in [("shop/peer", cuts_in), ("shop/other", false), ("else/peer", false)] {
            let answer = http.get(&url).header("valerix-client", client).send().await;
            // Without an owner of the connection that closes it, the answer's body breaks off.
            let broken = match answer {
                Ok(answer) => answer.bytes().await.is_err(),
                Err(_) => true,
            };
            assert_eq!(broken, cut, "{direction:?}, a request of {client}");
        }
        let hits = || resilience.report().faults[0].hits.unwrap_or_default();
        assert_eq!(
            hits() > 0,
            cuts_in,
            "{direction:?}: what was cut is counted, and nothing else"
        );
        let seen = Seen::default();
        let noted = seen.clone();
        let upstream = Router::new().route(
            "/",
            get(move |headers: http::HeaderMap| async move { noted.note(&headers).to_string() }),
        );
        let url = format!("http://{}", serve(upstream).await);
        for (name, cut) in [("peer", cuts_out), ("other", false)] {
            let before = seen.count();
            let answer = resilience.client(name).url(&url).build().unwrap().get("/").send().await;
            match answer {
                Ok(_) => assert!(!cut, "{direction:?}, a call to {name}"),
                Err(error) => {
                    let connect = matches!(error, CallError::Connect { .. } | CallError::BudgetExhausted { .. });
                    assert!(cut && connect, "{direction:?}, a call to {name}: {error}");
                }
            }
            assert_eq!(seen.count() > before, !cut, "{direction:?}: what is cut never leaves");
        }
    }
}

/// Fifty requests and ten calls at each side: whoever is meant is cut off every time, and nobody any more afterwards.
#[tokio::test]
async fn who_is_cut_off_is_so_every_time_and_has_everything_back_afterwards() {
    let refuse = Fault {
        refuse: Some(RefuseFault {}),
        ..Fault::default()
    };
    let upstream = format!("http://{}", serve(Router::new().route("/", get(|| async {}))).await);
    for (fault, peers_in, others_in, peers_out) in [
        (refuse, 50, 50, 0),
        (partition(PartitionDirection::Ingress, "shop/peer"), 50, 0, 0),
        (partition(PartitionDirection::Egress, "shop/peer"), 0, 0, 10),
        (partition(PartitionDirection::Both, "shop/peer"), 50, 0, 10),
    ] {
        let named = format!("{fault:?}");
        let (mut mount, resilience) = showing(fault, "60s").await;
        let url = served(&resilience).await;
        let cut_off = || async {
            let (mut from, mut to) = ([0, 0], [0, 0]);
            for (index, name) in ["peer", "other"].into_iter().enumerate() {
                let client = resilience.client(name).url(&upstream).build().unwrap();
                let calls = (0..10).map(|_| client.get("/").send());
                let calls = futures::future::join_all(calls).await;
                to[index] = calls.iter().filter(|call| call.is_err()).count();
                let http = reqwest::Client::new();
                let asked = (0..50).map(|_| async {
                    let request = http.get(&url).header("valerix-client", format!("shop/{name}"));
                    match request.send().await {
                        Ok(answer) => answer.bytes().await.is_err(),
                        Err(_) => true,
                    }
                });
                let asked = futures::future::join_all(asked).await;
                from[index] = asked.into_iter().filter(|cut| *cut).count();
            }
            (from, to)
        };
        assert_eq!(cut_off().await, ([peers_in, others_in], [peers_out, 0]), "{named}");
        mount.faults = Some(valerix_resilience::policy::Faults::default().render());
        mount.publish();
        eventually("it is withdrawn", || resilience.report().faults.is_empty()).await;
        assert_eq!(cut_off().await, ([0, 0], [0, 0]), "{named} is over");
    }
}

/// 2,000 draws at 30 %, the same each time.
#[tokio::test]
async fn abort_breaks_the_asked_share_of_connections_and_ends() {
    use futures::StreamExt;
    let abort = Fault {
        abort: Some(AbortFault {
            percent: 30,
            routes: vec![],
        }),
        ..Fault::default()
    };
    let (mut mount, resilience) = showing(abort, "60s").await;
    let url = served(&resilience).await;
    let http = reqwest::Client::new();
    let broken = || async {
        match http.get(&url).send().await {
            Ok(answer) => answer.bytes().await.is_err(),
            Err(_) => true,
        }
    };
    let asked = futures::stream::iter(0..2_000).map(|_| broken()).buffer_unordered(20);
    let hit = asked.filter(|broken| std::future::ready(*broken)).count().await;
    assert!(within_a_tenth(hit as f64, 600.0), "{hit} of 2000");
    mount.faults = Some(valerix_resilience::policy::Faults::default().render());
    mount.publish();
    eventually("it is withdrawn", || resilience.report().faults.is_empty()).await;
    assert!(!broken().await);
}

/// A probe that is under way in that moment is as much the platform's as one that comes later.
#[tokio::test]
async fn a_refusal_that_begins_cuts_what_is_under_way_but_no_probe() {
    use tower::ServiceExt;
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    let (gate, begun) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waits, counts) = (Arc::clone(&gate), Arc::clone(&begun));
    let handler = get(move || async move {
        counts.fetch_add(1, Ordering::SeqCst);
        drop(waits.acquire().await);
    });
    let app = Router::new()
        .route("/", handler.clone())
        .route("/_healthz", handler)
        .layer(resilience.server_layer());
    let ask = |path: &str| {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        tokio::spawn(app.clone().oneshot(request))
    };
    let (probe, order) = (ask("/_healthz"), ask("/"));
    eventually("both are handled", || begun.load(Ordering::SeqCst) == 2).await;
    let refuse = Fault {
        refuse: Some(RefuseFault {}),
        ..Fault::default()
    };
    let mut document = faults("run", refuse, "60s");
    document.faults[0].spared_paths = vec!["/_healthz".to_owned()];
    mount.faults = Some(document.render());
    mount.publish();
    let cut = tokio::time::timeout(PATIENCE, order).await.unwrap().unwrap().unwrap();
    assert!(cut.extensions().get::<AbortConnection>().is_some());
    // Whoever was to be cut with it has been by now.
    tokio::task::yield_now().await;
    gate.add_permits(10);
    assert_eq!(probe.await.unwrap().unwrap().status(), 200);
    assert_eq!(ask("/_healthz").await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn without_consent_none_of_them_does_anything() {
    let crash = CrashFault { times: 1 };
    let cpu = CpuStressFault {
        load_percent: 100,
        workers: 1,
    };
    let memory = MemoryStressFault {
        size: "64Mi".to_owned(),
    };
    let every = [
        latency("1s", 100),
        errors(100),
        partition(PartitionDirection::Both, "peer"),
        Fault {
            abort: Some(AbortFault {
                percent: 100,
                routes: vec![],
            }),
            ..Fault::default()
        },
        Fault {
            refuse: Some(RefuseFault {}),
            ..Fault::default()
        },
        Fault {
            crash: Some(crash),
            ..Fault::default()
        },
        Fault {
            cpu_stress: Some(cpu),
            ..Fault::default()
        },
        Fault {
            memory_stress: Some(memory),
            ..Fault::default()
        },
    ];
    for fault in every {
        let kind = fault.fault_type();
        let mut mount = Mount::with_policy(&policy(|_, _| {}));
        mount.faults = Some(faults("run", fault, "60s").render());
        mount.publish();
        let crashes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&crashes);
        let resilience = Resilience::builder()
            .pod_uid("uid-1")
            .policy_folder(mount.folder())
            .state_folder(mount.state_folder())
            .on_crash(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            })
            .start()
            .await
            .unwrap();
        let report = resilience.report().faults[0].clone();
        assert_eq!(report.state, FaultState::Refused, "{kind:?}");
        assert!(report.reason.unwrap().contains("chaos.admission"), "{kind:?}");
        let shown = resilience.faults();
        assert_eq!(shown.inbound("GET", "/"), None, "{kind:?}");
        let cut = shown.cuts_calls_to("peer") || shown.cuts_requests_of("shop/peer") || shown.refuses_connections();
        assert!(!cut, "{kind:?}");
        assert_eq!(crashes.load(Ordering::SeqCst), 0, "{kind:?}");
    }
}
