//! What is wrong with the pod around the container: volumes, mounts, probes, and overrides of what has an owner. Pure.

use super::{Parts, REPORT_PORT_NAME};
use crate::runtime::Violation;
use std::collections::BTreeSet;
use valerix_crds::{ProbeSpec, ProbeType, ResilientServiceSpec};

/// Where the documents are mounted.
pub const POLICY_DIRECTORY: &str = "/etc/valerix/policy";
/// Where a service keeps its last good document across restarts of the container.
pub const STATE_DIRECTORY: &str = "/var/lib/valerix";
/// Where the guard sees the authorities of targets, one file for each target that names some.
pub const AUTHORITIES_DIRECTORY: &str = "/etc/valerix/authorities";
/// The volume there.
pub const AUTHORITIES_VOLUME: &str = "valerix-authorities";
/// Volumes of the pod's contract, which nobody may replace.
const OWN_VOLUMES: [&str; 3] = ["policy", "state", AUTHORITIES_VOLUME];

/// Fields of a PodSpec that the specification has under the same or another name.
const HAVE_A_FIELD: [(&str, &str); 10] = [
    ("affinity", "affinity"),
    ("imagePullSecrets", "imagePullSecrets"),
    ("initContainers", "initContainers"),
    ("nodeSelector", "nodeSelector"),
    ("priorityClassName", "priorityClassName"),
    ("serviceAccount", "serviceAccountName"),
    ("serviceAccountName", "serviceAccountName"),
    ("terminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
    ("tolerations", "tolerations"),
    ("volumes", "volumes"),
];
/// Fields of a PodSpec that a Deployment's pods cannot have.
const OF_THE_DEPLOYMENT: [&str; 4] = [
    "activeDeadlineSeconds",
    "ephemeralContainers",
    "nodeName",
    "restartPolicy",
];
/// Fields of the service's own container that the specification has.
const HAVE_A_CONTAINER_FIELD: [(&str, &str); 12] = [
    ("args", "args"),
    ("command", "command"),
    ("env", "env"),
    ("envFrom", "envFrom"),
    ("image", "image"),
    ("imagePullPolicy", "imagePullPolicy"),
    ("livenessProbe", "probes.liveness"),
    ("ports", "ports"),
    ("readinessProbe", "probes.readiness"),
    ("resources", "resources"),
    ("startupProbe", "probes.startup"),
    ("volumeMounts", "volumeMounts"),
];

/// Volumes and where they are mounted.
pub fn volumes(spec: &ResilientServiceSpec, parts: &Parts, violations: &mut Vec<Violation>) {
    for (index, volume) in parts.volumes.iter().enumerate() {
        if OWN_VOLUMES.contains(&volume.name.as_str()) {
            violations.push(Violation::new(
                format!("spec.volumes[{index}].name"),
                format!("`{}` is a volume of the operator", volume.name),
                "choose another name",
            ));
        }
    }
    // A volume that could not be read has a name all the same.
    let names: BTreeSet<&str> = spec
        .volumes
        .iter()
        .filter_map(|volume| volume.0.get("name")?.as_str())
        .collect();
    let mut paths = BTreeSet::new();
    for (index, mount) in spec.volume_mounts.iter().enumerate() {
        let mut refuse = |field: &str, message: String, remedy: &str| {
            let field = format!("spec.volumeMounts[{index}].{field}");
            violations.push(Violation::new(field, message, remedy));
        };
        if !names.contains(mount.name.as_str()) {
            let message = format!("no volume is named `{}`", mount.name);
            refuse("name", message, "add it to spec.volumes or name one of them");
        }
        let path = resolved(&mount.mount_path);
        let is_hiding = overlaps(&path, POLICY_DIRECTORY) || overlaps(&path, STATE_DIRECTORY);
        if !paths.insert(path.clone()) {
            let message = format!("something is mounted at `{path}` already");
            refuse("mountPath", message, "choose another path");
        }
        if is_hiding {
            let message = format!("`{}` hides files of the operator", mount.mount_path);
            refuse(
                "mountPath",
                message,
                "mount it outside of /etc/valerix and /var/lib/valerix",
            );
        }
    }
}

/// All containers of a pod are told apart by their names.
pub fn init_containers(parts: &Parts, service: &str, violations: &mut Vec<Violation>) {
    let beside = parts.pod_overrides.iter().flat_map(|pod| &pod.containers);
    let names: BTreeSet<&str> = beside
        .map(|container| container.name.as_str())
        .chain([service])
        .collect();
    for (index, container) in parts.init_containers.iter().enumerate() {
        if names.contains(container.name.as_str()) {
            violations.push(Violation::new(
                format!("spec.initContainers[{index}].name"),
                format!("another container of the pod is named `{}`", container.name),
                "choose another name",
            ));
        }
    }
}

/// Where an absolute path leads, however it is written: without `.`, `..` and a second `/`. The root is empty.
fn resolved(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.into_iter().map(|part| format!("/{part}")).collect()
}

/// Whether one of two paths lies in the other.
fn overlaps(one: &str, other: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        inner == outer
            || inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.starts_with('/') || outer.is_empty())
    };
    is_in(one, other) || is_in(other, one)
}

