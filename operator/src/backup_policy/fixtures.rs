//! A policy for tests.

use super::job::Runner;
use chrono::{DateTime, Utc};
use serde_json::json;
use valerix_crds::BackupPolicy;

pub fn now() -> DateTime<Utc> {
    at("2026-08-21T12:00:00Z")
}

pub fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

pub fn runner() -> Runner {
    Runner {
        image: "valerix/backup:1".into(),
        cluster_role: "valerix-backup-runner".into(),
    }
}

pub fn policy() -> BackupPolicy {
    serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1",
        "kind": "BackupPolicy",
        "metadata": {"name": "shop", "namespace": "shop", "uid": "policy-uid", "generation": 3,
                     "creationTimestamp": "2026-08-20T09:00:00Z"},
        "spec": {
            "schedule": {"timeOfDay": "04:15", "timeZone": "Europe/Berlin"},
            "databases": [
                {"name": "orders", "connectionSecretRef": {"name": "orders-db"}},
                {"name": "stock", "connectionSecretRef": {"name": "stock-db"}, "minimum": {"tables": 2}},
            ],
            "destination": {"volumeClaim": {"claimName": "backups", "path": "pg"}},
        },
    }))
    .unwrap()
}
