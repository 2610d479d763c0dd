//! What is wrong with a call of kubectl, as far as that can be known without a cluster. Pure.

use serde_json::Value;

use super::known::Known;

/// Verbs that the documentation uses. Whoever uses another one adds it, with what it takes.
const VERBS: [&str; 20] = [
    "annotate",
    "api-resources",
    "apply",
    "auth",
    "config",
    "create",
    "delete",
    "describe",
    "events",
    "exec",
    "explain",
    "get",
    "label",
    "logs",
    "patch",
    "port-forward",
    "rollout",
    "scale",
    "top",
    "wait",
];
/// Verbs whose first argument is a kind, or kind and name.
const OF_KINDS: [&str; 10] = [
    "annotate", "delete", "describe", "explain", "get", "label", "patch", "scale", "wait", "rollout",
];
/// Flags with a value after them.
const WITH_VALUE: [&str; 20] = [
    "-n",
    "--namespace",
    "-o",
    "--output",
    "-l",
    "--selector",
    "-f",
    "--filename",
    "-p",
    "--patch",
    "--duration",
    "-c",
    "--container",
    "--type",
    "--timeout",
    "--tail",
    "--context",
    "--sort-by",
    "--for",
    "--since",
];
/// Flags without one, or with one behind `=`.
const ALONE: [&str; 18] = [
    "-A",
    "--all-namespaces",
    "--overwrite",
    "--previous",
    "--prefix",
    "--replicas",
    "--types",
    "--clusterrole",
    "--serviceaccount",
    "--from-file",
    "--from-literal",
    "--no-headers",
    "--all",
    "-w",
    "--watch",
    "--ignore-not-found",
    "--recursive",
    "-i",
];
/// Kinds of Kubernetes that the documentation names, as kubectl takes them.
const KINDS: [&str; 30] = [
    "configmap",
    "configmaps",
    "crd",
    "cronjob",
    "cronjobs",
    "deploy",
    "deployment",
    "deployments",
    "events",
    "job",
    "jobs",
    "lease",
    "leases",
    "mutatingwebhookconfigurations",
    "namespace",
    "nodes",
    "pod",
    "pods",
    "prometheusrule",
    "pvc",
    "rolebinding",
    "secret",
    "secrets",
    "service",
    "serviceaccount",
    "svc",
    "validatingadmissionpolicies",
    "validatingwebhookconfigurations",
    "servicemonitor",
    "servicemonitors",
];
/// The category of our kinds.
const CATEGORY: &str = "valerix";

