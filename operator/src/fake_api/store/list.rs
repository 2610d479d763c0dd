//! Lists: whole, in pages, and of an earlier version.

use super::{
    super::path::{self, ResourcePath},
    Event, Key, Refusal, Store, refuse,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What lists of a kind are called, for clients that read nothing by another name. Those of all other kinds are called
/// `List`.
const NAMED_LISTS: [(&str, &str); 5] = [
    ("configmaps", "ConfigMapList"),
    ("deployments", "DeploymentList"),
    ("resilientservices", "ResilientServiceList"),
    ("serviceaccounts", "ServiceAccountList"),
    ("services", "ServiceList"),
];

impl Store {
    /// All of them, or a page: a list that is taken in pages is of the version of its first one.
    pub(super) fn list(&self, target: &ResourcePath, query: &str) -> Result<Value, Refusal> {
        let Some(mark) = path::parameter(query, "continue") else {
            // Version 0 would mean "any" to a watcher that starts from here.
            let all = list_of(&self.objects, self.version.max(1), target, query);
            return Ok(page(all, self.version, 0, query));
        };
        let (version, from) = mark.split_once('-').unwrap_or_default();
        let (version, from) = (version.parse().unwrap_or(0), from.parse().unwrap_or(0));
        if self.has_forgotten(version) {
            return refuse(410, "Expired", "the continue parameter is too old");
        }
        Ok(page(self.list_as_of(target, query, version), version, from, query))
    }

    /// What a list told at an earlier version.
    pub fn list_as_of(&self, target: &ResourcePath, query: &str, version: u64) -> Value {
        let is_of_kind = |event: &Event| (&event.key.0, &event.key.1) == (&target.api_version, &target.plural);
        if !self.log_after(version).iter().any(|event| is_of_kind(event)) {
            return list_of(&self.objects, version.max(1), target, query);
        }
        let mut objects = BTreeMap::new();
        let earlier = self.log.iter().filter(|event| event.version <= version);
        for event in earlier.filter(|event| is_of_kind(event)) {
            match event.kind {
                "DELETED" => drop(objects.remove(&event.key)),
                _ => drop(objects.insert(event.key.clone(), event.object.clone())),
            }
        }
        list_of(&objects, version.max(1), target, query)
    }
}

fn list_of(objects: &BTreeMap<Key, Value>, version: u64, target: &ResourcePath, query: &str) -> Value {
    let selector = path::parameter(query, "labelSelector").unwrap_or_default();
    let wanted_name = path::named_by(query);
    let items: Vec<&Value> = objects
        .iter()
        .filter(|((api_version, plural, namespace, name), object)| {
            *api_version == target.api_version
                && *plural == target.plural
                && target.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
                && wanted_name.as_ref().is_none_or(|wanted| wanted == name)
                && path::selects(&selector, object)
        })
        .map(|(_, object)| object)
        .collect();
    let name = NAMED_LISTS.iter().find(|(plural, _)| *plural == target.plural);
    json!({
        "kind": name.map_or("List", |(_, name)| name),
        "apiVersion": target.api_version,
        "metadata": {"resourceVersion": version.to_string()},
        "items": items
    })
}

/// As many items of a list as were asked for, from one of them on, and where the next page begins.
fn page(mut list: Value, version: u64, from: usize, query: &str) -> Value {
    let limit = path::parameter(query, "limit").and_then(|limit| limit.parse::<usize>().ok());
    let Some(items) = list["items"].as_array_mut() else {
        return list;
    };
    items.drain(..from.min(items.len()));
    if let Some(limit) = limit.filter(|limit| (1..items.len()).contains(limit)) {
        items.truncate(limit);
        list["metadata"]["continue"] = json!(format!("{version}-{}", from + limit));
    }
    list
}
