//! BackupPolicies that are refused.

use super::*;

pub(super) fn by_rule() -> Vec<Row> {
    [what_cannot_be(), what_would_only_fail_at_night()].concat()
}

/// A policy into a bucket.
pub(super) fn in_bucket(s3: Value) -> Value {
    let good = json!({"bucket": "vault", "credentialsSecretRef": {"name": "keys"}});
    policy(json!({"destination": {"s3": merged(good, s3)}}))
}

/// A policy whose trial restore asks something.
pub(super) fn asking(query: Value) -> Value {
    let good = json!({"name": "q", "database": "d", "query": "SELECT 7"});
    policy(json!({"verification": {"queries": [merged(good, query)]}}))
}

/// A public key of age.
pub(super) const PUBLIC: &str = "age19lam7gdneupdzy7s0zfu2jq6g0d5tpwzv69v6nvk9zz298zca9fqz5lxxy";

fn what_cannot_be() -> Vec<Row> {
    vec![
        (
            object(
                "BackupPolicy",
                "a.b",
                json!({"databases": databases(), "destination": {"volumeClaim": {"claimName": "c"}}}),
            ),
            "must hold only a-z, 0-9",
        ),
        (
            object(
                "BackupPolicy",
                &"x".repeat(53),
                json!({"databases": databases(), "destination": {"volumeClaim": {"claimName": "c"}}}),
            ),
            "at most 52",
        ),
        (policy(json!({"destination": {}})), "exactly one of s3 and volumeClaim"),
        (
            policy(
                json!({"destination": {"volumeClaim": {"claimName": "c"}, "s3": {"bucket": "bbb", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "exactly one of s3 and volumeClaim",
        ),
        (
            policy(
                json!({"destination": {"s3": {"bucket": "bbb", "prefix": "/pg", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "without a leading '/'",
        ),
        (
            policy(
                json!({"destination": {"s3": {"bucket": "bbb", "prefix": "pg/../x", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "prefix must not hold '..'",
        ),
        (
            policy(json!({"verification": {"queries": [
                {"name": "q", "database": "d", "query": "SELECT 1"},
            ]}})),
            "a query must have equals",
        ),
        (
            policy(json!({"verification": {"queries": [
                {"name": "q", "database": "d", "query": "SELECT 1", "equals": 1, "atMost": 2},
            ]}})),
            "a query must have equals",
        ),
        (
            policy(json!({"verification": {"queries": [
                {"name": "q", "database": "d", "query": "SELECT 1; DROP TABLE t", "equals": 1},
            ]}})),
            "one SELECT without ';'",
        ),
        (
            policy(json!({"destination": {"volumeClaim": {"claimName": "c", "path": "a/../../b"}}})),
            "must not leave the volume",
        ),
        (
            policy(json!({"destination": {"volumeClaim": {"claimName": "c", "path": "/archives"}}})),
            "without a leading '/'",
        ),
        (
            policy(json!({"schedule": {"catchUpWindow": "24h"}})),
            "catchUpWindow must be less than 24h",
        ),
    ]
}

fn what_would_only_fail_at_night() -> Vec<Row> {
    fn each(values: &[&str], refused: impl Fn(&str) -> Value, text: &'static str) -> Vec<Row> {
        values.iter().map(|value| (refused(value), text)).collect()
    }
    let private = "AGE-SECRET-KEY-1NTL4RQ2FDEFSR9SMY4N0DCS5U9NF2UK3NY08PLVQXLCA0EXXZ4KSRT2SAH";
    [
        each(
            &["7:30", "24:00", "03.15", "midnight", "00:60", "1980"],
            |time| policy(json!({"schedule": {"timeOfDay": time}})),
            "timeOfDay must be HH:MM from 00:00 to 23:59",
        ),
        each(
            &["0s", "9s", "59s999ms"],
            |window| policy(json!({"schedule": {"catchUpWindow": window}})),
            "catchUpWindow must be at least 1m",
        ),
        each(
            &["0s", "999ms", "20h1s", "99h"],
            |deadline| policy(json!({"job": {"deadline": deadline}})),
            "deadline must be from 1s to 20h",
        ),
        each(
            &["s3://vault", "vault/pg", "Vault", "a..b", "-vault", "vault_1"],
            |bucket| in_bucket(json!({"bucket": bucket})),
            "bucket must be the bucket's name alone",
        ),
        each(
            &[
                "minio:9000",
                "ftp://minio",
                "https://minio:9000/archives",
                "https://key:secret@minio",
                "https://minio:65536",
                "https://minio:0",
                "https://-",
                "https://",
            ],
            |endpoint| in_bucket(json!({"endpoint": endpoint})),
            "endpoint must be http:// or https://",
        ),
        each(
            &["Vault", "vault/pg", "-vault", "my claim"],
            |claim| policy(json!({"destination": {"volumeClaim": {"claimName": claim}}})),
            "claimName must be the name of a PersistentVolumeClaim",
        ),
        each(
            &[private, "ssh-ed25519 AAAAC3Nz", &PUBLIC[..61], "age1pq1", ""],
            |key| policy(json!({"encryption": {"ageRecipients": [PUBLIC, key]}})),
            "each of ageRecipients must be a public key of age",
        ),
        each(
            &["shop/backups", "Backups", "-backups", "my account"],
            |account| policy(json!({"job": {"serviceAccountName": account}})),
            "serviceAccountName must be the name of a ServiceAccount",
        ),
        vec![
            (
                policy(json!({"job": {"serviceAccountName": "p-verify"}})),
                "must not be the account of the policy's trial restores",
            ),
            (
                in_bucket(json!({"endpoint": "http://minio:9000", "caSecretRef": {"name": "authority"}})),
                "caSecretRef has no meaning for an endpoint of http://",
            ),
            (
                asking(json!({"atLeast": 9, "atMost": 8})),
                "atLeast must not be more than atMost",
            ),
            (
                asking(json!({"database": "stok", "equals": 7})),
                "each database must be the name of one of spec.databases",
            ),
            (
                policy(json!({"verification": {"budget": "0ms"}})),
                "budget must be more than 0s",
            ),
        ],
    ]
    .concat()
}
