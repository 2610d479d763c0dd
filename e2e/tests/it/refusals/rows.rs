//! What the API server must refuse, by the schema and the rules of each kind.

use serde_json::{Value, json};

pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "resilience.valerix.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn service(spec: Value) -> Value {
    object(
        "ResilientService",
        "refused",
        merged(json!({"image": "docker.io/library/redis:7.0-bookworm"}), spec),
    )
}

/// A service with a port and a guard.
fn guarded(guard: Value, more: Value) -> Value {
    let base = json!({
        "ports": [{"name": "http", "containerPort": 8080}], "guard": merged(json!({"mode": "Sidecar"}), guard)
    });
    service(merged(base, more))
}

fn target(block: Value) -> Value {
    service(json!({"resilience": {"targets": [merged(json!({"name": "inventory"}), block)]}}))
}

fn inbound(block: Value) -> Value {
    service(json!({"resilience": {"inbound": block}}))
}

fn limit(block: Value) -> Value {
    let rule = merged(json!({"name": "all", "requests": 10, "window": "1s"}), block);
    inbound(json!({"rateLimit": {"rules": [rule]}}))
}

fn chaos(spec: Value) -> Value {
    object(
        "ChaosExperiment",
        "refused",
        merged(json!({"target": {"service": "inventory"}}), spec),
    )
}

pub fn policy(spec: Value) -> Value {
    let base = json!({
        "databases": [{"name": "a", "connectionSecretRef": {"name": "a"}}],
        "destination": {"volumeClaim": {"claimName": "c"}},
    });
    object("BackupPolicy", "refused", merged(base, spec))
}

pub fn merged(mut base: Value, extra: Value) -> Value {
    if let (Some(base), Value::Object(extra)) = (base.as_object_mut(), extra) {
        base.extend(extra);
    }
    base
}

