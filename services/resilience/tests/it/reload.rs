//! The mounted folder while it changes: good documents, bad ones, none.

use std::time::Duration;

use valerix_resilience::policy::{
    Admission, BreakerOverride, CircuitState, ErrorsFault, Fault, FaultState, OverrideState, Policy, PolicySource,
    Runtime, hash,
};
use valerix_resilience::{Outcome, Resilience};

use crate::support::{Mount, eventually, faults, policy};

fn timeout(millis: u64) -> Policy {
    policy(|policy, _| policy.inbound.timeout = valerix_resilience::policy::Duration::from_millis(millis))
}

fn in_force(resilience: &Resilience) -> Duration {
    resilience.policy().inbound.timeout.get()
}

#[tokio::test]
async fn a_new_document_comes_into_force_and_proves_itself_by_its_hash() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    let resilience = mount.start().await;
    assert_eq!(in_force(&resilience), Duration::from_millis(1_000));
    for millis in [2_000, 3_000, 4_000] {
        mount.policy = Some(timeout(millis).render());
        mount.publish();
        eventually("it is in force", || {
            in_force(&resilience) == Duration::from_millis(millis)
        })
        .await;
        let report = resilience.report().policy;
        assert_eq!(report.hash, Some(hash(timeout(millis).render().as_bytes())));
        assert_eq!((report.source, report.error), (PolicySource::Document, None));
    }
}

/// Another number of replicas divides what they share anew, and says nothing about moments that the policy names.
#[tokio::test]
async fn an_override_is_not_measured_again_when_replicas_come_and_go() {
    let wall = std::sync::Arc::new(std::sync::Mutex::new(chrono::Utc::now()));
    let until = *wall.lock().unwrap() + chrono::TimeDelta::minutes(10);
    let held = policy(|_, target| {
        target.breaker_override = Some(BreakerOverride {
            circuit_breaker: OverrideState::ForcedOpen,
            until,
        });
    });
    let mut mount = Mount::with_policy(&held);
    let told = std::sync::Arc::clone(&wall);
    let builder = Resilience::builder().policy_folder(mount.folder());
    let resilience = builder.wall_clock(move || *told.lock().unwrap()).start().await.unwrap();
    assert!(resilience.target("upstream").breaker().try_acquire().is_err());
    *wall.lock().unwrap() += chrono::TimeDelta::hours(1);
    mount.runtime = Some(Runtime::new(3).render());
    mount.publish();
    eventually("three replicas", || resilience.ready_replicas() == 3).await;
    assert!(
        resilience.target("upstream").breaker().try_acquire().is_err(),
        "its ten minutes are not over"
    );
}

/// A circuit that a new document closes tells its listeners, who may ask the library whatever they like, and fail.
#[tokio::test]
async fn a_listener_may_ask_and_panic_while_documents_are_taken() {
    let with_permits = |permits| {
        policy(|_, target| {
            target.circuit_breaker.consecutive_failures = Some(1);
            target.circuit_breaker.half_open_permits = permits;
            target.circuit_breaker.open_duration = valerix_resilience::policy::Duration::from_millis(100);
        })
    };
    let mut mount = Mount::with_policy(&with_permits(5));
    let resilience = mount.start().await;
    let target = resilience.target("upstream");
    target.breaker().try_acquire().unwrap().record(Outcome::Failure);
    for _ in 0..3 {
        eventually("a probe may pass", || {
            let Ok(probe) = target.breaker().try_acquire() else {
                return false;
            };
            probe.record(Outcome::Success);
            true
        })
        .await;
    }
    assert_eq!(target.state(), CircuitState::HalfOpen);
    let (told, asked) = std::sync::mpsc::channel();
    let library = resilience.clone();
    target.on_transition(move |_, transition| {
        let report = library.report();
        let _ = library.target("another");
        library.apply_policy(Policy::default().render().as_bytes()).unwrap();
        told.send((transition.to, report.faults_hash)).unwrap();
        panic!("as listeners may");
    });
    mount.policy = Some(with_permits(3).render());
    mount.publish();
    let mut heard = None;
    eventually("the listener came to its end", || {
        heard = asked.try_recv().ok().or(heard.take());
        heard.is_some()
    })
    .await;
    assert_eq!(heard.unwrap().0, CircuitState::Closed);
    // And the next document is taken like any other.
    mount.policy = Some(timeout(2_000).render());
    mount.publish();
    eventually("it is in force", || {
        in_force(&resilience) == Duration::from_millis(2_000)
    })
    .await;
}

