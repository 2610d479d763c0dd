//! What containers may use: names that Kubernetes knows, no request above its limit, and no part of what is handed out
//! whole. Pure.

use super::{super::quantity, names::is_qualified};
use crate::runtime::Violation;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::cmp::Ordering;
use valerix_crds::{ResilientServiceSpec, ResourceRequirements};

/// Resources that every node has.
const OF_EVERY_NODE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";

/// Of the container and of its guard.
pub fn resources(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let of_guard = spec.guard.as_ref().and_then(|guard| guard.resources.as_ref());
    for (field, resources) in [
        ("spec.resources", spec.resources.as_ref()),
        ("spec.guard.resources", of_guard),
    ] {
        if let Some(resources) = resources {
            each(field, resources, violations);
            together(field, resources, violations);
        }
    }
}

fn each(field: &str, resources: &ResourceRequirements, violations: &mut Vec<Violation>) {
    for (kind, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, amount) in map {
            let mut refuse = |message: &str, remedy: &str| {
                violations.push(Violation::new(format!("{field}.{kind}.{name}"), message, remedy));
            };
            if !quantity::is_countable(amount) {
                refuse(
                    &format!("{} is more than Kubernetes can count", amount.0),
                    "write less than 8Ei",
                );
            } else if !is_known(name) {
                refuse(
                    "Kubernetes knows no such resource",
                    "write cpu, memory, ephemeral-storage, hugepages-<size>, or an extended one with its domain, as in example.com/gpu",
                );
            } else if is_handed_out_whole(name) && !quantity::is_multiple(amount, page(name).as_ref()) {
                refuse(
                    &format!("{} is no whole number of them", amount.0),
                    "write a whole number, and of hugepages a multiple of their size",
                );
            }
        }
    }
}

fn together(field: &str, resources: &ResourceRequirements, violations: &mut Vec<Violation>) {
    let mut refuse = |name: &str, message: String, remedy: &str| {
        violations.push(Violation::new(format!("{field}.requests.{name}"), message, remedy));
    };
    for (name, request) in &resources.requests {
        let limit = resources.limits.get(name);
        match limit.map(|limit| (limit, quantity::compare(request, limit))) {
            Some((limit, Some(Ordering::Greater))) => {
                let message = format!("{} is more than the limit of {}", request.0, limit.0);
                refuse(name, message, "ask for less, or raise the limit");
            }
            Some((_, Some(Ordering::Equal))) => {}
            _ if is_known(name) && is_handed_out_whole(name) => {
                let message = format!("{} needs a limit that is the same", request.0);
                refuse(name, message, "write limits too, or leave requests out");
            }
            _ => {}
        }
    }
    let has = |name: &str| resources.requests.contains_key(name) || resources.limits.contains_key(name);
    let mut names = resources.requests.keys().chain(resources.limits.keys());
    if let Some(pages) = names.find(|name| name.starts_with(HUGE_PAGES))
        && !has("cpu")
        && !has("memory")
    {
        refuse(
            pages,
            "hugepages need cpu or memory beside them".to_owned(),
            "ask for some",
        );
    }
}

fn is_known(name: &str) -> bool {
    let is_extended = name.split_once('/').is_some_and(|(domain, _)| {
        is_qualified(name) && !domain.ends_with("kubernetes.io") && !domain.starts_with("requests.")
    });
    OF_EVERY_NODE.contains(&name) || page(name).is_some_and(|size| quantity::is_multiple(&size, None)) || is_extended
}

/// Extended resources and hugepages cannot be shared, so Kubernetes takes no fractions of them and no promises.
fn is_handed_out_whole(name: &str) -> bool {
    !OF_EVERY_NODE.contains(&name)
}

/// Size of the pages that the name says.
fn page(name: &str) -> Option<Quantity> {
    let size = name.strip_prefix(HUGE_PAGES)?;
    Some(Quantity(size.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use serde_json::{Value, json};

    fn told(requests: Value, limits: Value) -> Vec<String> {
        let resources = json!({"requests": requests, "limits": limits});
        let spec = fixtures::service("order", json!({"image": "a", "resources": resources})).spec;
        let mut violations = Vec::new();
        super::resources(&spec, &mut violations);
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn what_is_handed_out_whole_is_asked_for_whole_and_with_its_limit() {
        let none = json!({});
        let cpu = |more: Value| {
            let mut map = json!({"cpu": "1"});
            json_patch::merge(&mut map, &more);
            map
        };
        let gpu = |amount: &str| json!({"example.com/gpu": amount});
        let pages = |amount: &str| json!({"hugepages-2Mi": amount});
        for (requests, limits, fields) in [
            (gpu("1"), gpu("1"), vec![]),
            (none.clone(), gpu("2k"), vec![]),
            (gpu("1"), none.clone(), vec!["spec.resources.requests.example.com/gpu"]),
            (gpu("1"), gpu("2"), vec!["spec.resources.requests.example.com/gpu"]),
            (none.clone(), gpu("500m"), vec!["spec.resources.limits.example.com/gpu"]),
            (none.clone(), json!({"memory": "7Ei"}), vec![]),
            (
                json!({"cpu": "8996053092566060164661093001515"}),
                json!({"memory": "8Ei"}),
                vec!["spec.resources.requests.cpu", "spec.resources.limits.memory"],
            ),
            (none.clone(), cpu(pages("4Mi")), vec![]),
            (
                none.clone(),
                cpu(pages("3Mi")),
                vec!["spec.resources.limits.hugepages-2Mi"],
            ),
            (
                none.clone(),
                pages("4Mi"),
                vec!["spec.resources.requests.hugepages-2Mi"],
            ),
            (
                none.clone(),
                cpu(json!({"hugepages-big": "1"})),
                vec!["spec.resources.limits.hugepages-big"],
            ),
            (
                none.clone(),
                json!({"kubernetes.io/gpu": "1"}),
                vec!["spec.resources.limits.kubernetes.io/gpu"],
            ),
            (none, json!({"a b/gpu": "1"}), vec!["spec.resources.limits.a b/gpu"]),
        ] {
            assert_eq!(told(requests.clone(), limits.clone()), fields, "{requests} {limits}");
        }
    }
}
