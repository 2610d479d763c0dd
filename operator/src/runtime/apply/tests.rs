//! Children against the fake API server: fresh, drifted, handed over, of strangers, on their way out.

use super::*;
use crate::{
    fake_api::{FakeApi, Fault, Recorded},
    runtime::{Identity, Scope},
};
use k8s_openapi::api::core::v1::ConfigMap;
use std::time::Duration;

const MAP: &str = "/api/v1/namespaces/shop/configmaps/order";

fn applier(api: &FakeApi) -> Applier {
    let identity = Identity {
        pod: "operator-1".into(),
        uid: "operator-uid".into(),
    };
    let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
    Applier::new(&runtime, "test")
}

fn desired(data: Value) -> ConfigMap {
    let owner = json!({"apiVersion": "v1", "kind": "Owner", "name": "order", "uid": "owner", "controller": true});
    let labels = json!({"app.kubernetes.io/managed-by": "valerix", "owner": "order"});
    let metadata = json!({"name": "order", "namespace": "shop", "labels": labels, "ownerReferences": [owner]});
    serde_json::from_value(json!({"metadata": metadata, "data": data})).unwrap()
}

fn live(api: &FakeApi) -> ConfigMap {
    serde_json::from_value(api.get(MAP).unwrap()).unwrap()
}

fn last_write(api: &FakeApi) -> Recorded {
    api.requests().into_iter().rfind(Recorded::is_write).unwrap()
}

#[tokio::test]
async fn what_is_new_is_sent_without_force_and_what_is_ours_with_its_uid() {
    let api = FakeApi::default();
    let applier = applier(&api);
    let (both, one) = (desired(json!({"a": "1", "b": "2"})), desired(json!({"a": "1"})));
    assert_eq!(applier.apply(&both, None).await.unwrap(), Applied::Created);
    let write = last_write(&api);
    assert!(
        !write.query.contains("force=true"),
        "a stranger may come first: {write:?}"
    );
    assert_eq!(
        applier.apply(&both, Some(&live(&api))).await.unwrap(),
        Applied::Unchanged
    );
    // What is not wanted any more is no part of the comparison; the annotation tells.
    assert_eq!(applier.apply(&one, Some(&live(&api))).await.unwrap(), Applied::Updated);
    let write = last_write(&api);
    assert!(write.query.contains("force=true"), "{write:?}");
    assert_eq!(write.body["metadata"]["uid"], json!(live(&api).metadata.uid));
    api.merge(MAP, json!({"data": {"a": "changed"}}));
    assert_eq!(applier.apply(&one, Some(&live(&api))).await.unwrap(), Applied::Repaired);
}

#[tokio::test]
async fn what_the_api_server_writes_in_another_form_was_changed_by_nobody() {
    let api = FakeApi::default();
    let wanted = desired(json!({"a": "1"}));
    applier(&api).apply(&wanted, None).await.unwrap();
    let mut read = live(&api);
    // As a quantity or a webhook's image would be: the comparison sees another text, the API server does not.
    read.data = Some([("a".to_owned(), "1000m".to_owned())].into());
    let restarted = applier(&api);
    assert_eq!(restarted.apply(&wanted, Some(&read)).await.unwrap(), Applied::Unchanged);
    // From now on the form is known.
    let before = api.requests().len();
    assert_eq!(
        restarted.apply(&wanted, Some(&live(&api))).await.unwrap(),
        Applied::Unchanged
    );
    assert_eq!(api.requests().len(), before);
}

