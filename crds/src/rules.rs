//! Every CEL rule refuses what it should and nothing else. The same table of objects runs on a real API server in e2e.

use crate::{Backup, BackupPolicy, ChaosExperiment, ResilientService};
use serde_json::{Value, json};

fn service(spec: Value) -> Value {
    object(
        "ResilientService",
        "order",
        merged(
            json!({"image": "order:1", "terminationGracePeriodSeconds": 45, "replicas": 1}),
            spec,
        ),
    )
}

/// A service with two ports and this guard.
fn guarded(guard: Value) -> Value {
    service(json!({
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "redis", "containerPort": 6379}],
        "guard": guard
    }))
}

/// The same object with these fields of its specification instead.
fn merged_spec(mut object: Value, spec: Value) -> Value {
    object["spec"] = merged(object["spec"].take(), spec);
    object
}

fn chaos(spec: Value) -> Value {
    object(
        "ChaosExperiment",
        "slow",
        merged(json!({"target": {"service": "inventory"}, "count": 1}), spec),
    )
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn merged(mut base: Value, extra: Value) -> Value {
    if let (Some(base), Value::Object(extra)) = (base.as_object_mut(), extra) {
        base.extend(extra);
    }
    base
}

fn problems(object: &Value) -> String {
    let outcome = match object["kind"].as_str() {
        Some("ResilientService") => serde_json::from_value::<ResilientService>(object.clone())
            .unwrap()
            .validate_cel(),
        Some("ChaosExperiment") => serde_json::from_value::<ChaosExperiment>(object.clone())
            .unwrap()
            .validate_cel(),
        Some("BackupPolicy") => serde_json::from_value::<BackupPolicy>(object.clone())
            .unwrap()
            .validate_cel(),
        other => panic!("no rules for {other:?}"),
    };
    outcome.err().map(|errors| format!("{errors:?}")).unwrap_or_default()
}

#[test]
fn what_is_right_passes() {
    for object in [
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
                {"name": "api", "url": "http://api"}
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
            json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c", "path": "a/..b"}}, "schedule": {"catchUpWindow": "23h59m"}}),
        ),
        chaos(json!({"podKill": {}})),
        chaos(json!({"latency": {"delay": "3s", "jitter": "1s"}, "duration": "20s"})),
        chaos(json!({"errors": {}, "duration": "1m", "schedule": "0 10 * * 1-5", "timeZone": "Europe/Berlin"})),
        chaos(json!({"podKill": {}, "count": "50%"})),
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
    ] {
        assert_eq!(problems(&object), "", "{object}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_a_text_that_names_it() {
    let target =
        |block: Value| service(json!({"resilience": {"targets": [merged(json!({"name": "inventory"}), block)]}}));
    let inbound = |block: Value| service(json!({"resilience": {"inbound": block}}));
    let concurrency = |block: Value| inbound(json!({"concurrency": block}));
    let limit = |block: Value| {
        let rule = merged(json!({"name": "a", "requests": 10, "window": "1s"}), block);
        inbound(json!({"rateLimit": {"rules": [rule]}}))
    };
    let breaker = |block: Value| target(json!({"circuitBreaker": block}));
    let probe = |block: Value| {
        let probe = merged(json!({"name": "a"}), block);
        chaos(json!({"podKill": {}, "steadyState": {"probes": [probe]}}))
    };
    let http = |block: Value| probe(json!({"http": merged(json!({"service": "order"}), block)}));
    let security = |block: Value| service(json!({"securityContext": block}));
    let toleration = |block: Value| service(json!({"tolerations": [block]}));
    let liveness = |block: Value| service(json!({"probes": {"liveness": block}}));
    let with_targets = |guard: Value, target: Value| {
        let target = merged(json!({"name": "cache"}), target);
        merged_spec(guarded(guard), json!({"resilience": {"targets": [target]}}))
    };
    let sidecar = || json!({"mode": "Sidecar"});
    let tcp = |block: Value| with_targets(sidecar(), merged(json!({"url": "tcp://cache:6379"}), block));
    for (object, text) in [
        (
            merged_spec(guarded(sidecar()), json!({"resilience": {"protocol": "None"}})),
            "protocol None contradicts guard.mode Sidecar",
        ),
        (
            guarded(json!({"inbound": {"ports": [{"name": "htp"}]}})),
            "must be the name of one of ports",
        ),
        (
            service(json!({"guard": {"inbound": {"ports": [{"name": "http"}]}}})),
            "must be the name of one of ports",
        ),
        (
            merged_spec(
                guarded(sidecar()),
                json!({"ports": [{"name": "http", "containerPort": 15001}]}),
            ),
            "ports[].containerPort must not be 15001",
        ),
        (
            merged_spec(
                guarded(sidecar()),
                json!({"ports": [{"name": "http", "containerPort": 15100}]}),
            ),
            "ports[].containerPort must not be 15001",
        ),
        (
            merged_spec(
                guarded(sidecar()),
                json!({"ports": [{"name": "http", "containerPort": 15299}]}),
            ),
            "ports[].containerPort must not be 15001",
        ),
        (
            merged_spec(guarded(sidecar()), json!({"resilience": {"reportPort": 15200}})),
            "resilience.reportPort must not be 15001",
        ),
        (
            guarded(json!({"mode": "Sidecar", "outbound": {"unknownHosts": "Refuse"}})),
            "unknownHosts belongs to httpProxy: true",
        ),
        (
            guarded(json!({"mode": "Sidecar", "outbound": {"httpProxy": false, "unknownHosts": "Refuse"}})),
            "unknownHosts belongs to httpProxy: true",
        ),
        (
            with_targets(json!({"mode": "Off"}), json!({"url": "tcp://cache:6379"})),
            "tcp:// needs a guard that relays it",
        ),
        (
            target(json!({"url": "tcp://cache:6379"})),
            "tcp:// needs a guard that relays it",
        ),
        (
            with_targets(
                json!({"mode": "Sidecar", "outbound": {"targets": "None"}}),
                json!({"url": "tcp://cache:6379"}),
            ),
            "tcp:// needs a guard that relays it",
        ),
        (
            with_targets(sidecar(), json!({})),
            "targets[].url is required with guard.mode Sidecar",
        ),
        (
            tcp(json!({"retry": {"maxAttempts": 2}})),
            "belong to http:// and https:// targets",
        ),
        (
            tcp(json!({"hedge": {"delay": "1s"}})),
            "belong to http:// and https:// targets",
        ),
        (
            tcp(json!({"idempotentRoutes": ["POST /"]})),
            "belong to http:// and https:// targets",
        ),
        (
            tcp(json!({"balancing": {"type": "P2C"}})),
            "belong to http:// and https:// targets",
        ),
        (
            tcp(json!({"circuitBreaker": {"scope": "Host"}})),
            "circuitBreaker.scope Host belongs to",
        ),
        (
            service(json!({"minReadySeconds": 300})),
            "progressDeadlineSeconds (300 when absent) must be more",
        ),
        (
            service(json!({"strategy": {"type": "Recreate", "maxSurge": 1}})),
            "belong to type RollingUpdate",
        ),
        (
            service(json!({"strategy": {"maxUnavailable": "101%"}})),
            "a percentage from 0% to 100%",
        ),
        (
            service(json!({"disruption": {"maxUnavailable": 10000}})),
            "a number of pods from 0 to 9999",
        ),
        (
            service(json!({"disruption": {"maxUnavailable": 1, "minAvailable": 1}})),
            "maxUnavailable and minAvailable exclude each other",
        ),
        (
            service(json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}})),
            "must not exceed maxReplicas",
        ),
        (
            service(json!({"networkPolicy": {"mode": "None", "egressTo": []}})),
            "belong to mode Managed",
        ),
        (
            service(json!({"monitoring": {"mode": "None", "interval": "10s"}})),
            "belong to mode Auto",
        ),
        (
            service(json!({"monitoring": {"interval": "999ms"}})),
            "interval must be at least 1s",
        ),
        (
            service(json!({"ports": [{"name": "http", "containerPort": 80}], "monitoring": {"port": "metrics"}})),
            "monitoring.port must be the name of one of ports",
        ),
        (
            service(json!({"monitoring": {"port": "http"}})),
            "monitoring.port must be the name of one of ports",
        ),
        (
            service(json!({"configReload": {"deadline": "999ms"}})),
            "deadline must be at least 1s",
        ),
        (security(json!({"runAsUser": 0})), "set runAsNonRoot to false"),
        (
            security(json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
            "without allowPrivilegeEscalation",
        ),
        (
            security(json!({"seccompProfile": {"type": "Localhost"}})),
            "localhostProfile belongs to type Localhost",
        ),
        (
            toleration(json!({"key": "a", "operator": "Exists", "value": "b"})),
            "value belongs to operator Equal",
        ),
        (toleration(json!({"value": "b"})), "key is missing"),
        (
            toleration(json!({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5})),
            "belongs to effect NoExecute",
        ),
        (liveness(json!({})), "path belongs to type HTTP"),
        (
            liveness(json!({"type": "TCP", "path": "/"})),
            "path belongs to type HTTP",
        ),
        (liveness(json!({"type": "Exec"})), "command belongs to type Exec"),
        (
            liveness(json!({"type": "Exec", "command": ["a"], "port": "http"})),
            "port does not belong to type Exec",
        ),
        (
            liveness(json!({"type": "TCP", "scheme": "HTTPS"})),
            "httpHeaders and scheme belong to type HTTP",
        ),
        (
            liveness(json!({"path": "/", "service": "a"})),
            "service belongs to type GRPC",
        ),
        // One step beyond the bounds.
        (
            object(
                "ResilientService",
                &"x".repeat(54),
                json!({"image": "x", "terminationGracePeriodSeconds": 45, "replicas": 1}),
            ),
            "at most 53 characters",
        ),
        (
            object(
                "ChaosExperiment",
                &"x".repeat(64),
                json!({"target": {"service": "inventory"}, "count": 1, "podKill": {}}),
            ),
            "at most 63 characters",
        ),
        (
            object(
                "BackupPolicy",
                "a.b",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}}),
            ),
            "must hold only a-z, 0-9",
        ),
        (
            inbound(json!({"timeout": "41s"})),
            "terminationGracePeriodSeconds must cover",
        ),
        (
            service(json!({"lifecycle": {"preStopSleep": "2s"}, "resilience": {"inbound": {"timeout": "44s"}}})),
            "terminationGracePeriodSeconds must cover",
        ),
        (
            concurrency(json!({"queueTimeout": "60001ms"})),
            "queueTimeout must be at most 60s",
        ),
        (
            concurrency(json!({"priorities": {"defaultPercent": 70}})),
            "must not exceed defaultPercent",
        ),
        (
            concurrency(json!({"priorities": {"sheddablePercent": 40}})),
            "must not exceed sheddablePercent",
        ),
        (
            limit(json!({"requests": 100, "burst": 5})),
            "burst belongs to algorithm GCRA",
        ),
        (
            inbound(json!({"idempotency": {"ttl": "2161h"}})),
            "ttl must be between 1m and 2160h",
        ),
        (
            service(json!({"env": [{"name": "A", "valueFrom": {}}]})),
            "exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        ),
        (
            service(json!({"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]})),
            "exactly one of configMapRef and secretRef",
        ),
        (
            target(json!({"timeout": {"attempt": "500ms", "connect": "501ms"}})),
            "connect must not be longer than attempt",
        ),
        (
            breaker(json!({"openDuration": "99ms"})),
            "openDuration must be at least 100ms",
        ),
        (
            breaker(json!({"halfOpenTimeout": "99ms"})),
            "halfOpenTimeout must be at least 100ms",
        ),
        (
            breaker(json!({"window": {"type": "Time", "duration": "999ms"}})),
            "a Time window must be at least 1s long",
        ),
        (
            breaker(json!({"window": {"type": "Time"}})),
            "a Time window takes duration",
        ),
        (
            breaker(json!({"window": {"type": "Time", "duration": "5s", "calls": 10}})),
            "a Time window takes duration",
        ),
        (
            chaos(json!({"errors": {}, "duration": "999ms"})),
            "duration must be at least 1s",
        ),
        (
            chaos(json!({"latency": {"delay": "301s"}, "duration": "5s"})),
            "delay must be between",
        ),
        (
            probe(json!({"http": {"service": "order"}, "interval": "199ms"})),
            "interval must be at least 200ms",
        ),
        (http(json!({"body": "{}"})), "body needs method: POST"),
        (http(json!({"body": "{}", "method": "HEAD"})), "body needs method: POST"),
        (
            http(json!({"headers": [{"name": "AUTHORIZATION", "value": "Bearer x"}]})),
            "a probe sends no credential",
        ),
        (
            chaos(json!({"podKill": {}, "excludedWindows": [{"from": "09:00", "to": "17:00"}]})),
            "excludedWindows have no meaning without schedule",
        ),
        (
            http(json!({"expect": {"maxLatency": "5001ms"}})),
            "maxLatency must be between 1ms and 5s",
        ),
        (
            http(json!({"expect": {"maxLatency": "0s"}})),
            "maxLatency must be between 1ms and 5s",
        ),
        (
            object(
                "ResilientService",
                "1order",
                json!({"image": "x", "terminationGracePeriodSeconds": 45, "replicas": 1}),
            ),
            "metadata.name",
        ),
        (
            service(json!({"ports": [{"name": "http", "containerPort": 9090}], "resilience": {"reportPort": 9090}})),
            "resilience.reportPort",
        ),
        (
            service(json!({"resilience": {"inbound": {"timeout": "60s"}}})),
            "terminationGracePeriodSeconds must cover",
        ),
        (concurrency(json!({"max": 5, "min": 10})), "min must not exceed max"),
        (
            concurrency(json!({"max": 5, "initial": 10})),
            "initial must not exceed max",
        ),
        (
            concurrency(json!({"min": 20, "initial": 10})),
            "initial must not be less than min",
        ),
        (
            concurrency(json!({"queueTimeout": "2m"})),
            "queueTimeout must be at most 60s",
        ),
        (
            concurrency(json!({"priorities": {"sheddablePercent": 95}})),
            "must not exceed defaultPercent",
        ),
        (
            concurrency(json!({"priorities": {"bestEffortPercent": 80}})),
            "must not exceed sheddablePercent",
        ),
        (limit(json!({"burst": 5})), "burst belongs to algorithm GCRA"),
        (
            limit(json!({"requests": 500, "algorithm": "Window", "burst": 5})),
            "burst belongs to algorithm GCRA",
        ),
        (limit(json!({"window": "99ms"})), "window must be between 100ms and 24h"),
        (limit(json!({"window": "25h"})), "window must be between 100ms and 24h"),
        (
            limit(json!({"requests": 500, "scope": "Service", "key": {"type": "ClientIP"}})),
            "a limit with a key cannot have scope Service",
        ),
        (limit(json!({"key": {"type": "Header"}})), "name the header or claim"),
        (
            limit(json!({"key": {"type": "ClientIP", "name": "x"}})),
            "name the header or claim",
        ),
        (
            service(json!({"terminationGracePeriodSeconds": 19})),
            "terminationGracePeriodSeconds must cover resilience.inbound.timeout (15s when absent)",
        ),
        (
            service(json!({"terminationGracePeriodSeconds": 4, "resilience": {"protocol": "None"}})),
            "lifecycle.preStopSleep (5s when absent) must not be longer",
        ),
        (
            service(json!({"lifecycle": {"preStopSleep": "60s"}})),
            "lifecycle.preStopSleep (5s when absent) must not be longer",
        ),
        (
            inbound(json!({"idempotency": {"lockTimeout": "15s"}})),
            "lockTimeout must be longer than timeout",
        ),
        (
            inbound(json!({"timeout": "20s", "idempotency": {"lockTimeout": "20s"}})),
            "lockTimeout must be longer than timeout",
        ),
        (
            inbound(json!({"idempotency": {"ttl": "59s"}})),
            "ttl must be between 1m and 2160h",
        ),
        (
            service(
                json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            "value and valueFrom exclude each other",
        ),
        (
            service(json!({"env": [{"name": "VALERIX_X", "value": "b"}]})),
            "set by the operator",
        ),
        (
            service(json!({"envFrom": [{}]})),
            "exactly one of configMapRef and secretRef",
        ),
        (
            target(json!({"timeout": {"request": "1s", "attempt": "2s"}})),
            "attempt must not be longer than request",
        ),
        (
            target(json!({"hedge": {"delay": "50ms", "percentile": 95}})),
            "belongs to type Percentile",
        ),
        (
            target(json!({"circuitBreaker": {"openDuration": "50ms"}})),
            "openDuration must be at least 100ms",
        ),
        (
            target(json!({"circuitBreaker": {"openDuration": "2m", "maxOpenDuration": "1m"}})),
            "maxOpenDuration",
        ),
        (
            target(json!({"circuitBreaker": {"window": {"type": "Count", "duration": "30s"}}})),
            "a Count window takes calls",
        ),
        (
            target(json!({"circuitBreaker": {"minimumRequests": 20, "window": {"type": "Count", "calls": 10}}})),
            "minimumRequests must not exceed",
        ),
        (
            target(json!({"retry": {"backoff": {"base": "5s", "max": "1s"}}})),
            "base must not be longer than max",
        ),
        (chaos(json!({})), "exactly one fault"),
        (
            chaos(json!({"podKill": {}, "errors": {}, "duration": "5s"})),
            "exactly one fault",
        ),
        (chaos(json!({"errors": {}})), "duration is required"),
        (chaos(json!({"crash": {}})), "duration is required"),
        (
            chaos(json!({"refuse": {}, "memoryStress": {"size": "1Mi"}, "duration": "5s"})),
            "exactly one fault",
        ),
        (
            chaos(json!({"podKill": {}, "duration": "5s"})),
            "duration has no meaning for podKill",
        ),
        (
            chaos(json!({"errors": {}, "duration": "0s"})),
            "duration must be at least 1s",
        ),
        (
            chaos(json!({"latency": {"delay": "0s"}, "duration": "5s"})),
            "delay must be between",
        ),
        (
            chaos(json!({"latency": {"delay": "1s", "jitter": "2s"}, "duration": "5s"})),
            "jitter must not be longer",
        ),
        (
            chaos(json!({"podKill": {}, "timeZone": "Europe/Berlin"})),
            "timeZone has no meaning without schedule",
        ),
        (chaos(json!({"podKill": {}, "count": "0%"})), "count must be"),
        (chaos(json!({"podKill": {}, "count": 101})), "count must be"),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "mode": "Edge", "http": {"service": "a",
                "expect": {"latencyPercentile": {"percent": 95, "max": "1s"}}}}]}}),
            ),
            "in which mode Edge does not ask",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "a",
                "expect": {"latencyPercentile": {"percent": 95, "max": "6s"}}}}]}}),
            ),
            "max must be between 1ms and 5s",
        ),
        (
            chaos(json!({"podKill": {}, "after": {"experiment": "slow"}})),
            "this one would wait for itself",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "mode": "OnFault", "http": {"service": "a"}}]}}),
            ),
            "mode OnFault needs a fault that lasts",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a",
                "prometheus": {"service": "a", "url": "http://b", "query": "up", "comparator": ">", "value": 1}}]}})),
            "exactly one of service and url must be set",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a",
                "prometheus": {"url": "http://b", "port": 80, "query": "up", "comparator": ">", "value": 1}}]}})),
            "port has no meaning with url",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a"}]}})),
            "exactly one of http, condition and prometheus",
        ),
        (
            object(
                "BackupPolicy",
                &"x".repeat(53),
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}}),
            ),
            "at most 52",
        ),
        (
            object("BackupPolicy", "p", json!({"databases": [], "destination": {}})),
            "exactly one of s3 and volumeClaim",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}, "s3": {"bucket": "b", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "exactly one of s3 and volumeClaim",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"s3": {"bucket": "b", "prefix": "/pg", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "without a leading '/'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"s3": {"bucket": "b", "prefix": "pg/../x", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "prefix must not hold '..'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "verification": {"queries": [
                    {"name": "q", "database": "d", "query": "SELECT 1"},
                ]}}),
            ),
            "a query must have equals",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "verification": {"queries": [
                    {"name": "q", "database": "d", "query": "SELECT 1", "equals": 1, "atMost": 2},
                ]}}),
            ),
            "a query must have equals",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "verification": {"queries": [
                    {"name": "q", "database": "d", "query": "SELECT 1; DROP TABLE t", "equals": 1},
                ]}}),
            ),
            "one SELECT without ';'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c", "path": "a/../../b"}}}),
            ),
            "must not leave the volume",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c", "path": "/archives"}}}),
            ),
            "without a leading '/'",
        ),
        (
            object(
                "BackupPolicy",
                "p",
                json!({"databases": [], "destination": {"volumeClaim": {"claimName": "c"}}, "schedule": {"catchUpWindow": "24h"}}),
            ),
            "catchUpWindow must be less than 24h",
        ),
    ] {
        let problems = problems(&object);
        assert!(problems.contains(text), "wanted `{text}` of {object}, got `{problems}`");
    }
}

