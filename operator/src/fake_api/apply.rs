//! Server-side apply, as far as the tests need it: maps merge, lists merge by their key, a field that a
//! manager stops applying goes unless another manager applies it too.

use serde_json::Value;

const LIST_KEYS: [&str; 6] = ["mountPath", "containerPort", "port", "name", "uid", "type"];
/// Lists that their schema declares to be one value, although their items have what could be a key.
const ATOMIC_LISTS: [&str; 7] = [
    "metrics",
    "policies",
    "history",
    "ingress",
    "egress",
    "endpoints",
    "relabelings",
];

/// The first field that `body` would change although `mine` does not have it.
pub fn conflict(live: &Value, mine: &Value, body: &Value) -> Option<String> {
    match (live, body) {
        (Value::Object(live), Value::Object(body)) => body.iter().find_map(|(key, value)| {
            let own = mine.get(key).unwrap_or(&Value::Null);
            conflict(live.get(key)?, own, value).map(|path| format!(".{key}{path}"))
        }),
        (live, body) => (live != body && mine.is_null()).then(String::new),
    }
}

/// `live` after `mine` was replaced by `body`.
pub fn merge(live: &Value, mine: &Value, body: &Value, others: &[&Value]) -> Value {
    match (live, body) {
        (Value::Object(old), Value::Object(new)) => {
            let mut merged = old.clone();
            if let Value::Object(mine) = mine {
                for (key, mine) in mine.iter().filter(|(key, _)| !new.contains_key(*key)) {
                    let is_of_others = others.iter().any(|other| other.get(key).is_some());
                    match old.get(key).and_then(|old| without(old, mine)) {
                        Some(left) if !is_of_others => merged.insert(key.clone(), left),
                        None if !is_of_others => merged.remove(key),
                        _ => None,
                    };
                }
            }
            for (key, value) in new {
                let below: Vec<&Value> = others.iter().filter_map(|other| other.get(key)).collect();
                let result = match old.get(key) {
                    Some(_) if ATOMIC_LISTS.contains(&key.as_str()) => value.clone(),
                    Some(old) => merge(old, mine.get(key).unwrap_or(&Value::Null), value, &below),
                    None => value.clone(),
                };
                merged.insert(key.clone(), result);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) => merge_lists(old, mine, new),
        (_, body) => body.clone(),
    }
}

/// What is left of a field that a manager stops applying: in a map, what it never had. None if that is nothing.
fn without(live: &Value, mine: &Value) -> Option<Value> {
    let (Value::Object(live), Value::Object(mine)) = (live, mine) else {
        return None;
    };
    let left = live.iter().filter_map(|(key, value)| match mine.get(key) {
        None => Some((key.clone(), value.clone())),
        Some(mine) => Some((key.clone(), without(value, mine)?)),
    });
    let left: serde_json::Map<String, Value> = left.collect();
    (!left.is_empty()).then_some(Value::Object(left))
}

fn merge_lists(old: &[Value], mine: &Value, new: &[Value]) -> Value {
    let Some(key) = LIST_KEYS
        .into_iter()
        .find(|key| !new.is_empty() && new.iter().all(|item| item.get(key).is_some()))
    else {
        return Value::Array(new.to_vec());
    };
    let same = |list: &[Value], item: &Value| list.iter().find(|other| other.get(key) == item.get(key)).cloned();
    let empty = Vec::new();
    let mine = mine.as_array().unwrap_or(&empty);
    let mut merged: Vec<Value> = old
        .iter()
        .filter(|item| same(new, item).is_some() || same(mine, item).is_none())
        .cloned()
        .collect();
    for item in new {
        let before = same(old, item);
        let own = same(mine, item).unwrap_or(Value::Null);
        let result = before.map_or_else(|| item.clone(), |before| merge(&before, &own, item, &[]));
        match merged.iter_mut().find(|other| other.get(key) == item.get(key)) {
            Some(place) => *place = result,
            None => merged.push(result),
        }
    }
    Value::Array(merged)
}