#[tokio::test]
async fn an_orphan_with_our_labels_is_taken_back_and_a_stranger_is_named() {
    let api = FakeApi::default();
    let wanted = desired(json!({"a": "1"}));
    applier(&api).apply(&wanted, None).await.unwrap();
    let uid = live(&api).metadata.uid;
    api.merge(
        MAP,
        json!({"metadata": {"ownerReferences": null}, "data": {"a": "old"}}),
    );
    let taken = applier(&api).apply(&wanted, Some(&live(&api))).await.unwrap();
    assert_eq!(taken, Applied::Repaired);
    let back = live(&api);
    assert_eq!(controller_of(&back).unwrap().uid, "owner");
    assert_eq!(
        (back.metadata.uid, &back.data),
        (uid, &wanted.data),
        "the same object as before"
    );

    let owned_by = |owner: Value| {
        let mut other = live(&api);
        other.metadata.owner_references = serde_json::from_value(json!([owner])).unwrap();
        other
    };
    let owner = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "another", "controller": true});
    for (kind, name) in [("ServiceAccount", "default"), ("Service", "kubernetes")] {
        let taken = Error::NotOwned {
            kind: kind.into(),
            name: name.into(),
            owner: None,
        };
        assert!(
            !taken.to_string().contains("adopt"),
            "it would go with the resource: {taken}"
        );
        assert!(!possession::may_be_handed_over(kind, name));
    }
    let before = api.requests().len();
    let refused = applier(&api)
        .apply(&wanted, Some(&owned_by(owner("Owner", "pay"))))
        .await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.ends_with("ConfigMap order exists and belongs to Owner pay; rename one of the two"),
        "no annotation hands over what somebody controls: {text}"
    );
    // An earlier owner of the same name: the garbage collector has not come yet.
    let past = owned_by(owner("Owner", "order"));
    assert_eq!(
        applier(&api).apply(&wanted, Some(&past)).await.unwrap(),
        Applied::Terminating
    );
    let mut unlabelled = live(&api);
    unlabelled.metadata.owner_references = None;
    unlabelled.metadata.labels = None;
    let refused = applier(&api).apply(&wanted, Some(&unlabelled)).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.ends_with("hand it over with the annotation resilience.valerix.io/adopt: \"true\""),
        "{text}"
    );
    assert_eq!(api.requests().len(), before, "a stranger was written");
}

#[tokio::test]
async fn a_cache_that_has_not_seen_our_writing_shows_no_drift_but_of_that_writing_alone() {
    let api = FakeApi::default();
    let applier = applier(&api);
    let numbered = |number: &str| desired(json!({"a": number}));
    applier.apply(&numbered("1"), None).await.unwrap();
    let stale = live(&api);
    for (number, expected) in [
        ("2", Applied::Updated),
        ("2", Applied::Unchanged),
        ("3", Applied::Updated),
        ("3", Applied::Unchanged),
    ] {
        assert_eq!(applier.apply(&numbered(number), Some(&stale)).await.unwrap(), expected);
    }
    let mut another = stale;
    another.metadata.uid = Some("another".into());
    let before = api.requests().len();
    let _ = applier.apply(&numbered("3"), Some(&another)).await;
    assert!(
        api.requests().len() > before,
        "what is known of one object says nothing of another"
    );
}

#[tokio::test]
async fn what_goes_is_left_alone_and_what_is_pruned_is_ours_and_named_by_uid() {
    let api = FakeApi::default();
    let applier = applier(&api);
    let wanted = desired(json!({"a": "1"}));
    applier.apply(&wanted, None).await.unwrap();
    let mut going = live(&api);
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-08-21T12:00:00Z")).unwrap();
    going.data = None;
    let before = api.requests().len();
    // Of an earlier life, so that nothing else is known of it.
    let restarted = self::applier(&api);
    assert_eq!(
        restarted.apply(&wanted, Some(&going)).await.unwrap(),
        Applied::Terminating
    );
    assert!(!restarted.prune(&going, "owner").await.unwrap());
    assert!(!restarted.prune(&live(&api), "another").await.unwrap());
    assert_eq!(api.requests().len(), before);
    let uid = live(&api).metadata.uid;
    assert!(applier.prune(&live(&api), "owner").await.unwrap());
    assert_eq!(last_write(&api).body["preconditions"]["uid"], json!(uid));
    assert_eq!(api.get(MAP), None);
}

