//! What the API server must refuse, each with a text that its answer holds, and what it must take: one table, which a test
//! holds against the rules without a server, and the end-to-end tests against a real one.

mod accepted;
mod backup;
mod changed;
mod chaos;
mod guard;
mod restore;
mod service;
mod structure;
#[cfg(test)]
mod tests;

pub use accepted::accepted;
pub use changed::{Changed, changed};

use serde_json::{Value, json};

/// Who finds what is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// A rule, which can be asked without a server.
    Rule,
    /// The structure, that is types, bounds, patterns and names of fields: a server alone looks at it.
    Structure,
}

/// What must be refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The object. Its name is the same in many.
    pub object: Value,
    /// What the answer must say: the field and the remedy, or with [`Judge::Structure`] the field's path.
    pub text: &'static str,
    /// Who refuses it.
    pub by: Judge,
}

type Row = (Value, &'static str);

/// Every object that must be refused.
pub fn refused() -> Vec<Refused> {
    let rules = [
        service::by_rule(),
        guard::by_rule(),
        chaos::by_rule(),
        backup::by_rule(),
        restore::by_rule(),
    ]
    .concat();
    let judged = |by| move |(object, text)| Refused { object, text, by };
    let structure = structure::by_structure().into_iter().map(judged(Judge::Structure));
    rules.into_iter().map(judged(Judge::Rule)).chain(structure).collect()
}

/// An object of a kind of ours.
pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// An object with the fields of `extra` too, in place of its own where it has them.
pub fn merged(mut base: Value, extra: Value) -> Value {
    if let (Some(base), Value::Object(extra)) = (base.as_object_mut(), extra) {
        base.extend(extra);
    }
    base
}

/// The same object with these fields of its specification instead.
fn merged_spec(mut object: Value, spec: Value) -> Value {
    object["spec"] = merged(object["spec"].take(), spec);
    object
}

fn service(spec: Value) -> Value {
    object(
        "ResilientService",
        "order",
        merged(
            json!({"image": "order:1", "terminationGracePeriodSeconds": 45, "replicas": 1}),
            spec,
        ),
    )
}

/// A service with two ports and this guard.
fn guarded(guard: Value) -> Value {
    service(json!({
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "redis", "containerPort": 6379}],
        "guard": guard
    }))
}

/// A guarded service with a target.
fn guarded_towards(guard: Value, target: Value) -> Value {
    let target = merged(json!({"name": "cache"}), target);
    merged_spec(guarded(guard), json!({"resilience": {"targets": [target]}}))
}

fn sidecar() -> Value {
    json!({"mode": "Sidecar"})
}

fn target(block: Value) -> Value {
    service(json!({"resilience": {"targets": [merged(json!({"name": "inventory"}), block)]}}))
}

fn inbound(block: Value) -> Value {
    service(json!({"resilience": {"inbound": block}}))
}

fn limit(block: Value) -> Value {
    let rule = merged(json!({"name": "a", "requests": 10, "window": "1s"}), block);
    inbound(json!({"rateLimit": {"rules": [rule]}}))
}

fn chaos(spec: Value) -> Value {
    object(
        "ChaosExperiment",
        "slow",
        merged(json!({"target": {"service": "inventory"}, "count": 1}), spec),
    )
}

/// A BackupPolicy of one database on a claim.
pub fn policy(spec: Value) -> Value {
    let base = json!({
        "databases": databases(),
        "destination": {"volumeClaim": {"claimName": "c"}},
    });
    object("BackupPolicy", "p", merged(base, spec))
}

fn databases() -> Value {
    json!([{"name": "d", "connectionSecretRef": {"name": "d"}}])
}
