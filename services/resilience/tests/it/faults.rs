//! Faults from the document to the request and to their end.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chrono::TimeDelta;
use valerix_resilience::policy::{
    Admission, ErrorsFault, Fault, FaultState, Faults, LatencyFault, PartitionDirection, PartitionFault, Policy,
};
use valerix_resilience::{CallError, Injection, Resilience};

use crate::support::{Mount, dead_address, eventually, faults, policy, serve};

fn allowed() -> Policy {
    policy(|policy, _| policy.chaos.admission = Admission::Allowed)
}

fn errors(percent: u32) -> Fault {
    Fault {
        errors: Some(ErrorsFault {
            percent,
            status: 503,
            routes: vec![],
        }),
        ..Fault::default()
    }
}

async fn started(document: &Faults, policy: &Policy) -> (Mount, Resilience) {
    let mut mount = Mount::with_policy(policy);
    mount.faults = Some(document.render());
    mount.publish();
    let resilience = mount.start().await;
    (mount, resilience)
}

fn state(resilience: &Resilience) -> FaultState {
    resilience.report().faults[0].state
}

#[tokio::test]
async fn a_fault_begins_on_arrival_and_ends_on_time_by_itself() {
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    assert_eq!(resilience.report().faults, []);
    let document = faults("run-1", errors(100), "60s");
    mount.faults = Some(document.render());
    mount.publish();
    eventually("the fault is active", || !resilience.report().faults.is_empty()).await;
    // How late a busy machine lets this test look is not the library's: from here on only the test moves the clock.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let fault = resilience.report().faults[0].clone();
    assert_eq!((fault.run.as_str(), fault.state), ("run-1", FaultState::Active));
    assert!(fault.remaining_ms > 0 && fault.remaining_ms <= 60_000);
    assert_eq!(
        resilience.report().faults_hash.unwrap(),
        valerix_resilience::policy::hash(document.render().as_bytes())
    );
    assert_eq!(
        resilience.faults().inbound("GET", "/"),
        Some(Injection::Status(http::StatusCode::SERVICE_UNAVAILABLE))
    );
    while state(&resilience) != FaultState::Ended {
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    let lasted = began.elapsed() + Duration::from_millis(1);
    let left = Duration::from_millis(fault.remaining_ms);
    assert!(
        (left..=left + Duration::from_millis(100)).contains(&lasted),
        "{lasted:?} of {left:?}"
    );
    assert_eq!(resilience.faults().inbound("GET", "/"), None);
}

#[tokio::test]
async fn share_and_delay_are_as_asked() {
    let (_mount, resilience) = started(&faults("share", errors(70), "60s"), &allowed()).await;
    let hit = (0..2_000)
        .filter(|_| resilience.faults().inbound("GET", "/").is_some())
        .count();
    assert!((1_330..1_470).contains(&hit), "{hit} of 2000");

    let latency = LatencyFault {
        delay: "80ms".parse().unwrap(),
        jitter: "20ms".parse().unwrap(),
        percent: 100,
        routes: vec!["GET /slow".to_owned()],
    };
    let fault = Fault {
        latency: Some(latency),
        ..Fault::default()
    };
    let (_mount, resilience) = started(&faults("delay", fault, "60s"), &allowed()).await;
    for _ in 0..100 {
        let Some(Injection::Delay(delay)) = resilience.faults().inbound("GET", "/slow") else {
            panic!()
        };
        assert!((60..=100).contains(&delay.as_millis()), "{delay:?}");
    }
    assert_eq!(resilience.faults().inbound("GET", "/fast"), None);
}

#[tokio::test]
async fn spared_paths_are_never_touched_and_hits_are_counted() {
    let mut document = faults("run", errors(100), "60s");
    document.faults[0].spared_paths = vec!["/_healthz".to_owned()];
    let (_mount, resilience) = started(&document, &allowed()).await;
    let hits = || resilience.report().faults[0].hits;
    for method in ["GET", "HEAD"] {
        assert_eq!(resilience.faults().inbound(method, "/_healthz"), None);
    }
    assert_eq!(hits(), Some(0), "what is spared is not hit");
    let etag = resilience.report().etag();
    for path in ["/", "/_healthz/more"] {
        assert!(resilience.faults().inbound("GET", path).is_some());
    }
    assert_eq!(hits(), Some(2));
    assert_eq!(resilience.report().etag(), etag, "a count is no news");
}

#[tokio::test]
async fn without_consent_it_is_refused_and_says_why() {
    let (mut mount, resilience) = started(&faults("run", errors(100), "60s"), &policy(|_, _| {})).await;
    let fault = resilience.report().faults[0].clone();
    assert_eq!(fault.state, FaultState::Refused);
    assert!(fault.reason.unwrap().contains("chaos.admission"));
    assert_eq!(resilience.faults().inbound("GET", "/"), None);

    // Consent that comes later does not revive a run that was refused.
    mount.policy = Some(allowed().render());
    mount.publish();
    let hash = valerix_resilience::policy::hash(allowed().render().as_bytes());
    eventually("the policy is in force", || {
        resilience.report().policy.hash.as_ref() == Some(&hash)
    })
    .await;
    assert_eq!(state(&resilience), FaultState::Refused);
}

#[tokio::test]
async fn consent_withdrawn_or_experiment_withdrawn_ends_it_at_once() {
    let (mut mount, resilience) = started(&faults("run", errors(100), "60s"), &allowed()).await;
    assert_eq!(state(&resilience), FaultState::Active);
    mount.policy = Some(policy(|_, _| {}).render());
    mount.publish();
    eventually("it ends", || state(&resilience) == FaultState::Ended).await;

    let (mut mount, resilience) = started(&faults("run-2", errors(100), "60s"), &allowed()).await;
    let stale = mount.faults.clone();
    mount.faults = Some(Faults::default().render());
    mount.publish();
    eventually("it is gone", || resilience.report().faults.is_empty()).await;
    assert_eq!(resilience.faults().inbound("GET", "/"), None);
    mount.faults = stale;
    mount.publish();
    eventually("the stale document is read", || !resilience.report().faults.is_empty()).await;
    assert_eq!(state(&resilience), FaultState::Ended, "a run is obeyed once");
}

#[tokio::test]
async fn late_early_foreign_and_unknown_entries_are_not_obeyed() {
    let mut late = faults("late", errors(100), "10s");
    late.faults[0].intent_at -= TimeDelta::seconds(100);
    late.faults[0].not_after = chrono::Utc::now() - TimeDelta::milliseconds(1);
    let mut early = faults("early", errors(100), "10s");
    early.faults[0].intent_at += TimeDelta::seconds(3);
    early.faults[0].not_after += TimeDelta::seconds(3);
    let mut unknown = faults("unknown", errors(100), "10s");
    unknown.faults[0].fault = Fault::default();
    for (document, reason) in [(late, "notAfter"), (early, "clock"), (unknown, "image")] {
        let (_mount, resilience) = started(&document, &allowed()).await;
        let fault = resilience.report().faults[0].clone();
        assert_eq!(fault.state, FaultState::Refused);
        assert!(fault.reason.as_ref().unwrap().contains(reason), "{fault:?}");
    }
    let mut foreign = faults("foreign", errors(100), "10s");
    foreign.faults[0].pod_uids = vec!["uid-2".to_owned()];
    let (_mount, resilience) = started(&foreign, &allowed()).await;
    assert_eq!(resilience.report().faults, []);
    assert!(resilience.report().faults_hash.is_some());
}

/// Both clocks stand still while it starts, however long that takes the machine.
#[tokio::test(start_paused = true)]
async fn the_wall_clock_bounds_a_late_delivery() {
    let now = chrono::Utc::now();
    let mut document = faults("late", errors(100), "60s");
    document.faults[0].intent_at -= TimeDelta::seconds(104);
    document.faults[0].not_after = now + TimeDelta::milliseconds(200);
    let mut mount = Mount::with_policy(&allowed());
    mount.faults = Some(document.render());
    mount.publish();
    let builder = Resilience::builder().pod_uid("uid-1").wall_clock(move || now);
    let builder = builder.policy_folder(mount.folder()).state_folder(mount.state_folder());
    let resilience = builder.start().await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(state(&resilience), FaultState::Active);
    assert!(resilience.report().faults[0].remaining_ms <= 200);
    while state(&resilience) != FaultState::Ended {
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let lasted = began.elapsed().as_millis();
    assert!((150..=300).contains(&lasted), "{lasted} ms");
}

#[tokio::test]
async fn a_restart_does_not_resume_a_fault() {
    let (mount, resilience) = started(&faults("run", errors(100), "60s"), &allowed()).await;
    assert_eq!(state(&resilience), FaultState::Active);
    drop(resilience);
    let again = mount.start().await;
    let fault = again.report().faults[0].clone();
    assert_eq!(fault.state, FaultState::Ended);
    assert!(fault.reason.unwrap().contains("restarted"));
}

#[tokio::test]
async fn a_partition_refuses_calls_before_they_leave() {
    let partition = PartitionFault {
        direction: PartitionDirection::Egress,
        peer: "upstream".to_owned(),
    };
    let fault = Fault {
        partition: Some(partition),
        ..Fault::default()
    };
    let (_mount, resilience) = started(&faults("cut", fault, "60s"), &allowed()).await;
    let url = format!("http://{}", dead_address());
    let cut = resilience.client("upstream").url(&url).build().unwrap();
    let error = cut.get("/").send().await.unwrap_err();
    assert!(
        matches!(&error, CallError::Connect { cause, .. } | CallError::BudgetExhausted { cause, .. } if cause.contains("partition")),
        "{error}"
    );
    assert!(!resilience.faults().cuts_requests_of("shop/upstream"));
}

fn crash(times: u32) -> Fault {
    Fault {
        crash: Some(valerix_resilience::policy::CrashFault { times }),
        ..Fault::default()
    }
}

/// A process that counts its crashes instead of dying of them.
async fn crashing(mount: &Mount, crashes: &std::sync::Arc<std::sync::atomic::AtomicUsize>) -> Resilience {
    let counted = crashes.clone();
    Resilience::builder()
        .pod_uid("uid-1")
        .policy_folder(mount.folder())
        .state_folder(mount.state_folder())
        .on_crash(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        })
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_crash_kills_as_often_as_asked_and_never_again() {
    for times in 1..=3 {
        let mut mount = Mount::with_policy(&allowed());
        let crashes = std::sync::Arc::default();
        let first = crashing(&mount, &crashes).await;
        mount.faults = Some(faults("crash", crash(times), "60s").render());
        mount.publish();
        eventually("the process crashes", || {
            crashes.load(std::sync::atomic::Ordering::SeqCst) == 1
        })
        .await;
        drop(first);
        for _ in 0..5 {
            drop(crashing(&mount, &crashes).await);
        }
        assert_eq!(crashes.load(std::sync::atomic::Ordering::SeqCst), times as usize);
    }
}

#[tokio::test]
async fn a_process_younger_than_the_experiment_does_not_crash() {
    let mut mount = Mount::with_policy(&allowed());
    let mut document = faults("crash", crash(1), "60s");
    document.faults[0].intent_at -= TimeDelta::days(1);
    mount.faults = Some(document.render());
    mount.publish();
    let crashes = std::sync::Arc::default();
    let resilience = crashing(&mount, &crashes).await;
    assert_eq!(state(&resilience), FaultState::Ended);
    let reason = resilience.report().faults[0].reason.clone();
    assert!(
        reason.is_some_and(|reason| reason.contains("younger")),
        "nobody takes it for one that was ended"
    );
    assert_eq!(crashes.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn refuse_cuts_requests_under_way_and_spares_probes() {
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    let began = std::sync::Arc::new(tokio::sync::Notify::new());
    let started = began.clone();
    let app = Router::new()
        .route("/health", get(|| async {}))
        .route("/quick", get(|| async {}))
        .route(
            "/slow",
            get(move || async move {
                started.notify_one();
                std::future::pending::<()>().await;
            }),
        )
        .layer(resilience.server_layer());
    let url = format!("http://{}", serve(app).await);
    let open = tokio::spawn(reqwest::get(format!("{url}/slow")));
    began.notified().await;
    let refuse = Fault {
        refuse: Some(valerix_resilience::policy::RefuseFault {}),
        ..Fault::default()
    };
    mount.faults = Some(faults("refuse", refuse, "60s").render());
    mount.publish();
    let broken = |answer: Result<reqwest::Response, reqwest::Error>| async move {
        // Without an owner of the connection that closes it, the answer's body breaks off.
        match answer {
            Ok(answer) => answer.bytes().await.is_err(),
            Err(_) => true,
        }
    };
    assert!(broken(open.await.unwrap()).await);
    assert!(broken(reqwest::get(format!("{url}/quick")).await).await);
    assert_eq!(reqwest::get(format!("{url}/health")).await.unwrap().status(), 200);
}