#[tokio::test]
async fn what_is_handed_over_loses_what_we_do_not_want_and_keeps_its_labels() {
    let api = FakeApi::default();
    let managed = json!([{"manager": "helm", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:data": {"f:a": {}, "f:old": {}}}}]);
    let stranger = |adopt: &str| {
        json!({"metadata": {"name": "order", "labels": {"app": "order"}, "annotations": {
        "resilience.valerix.io/adopt": adopt}, "managedFields": managed}, "data": {"a": "theirs", "old": "1"}})
    };
    let maps = "/api/v1/namespaces/shop/configmaps";
    api.create(maps, stranger("yes"));
    let wanted = desired(json!({"a": "1"}));
    let applier = applier(&api);
    let refused = applier.apply(&wanted, None).await;
    assert!(
        matches!(refused, Err(Error::NotOwned { .. })),
        "only `true` is a yes: {refused:?}"
    );
    api.delete(MAP);
    api.create(maps, stranger("true"));
    let later = Handover {
        is_due: false,
        ..Handover::default()
    };
    api.forget_requests();
    assert_eq!(
        applier.apply_with(&wanted, None, &later).await.unwrap(),
        Applied::Waiting
    );
    assert!(api.writes().is_empty(), "it is left as it is");
    let uid = live(&api).metadata.uid;
    // The first attempt ends between its two writes.
    let mut writes = 0;
    api.inject(move |request| {
        writes += i32::from(request.is_write());
        (request.is_write() && writes == 2).then_some(Fault::Refuse(500))
    });
    assert!(applier.apply(&wanted, None).await.is_err());
    assert_eq!(applier.apply(&wanted, None).await.unwrap(), Applied::Adopted);
    let ours = live(&api);
    assert_eq!(
        (&ours.metadata.uid, &ours.data),
        (&uid, &wanted.data),
        "the same object"
    );
    assert_eq!(controller_of(&ours).unwrap().uid, "owner");
    assert_eq!(ours.metadata.labels.as_ref().unwrap()["app"], "order");
    assert_eq!(applier.apply(&wanted, Some(&ours)).await.unwrap(), Applied::Unchanged);
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_it_was_seen_is_not_taken_over_unseen() {
    let api = FakeApi::default();
    let offered =
        json!({"metadata": {"name": "order", "annotations": {"resilience.valerix.io/adopt": "true"}}, "data": {}});
    api.create("/api/v1/namespaces/shop/configmaps", offered);
    // The write is under way for a second, in which somebody else changes the object.
    api.inject(|request| request.is_write().then_some(Fault::Delay(Duration::from_secs(1))));
    let meddler = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.merge(MAP, json!({"data": {"b": "now"}}));
    };
    let (applier, wanted) = (applier(&api), desired(json!({"a": "1"})));
    let (applied, ()) = tokio::join!(applier.apply(&wanted, None), meddler);
    let error = applied.unwrap_err();
    assert_eq!(crate::runtime::Category::category(&error), "Conflict");
    assert_eq!(live(&api).metadata.owner_references, None);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_makes_between_our_look_and_our_writing_stays_his() {
    let api = FakeApi::default();
    // The write is under way for a second, in which somebody makes an object that conflicts in nothing.
    let mut is_first = true;
    api.inject(move |request| {
        let is_delayed = request.is_write() && std::mem::take(&mut is_first);
        is_delayed.then_some(Fault::Delay(Duration::from_secs(1)))
    });
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "order", "labels": {"app": "theirs"}, "managedFields": [
        {"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1"}]}, "data": {"b": "theirs"}});
    let stranger = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.create("/api/v1/namespaces/shop/configmaps", theirs.clone())
    };
    let (applier, wanted) = (applier(&api), desired(json!({"a": "1"})));
    let (applied, made) = tokio::join!(applier.apply(&wanted, None), stranger);
    assert!(matches!(applied, Err(Error::NotOwned { .. })), "{applied:?}");
    let mut left = api.get(MAP).unwrap();
    left["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    assert_eq!(left, made, "nothing of ours is in it");
    // And so it goes on.
    let again = applier.apply(&wanted, None).await;
    assert!(matches!(again, Err(Error::NotOwned { .. })), "{again:?}");
}
