//! What the API server makes of an object before it keeps it, as far as the operator's children need it: quantities in its
//! own form, what is left out filled in, what says nothing left out.
//!
//! Written after Kubernetes' own source, and not after what the operator expects of it.

use serde_json::{Value, json};

/// Kept only where it is true.
const FALSE_IS_NOTHING: [&str; 7] = [
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
];

/// Brings an object of this kind into the form in which it is kept.
pub fn store(plural: &str, object: &mut Value) {
    let form = match plural {
        "deployments" => deployment,
        "services" => service,
        "horizontalpodautoscalers" => autoscaler,
        "networkpolicies" => network_policy,
        _ => return,
    };
    form(&mut object["spec"]);
    leave_out(&mut object["spec"]);
}

fn deployment(spec: &mut Value) {
    fill(
        spec,
        json!({"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}),
    );
    fill(&mut spec["strategy"], json!({"type": "RollingUpdate"}));
    if spec["strategy"]["type"] == "RollingUpdate" {
        fill(
            &mut spec["strategy"]["rollingUpdate"],
            json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
        );
    }
    let pod = &mut spec["template"]["spec"];
    fill(
        pod,
        json!({"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30, "securityContext": {}}),
    );
    if let Some(name) = pod.get("serviceAccountName").cloned() {
        fill(pod, json!({"serviceAccount": name}));
    }
    for list in ["containers", "initContainers"] {
        each(&mut pod[list], container);
    }
    each(&mut pod["volumes"], volume);
    resources(&mut pod["resources"]);
    amounts(&mut pod["overhead"]);
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let is_latest = image.ends_with(":latest") || !image.rsplit('/').next().is_some_and(|name| name.contains(':'));
    let pull = if is_latest { "Always" } else { "IfNotPresent" };
    fill(
        container,
        json!({"imagePullPolicy": pull, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "resources": {}}),
    );
    each(&mut container["ports"], |port| fill(port, json!({"protocol": "TCP"})));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            fill(
                probe,
                json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
            );
            if let Some(get) = probe.get_mut("httpGet") {
                fill(get, json!({"path": "/", "scheme": "HTTP"}));
            }
            if let Some(grpc) = probe.get_mut("grpc") {
                fill(grpc, json!({"service": ""}));
            }
        }
    }
    each(&mut container["env"], |variable| field(&mut variable["valueFrom"]));
    resources(&mut container["resources"]);
}

/// What a variable or a file tells of its pod.
fn field(source: &mut Value) {
    if let Some(reference) = source.get_mut("fieldRef") {
        fill(reference, json!({"apiVersion": "v1"}));
    }
    if let Some(reference) = source.get_mut("resourceFieldRef") {
        fill(reference, json!({"divisor": "0"}));
        write(&mut reference["divisor"], -9);
    }
}

fn volume(volume: &mut Value) {
    for kind in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(kind) {
            fill(source, json!({"defaultMode": 420}));
            each(&mut source["items"], field);
            each(&mut source["sources"], |source| {
                if let Some(token) = source.get_mut("serviceAccountToken") {
                    fill(token, json!({"expirationSeconds": 3600}));
                }
                if let Some(files) = source.pointer_mut("/downwardAPI/items") {
                    each(files, field);
                }
            });
        }
    }
    if let Some(directory) = volume.get_mut("emptyDir") {
        write(&mut directory["sizeLimit"], -9);
    }
    if let Some(path) = volume.get_mut("hostPath") {
        fill(path, json!({"type": ""}));
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate") {
        fill(&mut claim["metadata"], json!({"creationTimestamp": null}));
        fill(&mut claim["spec"], json!({"volumeMode": "Filesystem"}));
        resources(&mut claim["spec"]["resources"]);
    }
}

fn service(spec: &mut Value) {
    fill(
        spec,
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "clusterIP": "10.96.0.10"}),
    );
    if spec["type"] != "ClusterIP" {
        fill(spec, json!({"externalTrafficPolicy": "Cluster"}));
    }
    each(&mut spec["ports"], |port| {
        let target = port["port"].clone();
        fill(port, json!({"protocol": "TCP", "targetPort": target}));
    });
}

