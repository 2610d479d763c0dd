//! The service's own container: variables, mounts, probes and its end. Pure.

use super::{Notes, Spec, document::Fields, ports::Ports, probe};
use serde_json::{Map, Value, json};

pub fn convert(own: &mut Fields, ports: &mut Ports, spec: &mut Spec, notes: &mut Notes) {
    own.forget(&["name"]);
    own.forget_defaults(&[
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("stdin", json!(false)),
        ("tty", json!(false)),
    ]);
    for field in ["image", "imagePullPolicy", "command", "args"] {
        spec.put_some(field, own.take(field));
    }
    spec.put("env", env(own.take("env"), notes));
    spec.put("envFrom", env_from(own.take("envFrom"), notes));
    spec.put("resources", resources(own.take("resources"), notes));
    spec.put("volumeMounts", mounts(own.take("volumeMounts"), notes));
    let mut probes = Spec::default();
    for (field, kind) in [
        ("startupProbe", "startup"),
        ("readinessProbe", "readiness"),
        ("livenessProbe", "liveness"),
    ] {
        if let Some(found) = own.take(field) {
            probes.put(kind, probe::convert(&found, field, ports, notes));
        }
    }
    if !probes.0.contains_key("readiness") {
        notes.warn(
            "no readinessProbe: a pod counts as ready the moment that it runs, and gets requests before it can answer",
        );
    }
    spec.put("probes", Value::Object(probes.0));
    lifecycle(own, spec, notes);
}

fn env(found: Option<Value>, notes: &mut Notes) -> Value {
    let mut variables = found.and_then(|found| found.as_array().cloned()).unwrap_or_default();
    variables.retain(|variable| {
        let source = variable.get("valueFrom").and_then(Value::as_object);
        let known = ["secretKeyRef", "configMapKeyRef", "fieldRef"];
        let is_known = source.is_none_or(|source| source.keys().all(|key| known.contains(&key.as_str())));
        if !is_known {
            notes.warn(&format!(
                "env {} is left out: its valueFrom is none of {}; write its value",
                variable["name"],
                known.join(", ")
            ));
        }
        is_known
    });
    Value::Array(variables)
}

fn env_from(found: Option<Value>, notes: &mut Notes) -> Value {
    let sources = found.unwrap_or_default();
    for source in sources.as_array().into_iter().flatten() {
        let reference = [&source["configMapRef"], &source["secretRef"]]
            .into_iter()
            .find(|reference| !reference.is_null());
        if let Some(reference) = reference.filter(|reference| reference["optional"] == true) {
            notes.warn(&format!(
                "envFrom {} is not optional any more: create it, even if it is empty",
                reference["name"]
            ));
        }
    }
    sources
}

fn resources(found: Option<Value>, notes: &mut Notes) -> Value {
    let mut resources = Fields::new(found);
    let mut wanted = Map::new();
    for field in ["requests", "limits"] {
        let Some(Value::Object(amounts)) = resources.take(field) else {
            continue;
        };
        // A number without a unit is a number in YAML, and a text here.
        let as_text = |amount: Value| {
            if amount.is_number() {
                json!(amount.to_string())
            } else {
                amount
            }
        };
        let amounts: Map<String, Value> = amounts
            .into_iter()
            .map(|(name, amount)| (name, as_text(amount)))
            .collect();
        if !amounts.is_empty() {
            wanted.insert(field.to_owned(), Value::Object(amounts));
        }
    }
    notes.leftovers("resources", resources);
    Value::Object(wanted)
}

fn mounts(found: Option<Value>, notes: &mut Notes) -> Value {
    let mounts = found.and_then(|found| found.as_array().cloned()).unwrap_or_default();
    let known = mounts.into_iter().map(|mount| {
        let mut mount = Fields::new(Some(mount));
        let mut wanted = Map::new();
        for field in ["name", "mountPath", "subPath", "readOnly"] {
            if let Some(value) = mount.take(field) {
                wanted.insert(field.to_owned(), value);
            }
        }
        notes.leftovers("volumeMounts[]", mount);
        Value::Object(wanted)
    });
    known.collect()
}

fn lifecycle(own: &mut Fields, spec: &mut Spec, notes: &mut Notes) {
    let mut lifecycle = Fields::new(own.take("lifecycle"));
    if let Some(handler) = lifecycle.take("preStop") {
        match pause(&handler) {
            Some(seconds) => spec.put("lifecycle", json!({"preStopSleep": format!("{seconds}s")})),
            None => notes.warn(
                "lifecycle.preStop is left out: before its end a pod pauses for lifecycle.preStopSleep, and nothing else",
            ),
        }
    }
    let rest = lifecycle.rest();
    if !rest.is_empty() {
        own.put("lifecycle", Value::Object(rest));
    }
}

/// How long a handler pauses, if that is all it does. Unit: seconds.
fn pause(handler: &Value) -> Option<u64> {
    if let Some(seconds) = handler.pointer("/sleep/seconds").and_then(Value::as_u64) {
        return Some(seconds);
    }
    let command: Vec<&str> = handler
        .pointer("/exec/command")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let words: Vec<&str> = match command.as_slice() {
        [shell, "-c", script] if shell.ends_with("sh") => script.split_whitespace().collect(),
        words => words.to_vec(),
    };
    match words.as_slice() {
        [program, seconds] if *program == "sleep" || program.ends_with("/sleep") => {
            seconds.trim_end_matches('s').parse().ok()
        }
        _ => None,
    }
}
