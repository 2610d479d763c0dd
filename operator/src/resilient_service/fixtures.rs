//! Objects for the tests of this folder.

use serde_json::{Value, json};
use valerix_crds::ResilientService;

/// A service `name` in namespace `shop` as the API server would hand it out.
pub fn service(name: &str, spec: Value) -> ResilientService {
    serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1",
        "kind": "ResilientService",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": format!("uid-of-{name}"),
            "generation": 1,
            "resourceVersion": "1"
        },
        "spec": spec
    }))
    .unwrap()
}

/// A specification that uses every field.
pub fn full_spec() -> Value {
    json!({
        "image": "ghcr.io/acme/order:1.4.2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 3,
        "command": ["/bin/order"],
        "args": ["--verbose"],
        "env": [
            {"name": "LISTEN_ADDRESS", "value": "0.0.0.0:3001"},
            {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "order-database", "key": "url"}}},
            {"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "region", "key": "name", "optional": true}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        ],
        "envFrom": [{"configMapRef": {"name": "common"}}, {"secretRef": {"name": "extra"}, "prefix": "EXTRA_"}],
        "ports": [{"name": "http", "containerPort": 3001, "servicePort": 80}, {"name": "admin", "containerPort": 3100}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "probes": {
            "startup": {"path": "/health"},
            "readiness": {"path": "/ready", "periodSeconds": 2},
            "liveness": {"path": "/health", "port": "admin", "failureThreshold": 5, "timeoutSeconds": 3}
        },
        "podLabels": {"team": "checkout", "app.kubernetes.io/name": "ignored"},
        "podAnnotations": {"example.com/note": "x"},
        "terminationGracePeriodSeconds": 60,
        "lifecycle": {"preStopSleep": "2500ms"},
        "chaos": {"admission": "Allowed"},
        "resilience": {
            "reportPort": 9191,
            "mode": "Enforce",
            "inbound": {"timeout": "10s"},
            "defaults": {"retry": {"maxAttempts": 2}},
            "targets": [{
                "name": "inventory",
                "url": "http://inventory.shop.svc",
                "timeout": {"request": "1s", "attempt": "500ms"},
                "circuitBreaker": {"consecutiveFailures": 3, "openDuration": "10s"},
                "idempotentRoutes": ["POST /api/inventory/deduct"]
            }]
        }
    })
}
