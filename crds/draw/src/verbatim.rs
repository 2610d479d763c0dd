//! Parts of a specification that are written as in Kubernetes: the schema keeps them whatever they hold, so they are chosen
//! from those that Kubernetes takes.

use crate::text::NAMES;
use rand::{Rng, RngExt, seq::IndexedRandom};
use serde_json::{Value, json};

/// A part for the place at `path`, if such a part stands there.
pub fn of(path: &str, random: &mut impl Rng) -> Option<Value> {
    let name = *NAMES.choose(random)?;
    let choices = match path {
        "spec.volumes[]" => volumes(),
        "spec.initContainers[]" => containers(),
        "spec.affinity" => affinities(),
        "spec.podOverrides" => overrides(name),
        "spec.autoscaling.metrics[]" => metrics(),
        "spec.autoscaling.behavior" => behaviors(),
        "spec.networkPolicy.ingressFrom[]" | "spec.networkPolicy.egressTo[]" => peers(),
        _ => return None,
    };
    let mut part = choices.choose(random)?.clone();
    if ["spec.volumes[]", "spec.initContainers[]"].contains(&path) {
        let of_initial = if random.random_bool(0.8) { name } else { "tmp" };
        part["name"] = json!(of_initial);
    }
    Some(part)
}

fn volumes() -> Vec<Value> {
    let items = json!([{"key": "a", "path": "b/a", "mode": 256}]);
    vec![
        json!({"emptyDir": {}}),
        json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1.5Gi"}}),
        json!({"configMap": {"name": "settings", "items": items, "optional": true}}),
        json!({"secret": {"secretName": "keys", "defaultMode": 288}}),
        json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": true}}),
        json!({"hostPath": {"path": "/var/log", "type": "Directory"}}),
        json!({"nfs": {"server": "nfs.example", "path": "/export"}}),
        json!({"csi": {"driver": "secrets.example.com", "readOnly": true, "volumeAttributes": {"class": "a"}}}),
        json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
        json!({"projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3600}},
            {"configMap": {"name": "settings"}}
        ]}}),
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}
        }}}}),
    ]
}

fn containers() -> Vec<Value> {
    vec![
        json!({"image": "tool:1"}),
        json!({"image": "tool:1", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 81}}}),
        json!({"image": "tool:1", "command": ["a"], "args": [""], "workingDir": "/", "env": [
            {"name": "A", "value": ""}, {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}
        ]}),
        json!({"image": "tool:1", "resources": {"requests": {"memory": "1024Mi"}, "limits": {"memory": "1.5Gi", "cpu": "1000m"}}}),
        json!({"image": "tool:1", "securityContext": {"privileged": true, "allowPrivilegeEscalation": true}}),
        json!({"image": "tool:1", "ports": [{"containerPort": 81, "name": "tool"}], "tty": true, "stdin": true}),
    ]
}

fn affinities() -> Vec<Value> {
    let selector = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]});
    let far = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector, "namespaces": ["shop"]});
    vec![
        json!({}),
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [selector]}}}),
        json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": selector}]}}),
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [far]}}),
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": far}]}}),
    ]
}

fn overrides(name: &str) -> Vec<Value> {
    vec![
        json!({}),
        json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
        json!({"hostPID": true, "hostname": "one", "subdomain": "two", "setHostnameAsFQDN": true}),
        json!({"shareProcessNamespace": true, "schedulerName": "other", "enableServiceLinks": true}),
        json!({"automountServiceAccountToken": true, "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.example"]}]}),
        json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.10"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}]}}),
        json!({"topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"},
            {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}, "minDomains": 2}
        ]}),
        json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1024 65535"}], "fsGroupChangePolicy": "OnRootMismatch"}}),
        json!({"runtimeClassName": "gvisor", "preemptionPolicy": "Never", "os": {"name": "linux"}, "readinessGates": [{"conditionType": "example.com/ready"}]}),
        json!({"containers": [{"name": name, "image": "tool:1", "volumeMounts": [], "resources": {"limits": {"cpu": "0.5"}}}]}),
        json!({"containers": [
            {"name": "order", "workingDir": "/", "tty": true, "terminationMessagePolicy": "FallbackToLogsOnError",
                "lifecycle": {"postStart": {"exec": {"command": ["a"]}}}, "securityContext": {"readOnlyRootFilesystem": false}}
        ]}),
    ]
}

fn metrics() -> Vec<Value> {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"});
    vec![
        json!({"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}}),
        json!({"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": object, "target": {"type": "Value", "value": "2k"}}}),
        json!({"type": "External", "external": {
            "metric": {"name": "depth", "selector": {"matchLabels": {"queue": "a"}}}, "target": {"type": "Value", "value": "30"}
        }}),
        json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}}),
        json!({"type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "order", "target": {"type": "Utilization", "averageUtilization": 60}
        }}),
    ]
}

fn behaviors() -> Vec<Value> {
    let policy = json!({"type": "Percent", "value": 10, "periodSeconds": 60});
    vec![
        json!({}),
        json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}}),
        json!({"scaleUp": {"policies": [policy, {"type": "Pods", "value": 4, "periodSeconds": 1800}], "selectPolicy": "Min"}}),
        json!({"scaleUp": {"stabilizationWindowSeconds": 3600}, "scaleDown": {"policies": [policy]}}),
    ]
}

fn peers() -> Vec<Value> {
    vec![
        json!({"podSelector": {}}),
        json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "front"}}}),
        json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}, "podSelector": {"matchLabels": {"a": "b"}}}),
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}),
        json!({"ipBlock": {"cidr": "fd00::/8"}}),
    ]
}
