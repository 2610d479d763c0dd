//! Restores that are refused.

use super::*;

/// A Restore of a policy's newest archive, with other fields.
pub(super) fn restore(spec: Value) -> Value {
    let base = json!({
        "source": {"policyRef": {"name": "nightly"}},
        "target": {"connectionSecretRef": {"name": "orders-db"}},
    });
    object("Restore", "back", merged(base, spec))
}

/// One that puts a database in the place of a living one; a field that is null is left out.
pub(super) fn replacing(spec: Value) -> Value {
    let base = json!({
        "mode": "ReplaceDatabase",
        "target": {"connectionSecretRef": {"name": "orders-db"}, "adminSecretRef": {"name": "admin"}},
        "databases": [{"name": "orders"}],
        "replace": {"confirm": "orders"},
    });
    let mut object = restore(merged(base, spec));
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    object
}

/// An archive on a claim.
pub(super) fn archive(key: &str) -> Value {
    json!({"destination": {"volumeClaim": {"claimName": "backups"}}, "key": key})
}

pub(super) fn by_rule() -> Vec<Row> {
    [sources(), destinations(), replacements(), others()].concat()
}

/// No archive is looked for where none can be stored: the destinations that a policy may not have.
fn destinations() -> Vec<Row> {
    let right = policy(json!({}))["spec"]["destination"].clone();
    let wrong = backup::by_rule().into_iter().filter_map(|(mut policy, text)| {
        let destination = policy["spec"]["destination"].take();
        (destination != right).then_some((destination, text))
    });
    wrong
        .map(|(destination, text)| {
            let archive = json!({"destination": destination, "key": "a"});
            (restore(json!({"source": {"archive": archive}})), text)
        })
        .collect()
}

fn sources() -> Vec<Row> {
    let policy = json!({"name": "nightly"});
    vec![
        (restore(json!({"source": {}})), "exactly one of policyRef and archive"),
        (
            restore(json!({"source": {"policyRef": policy, "archive": archive("a")}})),
            "exactly one of policyRef and archive",
        ),
        (
            restore(json!({"source": {"archive": archive("a"), "select": "Latest"}})),
            "remove it beside source.archive",
        ),
        (
            restore(json!({"source": {"policyRef": policy, "slot": "2026-08-21"}})),
            "source.slot belongs to select Slot",
        ),
        (
            restore(json!({"source": {"policyRef": policy, "select": "Slot"}})),
            "source.slot belongs to select Slot",
        ),
        (
            restore(json!({"source": {"policyRef": policy, "select": "Latest", "slot": "2026-08-21"}})),
            "source.slot belongs to select Slot",
        ),
        (
            restore(json!({"source": {"archive": archive("/a")}})),
            "key must be a path below the destination",
        ),
        (
            restore(json!({"source": {"archive": archive("a/../b")}})),
            "key must be a path below the destination",
        ),
    ]
}

fn replacements() -> Vec<Row> {
    vec![
        (
            restore(json!({"replace": {"confirm": "orders"}})),
            "write both or neither",
        ),
        (replacing(json!({"replace": null})), "write both or neither"),
        (
            replacing(json!({"target": {"connectionSecretRef": {"name": "orders-db"}}})),
            "target.adminSecretRef must be set",
        ),
        (replacing(json!({"databases": null})), "must name exactly one database"),
        (
            replacing(json!({"databases": [{"name": "orders"}, {"name": "stock"}]})),
            "must name exactly one database",
        ),
        (
            replacing(json!({"replace": {"confirm": "order"}})),
            "replace.confirm must repeat the name",
        ),
        (
            replacing(json!({"databases": [{"name": "orders", "as": "live"}]})),
            "replace.confirm must repeat the name",
        ),
        (
            replacing(json!({"replace": {"confirm": "orders", "keepPrevious": "59m"}})),
            "keepPrevious must be from 1h to 2160h",
        ),
        (
            replacing(json!({"replace": {"confirm": "orders", "keepPrevious": "2161h"}})),
            "keepPrevious must be from 1h to 2160h",
        ),
    ]
}

fn others() -> Vec<Row> {
    let named = |name: &str| object("Restore", name, restore(json!({}))["spec"].clone());
    vec![
        (
            restore(json!({"job": {"deadline": "0s"}})),
            "deadline must be from 1s to 20h",
        ),
        (
            restore(json!({"databases": [{"name": "orders"}, {"name": "stock", "as": "orders"}]})),
            "databases must not give two of them one name",
        ),
        (
            restore(json!({"databases": [{"name": "a", "as": "x"}, {"name": "b", "as": "x"}]})),
            "databases must not give two of them one name",
        ),
        (named(&"x".repeat(53)), "at most 52"),
        (named("a.b"), "must hold only a-z, 0-9"),
    ]
}