/// Objects that the API server must refuse, each with a text that its answer must hold.
pub fn refused() -> Vec<(Value, &'static str)> {
    vec![
        (service(json!({"replica": 3})), "unknown field \"spec.replica\""),
        (service(json!({"replicas": 1001})), "spec.replicas"),
        (service(json!({"replicas": -1})), "spec.replicas"),
        (service(json!({"image": ""})), "spec.image"),
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
        (
            service(json!({"securityContext": {"runAsUser": 0}})),
            "set runAsNonRoot to false",
        ),
        (
            service(json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}})),
            "without allowPrivilegeEscalation",
        ),
        (
            service(json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}})),
            "localhostProfile belongs to type Localhost",
        ),
        (
            service(json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]})),
            "value belongs to operator Equal",
        ),
        (service(json!({"tolerations": [{"value": "b"}]})), "key is missing"),
        (
            service(json!({"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]})),
            "belongs to effect NoExecute",
        ),
        (service(json!({"volumes": [{"emptyDir": {}}]})), "spec.volumes[0].name"),
        (
            service(json!({"probes": {"liveness": {}}})),
            "path belongs to type HTTP",
        ),
        (
            service(json!({"probes": {"liveness": {"type": "Exec"}}})),
            "command belongs to type Exec",
        ),
        (
            service(json!({"probes": {"liveness": {"type": "Exec", "command": ["a"], "port": "http"}}})),
            "port does not belong to type Exec",
        ),
        (
            service(json!({"probes": {"liveness": {"type": "TCP", "scheme": "HTTPS"}}})),
            "httpHeaders and scheme belong to type HTTP",
        ),
        (
            service(json!({"probes": {"liveness": {"path": "/", "service": "a"}}})),
            "service belongs to type GRPC",
        ),
        (
            object("ResilientService", "1refused", json!({"image": "x"})),
            "metadata.name must start with a letter",
        ),
        (
            guarded(json!({}), json!({"resilience": {"protocol": "None"}})),
            "protocol None contradicts guard.mode Sidecar",
        ),
        (
            guarded(json!({"inbound": {"ports": [{"name": "htp"}]}}), json!({})),
            "must be the name of one of ports",
        ),
        (
            guarded(json!({}), json!({"ports": [{"name": "http", "containerPort": 15100}]})),
            "ports[].containerPort must not be 15001",
        ),
        (
            guarded(json!({}), json!({"resilience": {"reportPort": 15001}})),
            "resilience.reportPort must not be 15001",
        ),
        (
            guarded(json!({"outbound": {"unknownHosts": "Refuse"}}), json!({})),
            "unknownHosts belongs to httpProxy: true",
        ),
        (
            target(json!({"url": "tcp://cache:6379"})),
            "tcp:// needs a guard that relays it",
        ),
        (
            guarded(json!({}), json!({"resilience": {"targets": [{"name": "api"}]}})),
            "targets[].url is required with guard.mode Sidecar",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "bank", "url": "http://bank", "tls": {"serverName": "bank"}}]}}),
            ),
            "tls belongs to https:// targets",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "bank", "url": "https://bank", "tls": {}}]}}),
            ),
            "tls needs caBundleRef or serverName",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "bank", "url": "https://bank", "tls": {"serverName": "bank:443"}}]}}),
            ),
            "spec.resilience.targets[0].tls.serverName",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "bank", "url": "https://bank", "tls": {"caBundleRef": {"name": "Bank"}}}]}}),
            ),
            "spec.resilience.targets[0].tls.caBundleRef.name",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "bank", "url": "https://bank", "tls": {"caBundleRef": {"name": "bank", "key": "a/b"}}}]}}),
            ),
            "spec.resilience.targets[0].tls.caBundleRef.key",
        ),
        (
            target(json!({"url": "https://bank", "tls": {"serverName": "bank"}})),
            "tls needs a guard that makes TLS",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "cache", "url": "tcp://cache:6379", "retry": {"maxAttempts": 2}}]}}),
            ),
            "belong to http:// and https:// targets",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "cache", "url": "tcp://cache:6379", "circuitBreaker": {"scope": "Host"}}]}}),
            ),
            "circuitBreaker.scope Host belongs to",
        ),
        (
            guarded(
                json!({}),
                json!({"resilience": {"targets": [{"name": "cache", "url": "tcp://cache"}]}}),
            ),
            "spec.resilience.targets[0].url",
        ),
        (
            service(json!({"ports": [{"name": "http", "containerPort": 9090}], "resilience": {"reportPort": 9090}})),
            "resilience.reportPort must differ",
        ),
        (
            service(json!({"terminationGracePeriodSeconds": 10, "resilience": {"inbound": {"timeout": "8s"}}})),
            "terminationGracePeriodSeconds must cover",
        ),
        (
            service(
                json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            "value and valueFrom exclude each other",
        ),
        (
            service(json!({"env": [{"name": "VALERIX_SERVICE", "value": "b"}]})),
            "names beginning with VALERIX_",
        ),
        (
            service(json!({"env": [{"name": "A"}, {"name": "A"}]})),
            "Duplicate value",
        ),
        (
            service(json!({"chaos": {"admission": "Sometimes"}})),
            "Unsupported value: \"Sometimes\"",
        ),
        (
            target(json!({"timeout": {"request": "1 second"}})),
            "spec.resilience.targets[0].timeout.request",
        ),
        (
            target(json!({"timeout": {"request": "1s", "attempt": "2s"}})),
            "attempt must not be longer than request",
        ),
        (target(json!({"url": "inventory:80"})), "spec.resilience.targets[0].url"),
        (
            target(json!({"circuitBreaker": {"consecutiveFailures": 0}})),
            "consecutiveFailures",
        ),
        (
            target(json!({"circuitBreaker": {"failureRatePercent": 101}})),
            "failureRatePercent",
        ),
        (
            target(json!({"circuitBreaker": {"minimumRequests": 20, "window": {"type": "Count", "calls": 10}}})),
            "minimumRequests must not exceed window.calls",
        ),
        (
            target(json!({"circuitBreaker": {"window": {"type": "Time", "calls": 10}}})),
            "a Time window takes duration",
        ),
        (target(json!({"idempotentRoutes": ["GET /x"]})), "idempotentRoutes"),
        (limit(json!({"name": "All"})), "rateLimit.rules[0].name"),
        (limit(json!({"requests": 0})), "rateLimit.rules[0].requests"),
        (
            limit(json!({"window": "1 minute"})),
            "spec.resilience.inbound.rateLimit.rules[0].window",
        ),
        (limit(json!({"window": "25h"})), "window must be between 100ms and 24h"),
        (
            limit(json!({"routes": ["/api/orders"]})),
            "rateLimit.rules[0].routes[0]",
        ),
        (limit(json!({"scope": "Cluster"})), "Unsupported value: \"Cluster\""),
        (limit(json!({"burst": 5})), "burst belongs to algorithm GCRA"),
        (limit(json!({"key": {"type": "Claim"}})), "name the header or claim"),
        (
            limit(json!({"requests": 500, "scope": "Service", "key": {"type": "ClientIP"}})),
            "use Distributed",
        ),
        (
            service(json!({"terminationGracePeriodSeconds": 3, "resilience": {"protocol": "None"}})),
            "lifecycle.preStopSleep (5s when absent) must not be longer",
        ),
        (
            service(json!({"terminationGracePeriodSeconds": 10})),
            "resilience.inbound.timeout (15s when absent)",
        ),
        (
            service(json!({"ports": [{"name": "80", "containerPort": 80}]})),
            "spec.ports[0].name",
        ),
        (
            service(json!({"ports": [{"name": "a--b", "containerPort": 80}]})),
            "spec.ports[0].name",
        ),
        (
            service(json!({"envFrom": [{"prefix": "A=B", "configMapRef": {"name": "a"}}]})),
            "spec.envFrom[0].prefix",
        ),
        (service(json!({"podLabels": {"app": "my app"}})), "spec.podLabels.app"),
        (
            service(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostname"}}}]})),
            "spec.env[0].valueFrom.fieldRef.fieldPath",
        ),
        (
            service(json!({"resilience": {"targets": [{"name": "a", "override": {
                "circuitBreaker": "ForcedOpen", "until": "2026-11-27T03:00:00+99:99"
            }}]}})),
            "override.until",
        ),
        (
            inbound(json!({"idempotency": {"requiredRoutes": ["orders"]}})),
            "idempotency.requiredRoutes[0]",
        ),
        (
            inbound(json!({"idempotency": {"lockTimeout": "5s"}})),
            "idempotency.lockTimeout must be longer than timeout",
        ),
        (inbound(json!({"idempotency": {"ttl": "1s"}})), "ttl must be between"),
        (
            inbound(json!({"concurrency": {"min": 20, "max": 10}})),
            "min must not exceed max",
        ),
        (
            inbound(json!({"concurrency": {"priorities": {"bestEffortPercent": 80}}})),
            "bestEffortPercent (50 unless set) must not exceed",
        ),
        (chaos(json!({})), "exactly one fault must be set"),
        (
            chaos(json!({"podKill": {}, "latency": {"delay": "1s"}, "duration": "5s"})),
            "exactly one fault must be set",
        ),
        (chaos(json!({"latency": {"delay": "1s"}})), "duration is required"),
        (chaos(json!({"crash": {}})), "duration is required"),
        (
            chaos(json!({"refuse": {}, "abort": {}, "duration": "5s"})),
            "exactly one fault must be set",
        ),
        (
            chaos(json!({"crash": {"times": 4}, "duration": "5s"})),
            "spec.crash.times",
        ),
        (
            chaos(json!({"cpuStress": {"workers": 65}, "duration": "5s"})),
            "spec.cpuStress.workers",
        ),
        (
            chaos(json!({"memoryStress": {"size": "65Gi"}, "duration": "5s"})),
            "spec.memoryStress.size",
        ),
        (
            chaos(json!({"partition": {"peer": "Order"}, "duration": "5s"})),
            "spec.partition.peer",
        ),
        (chaos(json!({"podKill": {"method": "Wish"}})), "spec.podKill.method"),
        (
            chaos(
                json!({"podKill": {}, "schedule": "0 10 * * *", "excludedWindows": [{"from": "9:00", "to": "17:00"}]}),
            ),
            "spec.excludedWindows[0].from",
        ),
        (
            chaos(json!({"podKill": {}, "excludedWindows": [{"from": "09:00", "to": "17:00"}]})),
            "excludedWindows have no meaning without schedule",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {
                "service": "order", "headers": [{"name": "Authorization", "value": "Bearer x"}]
            }}]}})),
            "a probe sends no credential",
        ),
        (
            chaos(json!({"podKill": {}, "duration": "5s"})),
            "duration has no meaning for podKill",
        ),
        (
            chaos(json!({"latency": {"delay": "10m"}, "duration": "5s"})),
            "delay must be between 1ms and 5m",
        ),
        (
            chaos(json!({"errors": {"status": 200}, "duration": "5s"})),
            "spec.errors.status",
        ),
        (
            chaos(json!({"errors": {"percent": 0}, "duration": "5s"})),
            "spec.errors.percent",
        ),
        (
            chaos(json!({"podKill": {}, "count": "150%"})),
            "count must be a number from 1 to 100",
        ),
        (
            chaos(json!({"podKill": {}, "count": 0})),
            "count must be a number from 1 to 100",
        ),
        (chaos(json!({"podKill": {}, "schedule": "@daily"})), "spec.schedule"),
        (
            chaos(json!({"podKill": {}, "schedule": "0 10 * * 5#2"})),
            "spec.schedule",
        ),
        (chaos(json!({"podKill": {}, "schedule": "0 10 ? * *"})), "spec.schedule"),
        (
            chaos(json!({"errors": {"routes": ["GET /a?b=c"]}, "duration": "5s"})),
            "spec.errors.routes",
        ),
        (
            chaos(json!({"errors": {"routes": ["GET /a/*"]}, "duration": "5s"})),
            "spec.errors.routes",
        ),
        (
            chaos(json!({"latency": {"delay": "1s", "routes": ["ANY /a"]}, "duration": "5s"})),
            "spec.latency.routes",
        ),
        (
            chaos(json!({"podKill": {}, "timeZone": "Europe/Berlin"})),
            "timeZone has no meaning without schedule",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a"}]}})),
            "exactly one of http, grpc, condition and prometheus must be set",
        ),
        (
            chaos(json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "grpc": {"service": "order"}}]}})),
            "spec.steadyState.probes[0].grpc.port",
        ),
        (
            chaos(
                json!({"podKill": {}, "steadyState": {"probes": [{"name": "a", "http": {"service": "order", "body": "{}"}}]}}),
            ),
            "body needs method: POST",
        ),
        (policy(json!({"databases": []})), "spec.databases"),
        (
            policy(json!({"schedule": {"timeOfDay": "24:00"}})),
            "spec.schedule.timeOfDay",
        ),
        (
            policy(json!({"schedule": {"catchUpWindow": "24h"}})),
            "catchUpWindow must be less than 24h",
        ),
        (
            policy(json!({"scratch": {"sizeLimit": "many"}})),
            "spec.scratch.sizeLimit",
        ),
        (policy(json!({"destination": {}})), "exactly one of s3 and volumeClaim"),
        (
            policy(json!({"destination": {"volumeClaim": {"claimName": "c", "path": "a/../../b"}}})),
            "path must not leave the volume",
        ),
        (
            policy(json!({"destination": {"volumeClaim": {"claimName": "c", "path": "/archives"}}})),
            "path must begin with a letter, a digit or '_'",
        ),
        (
            policy(json!({"databases": [{"name": "a b", "connectionSecretRef": {"name": "a"}}]})),
            "spec.databases[0].name",
        ),
        (
            policy(json!({"destination": {
                "volumeClaim": {"claimName": "c"}, "s3": {"bucket": "bbb", "credentialsSecretRef": {"name": "s"}},
            }})),
            "exactly one of s3 and volumeClaim",
        ),
        (
            policy(
                json!({"destination": {"s3": {"bucket": "bbb", "prefix": "/a", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "prefix must begin with",
        ),
        (
            policy(
                json!({"destination": {"s3": {"bucket": "bbb", "prefix": "a/../b", "credentialsSecretRef": {"name": "s"}}}}),
            ),
            "prefix must not hold '..'",
        ),
        (
            policy(json!({"verification": {"queries": [{"name": "q", "database": "a", "query": "SELECT 1"}]}})),
            "a query must have equals",
        ),
        (
            policy(
                json!({"verification": {"queries": [{"name": "q", "database": "a", "query": "SELECT 1; SELECT 2", "equals": 1}]}}),
            ),
            "one SELECT without ';'",
        ),
        (
            policy(json!({"retention": {"minVerified": 0}})),
            "spec.retention.minVerified",
        ),
        (
            object("BackupPolicy", &"x".repeat(53), policy(json!({}))["spec"].clone()),
            "metadata.name must have at most 52",
        ),
    ]
}
