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
    let mut spec = container_and_policy();
    for part in [pod(), pool()] {
        if let (Some(spec), Value::Object(part)) = (spec.as_object_mut(), part) {
            spec.extend(part);
        }
    }
    spec
}

/// A service of an image that knows nothing of the policy, with a guard that has every field.
pub fn guarded_spec() -> Value {
    json!({
        "image": "python:3",
        "ports": [
            {"name": "http", "containerPort": 3001, "servicePort": 80},
            {"name": "events", "containerPort": 3100},
            {"name": "debug", "containerPort": 3200}
        ],
        "probes": {
            "readiness": {"path": "/ready"}, "liveness": {"type": "TCP", "port": "debug"},
            "startup": {"type": "GRPC", "port": "events"}
        },
        "initContainers": [{"name": "migrate", "image": "python:3"}],
        "podOverrides": {"containers": [{"name": "beside", "image": "b", "ports": [{"containerPort": 9999}]}]},
        "securityContext": {"runAsUser": 1000, "capabilities": {"add": ["NET_BIND_SERVICE"]}},
        "networkPolicy": {"egressTo": []},
        "chaos": {"admission": "Allowed"},
        "resilience": {"targets": [
            {"name": "ledger", "url": "http://ledger.bank.svc:8080/v1", "circuitBreaker": {"consecutiveFailures": 3}},
            {"name": "hot-cache", "url": "tcp://cache:6379", "timeout": {"connect": "500ms"}}
        ]},
        "guard": {
            "mode": "Sidecar",
            "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "32Mi"}},
            "inbound": {"ports": [{"name": "events", "protocol": "H2C"}, {"name": "http"}]},
            "outbound": {"targets": "Auto", "httpProxy": true, "unknownHosts": "Refuse"}
        }
    })
}

fn container_and_policy() -> Value {
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
            "startup": {"type": "Exec", "command": ["/bin/order", "--check"], "initialDelaySeconds": 3},
            "readiness": {"path": "/ready", "periodSeconds": 2, "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "order"}]},
            "liveness": {"type": "GRPC", "service": "order", "port": "admin", "failureThreshold": 5, "timeoutSeconds": 3}
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

/// The pod around the container.
fn pod() -> Value {
    json!({
        "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "order-data"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}}
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "order"}, {"name": "data", "mountPath": "/old", "readOnly": true}],
        "initContainers": [{
            "name": "migrate", "image": "ghcr.io/acme/migrate:1", "resources": {"limits": {"memory": "1024Mi"}},
            "securityContext": {"readOnlyRootFilesystem": false}
        }],
        "securityContext": {
            "runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [3000], "capabilities": {"add": ["NET_BIND_SERVICE"]}
        },
        "serviceAccountName": "order-reader",
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "order"}}
        }]}},
        "priorityClassName": "important",
        "podOverrides": {
            "automountServiceAccountToken": true,
            "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["legacy"]}],
            "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"}],
            "containers": [
                {"name": "order", "workingDir": "/data", "securityContext": {"readOnlyRootFilesystem": false}},
                {"name": "beside", "image": "ghcr.io/acme/beside:1", "resources": {"requests": {"cpu": "1000m"}}}
            ]
        }
    })
}

/// The pods as a set.
fn pool() -> Value {
    json!({
        "strategy": {"maxSurge": "25%", "maxUnavailable": 1},
        "minReadySeconds": 5,
        "progressDeadlineSeconds": 600,
        "autoscaling": {
            "minReplicas": 2, "maxReplicas": 10, "targetCPUUtilizationPercentage": 70, "targetMemoryUtilizationPercentage": 80,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}
        },
        "disruption": {"maxUnavailable": "25%"},
        "networkPolicy": {
            "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}],
            "egressTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
        },
        "monitoring": {"mode": "Auto", "interval": "15s", "port": "admin", "path": "/stats", "labels": {"release": "prometheus"}},
        "configReload": {"strategy": "Rollout", "deadline": "90s"}
    })
}
