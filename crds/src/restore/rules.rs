//! Every CEL rule of a Restore refuses what it should and nothing else.

use super::Restore;
use serde_json::{Value, json};

fn restore(name: &str, changes: Value) -> Restore {
    let mut spec = json!({
        "source": {"policyRef": {"name": "nightly"}},
        "target": {"connectionSecretRef": {"name": "orders-db"}},
    });
    if let (Some(spec), Value::Object(changes)) = (spec.as_object_mut(), changes) {
        spec.extend(changes);
    }
    serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Restore", "metadata": {"name": name}, "spec": spec,
    }))
    .unwrap()
}

/// What a replacement needs, with `changes`.
fn replacing(changes: Value) -> Value {
    let mut spec = json!({
        "mode": "ReplaceDatabase",
        "target": {"connectionSecretRef": {"name": "orders-db"}, "adminSecretRef": {"name": "admin"}},
        "databases": [{"name": "orders"}],
        "replace": {"confirm": "orders"},
    });
    if let (Some(spec), Value::Object(changes)) = (spec.as_object_mut(), changes) {
        spec.extend(changes);
        spec.retain(|_, value| !value.is_null());
    }
    spec
}

fn problems(restore: &Restore) -> String {
    let outcome = restore.validate_cel();
    outcome.err().map(|errors| format!("{errors:?}")).unwrap_or_default()
}

fn archive(key: &str) -> Value {
    json!({"destination": {"volumeClaim": {"claimName": "backups"}}, "key": key})
}

#[test]
fn what_is_right_passes() {
    for spec in [
        json!({}),
        json!({"databases": [{"name": "orders"}, {"name": "stock", "as": "o'd \"d"}]}),
        json!({"source": {"policyRef": {"name": "nightly"}, "select": "LatestVerified"}}),
        json!({"source": {"policyRef": {"name": "nightly"}, "select": "Slot", "slot": "2026-08-21"}}),
        json!({"source": {"archive": archive("shop/nightly/20260821.tar.zst")}}),
        replacing(json!({})),
        replacing(
            json!({"databases": [{"name": "orders", "as": "live"}], "replace": {"confirm": "live", "keepPrevious": "1h"}}),
        ),
        replacing(json!({"replace": {"confirm": "orders", "keepPrevious": "2160h"}})),
    ] {
        assert_eq!(problems(&restore("back", spec.clone())), "", "{spec}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_field_and_the_remedy() {
    let policy = json!({"name": "nightly"});
    for (spec, text) in [
        (json!({"source": {}}), "exactly one of policyRef and archive"),
        (
            json!({"source": {"policyRef": policy, "archive": archive("a")}}),
            "exactly one of policyRef and archive",
        ),
        (
            json!({"source": {"archive": archive("a"), "select": "Latest"}}),
            "remove it beside source.archive",
        ),
        (
            json!({"source": {"policyRef": policy, "slot": "2026-08-21"}}),
            "source.slot belongs to select Slot",
        ),
        (
            json!({"source": {"policyRef": policy, "select": "Slot"}}),
            "source.slot belongs to select Slot",
        ),
        (
            json!({"source": {"policyRef": policy, "select": "Latest", "slot": "2026-08-21"}}),
            "source.slot belongs to select Slot",
        ),
        (
            json!({"source": {"archive": archive("/a")}}),
            "key must be a path below the destination",
        ),
        (
            json!({"source": {"archive": archive("a/../b")}}),
            "key must be a path below the destination",
        ),
        (json!({"replace": {"confirm": "orders"}}), "write both or neither"),
        (json!({"job": {"deadline": "0s"}}), "deadline must be from 1s to 20h"),
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
    ] {
        let problems = problems(&restore("back", spec.clone()));
        assert!(problems.contains(text), "wanted `{text}` of {spec}, got `{problems}`");
    }
    for (name, text) in [
        ("x".repeat(53), "at most 52"),
        ("a.b".to_owned(), "must hold only a-z, 0-9"),
    ] {
        let problems = problems(&restore(&name, json!({})));
        assert!(problems.contains(text), "{name}: {problems}");
    }
}

#[test]
fn a_restore_never_changes() {
    let (old, new) = (
        restore("back", json!({})),
        restore("back", json!({"databases": [{"name": "orders"}]})),
    );
    assert!(old.validate_cel_update(&old).is_ok());
    let refused = new.validate_cel_update(&old).err();
    assert!(format!("{refused:?}").contains("make another Restore"), "{refused:?}");
}
