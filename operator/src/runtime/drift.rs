//! Whether a live object still says what we want: a subset comparison by the rules of server-side apply. Pure.

use serde_json::Value;

/// Keys by which the API server tells the entries of a list apart, most telling first: a mount has a name too, and one
/// volume may be mounted twice; the ports of a Service have one as well, and are told apart by their number.
const LIST_KEYS: [&str; 6] = ["mountPath", "containerPort", "port", "name", "uid", "topologyKey"];

/// Lists that are one value and to whose entries the API server adds what was left out, which is no change; whoever adds an
/// entry has changed them.
const ATOMIC_LISTS: [&str; 2] = ["endpoints", "relabelings"];
/// Those of a volume, the files of its parts, which are one value as well. What the API server adds there is [`FILLED_IN`]; what
/// somebody else adds, such as a mode, is a change.
const FILE_LISTS: [&str; 2] = ["items", "sources"];
/// Fields of a file with what they say where a person said nothing.
const FILLED_IN: [(&str, &str); 3] = [("apiVersion", "v1"), ("divisor", "0"), ("expirationSeconds", "3600")];

/// The part of `live` that `desired` speaks of, in the shape of `desired`.
///
/// Lists whose entries have a key are compared entry by entry, as server-side apply merges them; any other list is
/// one value.
pub fn project(desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => Value::Object(
            desired
                .iter()
                .map(|(key, value)| {
                    let seen = match live.get(key) {
                        Some(live) if ATOMIC_LISTS.contains(&key.as_str()) => project_in_turn(value, live),
                        Some(live) if FILE_LISTS.contains(&key.as_str()) => as_written(value, live),
                        Some(live) => project(value, live),
                        None if is_left_out(key, value) => value.clone(),
                        None => Value::Null,
                    };
                    (key.clone(), seen)
                })
                .collect(),
        ),
        (Value::Array(desired), Value::Array(live)) => match list_key(desired) {
            Some(key) => Value::Array(
                desired
                    .iter()
                    .map(|entry| {
                        let same = live.iter().find(|other| other.get(key) == entry.get(key));
                        project(entry, same.unwrap_or(&Value::Null))
                    })
                    .collect(),
            ),
            None => Value::Array(live.clone()),
        },
        (_, live) => live.clone(),
    }
}

/// Of lists that are as long, each entry beside the one in its place.
fn project_in_turn(desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Array(desired), Value::Array(live)) if desired.len() == live.len() => {
            let entries = desired.iter().zip(live);
            Value::Array(entries.map(|(desired, live)| project(desired, live)).collect())
        }
        _ => live.clone(),
    }
}

/// `live` without what the API server has filled in, and with what it leaves out.
fn as_written(desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            let said = live.iter().filter_map(|(key, seen)| match desired.get(key) {
                Some(value) => Some((key.clone(), as_written(value, seen))),
                None if is_filled_in(key, seen) => None,
                None => Some((key.clone(), seen.clone())),
            });
            let left_out = desired
                .iter()
                .filter(|(key, value)| !live.contains_key(*key) && is_left_out(key, value));
            let left_out = left_out.map(|(key, value)| (key.clone(), value.clone()));
            Value::Object(said.chain(left_out).collect())
        }
        (Value::Array(desired), Value::Array(live)) if desired.len() == live.len() => {
            let entries = desired.iter().zip(live);
            Value::Array(entries.map(|(desired, live)| as_written(desired, live)).collect())
        }
        _ => live.clone(),
    }
}

fn is_filled_in(key: &str, seen: &Value) -> bool {
    let text = match seen {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    FILLED_IN.contains(&(key, &text))
}

/// Fields that a person may write in a part of a pod, and that the API server leaves out where they say false, 0 or an
/// empty map. Elsewhere what is absent may mean true, as of `automountServiceAccountToken`.
const LEFT_OUT: [&str; 14] = [
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "limits",
    "matchLabels",
    "minReadySeconds",
    "publishNotReadyAddresses",
    "readOnly",
    "requests",
    "stdin",
    "stdinOnce",
    "tty",
];

/// Whether the API server leaves a field out that says this: an empty text or list says nothing to it, and some fields
/// do not where they say nothing in their own way.
fn is_left_out(key: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Bool(false) => LEFT_OUT.contains(&key),
        Value::Number(number) => number.as_i64() == Some(0) && LEFT_OUT.contains(&key),
        Value::Object(fields) => fields.is_empty() && LEFT_OUT.contains(&key),
        Value::Bool(true) | Value::Null => false,
    }
}