#[tokio::test]
async fn garbage_is_reported_and_never_replaces_a_good_document() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    let resilience = mount.start().await;
    let good = resilience.report().policy.hash;
    let half = timeout(2_000).render();
    for garbage in [
        "",
        "garbage",
        &half[..half.len() / 2],
        "{}",
        r#"{"version": 2}"#,
        r#"{"version": 1, "mode": "Maybe"}"#,
    ] {
        mount.policy = Some(garbage.to_owned());
        mount.publish();
        let before = resilience.report().policy.error;
        eventually("it is refused", || {
            let error = resilience.report().policy.error;
            error.is_some() && (error != before || garbage.is_empty())
        })
        .await;
        assert_eq!(in_force(&resilience), Duration::from_millis(1_000));
        assert_eq!(resilience.report().policy.hash, good);
    }
    mount.policy = None;
    mount.publish();
    eventually("its absence is told", || {
        resilience
            .report()
            .policy
            .error
            .is_some_and(|error| error.contains("holds no policy.v1.json"))
    })
    .await;
    mount.policy = Some(timeout(3_000).render());
    mount.publish();
    eventually("a good one heals it", || resilience.report().policy.error.is_none()).await;
    assert_eq!(in_force(&resilience), Duration::from_millis(3_000));
}

#[tokio::test]
async fn the_good_document_comes_back_after_garbage_of_the_same_bytes() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    let resilience = mount.start().await;
    mount.policy = Some("garbage".to_owned());
    mount.publish();
    eventually("it is refused", || resilience.report().policy.error.is_some()).await;
    mount.policy = Some(timeout(1_000).render());
    mount.publish();
    eventually("the error is gone", || resilience.report().policy.error.is_none()).await;
}

#[tokio::test]
async fn the_last_good_document_survives_a_restart() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    let hash = mount.start().await.report().policy.hash;
    mount.policy = Some("garbage".to_owned());
    mount.publish();
    let again = mount.start().await;
    let report = again.report().policy;
    assert_eq!((report.hash, report.source), (hash, PolicySource::LastGood));
    assert!(report.error.unwrap().contains("not valid JSON"));
    assert_eq!(in_force(&again), Duration::from_millis(1_000));
}

