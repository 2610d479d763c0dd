//! A Job of one's own with a guard beside it: no kind of ours deploys it, so that what the operator would write is written
//! out here.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use serde_json::{Value, json};
use valerix_crds::names::GUARD_CONTAINER;
use valerix_policy::{
    POLICY_FILE, Policy,
    guard::{FIRST_TARGET_PORT, Protocol, TargetListener, WIRING_ENV, Wiring},
};

const NAME: &str = "statement";
const POLICY_NAME: &str = "statement-policy";

/// What a reader would write: all else has its default. A program that asks once has saved up no retries, hence the budget.
const POLICY: &str = r#"{
  "version": 1,
  "targets": [
    {
      "name": "ledger",
      "url": "http://ledger",
      "timeout": {"request": "10s", "attempt": "3s", "connect": "500ms"},
      "retry": {"maxAttempts": 3, "budget": {"percent": 100}},
      "circuitBreaker": {"consecutiveFailures": 3, "openDuration": "10s"}
    }
  ]
}
"#;

const PROGRAM: &str = r#"import os, urllib.request
with urllib.request.urlopen(os.environ["VALERIX_TARGET_LEDGER_URL"] + "/statement") as answer:
    print(answer.read().decode())
"#;

/// The policy of the guard, as it is mounted.
pub fn policy() -> Result<ConfigMap> {
    let parsed = Policy::parse(POLICY.as_bytes()).context("the policy of an example is none")?;
    let unknown = parsed.ignored_fields;
    ensure!(
        unknown.is_empty(),
        "the policy of an example has unknown fields: {unknown:?}"
    );
    let map = json!({"metadata": {"name": POLICY_NAME}, "data": {POLICY_FILE: POLICY}});
    serde_json::from_value(map).context("failed to build a ConfigMap")
}

/// The Job. Its guard is a native sidecar, as that of a service.
pub fn guarded() -> Result<Job> {
    let secured = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
    });
    let job = json!({
        "metadata": {"name": NAME},
        "spec": {"backoffLimit": 3, "template": {"spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"}
            },
            "initContainers": [guard(&secured)?],
            "containers": [{
                "name": NAME,
                "image": "docker.io/library/python:3.11-slim-bookworm",
                "command": ["python3", "-c", PROGRAM],
                "env": [{"name": "VALERIX_TARGET_LEDGER_URL", "value": format!("http://127.0.0.1:{FIRST_TARGET_PORT}")}],
                "securityContext": secured
            }],
            "volumes": [
                {"name": "policy", "configMap": {"name": POLICY_NAME}},
                {"name": "state", "emptyDir": {}}
            ]
        }}}
    });
    serde_json::from_value(job).context("failed to build a Job")
}

/// Its listeners are told by the wiring, its policy and its last good one lie where it looks for them.
fn guard(secured: &Value) -> Result<Value> {
    let wiring = Wiring {
        targets: vec![TargetListener {
            name: "ledger".into(),
            protocol: Protocol::Http,
            listen: FIRST_TARGET_PORT,
            url: None,
            authorities: None,
            server_name: None,
        }],
        ..Wiring::default()
    };
    let wiring = serde_json::to_string(&wiring).context("failed to write the wiring of a guard")?;
    Ok(json!({
        "name": GUARD_CONTAINER,
        "image": format!("ghcr.io/valerix/guard:{}", env!("CARGO_PKG_VERSION")),
        "restartPolicy": "Always",
        "env": [
            {"name": "VALERIX_SERVICE", "value": NAME},
            {"name": "VALERIX_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": WIRING_ENV, "value": wiring},
            {"name": "MEMORY_LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}
        ],
        "startupProbe": {
            "httpGet": {"path": "/health", "port": 9090}, "periodSeconds": 1, "failureThreshold": 60
        },
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": secured,
        "volumeMounts": [
            {"name": "policy", "mountPath": "/etc/valerix/policy", "readOnly": true},
            {"name": "state", "mountPath": "/var/lib/valerix"}
        ]
    }))
}