/// Probes that ask a port need one.
pub fn probes(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) {
    let Some(probes) = &spec.probes else { return };
    let kinds: [(&str, &Option<ProbeSpec>); 3] = [
        ("startup", &probes.startup),
        ("readiness", &probes.readiness),
        ("liveness", &probes.liveness),
    ];
    let asks_a_port = |probe: &&ProbeSpec| probe.kind != Some(ProbeType::Exec);
    for (kind, probe) in kinds {
        let Some(probe) = probe.as_ref().filter(asks_a_port) else {
            continue;
        };
        let field = format!("spec.probes.{kind}.port");
        match &probe.port {
            Some(name) if spec.ports.iter().all(|port| port.name != *name) => violations.push(Violation::new(
                field,
                format!("no port is named `{name}`"),
                "add it to spec.ports or name one of them",
            )),
            None if spec.ports.is_empty() => violations.push(Violation::new(
                field,
                "there is no port to ask",
                "add one to spec.ports",
            )),
            Some(_) | None => {}
        }
    }
}

/// Overrides of what has a field of its own, or is the operator's: two places that say different things would make
/// rules of the schema lie.
pub fn overrides(spec: &ResilientServiceSpec, service: &str, violations: &mut Vec<Violation>) {
    let Some(overrides) = &spec.pod_overrides else { return };
    let mut refuse = |field: String, message: &str, remedy: String| {
        violations.push(Violation::new(format!("spec.podOverrides.{field}"), message, remedy));
    };
    let elsewhere = "it has a field of its own";
    for (key, field) in HAVE_A_FIELD {
        if overrides.0.contains_key(key) {
            refuse(key.to_owned(), elsewhere, format!("write spec.{field}"));
        }
    }
    for key in OF_THE_DEPLOYMENT {
        if overrides.0.contains_key(key) {
            let message = "the pods of a Deployment cannot have it";
            refuse(key.to_owned(), message, "remove it".to_owned());
        }
    }
    let containers = overrides.0.get("containers").and_then(|list| list.as_array());
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let name = container.get("name").and_then(|name| name.as_str()).unwrap_or_default();
        let field = |key: &str| format!("containers[{index}].{key}");
        if name.is_empty() {
            let remedy = format!("name it `{service}` for the service's own, or otherwise for one beside it");
            refuse(field("name"), "the container has no name", remedy);
        } else if name == service {
            for (key, field_of_spec) in HAVE_A_CONTAINER_FIELD {
                if container.get(key).is_some() {
                    refuse(field(key), elsewhere, format!("write spec.{field_of_spec}"));
                }
            }
            if container.pointer("/lifecycle/preStop").is_some() {
                let remedy = "write spec.lifecycle.preStopSleep".to_owned();
                refuse(field("lifecycle.preStop"), elsewhere, remedy);
            }
        } else {
            let ports = container.get("ports").and_then(|ports| ports.as_array());
            let is_reports = |port: &&serde_json::Value| {
                port.get("name").and_then(|name| name.as_str()) == Some(REPORT_PORT_NAME)
                    || port.get("containerPort").and_then(serde_json::Value::as_i64)
                        == super::report_port(spec).map(i64::from)
            };
            if super::report_port(spec).is_some() && ports.into_iter().flatten().any(|port| is_reports(&port)) {
                let remedy = "choose another, or set spec.resilience.reportPort".to_owned();
                refuse(field("ports"), "one of them is the report's port", remedy);
            }
        }
    }
}
