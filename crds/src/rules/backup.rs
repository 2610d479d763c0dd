//! BackupPolicies that are refused.

use super::*;

pub(super) fn by_rule() -> Vec<Row> {
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
