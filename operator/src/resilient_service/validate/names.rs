//! Keys of maps and paths, of which Kubernetes asks more than a schema can say. Pure.

use crate::runtime::Violation;
use std::collections::BTreeMap;
use valerix_crds::ResilientServiceSpec;

/// Longest part of a key before the `/`. Unit: characters.
const LONGEST_PREFIX: usize = 253;
/// Longest part of a key after the `/`. Unit: characters.
const LONGEST_NAME: usize = 63;

/// Keys of labels, of annotations and of taints.
pub fn keys(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let empty = BTreeMap::new();
    let service = spec.service.as_ref().map_or(&empty, |service| &service.annotations);
    let monitoring = spec.monitoring.as_ref().map_or(&empty, |monitoring| &monitoring.labels);
    let of_maps = [
        ("spec.podLabels", &spec.pod_labels),
        ("spec.podAnnotations", &spec.pod_annotations),
        ("spec.nodeSelector", &spec.node_selector),
        ("spec.service.annotations", service),
        ("spec.monitoring.labels", monitoring),
    ];
    let of_maps = of_maps
        .into_iter()
        .flat_map(|(field, map)| map.keys().map(move |key| (field.to_owned(), key)));
    let of_taints = spec.tolerations.iter().enumerate().filter_map(|(index, toleration)| {
        let key = toleration.key.as_ref()?;
        Some((format!("spec.tolerations[{index}].key"), key))
    });
    for (field, key) in of_maps.chain(of_taints).filter(|(_, key)| !is_qualified(key)) {
        violations.push(Violation::new(
            field,
            format!("`{key}` is no key that Kubernetes takes"),
            "write at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends, and before them at most a domain and `/`, as in example.com/team",
        ));
    }
}

/// Paths that must stay where they begin.
pub fn paths(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let mut check = |field: String, path: &str| {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            let message = format!("`{path}` leads outside");
            violations.push(Violation::new(
                field,
                message,
                "write it without `..` and without a `/` at its beginning",
            ));
        }
    };
    for (index, mount) in spec.volume_mounts.iter().enumerate() {
        if let Some(path) = &mount.sub_path {
            check(format!("spec.volumeMounts[{index}].subPath"), path);
        }
    }
    let seccomp = spec
        .security_context
        .as_ref()
        .and_then(|security| security.seccomp_profile.as_ref());
    if let Some(path) = seccomp.and_then(|profile| profile.localhost_profile.as_ref()) {
        check("spec.securityContext.seccompProfile.localhostProfile".to_owned(), path);
    }
}

/// Whether Kubernetes takes it for the key of a label, of an annotation or of an extended resource.
pub fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_domain(prefix) && is_name(name),
        None => is_name(key),
    }
}

fn is_domain(text: &str) -> bool {
    let is_part =
        |part: &str| is_framed(part, |byte| byte == b'-') && part.bytes().all(|byte| !byte.is_ascii_uppercase());
    text.len() <= LONGEST_PREFIX && text.split('.').all(is_part)
}

fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && is_framed(text, |byte| b"-_.".contains(&byte))
}

/// Letters and digits of ASCII, and between them what `inner` allows.
fn is_framed(text: &str, inner: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter()
        .all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || inner(byte))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_key_is_a_name_with_a_domain_before_it_or_none() {
        let (longest, domain) = ("a".repeat(63), format!("{}.b", "a".repeat(251)));
        for key in [
            "a",
            "A_b.c-1",
            "example.com/team",
            "x/9",
            &longest,
            &format!("{domain}/{longest}"),
        ] {
            assert!(is_qualified(key), "{key}");
        }
        let (too_long, domain) = ("a".repeat(64), format!("{}.b", "a".repeat(252)));
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "-a",
            "a_",
            "a b",
            "é",
            "a/b/c",
            "Example.com/a",
            "a..b/c",
            "-a/b",
            "a_b/c",
            &too_long,
            &format!("{domain}/a"),
        ] {
            assert!(!is_qualified(key), "{key}");
        }
    }

    #[test]
    fn each_key_and_path_that_kubernetes_would_refuse_is_named() {
        let told = |spec: Value| {
            let spec = fixtures::service("order", spec).spec;
            let mut violations = Vec::new();
            keys(&spec, &mut violations);
            paths(&spec, &mut violations);
            violations
                .into_iter()
                .map(|violation| violation.to_string())
                .collect::<Vec<_>>()
        };
        let long = format!("{}/a", "b".repeat(254));
        let maps = json!({
            "image": "a", "podLabels": {"a b": "c"}, "podAnnotations": {"": "c"}, "nodeSelector": {"a/b/c": "d"},
            "service": {"annotations": {"-": "x"}}, "monitoring": {"labels": {"x/": "y"}},
            "tolerations": [{"operator": "Exists"}, {"key": long}]
        });
        let fields: Vec<String> = told(maps)
            .into_iter()
            .map(|text| text.split(": ").take(2).collect::<Vec<_>>().join(": "))
            .collect();
        assert_eq!(
            fields
                .iter()
                .map(|text| text.split("; ").next().unwrap_or_default())
                .collect::<Vec<_>>(),
            [
                "spec.podLabels: `a b` is no key that Kubernetes takes",
                "spec.podAnnotations: `` is no key that Kubernetes takes",
                "spec.nodeSelector: `a/b/c` is no key that Kubernetes takes",
                "spec.service.annotations: `-` is no key that Kubernetes takes",
                "spec.monitoring.labels: `x/` is no key that Kubernetes takes",
                &format!("spec.tolerations[1].key: `{long}` is no key that Kubernetes takes"),
            ]
        );
        let paths = json!({
            "image": "a", "volumeMounts": [
                {"name": "a", "mountPath": "/a", "subPath": "a..b/c"}, {"name": "a", "mountPath": "/b", "subPath": "a/../b"}
            ],
            "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "/a.json"}}
        });
        assert_eq!(
            told(paths),
            [
                "spec.volumeMounts[1].subPath: `a/../b` leads outside; write it without `..` and without a `/` at its beginning",
                "spec.securityContext.seccompProfile.localhostProfile: `/a.json` leads outside; write it without `..` and without a `/` at its beginning",
            ]
        );
    }
}