fn autoscaler(spec: &mut Value) {
    fill(spec, json!({"minReplicas": 1}));
    each(&mut spec["metrics"], |metric| {
        for part in metric.as_object_mut().into_iter().flat_map(|parts| parts.values_mut()) {
            for amount in ["value", "averageValue"] {
                if let Some(amount) = part.pointer_mut(&format!("/target/{amount}")) {
                    write(amount, -9);
                }
            }
        }
    });
    if let Some(behavior) = spec.get_mut("behavior") {
        let up = json!({"selectPolicy": "Max", "stabilizationWindowSeconds": 0, "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
        let down = json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
        for (direction, rules) in [("scaleUp", up), ("scaleDown", down)] {
            fill(&mut behavior[direction], rules);
            write(&mut behavior[direction]["tolerance"], -9);
        }
    }
}

fn network_policy(spec: &mut Value) {
    for rules in ["ingress", "egress"] {
        each(&mut spec[rules], |rule| {
            each(&mut rule["ports"], |port| fill(port, json!({"protocol": "TCP"})));
        });
    }
    fill(spec, json!({"policyTypes": ["Ingress"]}));
}

/// Adds the fields that are not there.
fn fill(object: &mut Value, defaults: Value) {
    if object.is_null() {
        *object = json!({});
    }
    if let (Some(object), Value::Object(defaults)) = (object.as_object_mut(), defaults) {
        for (field, value) in defaults {
            object.entry(field).or_insert(value);
        }
    }
}

/// Does so to every entry; a list that is not there is left so.
fn each(list: &mut Value, change: impl FnMut(&mut Value)) {
    if let Some(entries) = list.as_array_mut() {
        entries.iter_mut().for_each(change);
    }
}

/// Takes out what says nothing: nulls, which looking a field up leaves behind, empty texts and lists, and what
/// [`FALSE_IS_NOTHING`] names.
fn leave_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let is_false = *value == false && FALSE_IS_NOTHING.contains(&name.as_str());
                let is_zero = ["initialDelaySeconds", "hostPort"].contains(&name.as_str()) && *value == 0;
                let is_empty = match &*value {
                    Value::Null => true,
                    Value::String(text) => text.is_empty() && !["service", "type"].contains(&name.as_str()),
                    Value::Array(entries) => entries.is_empty(),
                    Value::Object(map) => map.is_empty() && ["requests", "limits"].contains(&name.as_str()),
                    Value::Bool(_) | Value::Number(_) => false,
                };
                !(is_false || is_zero || is_empty)
            });
            for (name, value) in fields {
                // Of labels the API server keeps each as it is.
                if !["labels", "annotations", "matchLabels", "nodeSelector"].contains(&name.as_str()) {
                    leave_out(value);
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(leave_out),
        _ => {}
    }
}

fn resources(resources: &mut Value) {
    for kind in ["requests", "limits"] {
        if let Some(map) = resources.get_mut(kind) {
            amounts(map);
        }
    }
}

/// What is handed out is counted in thousandths at the finest.
fn amounts(map: &mut Value) {
    let values = map.as_object_mut().into_iter().flat_map(|map| map.values_mut());
    values.for_each(|amount| write(amount, -3));
}

fn write(amount: &mut Value, finest: i32) {
    let text = match &*amount {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    *amount = json!(quantity(&text, finest).unwrap_or_else(|| panic!("{text} is no quantity")));
}

/// Suffixes of powers of 1000, from the least one: of ten to the power of -9.
const THOUSANDS: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of powers of 1024, from one.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// As `ParseQuantity` reads and `CanonicalizeBytes` writes it, in apimachinery's `resource`.
pub fn quantity(text: &str, finest: i32) -> Option<String> {
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let mut scale = -i32::try_from(number.split_once('.').map_or(0, |(_, fraction)| fraction.len())).ok()?;
    let mut amount: i128 = number.replace('.', "").parse().ok()?;
    let thousands = THOUSANDS.iter().position(|known| *known == suffix);
    let binary = BINARY[1..].iter().position(|known| *known == suffix);
    let exponent = suffix.get(1..).and_then(|digits| digits.parse::<i32>().ok());
    match (thousands, binary, exponent) {
        (Some(power), _, _) => scale += 3 * i32::try_from(power).ok()? - 9,
        (_, Some(power), _) => amount *= 1024_i128.pow(u32::try_from(power).ok()? + 1),
        (_, _, Some(exponent)) if suffix.starts_with(['e', 'E']) => scale += exponent,
        _ => return None,
    }
    while scale < finest {
        (amount, scale) = ((amount + 9) / 10, scale + 1);
    }
    if amount == 0 {
        return Some("0".to_owned());
    }
    while amount % 10 == 0 {
        (amount, scale) = (amount / 10, scale + 1);
    }
    let whole = (scale >= 0).then(|| amount * 10_i128.pow(scale.unsigned_abs()));
    if let Some(mut whole) = whole.filter(|whole| binary.is_some() && *whole >= 1024 && *whole % 1024 == 0) {
        let mut power = 0;
        while whole % 1024 == 0 && power < 6 {
            (whole, power) = (whole / 1024, power + 1);
        }
        return Some(format!("{whole}{}", BINARY[power]));
    }
    while scale.rem_euclid(3) != 0 {
        (amount, scale) = (amount * 10, scale - 1);
    }
    let is_exponent = thousands.is_none() && binary.is_none();
    Some(match (is_exponent, scale) {
        (true, 0) => amount.to_string(),
        (true, _) => format!("{amount}e{scale}"),
        (false, _) => format!("{amount}{}", THOUSANDS[usize::try_from(scale / 3 + 3).ok()?]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tables of apimachinery's `quantity_test.go`, and of what a real server was seen to keep.
    #[test]
    fn quantities_are_kept_as_kubernetes_keeps_them() {
        for (given, kept) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("1000m", "1"),
            ("1.0", "1"),
            ("0.5", "500m"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("10e2", "1e3"),
            ("100e3", "100e3"),
            ("5e-1", "500e-3"),
            ("1000k", "1M"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("1025", "1025"),
            ("1Ki", "1Ki"),
            ("0.0001Gi", "107374182400u"),
            ("0.0000000001", "1n"),
            (".5", "500m"),
        ] {
            assert_eq!(quantity(given, -9).as_deref(), Some(kept), "{given}");
        }
        assert_eq!(quantity("0.0001Gi", -3).as_deref(), Some("107374183m"));
        assert_eq!(quantity("many", -3), None);
    }
}