#[tokio::test]
async fn without_any_document_the_defaults_hold_and_a_later_one_is_taken() {
    let mut mount = Mount::new();
    let resilience = mount.start().await;
    let report = resilience.report().policy;
    assert_eq!((report.hash, report.source), (None, PolicySource::Defaults));
    assert!(report.error.is_some());
    mount.policy = Some(timeout(1_000).render());
    mount.publish();
    eventually("it is in force", || {
        resilience.report().policy.source == PolicySource::Document
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_comes_later_is_found() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("policy");
    let resilience = Resilience::builder().policy_folder(&folder).start().await.unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("policy.v1.json"), timeout(1_000).render()).unwrap();
    eventually("it is in force", || {
        in_force(&resilience) == Duration::from_millis(1_000)
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_named() {
    let mut mount = Mount::new();
    mount.policy =
        Some(r#"{"version": 1, "new": 1, "targets": [{"name": "upstream", "retry": {"newer": {}}}]}"#.to_owned());
    mount.publish();
    let resilience = mount.start().await;
    assert_eq!(
        resilience.report().policy.ignored_fields,
        ["new", "targets[0].retry.newer"]
    );
}

#[tokio::test]
async fn an_open_breaker_stays_open_through_reloads() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    let resilience = mount.start().await;
    let target = resilience.target("upstream");
    for _ in 0..20 {
        target.breaker().try_acquire().unwrap().record(Outcome::Failure);
    }
    let before = target.breaker().snapshot().next_probe_in.unwrap();
    for millis in 1..=1_000 {
        resilience.apply_policy(timeout(millis).render().as_bytes()).unwrap();
        assert!(target.breaker().try_acquire().is_err());
    }
    mount.policy = Some(timeout(5_000).render());
    mount.publish();
    eventually("the file is in force", || {
        in_force(&resilience) == Duration::from_secs(5)
    })
    .await;
    assert!(target.breaker().snapshot().next_probe_in.unwrap() <= before);
    assert!(std::sync::Arc::ptr_eq(&target, &resilience.target("upstream")));
}

#[tokio::test]
async fn a_target_that_no_document_and_nobody_holds_is_shown_no_longer() {
    let registry = prometheus::Registry::new();
    let resilience = Resilience::builder().registry(registry.clone()).start().await.unwrap();
    resilience.apply_policy(policy(|_, _| {}).render().as_bytes()).unwrap();
    let measured = |target: &str| {
        let metrics = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        metrics.unwrap().contains(&format!("target=\"{target}\""))
    };
    let held = resilience.target("held");
    for name in ["upstream", "asked once", "held"] {
        let target = resilience.target(name);
        while let Ok(permit) = target.breaker().try_acquire() {
            permit.record(valerix_resilience::Outcome::Failure);
        }
        assert!(measured(name));
    }
    resilience.apply_policy(Policy::default().render().as_bytes()).unwrap();
    let shown: Vec<_> = resilience
        .report()
        .circuit_breakers
        .into_iter()
        .map(|breaker| breaker.target)
        .collect();
    assert_eq!(shown, ["held"], "and it is as open as it was");
    assert_eq!(held.state(), CircuitState::Open);
    assert!(measured("held") && !measured("upstream") && !measured("asked once"));
    // Who held it lets go, and no document comes any more.
    drop(held);
    assert_eq!(resilience.report().circuit_breakers, []);
    assert!(!measured("held"));
    // Named again before anybody looked, it is there again.
    let held = resilience.target("upstream");
    resilience.apply_policy(Policy::default().render().as_bytes()).unwrap();
    drop(held);
    resilience.apply_policy(policy(|_, _| {}).render().as_bytes()).unwrap();
    assert_eq!(resilience.report().circuit_breakers[0].target, "upstream");
    assert!(measured("upstream"));
}

#[tokio::test]
async fn replicas_come_from_the_runtime_document() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    let resilience = mount.start().await;
    assert_eq!(resilience.ready_replicas(), 1);
    let hash = resilience.report().policy.hash;
    mount.runtime = Some(Runtime::new(7).render());
    mount.publish();
    eventually("it is known", || resilience.ready_replicas() == 7).await;
    assert_eq!(resilience.report().policy.hash, hash);
}

/// Runs `work` on a thread that permission bits bind, as they bind every process that is not root's.
fn bound_by_permissions(work: impl FnOnce() + Send + 'static) {
    let bound = std::thread::spawn(move || {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut own = capabilities(None).unwrap();
        let above_permissions = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        own.effective.remove(above_permissions);
        set_capabilities(None, own).unwrap();
        work();
    });
    bound.join().unwrap();
}

fn permit(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing_here_or_in_the_other_files() {
    bound_by_permissions(|| {
        runtime().block_on(async {
            let allowed = policy(|policy, _| policy.chaos.admission = Admission::Allowed);
            let mut mount = Mount::with_policy(&allowed);
            let errors = ErrorsFault {
                percent: 100,
                status: 503,
                routes: vec![],
            };
            let fault = Fault {
                errors: Some(errors),
                ..Fault::default()
            };
            mount.faults = Some(faults("run", fault, "60s").render());
            mount.publish();
            let resilience = mount.start().await;
            let good = resilience.report();
            assert_eq!(good.faults[0].state, FaultState::Active);

            // Neither says the document is missing, nor is a running fault withdrawn.
            mount.runtime = Some(Runtime::new(7).render());
            mount.publish_with(|version| {
                permit(&version.join("policy.v1.json"), 0o000);
                permit(&version.join("faults.json"), 0o000);
            });
            eventually("the file beside them is read", || resilience.ready_replicas() == 7).await;
            let report = resilience.report();
            let error = report.policy.error.clone().unwrap();
            assert!(error.contains("policy.v1.json") && error.contains("denied"), "{error}");
            assert_eq!(report.policy.hash, good.policy.hash);
            assert_eq!(
                (report.faults_hash, report.faults[0].state),
                (good.faults_hash, FaultState::Active)
            );

            // A restart now begins with the last good one.
            let again = mount.start().await.report().policy;
            assert_eq!(
                (again.hash, again.source),
                (good.policy.hash.clone(), PolicySource::LastGood)
            );
            assert!(again.error.unwrap().contains("denied"));

            mount.publish();
            eventually("readable, it is good again", || {
                resilience.report().policy.error.is_none()
            })
            .await;
            assert_eq!(resilience.report().policy.hash, good.policy.hash);
        });
    });
}

#[test]
fn a_folder_that_inotify_cannot_watch_is_polled() {
    bound_by_permissions(|| {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("policy.v1.json");
            std::fs::write(&file, timeout(1_000).render()).unwrap();
            // Its files can be read by name, and it cannot be listed, which is what inotify asks for.
            permit(folder.path(), 0o300);
            let resilience = Resilience::builder()
                .policy_folder(folder.path())
                .start()
                .await
                .unwrap();
            assert_eq!(in_force(&resilience), Duration::from_secs(1));
            std::fs::write(&file, timeout(2_000).render()).unwrap();
            eventually("it is in force", || in_force(&resilience) == Duration::from_secs(2)).await;
            permit(folder.path(), 0o700);
        });
    });
}

#[tokio::test]
async fn no_bad_file_replaces_a_good_one_across_a_restart() {
    let good = timeout(1_000).render();
    let half = good[..good.len() / 2].to_owned();
    let large = format!("{good}{}", " ".repeat(valerix_resilience::policy::MAX_DOCUMENT_BYTES));
    for (bad, reason) in [
        (Some("garbage".to_owned()), "JSON"),
        (Some(half), "JSON"),
        (Some(String::new()), "JSON"),
        (Some(large), "bytes"),
        (None, "holds no policy.v1.json"),
    ] {
        let mut mount = Mount::with_policy(&timeout(1_000));
        let running = mount.start().await;
        mount.policy = bad;
        mount.publish();
        eventually("it is refused", || running.report().policy.error.is_some()).await;
        for resilience in [running, mount.start().await, mount.start().await] {
            let report = resilience.report().policy;
            assert_eq!(report.hash, Some(hash(good.as_bytes())), "{reason}");
            assert!(report.error.as_ref().unwrap().contains(reason), "{report:?}");
            assert_eq!(in_force(&resilience), Duration::from_secs(1));
        }
    }
}

/// The kept document itself may be half-written by a process that died, or spoilt: then the defaults hold.
#[tokio::test]
async fn a_spoilt_last_good_document_is_not_taken() {
    let mut mount = Mount::with_policy(&timeout(1_000));
    drop(mount.start().await);
    let kept = mount.state_folder().join("policy.v1.json");
    let bytes = std::fs::read(&kept).unwrap();
    assert_eq!(hash(&bytes), hash(timeout(1_000).render().as_bytes()));
    std::fs::write(&kept, &bytes[..bytes.len() / 2]).unwrap();
    mount.policy = None;
    mount.publish();
    let report = mount.start().await.report().policy;
    assert_eq!((report.hash, report.source), (None, PolicySource::Defaults));
}
