//! BackupPolicies that are refused.

use super::*;

#[test]
fn what_is_wrong_with_a_policy_is_refused_with_a_text_that_names_it() {
    assert_refused([
        (
            object(
                "BackupPolicy",
                "a.b",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}}),
            ),
            "must hold only a-z, 0-9",
        ),
        (
            object(
                "BackupPolicy",
                &"x".repeat(53),
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}}),
            ),
            "at most 52",
        ),
        (
            object("BackupPolicy", "p", json!({"databases": [], "destination": {}})),
            "exactly one of s3 and volumeClaim",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}, "s3": {"bucket": "b", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "exactly one of s3 and volumeClaim",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"s3": {"bucket": "b", "prefix": "/pg", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "without a leading '/'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"s3": {"bucket": "b", "prefix": "pg/../x", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "prefix must not hold '..'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "verification": {"queries": [
                    {"name": "q", "database": "d", "query": "SELECT 1"},
                ]}}),
            ),
            "a query must have equals",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "verification": {"queries": [
                    {"name": "q", "database": "d", "query": "SELECT 1", "equals": 1, "atMost": 2},
                ]}}),
            ),
            "a query must have equals",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "verification": {"queries": [
                    {"name": "q", "database": "d", "query": "SELECT 1; DROP TABLE t", "equals": 1},
                ]}}),
            ),
            "one SELECT without ';'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c", "path": "a/../../b"}}}),
            ),
            "must not leave the volume",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c", "path": "/archives"}}}),
            ),
            "without a leading '/'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "schedule": {"catchUpWindow": "24h"}}),
            ),
            "catchUpWindow must be less than 24h",
        ),
    ]);
}

/// A policy that is good but for these fields.
fn policy(spec: Value) -> Value {
    let good = json!({
        "databases": [{"name": "stock", "connectionSecretRef": {"name": "stock-db"}}],
        "destination": {"volumeClaim": {"claimName": "vault"}},
    });
    object("BackupPolicy", "weekday", merged(good, spec))
}

fn in_bucket(s3: Value) -> Value {
    let good = json!({"bucket": "vault", "credentialsSecretRef": {"name": "keys"}});
    policy(json!({"destination": {"s3": merged(good, s3)}}))
}

fn asking(query: Value) -> Value {
    let good = json!({"name": "q", "database": "stock", "query": "SELECT 7", "equals": 7});
    policy(json!({"verification": {"queries": [merged(good, query)]}}))
}

const PUBLIC: &str = "age19lam7gdneupdzy7s0zfu2jq6g0d5tpwzv69v6nvk9zz298zca9fqz5lxxy";

#[test]
fn what_would_only_fail_at_night_is_refused_by_day() {
    assert_refused(["7:30", "24:00", "03.15", "midnight", "00:60", "1980"].map(|time| {
        let schedule = json!({"schedule": {"timeOfDay": time}});
        (policy(schedule), "timeOfDay must be HH:MM from 00:00 to 23:59")
    }));
    assert_refused(["0s", "9s", "59s999ms"].map(|window| {
        let schedule = json!({"schedule": {"catchUpWindow": window}});
        (policy(schedule), "catchUpWindow must be at least 1m")
    }));
    assert_refused(["0s", "999ms", "20h1s", "99h"].map(|deadline| {
        let job = json!({"job": {"deadline": deadline}});
        (policy(job), "deadline must be from 1s to 20h")
    }));
    assert_refused(
        ["s3://vault", "vault/pg", "Vault", "a..b", "-vault", "vault_1"].map(|bucket| {
            (
                in_bucket(json!({"bucket": bucket})),
                "bucket must be the bucket's name alone",
            )
        }),
    );
    assert_refused(
        [
            "minio:9000",
            "ftp://minio",
            "https://minio:9000/archives",
            "https://key:secret@minio",
            "https://minio:65536",
            "https://minio:0",
            "https://-",
            "https://",
        ]
        .map(|endpoint| {
            (
                in_bucket(json!({"endpoint": endpoint})),
                "endpoint must be http:// or https://",
            )
        }),
    );
    assert_refused(["Vault", "vault/pg", "-vault", "my claim"].map(|claim| {
        let destination = json!({"destination": {"volumeClaim": {"claimName": claim}}});
        (
            policy(destination),
            "claimName must be the name of a PersistentVolumeClaim",
        )
    }));
    let authority = json!({"endpoint": "http://minio:9000", "caSecretRef": {"name": "authority"}});
    let without_number = json!({"equals": null, "atLeast": 9, "atMost": 8});
    assert_refused([
        (
            in_bucket(authority),
            "caSecretRef has no meaning for an endpoint of http://",
        ),
        (asking(without_number), "atLeast must not be more than atMost"),
        (
            asking(json!({"database": "stok"})),
            "each database must be the name of one of spec.databases",
        ),
        (
            policy(json!({"verification": {"budget": "0ms"}})),
            "budget must be more than 0s",
        ),
    ]);
    let private = "AGE-SECRET-KEY-1NTL4RQ2FDEFSR9SMY4N0DCS5U9NF2UK3NY08PLVQXLCA0EXXZ4KSRT2SAH";
    assert_refused(
        [private, "ssh-ed25519 AAAAC3Nz", &PUBLIC[..61], "age1pq1", ""].map(|key| {
            let encryption = json!({"encryption": {"ageRecipients": [PUBLIC, key]}});
            (policy(encryption), "each of ageRecipients must be a public key of age")
        }),
    );
}

#[test]
fn what_stands_at_an_edge_is_accepted() {
    for object in [
        policy(json!({"schedule": {"timeOfDay": "23:59", "catchUpWindow": "1m"}, "job": {"deadline": "20h"}})),
        policy(json!({"job": {"deadline": "1s"}, "verification": {"budget": "1ms"}})),
        policy(json!({"encryption": {"ageRecipients": [PUBLIC], "identitySecretRef": {"name": "key"}}})),
        in_bucket(
            json!({"bucket": "a.b-1", "endpoint": "https://minio.storage.svc:65535/", "caSecretRef": {"name": "a"}}),
        ),
        in_bucket(json!({"endpoint": "http://10.0.0.7"})),
        asking(json!({"equals": null, "atLeast": 8, "atMost": 8})),
    ] {
        assert_eq!(problems(&object), "", "{object}");
    }
}