/// The key that all entries have. Where two have the same value of it, it is none: the list is one value.
fn list_key(entries: &[Value]) -> Option<&'static str> {
    LIST_KEYS.into_iter().find(|key| {
        let values: Vec<&Value> = entries.iter().filter_map(|entry| entry.get(key)).collect();
        let is_of_all = !entries.is_empty() && values.len() == entries.len();
        is_of_all
            && values
                .iter()
                .enumerate()
                .all(|(index, value)| !values[..index].contains(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn covers(desired: &Value, live: &Value) -> bool {
        project(desired, live) == *desired
    }

    #[test]
    fn one_volume_mounted_twice_is_two_entries() {
        let mounts =
            json!([{"name": "data", "mountPath": "/a", "readOnly": true}, {"name": "data", "mountPath": "/b"}]);
        assert!(covers(&mounts, &mounts));
        let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
        let renamed = json!([{"name": "web", "port": 80, "targetPort": 8080}]);
        assert_eq!(
            project(&renamed, &ports),
            ports,
            "the entry is the one of the same number"
        );
    }

    #[test]
    fn a_list_that_is_one_value_is_changed_by_whoever_adds_to_it() {
        let endpoint = json!({"port": "report", "relabelings": [{"targetLabel": "service"}]});
        let desired = json!({"endpoints": [endpoint]});
        let defaulted = json!({"port": "report", "relabelings": [{"targetLabel": "service", "action": "replace"}]});
        assert!(covers(&desired, &json!({"endpoints": [defaulted]})));
        for live in [
            json!([endpoint, {"port": "http"}]),
            json!([endpoint, endpoint]),
            json!([{"port": "http"}]),
            json!([]),
        ] {
            assert!(!covers(&desired, &json!({"endpoints": live})), "{live}");
        }
    }

    #[test]
    fn what_the_api_server_adds_to_the_files_of_a_volume_is_no_drift() {
        let file = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
        let kept = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels", "apiVersion": "v1"}});
        let volume = |file: &Value, token: Value| {
            let projected = json!({"sources": [{"serviceAccountToken": token}, {"downwardAPI": {"items": [file]}}]});
            json!({"volumes": [{"name": "a", "downwardAPI": {"items": [file]}}, {"name": "b", "projected": projected}]})
        };
        let desired = volume(&file, json!({"path": "token"}));
        let filled_in = json!({"path": "token", "expirationSeconds": 3600});
        assert!(covers(&desired, &volume(&kept, filled_in.clone())));
        assert!(!covers(&desired, &volume(&kept, json!({"path": "other"}))));
        let other = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}});
        assert!(!covers(&desired, &volume(&other, filled_in.clone())));
        // What a person adds there changes the file.
        let mut readable = kept.clone();
        readable["mode"] = json!(0o777);
        assert!(!covers(&desired, &volume(&readable, filled_in)));
        let short = json!({"path": "token", "expirationSeconds": 600});
        assert!(!covers(&desired, &volume(&kept, short)));
    }

    #[test]
    fn what_others_added_is_no_drift_and_what_they_changed_is() {
        let desired = json!({"spec": {"replicas": 2, "containers": [{"name": "main", "env": [{"name": "A", "value": "1"}], "args": ["x", "y"]}]}});
        let mut live = json!({
            "metadata": {"uid": "1"},
            "spec": {
                "replicas": 2,
                "strategy": {"type": "RollingUpdate"},
                "containers": [
                    {"name": "sidecar"},
                    {"name": "main", "image": "i", "env": [{"name": "B"}, {"name": "A", "value": "1"}], "args": ["x", "y"]}
                ]
            }
        });
        assert!(covers(&desired, &live));
        for (pointer, value) in [
            ("/spec/replicas", json!(3)),
            ("/spec/containers/1/env/1/value", json!("2")),
            ("/spec/containers/1/args", json!(["x"])),
            ("/spec/containers/1/args", json!(["x", "y", "z"])),
            ("/spec/containers/1/name", json!("other")),
            ("/spec/containers", Value::Null),
        ] {
            let before = std::mem::replace(live.pointer_mut(pointer).unwrap(), value);
            assert!(!covers(&desired, &live), "{pointer}");
            *live.pointer_mut(pointer).unwrap() = before;
        }
        assert!(covers(&desired, &live));
    }

    #[test]
    fn what_says_nothing_may_be_left_out() {
        let desired = json!({"env": [{"name": "A", "value": ""}], "volumeMounts": [], "args": ["", "b"]});
        let live = json!({"env": [{"name": "A"}], "args": ["", "b"]});
        assert!(covers(&desired, &live));
        for changed in [
            json!({"env": [{"name": "A", "value": "b"}], "args": ["", "b"]}),
            json!({"env": [{"name": "A"}], "volumeMounts": [{"name": "a"}], "args": ["", "b"]}),
            json!({"env": [{"name": "A"}], "args": ["b"]}),
            json!({"args": ["", "b"]}),
        ] {
            assert!(!covers(&desired, &changed), "{changed}");
        }
    }

    #[test]
    fn fields_that_the_api_server_leaves_out_are_no_drift_and_others_are() {
        let live = json!({"name": "a", "resources": {}});
        for said in [
            json!({"name": "a", "tty": false, "stdin": false}),
            json!({"name": "a", "resources": {"limits": {}, "requests": {}}}),
            json!({"name": "a", "initialDelaySeconds": 0, "hostPort": 0, "readOnly": false}),
        ] {
            assert!(covers(&said, &live), "{said}");
        }
        for drift in [
            json!({"name": "a", "automountServiceAccountToken": false}),
            json!({"name": "a", "replicas": 0}),
            json!({"name": "a", "tty": true}),
            json!({"name": "a", "hostPort": 80}),
            json!({"name": "a", "resources": {"limits": {"cpu": "1"}}}),
        ] {
            assert!(!covers(&drift, &live), "{drift}");
        }
    }

    #[test]
    fn entries_that_share_their_key_are_one_value() {
        let twice = json!([{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]);
        assert!(covers(&twice, &twice));
        let swapped = json!([{"name": "a", "value": "2"}, {"name": "a", "value": "1"}]);
        assert!(!covers(&twice, &swapped));
    }

    #[test]
    fn an_empty_object_is_there_or_not() {
        let desired = json!({"volumes": [{"name": "state", "emptyDir": {}}]});
        assert!(covers(
            &desired,
            &json!({"volumes": [{"name": "state", "emptyDir": {"sizeLimit": "1Mi"}}]})
        ));
        assert!(!covers(
            &desired,
            &json!({"volumes": [{"name": "state", "configMap": {}}]})
        ));
    }
}
