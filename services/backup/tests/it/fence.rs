//! The fence of a record without a pod: one passes it, and nobody gives back what another holds by now.

use crate::{
    api::{Api, Moment, Trap},
    harness::{POLICY_UID, RECORD},
};
use chrono::DateTime;
use serde_json::json;
use std::time::Duration;
use valerix_backup::record::{Fence, Record};
use valerix_crds::{Upload, UploadState};

const UID: &str = "record-uid";

/// The first hold of a pod, or a later one.
fn hold(pod: &str, count: i64) -> Upload {
    Upload {
        state: UploadState::Started,
        pod_uid: Some(pod.into()),
        started_at: DateTime::from_timestamp(1_787_000_000 + count, 0),
        ..Upload::default()
    }
}

/// Writes who holds the record, over whatever was there.
fn put(api: &Api, upload: &Upload) {
    api.put(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": RECORD, "namespace": "shop", "uid": UID},
        "spec": {"policyRef": {"name": "nightly", "uid": POLICY_UID}, "slot": "2026-08-21", "scheduledAt": "2026-08-21T00:00:00Z"},
        "status": {"phase": "Uploading", "upload": upload},
    }));
}

fn held(api: &Api) -> Upload {
    serde_json::from_value(api.record(RECORD)["status"]["upload"].clone()).unwrap()
}

/// A record whose fence is held like this, and the runner's view of it.
async fn record(upload: &Upload) -> (Api, Record) {
    // A second call only finds that a provider is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api = Api::default();
    put(&api, upload);
    let address = api.serve().await;
    let client = kube::Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
    (api, Record::new(client, "shop", RECORD, Duration::from_secs(10)))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_to_the_fence_has_lost_it() {
    let (api, record) = record(&Upload::default()).await;
    let (first, second) = (hold("first", 1), hold("second", 1));
    // Both have read that nobody holds it, and the patch of one is still on its way.
    let late = Trap::new("Uploading", Moment::Before);
    api.set_trap(Some(late.clone()));
    let loser = tokio::spawn({
        let (record, second) = (record.clone(), second.clone());
        async move { record.pass_fence(Some(UID), &second).await.unwrap() }
    });
    late.bitten.notified().await;
    let passed = record.pass_fence(Some(UID), &first).await.unwrap();
    assert!(matches!(passed, Fence::Passed), "{passed:?}");
    late.release.notify_one();
    let lost = loser.await.unwrap();
    assert!(matches!(lost, Fence::Lost), "{lost:?}");
    assert_eq!(held(&api), first);
    // That somebody holds it is an answer to the holder alone: a later hold of the same pod is another one.
    for other in [second, hold("first", 2)] {
        let lost = record.pass_fence(Some(UID), &other).await.unwrap();
        assert!(matches!(lost, Fence::Lost), "{other:?}: {lost:?}");
    }
    let passed = record.pass_fence(Some(UID), &first).await.unwrap();
    assert!(matches!(passed, Fence::Passed), "{passed:?}");
    assert_eq!(held(&api), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_hold_that_is_meant_is_given_back() {
    let first = hold("first", 1);
    for later in [hold("first", 2), hold("second", 1)] {
        let (api, record) = record(&later).await;
        record.release(&first).await.unwrap();
        assert_eq!(held(&api), later);

        // The hold becomes another one while the patch that gives it back is on its way.
        put(&api, &first);
        let late = Trap::new("Uploading", Moment::Before);
        api.set_trap(Some(late.clone()));
        let release = tokio::spawn({
            let (record, first) = (record.clone(), first.clone());
            async move { record.release(&first).await.unwrap() }
        });
        late.bitten.notified().await;
        put(&api, &later);
        late.release.notify_one();
        release.await.unwrap();
        assert_eq!(held(&api), later);

        record.release(&later).await.unwrap();
        assert_eq!(held(&api), Upload::default());
    }
}
