//! ResilientServices that are refused.

use super::*;

pub(super) fn by_rule() -> Vec<Row> {
    let concurrency = |block: Value| inbound(json!({"concurrency": block}));
    let breaker = |block: Value| target(json!({"circuitBreaker": block}));
    let security = |block: Value| service(json!({"securityContext": block}));
    let toleration = |block: Value| service(json!({"tolerations": [block]}));
    let liveness = |block: Value| service(json!({"probes": {"liveness": block}}));
    let tcp = |block: Value| guarded_towards(sidecar(), merged(json!({"url": "tcp://cache:6379"}), block));
    vec![
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
            guarded_towards(json!({"mode": "Off"}), json!({"url": "tcp://cache:6379"})),
            "tcp:// needs a guard that relays it",
        ),
        (
            target(json!({"url": "tcp://cache:6379"})),
            "tcp:// needs a guard that relays it",
        ),
        (
            guarded_towards(
                json!({"mode": "Sidecar", "outbound": {"targets": "None"}}),
                json!({"url": "tcp://cache:6379"}),
            ),
            "tcp:// needs a guard that relays it",
        ),
        (
            guarded_towards(sidecar(), json!({})),
            "targets[].url is required with guard.mode Sidecar",
        ),
        (
            guarded_towards(sidecar(), json!({"url": "http://bank", "tls": {"serverName": "bank"}})),
            "tls belongs to https:// targets",
        ),
        (
            tcp(json!({"tls": {"serverName": "bank"}})),
            "tls belongs to https:// targets",
        ),
        (
            guarded_towards(sidecar(), json!({"url": "https://bank", "tls": {}})),
            "tls needs caBundleRef or serverName",
        ),
        (
            target(json!({"url": "https://bank", "tls": {"caBundleRef": {"name": "bank"}}})),
            "tls needs a guard that makes TLS",
        ),
        (
            guarded_towards(
                json!({"mode": "Sidecar", "outbound": {"targets": "None"}}),
                json!({"url": "https://bank", "tls": {"serverName": "bank"}}),
            ),
            "tls needs a guard that makes TLS",
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
    ]
}
