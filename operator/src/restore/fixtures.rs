//! A Restore and a record for tests.

use crate::backup_policy::job::Runner;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use valerix_crds::Restore;

pub fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-08-21T12:00:00Z").unwrap().to_utc()
}

pub fn runner() -> Runner {
    Runner {
        image: "valerix/backup:1".into(),
        cluster_role: "valerix-restore-runner".into(),
    }
}

/// A Restore of the newest archive, with `changes` of its spec.
pub fn restore(changes: Value) -> Restore {
    let mut spec = json!({
        "source": {"policyRef": {"name": "nightly"}},
        "target": {"connectionSecretRef": {"name": "orders-db"}},
    });
    if let (Some(spec), Value::Object(changes)) = (spec.as_object_mut(), changes) {
        spec.extend(changes);
    }
    serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1",
        "kind": "Restore",
        "metadata": {"name": "back", "namespace": "shop", "uid": "restore-uid", "generation": 1,
                     "creationTimestamp": "2026-08-21T11:00:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

/// The record of a stored archive.
pub fn record(slot: &str) -> Value {
    let day = slot.replace('-', "");
    json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": format!("nightly-{day}"), "namespace": "shop", "labels": {"resilience.valerix.io/policy": "nightly"}},
        "spec": {"policyRef": {"name": "nightly", "uid": "policy-uid"}, "slot": slot, "scheduledAt": format!("{slot}T00:00:00Z")},
        "status": {"phase": "Completed", "upload": {"state": "Completed", "claimName": "backups",
            "key": format!("shop/nightly/{day}.tar.zst"), "sha256": "a".repeat(64), "bytes": 1}},
    })
}
