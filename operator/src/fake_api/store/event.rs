//! What a watch is told.

use super::{
    super::path::{self, ResourcePath},
    Key,
};
use serde_json::{Value, json};

/// The kind of an event that is of no object.
const BOOKMARK: &str = "BOOKMARK";

/// One event of a watch.
#[derive(Debug)]
pub struct Event {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) kind: &'static str,
    pub(super) object: Value,
    pub(super) before: Option<Value>,
}

impl Event {
    /// Tells a watch, which may have seen nothing for long, how far it is.
    pub fn bookmark(version: u64) -> Self {
        Self {
            version,
            key: Key::default(),
            kind: BOOKMARK,
            object: Value::Null,
            before: None,
        }
    }

    /// The version that it made.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The object as it is since, or was last.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// The line of a watch for `target`, if the event belongs to it and is newer than `since`.
    pub fn line(&self, target: &ResourcePath, selector: &str, since: u64) -> Option<String> {
        if self.kind == BOOKMARK {
            let metadata = json!({"resourceVersion": self.version.to_string()});
            let object = json!({"apiVersion": target.api_version, "kind": target.plural, "metadata": metadata});
            return Some(format!("{}\n", json!({"type": BOOKMARK, "object": object})));
        }
        let (api_version, plural, namespace, name) = &self.key;
        let same = *api_version == target.api_version
            && *plural == target.plural
            && target.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && target.name.as_ref().is_none_or(|wanted| wanted == name);
        if !same || self.version <= since {
            return None;
        }
        let matched = self
            .before
            .as_ref()
            .is_some_and(|before| path::selects(selector, before));
        let kind = match (matched, path::selects(selector, &self.object)) {
            (false, false) => return None,
            (false, true) if self.kind == "MODIFIED" => "ADDED",
            // As in Kubernetes: an object that leaves the selection is told as deleted.
            (true, false) => "DELETED",
            (_, true) => self.kind,
        };
        Some(format!("{}\n", json!({"type": kind, "object": self.object})))
    }
}