#[test]
fn a_running_experiment_is_frozen_but_for_its_stop_button() {
    let in_phase = |phase: &str, spec: Value| -> ChaosExperiment {
        let mut object = chaos(spec);
        object["status"] = json!({"observedGeneration": 1, "phase": phase});
        serde_json::from_value(object).unwrap()
    };
    let spec = json!({"latency": {"delay": "3s"}, "duration": "20s"});
    let refused = |phase: &str, change: Value| {
        let new = in_phase(phase, merged(spec.clone(), change));
        let old = in_phase(phase, spec.clone());
        new.validate_cel_update(&old).err().map(|errors| format!("{errors:?}"))
    };
    for phase in ["Running", "Recovering"] {
        assert_eq!(refused(phase, json!({"desired": "Stop"})), None);
        for change in [
            json!({"latency": {"delay": "30s"}}),
            json!({"duration": "21s"}),
            json!({"count": 2}),
            json!({"target": {"service": "payment"}}),
            json!({"safety": {}}),
            json!({"dryRun": true}),
            json!({"steadyState": {"probes": [{"name": "a", "http": {"service": "order"}}]}}),
        ] {
            let text = refused(phase, change.clone()).unwrap_or_default();
            assert!(
                text.contains("frozen while a run is Running or Recovering"),
                "{phase} {change}: {text}"
            );
        }
        for (fault, other) in [
            (json!({"latency": {"delay": "3s"}}), json!({"latency": {"delay": "4s"}})),
            (json!({"errors": {}}), json!({"errors": {"percent": 1}})),
            (json!({"abort": {}}), json!({"abort": {"percent": 1}})),
            (json!({"partition": {"peer": "a"}}), json!({"partition": {"peer": "b"}})),
            (json!({"crash": {}}), json!({"crash": {"times": 2}})),
            (json!({"cpuStress": {}}), json!({"cpuStress": {"workers": 2}})),
            (
                json!({"memoryStress": {"size": "1Mi"}}),
                json!({"memoryStress": {"size": "2Mi"}}),
            ),
            // What another fault adds or takes away is seen too.
            (json!({"refuse": {}}), json!({"errors": {}})),
            (json!({"errors": {}}), json!({"refuse": {}})),
        ] {
            let base = json!({"duration": "20s"});
            let old = in_phase(phase, merged(base.clone(), fault.clone()));
            let new = in_phase(phase, merged(base, other.clone()));
            assert!(new.validate_cel_update(&old).is_err(), "{phase}: {fault} to {other}");
            assert!(old.validate_cel_update(&old).is_ok(), "{phase}: {fault}");
        }
    }
    assert_eq!(refused("Completed", json!({"duration": "21s"})), None);
}

#[test]
fn a_record_never_changes() {
    let record = |slot: &str| -> Backup {
        serde_json::from_value(object(
            "Backup",
            "shop-20260821",
            json!({
                "policyRef": {"name": "shop", "uid": "u"}, "slot": slot, "scheduledAt": "2026-08-21T00:00:00Z"
            }),
        ))
        .unwrap()
    };
    assert!(record("2026-08-21").validate_cel_update(&record("2026-08-21")).is_ok());
    assert!(record("2026-08-22").validate_cel_update(&record("2026-08-21")).is_err());
}
