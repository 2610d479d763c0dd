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