/// What is wrong with its arguments, in words.
pub fn wrong(known: &Known, arguments: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut plain, mut flags) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter().take_while(|argument| **argument != "--");
    while let Some(argument) = rest.next() {
        let (name, value) = argument
            .split_once('=')
            .map_or((*argument, None), |(name, value)| (name, Some(value)));
        if !argument.starts_with('-') || *argument == "-" {
            plain.push(*argument);
        } else if WITH_VALUE.contains(&name) {
            flags.push((name, value.or_else(|| rest.next().copied()).unwrap_or_default()));
        } else if !ALONE.contains(&name) {
            wrong.push(format!("kubectl's flag {name} is not one that the documentation uses"));
        }
    }
    let Some((verb, named)) = plain.split_first() else {
        return vec!["kubectl without a verb".into()];
    };
    if !VERBS.contains(verb) {
        wrong.push(format!("kubectl has no verb {verb}"));
    }
    if !OF_KINDS.contains(verb) {
        return wrong;
    }
    let named = if *verb == "rollout" {
        named.get(1..).unwrap_or_default()
    } else {
        named
    };
    let Some(first) = named.first() else {
        return wrong;
    };
    // `a/x b/y`, or `a,b x y`; of explain `a.b.c`.
    let several = named
        .iter()
        .take_while(|argument| argument.contains('/') && !argument.contains('='));
    let mut kinds: Vec<&str> = several.filter_map(|argument| argument.split('/').next()).collect();
    if kinds.is_empty() {
        let first = if *verb == "explain" {
            first.split('.').next().unwrap_or(first)
        } else {
            first
        };
        kinds = first.split(',').collect();
    }
    let strangers = kinds
        .iter()
        .filter(|kind| !is_placeholder(kind) && known.schemas.kind(kind).is_none());
    let strangers = strangers.filter(|kind| **kind != CATEGORY && !KINDS.contains(kind));
    wrong.extend(strangers.map(|kind| format!("kubectl knows no kind {kind} here")));
    let ours: Vec<_> = kinds.iter().filter_map(|kind| known.schemas.kind(kind)).collect();
    let missing = |path: &[&str]| {
        let nowhere = ours.iter().filter(|kind| !kind.has(path));
        nowhere
            .map(|kind| format!("{} has no field {}", kind.name, path.join(".")))
            .collect::<Vec<_>>()
    };
    if *verb == "explain" {
        let path: Vec<&str> = first.split('.').skip(1).collect();
        if !path.is_empty() {
            wrong.extend(missing(&path));
        }
    }
    if *verb == "delete" && *first == "crd" {
        let gone = named.iter().skip(1).filter(|name| known.schemas.kind(name).is_none());
        wrong.extend(gone.map(|name| format!("there is no definition {name}")));
    }
    for key in named
        .iter()
        .filter_map(|argument| argument.split(['=']).next())
        .filter(|key| key.starts_with("resilience.valerix.io/"))
    {
        if !known.names.contains(key.trim_end_matches('-')) {
            wrong.push(format!("there is no annotation or label {key}"));
        }
    }
    let patch_type = flags
        .iter()
        .find(|(name, _)| *name == "--type")
        .map(|(_, value)| *value);
    for (name, value) in &flags {
        match *name {
            "--for" => {
                let condition = value
                    .strip_prefix("condition=")
                    .map(|condition| condition.split('=').next().unwrap_or(condition));
                let unknown = condition.filter(|condition| !ours.is_empty() && !known.names.contains(*condition));
                wrong.extend(unknown.map(|condition| format!("there is no condition {condition}")));
            }
            "-l" | "--selector" => {
                let labels = value.split(',').filter_map(|label| label.split(['=', '!']).next());
                let unknown =
                    labels.filter(|label| label.starts_with("resilience.valerix.io/") && !known.names.contains(*label));
                wrong.extend(unknown.map(|label| format!("there is no annotation or label {label}")));
            }
            "-o" | "--output" if !ours.is_empty() => paths(value).iter().for_each(|path| wrong.extend(missing(path))),
            "-p" | "--patch" => wrong.extend(patch(value, patch_type, &ours)),
            _ => {}
        }
    }
    wrong
}

/// `NAME`, `<name>`: what the reader writes.
fn is_placeholder(word: &str) -> bool {
    word.chars()
        .all(|letter| letter.is_ascii_uppercase() || "<>-_".contains(letter))
}

/// The paths of `jsonpath={.a.b[0]}` and `custom-columns=X:.a.b`, but for those with conditions in them.
fn paths(output: &str) -> Vec<Vec<&str>> {
    let texts: Vec<&str> = if let Some(template) = output.strip_prefix("jsonpath=") {
        template
            .split('{')
            .skip(1)
            .filter_map(|part| part.split('}').next())
            .collect()
    } else if let Some(columns) = output.strip_prefix("custom-columns=") {
        columns
            .split(',')
            .filter_map(|column| column.split_once(':'))
            .map(|(_, path)| path)
            .collect()
    } else {
        return Vec::new();
    };
    let plain = texts
        .into_iter()
        .filter(|text| text.starts_with('.') && !text.contains("?("));
    plain
        .map(|text| text.split(['.', '[', ']']).filter(|part| !part.is_empty()).collect())
        .collect()
}

fn patch(text: &str, patch_type: Option<&str>, ours: &[&super::schema::Kind]) -> Vec<String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return vec![format!("the patch is no JSON: {error}")],
    };
    if patch_type != Some("json") {
        // What is left out stays, so that nothing is required; what is null goes.
        let parts = value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, inner)| *name != "metadata" && !inner.is_null());
        return parts
            .flat_map(|(name, inner)| ours.iter().flat_map(move |kind| kind.wrong(&[name], inner)))
            .collect();
    }
    let steps = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step["path"].as_str());
    let unknown = steps.flat_map(|path| {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let nowhere = ours
            .iter()
            .filter(|kind| !kind.has(&parts))
            .map(|kind| format!("{} has no field {}", kind.name, parts.join(".")));
        nowhere.collect::<Vec<_>>()
    });
    unknown.collect()
}
