//! Objects that every rule lets pass.

use super::backup::{PUBLIC, asking, in_bucket};
use super::restore::{archive, replacing, restore};
use super::*;

/// Every object that must be taken: at the bounds of the rules, where they have some.
pub fn accepted() -> Vec<Value> {
    vec![
        service(json!({})),
        service(
            json!({"ports": [{"name": "http", "containerPort": 8080}], "resilience": {"targets": [{
                "name": "inventory",
                "timeout": {"request": "1s", "attempt": "500ms", "connect": "100ms"},
                "circuitBreaker": {"consecutiveFailures": 3, "openDuration": "10s", "window": {"type": "Count", "calls": 50}}
            }]}}),
        ),
        service(json!({"resilience": {"inbound": {"concurrency": {
            "type": "Adaptive", "max": 100, "min": 10, "initial": 10, "maxQueue": 5, "queueTimeout": "50ms",
            "priorities": {
                "header": "Lower",
                "routes": [{"route": "GET /api/items/{id}", "priority": "BestEffort"}],
                "sheddablePercent": 60
            }
        }}}})),
        service(json!({"replicas": 5, "resilience": {"inbound": {
            "timeout": "20s",
            "rateLimit": {"rules": [
                {"name": "all", "scope": "Service", "requests": 100, "window": "100ms"},
                {"name": "burst", "requests": 101, "window": "24h", "burst": 7},
                {"name": "gcra", "requests": 10, "window": "1s", "algorithm": "GCRA", "burst": 7},
                {"name": "ip", "scope": "Distributed", "requests": 1, "window": "10s", "key": {"type": "ClientIP"}},
                {"name": "customer", "requests": 1, "window": "10s", "key": {"type": "Claim", "name": "sub"}}
            ]},
            "idempotency": {"requiredRoutes": ["POST /api/orders"], "ttl": "1m", "lockTimeout": "21s"}
        }}})),
        service(json!({
            "minReadySeconds": 299,
            "strategy": {"type": "Recreate"},
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "initContainers": [{"name": "migrate", "image": "order:1", "args": ["migrate"]}],
            "securityContext": {"runAsUser": 0, "runAsNonRoot": false, "capabilities": {"add": ["SYS_ADMIN"], "drop": []},
                "allowPrivilegeEscalation": true, "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}},
            "tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}],
            "affinity": {"nodeAffinity": {}},
            "podOverrides": {"hostNetwork": true},
            "probes": {
                "startup": {"type": "Exec", "command": ["true"]},
                "readiness": {"path": "/ready", "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "order"}]},
                "liveness": {"type": "GRPC", "service": "order", "initialDelaySeconds": 5}
            },
            "autoscaling": {"maxReplicas": 1},
            "disruption": {"minAvailable": "50%"},
            "networkPolicy": {"ingressFrom": [], "egressTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "configReload": {"strategy": "Rollout", "deadline": "1s"}
        })),
        service(json!({
            "strategy": {"type": "RollingUpdate", "maxSurge": "100%", "maxUnavailable": 0},
            "securityContext": {"seccompProfile": {"type": "Unconfined"}},
            "probes": {"readiness": {"type": "TCP", "port": "http"}},
            "networkPolicy": {"mode": "None"},
            "monitoring": {"mode": "None"}
        })),
        service(json!({
            "ports": [{"name": "http", "containerPort": 80}, {"name": "stats", "containerPort": 81}],
            "monitoring": {"mode": "Auto", "interval": "1s", "port": "stats", "path": "/stats/prometheus", "labels": {"release": "prometheus"}}
        })),
        // At the bounds of every rule that compares.
        object(
            "ResilientService",
            &"x".repeat(53),
            json!({"image": "x", "terminationGracePeriodSeconds": 45, "replicas": 1}),
        ),
        service(json!({"resilience": {"inbound": {"timeout": "40s", "concurrency": {
            "max": 10, "min": 10, "initial": 10, "queueTimeout": "60s",
            "priorities": {"defaultPercent": 70, "sheddablePercent": 70, "bestEffortPercent": 70}
        }, "idempotency": {"ttl": "2160h"}}}})),
        service(json!({"lifecycle": {"preStopSleep": "2s"}, "resilience": {"inbound": {"timeout": "43s"}}})),
        service(json!({"terminationGracePeriodSeconds": 20})),
        service(json!({"terminationGracePeriodSeconds": 5, "resilience": {"protocol": "None"}})),
        service(
            json!({"terminationGracePeriodSeconds": 3, "lifecycle": {"preStopSleep": "3s"}, "resilience": {"protocol": "None"}}),
        ),
        // A guard with everything, one whose ports are left to it, and one that is off and keeps what it would do.
        guarded(json!({
            "mode": "Sidecar", "image": "guard:1", "resources": {"limits": {"memory": "64Mi"}},
            "inbound": {"ports": [{"name": "http"}, {"name": "redis", "protocol": "TCP"}]},
            "outbound": {"targets": "Auto", "httpProxy": true, "unknownHosts": "Refuse"}
        })),
        merged_spec(
            guarded(json!({"mode": "Sidecar"})),
            json!({"resilience": {"protocol": "Report", "reportPort": 15000, "targets": [
                {"name": "cache", "url": "tcp://cache.shop.svc:6379", "timeout": {"connect": "1s"}, "circuitBreaker": {"scope": "Target"}},
                {"name": "api", "url": "http://api"},
                {"name": "bank", "url": "https://bank", "tls": {"caBundleRef": {"name": "bank", "key": "bundle.pem"}, "serverName": "pay.bank.example"}}
            ]}}),
        ),
        merged_spec(
            guarded(json!({"mode": "Sidecar", "outbound": {"targets": "None"}})),
            json!({"resilience": {"targets": [{"name": "api"}]}}),
        ),
        merged_spec(
            guarded(json!({"mode": "Off", "inbound": {"ports": [{"name": "http"}]}})),
            json!({"ports": [{"name": "http", "containerPort": 15100}], "resilience": {"protocol": "None", "targets": [{"name": "api"}]}}),
        ),
        // Scaling out under load meets no rule.
        service(
            json!({"replicas": 1000, "resilience": {"inbound": {"rateLimit": {"rules": [
                {"name": "all", "scope": "Service", "requests": 1, "window": "1s"}
            ]}}}}),
        ),
        service(json!({"resilience": {"targets": [
            {
                "name": "a", "timeout": {"request": "1s", "attempt": "1s", "connect": "1s"},
                "retry": {"backoff": {"base": "1s", "max": "1s"}},
                "circuitBreaker": {"openDuration": "100ms", "maxOpenDuration": "100ms", "halfOpenTimeout": "100ms",
                    "minimumRequests": 10, "window": {"type": "Count", "calls": 10}}
            },
            {"name": "b", "circuitBreaker": {"window": {"type": "Time", "duration": "1s"}}}
        ]}})),
        object(
            "ChaosExperiment",
            &"x".repeat(63),
            json!({"target": {"service": "inventory"}, "count": 1, "podKill": {}}),
        ),
        chaos(
            json!({"latency": {"delay": "5m", "jitter": "5m"}, "duration": "1s", "steadyState": {"probes": [
                {"name": "a", "interval": "200ms", "http": {
                    "service": "order", "method": "POST", "body": "{}", "expect": {"maxLatency": "5s"}
                }}
            ]}}),
        ),
        object(
            "BackupPolicy",
            &"x".repeat(52),
            json!({"databases": databases(), "destination": {"volumeClaim": {"claimName": "c", "path": "a/..b"}}, "schedule": {"catchUpWindow": "23h59m"}}),
        ),
        super::policy(json!({"deletionPolicy": "Delete", "job": {"serviceAccountName": "backups.of-shop"}})),
        super::policy(json!({"deletionPolicy": "Retain", "job": {"serviceAccountName": "p-backup"}})),
        restore(json!({})),
        object("Restore", &"x".repeat(52), restore(json!({}))["spec"].clone()),
        restore(json!({"databases": [{"name": "orders", "as": "stock"}, {"name": "stock", "as": "o'd \"d"}]})),
        restore(json!({"source": {"policyRef": {"name": "nightly"}, "select": "LatestVerified"}})),
        restore(json!({"source": {"policyRef": {"name": "nightly"}, "select": "Slot", "slot": "2026-08-21"}})),
        restore(json!({"source": {"archive": archive("shop/nightly/20260821.tar.zst")}})),
        replacing(json!({})),
        replacing(
            json!({"databases": [{"name": "orders", "as": "live"}], "replace": {"confirm": "live", "keepPrevious": "1h"}}),
        ),
        replacing(json!({"replace": {"confirm": "orders", "keepPrevious": "2160h"}})),
        chaos(json!({"podKill": {}})),
        chaos(json!({"latency": {"delay": "3s", "jitter": "1s"}, "duration": "20s"})),
        chaos(json!({"errors": {}, "duration": "1m", "schedule": "0 10 * * 1-5", "timeZone": "Europe/Berlin"})),
        chaos(json!({"podKill": {}, "count": "50%"})),
        chaos(json!({"refuse": {}, "duration": "40s", "steadyState": {"probes": [
            {"name": "edge", "mode": "Edge", "interval": "41s", "http": {"service": "a", "method": "HEAD"}},
            {"name": "late", "interval": "40s", "http": {"service": "a", "method": "HEAD", "expect": {"status": 204}}},
        ]}})),
        chaos(json!({"crash": {}, "duration": "5s", "steadyState": {"probes": [
            {"name": "a", "interval": "6s", "http": {"service": "a"}},
        ]}})),
        chaos(json!({"podKill": {}, "count": 100})),
        chaos(json!({"podKill": {"method": "Delete"}, "dryRun": true, "target": {
            "service": "inventory", "zone": "west-1", "podSelector": {"matchLabels": {"track": "canary"}}
        }})),
        chaos(
            json!({"podKill": {}, "schedule": "0 10 * * *", "startingDeadlineSeconds": 60,
            "concurrencyPolicy": "Replace", "excludedWindows": [{"days": ["Sat"], "from": "09:00", "to": "17:00"}]}),
        ),
        chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {
            "service": "order", "method": "PUT", "body": "{}", "headers": [{"name": "X-Tenant", "value": "a"}],
            "expect": {"json": [{"pointer": "/status", "value": "CONFIRMED"}], "latencyPercentile": {"percent": 95, "max": "300ms"}}
        }}]}})),
        chaos(
            json!({"abort": {"percent": 10}, "duration": "1m", "steadyState": {"probes": [
                {"name": "rate", "mode": "OnFault", "prometheus": {
                    "service": "prometheus", "port": 80, "query": "sum(up)", "comparator": ">=", "value": 0.5}},
                {"name": "far", "mode": "Edge", "prometheus": {
                    "url": "https://prometheus.example/prefix", "query": "sum(up)", "comparator": "==", "value": 1}}
            ]}}),
        ),
        chaos(json!({"refuse": {}, "duration": "1m", "after": {"experiment": "another", "verdict": "Any"}})),
        chaos(json!({"partition": {"peer": "shop/order", "direction": "Egress"}, "duration": "1m"})),
        chaos(json!({"crash": {"times": 3}, "duration": "1m"})),
        chaos(json!({"cpuStress": {"loadPercent": 50, "workers": 4}, "duration": "1m"})),
        chaos(json!({"memoryStress": {"size": "256Mi"}, "duration": "1m"})),
        policy(json!({"schedule": {"timeOfDay": "23:59", "catchUpWindow": "1m"}, "job": {"deadline": "20h"}})),
        policy(json!({"job": {"deadline": "1s"}, "verification": {"budget": "1ms", "networkPolicy": "None"}})),
        policy(json!({"encryption": {"ageRecipients": [PUBLIC], "identitySecretRef": {"name": "key"}}})),
        in_bucket(
            json!({"bucket": "a.b-1", "endpoint": "https://minio.storage.svc:65535/", "caSecretRef": {"name": "a"}}),
        ),
        in_bucket(json!({"endpoint": "http://10.0.0.7"})),
        asking(json!({"atLeast": 8, "atMost": 8})),
    ]
}
