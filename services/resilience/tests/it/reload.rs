//! The mounted folder while it changes: good documents, bad ones, none.

use std::time::Duration;

use valerix_resilience::policy::{Policy, PolicySource, Runtime, hash};
use valerix_resilience::{Outcome, Resilience};

use crate::support::{Mount, eventually, policy};

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
