//! What is refused before a rule is asked: by types, bounds, patterns and names of fields.

use super::restore::{archive, replacing, restore};
use super::*;

pub(super) fn by_structure() -> Vec<Row> {
    [
        services(),
        guard::by_structure(),
        targets(),
        inbound_limits(),
        experiments(),
        policies(),
        restores(),
    ]
    .concat()
}

fn services() -> Vec<Row> {
    vec![
        (service(json!({"replica": 3})), "unknown field \"spec.replica\""),
        (service(json!({"replicas": 1001})), "spec.replicas"),
        (service(json!({"replicas": -1})), "spec.replicas"),
        (service(json!({"image": ""})), "spec.image"),
        (service(json!({"volumes": [{"emptyDir": {}}]})), "spec.volumes[0].name"),
        (
            service(json!({"env": [{"name": "A"}, {"name": "A"}]})),
            "Duplicate value",
        ),
        (
            service(json!({"chaos": {"admission": "Sometimes"}})),
            "Unsupported value: \"Sometimes\"",
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
    ]
}

fn targets() -> Vec<Row> {
    let bank = |tls: Value| guarded_towards(sidecar(), json!({"url": "https://bank", "tls": tls}));
    vec![
        (
            bank(json!({"serverName": "bank:443"})),
            "spec.resilience.targets[0].tls.serverName",
        ),
        (
            bank(json!({"caBundleRef": {"name": "Bank"}})),
            "spec.resilience.targets[0].tls.caBundleRef.name",
        ),
        (
            bank(json!({"caBundleRef": {"name": "bank", "key": "a/b"}})),
            "spec.resilience.targets[0].tls.caBundleRef.key",
        ),
        (
            guarded_towards(sidecar(), json!({"url": "tcp://cache"})),
            "spec.resilience.targets[0].url",
        ),
        (target(json!({"url": "inventory:80"})), "spec.resilience.targets[0].url"),
        (
            target(json!({"timeout": {"request": "1 second"}})),
            "spec.resilience.targets[0].timeout.request",
        ),
        (
            target(json!({"circuitBreaker": {"consecutiveFailures": 0}})),
            "spec.resilience.targets[0].circuitBreaker.consecutiveFailures",
        ),
        (
            target(json!({"circuitBreaker": {"failureRatePercent": 101}})),
            "spec.resilience.targets[0].circuitBreaker.failureRatePercent",
        ),
        (
            target(json!({"idempotentRoutes": ["GET /x"]})),
            "spec.resilience.targets[0].idempotentRoutes[0]",
        ),
        (
            target(json!({"override": {"circuitBreaker": "ForcedOpen", "until": "2026-11-27T03:00:00+99:99"}})),
            "spec.resilience.targets[0].override.until",
        ),
    ]
}

fn inbound_limits() -> Vec<Row> {
    vec![
        (
            limit(json!({"name": "All"})),
            "spec.resilience.inbound.rateLimit.rules[0].name",
        ),
        (
            limit(json!({"requests": 0})),
            "spec.resilience.inbound.rateLimit.rules[0].requests",
        ),
        (
            limit(json!({"window": "1 minute"})),
            "spec.resilience.inbound.rateLimit.rules[0].window",
        ),
        (
            limit(json!({"routes": ["/api/orders"]})),
            "spec.resilience.inbound.rateLimit.rules[0].routes[0]",
        ),
        (limit(json!({"scope": "Cluster"})), "Unsupported value: \"Cluster\""),
        (
            inbound(json!({"idempotency": {"requiredRoutes": ["orders"]}})),
            "spec.resilience.inbound.idempotency.requiredRoutes[0]",
        ),
    ]
}

fn experiments() -> Vec<Row> {
    let lasting = |fault: Value| chaos(merged(json!({"duration": "5s"}), fault));
    let kill = |more: Value| chaos(merged(json!({"podKill": {}}), more));
    let daily = |more: Value| kill(merged(json!({"schedule": "0 10 * * *"}), more));
    let probe = |block: Value| kill(json!({"steadyState": {"probes": [merged(json!({"name": "a"}), block)]}}));
    let http = |block: Value| probe(json!({"http": merged(json!({"service": "order"}), block)}));
    let prometheus = |block: Value| {
        let good = json!({"service": "p", "query": "up", "comparator": "<", "value": 1});
        probe(json!({"prometheus": merged(good, block)}))
    };
    vec![
        (lasting(json!({"crash": {"times": 4}})), "spec.crash.times"),
        (lasting(json!({"cpuStress": {"workers": 65}})), "spec.cpuStress.workers"),
        (
            lasting(json!({"memoryStress": {"size": "65Gi"}})),
            "spec.memoryStress.size",
        ),
        (lasting(json!({"partition": {"peer": "Order"}})), "spec.partition.peer"),
        (lasting(json!({"errors": {"status": 200}})), "spec.errors.status"),
        (lasting(json!({"errors": {"percent": 0}})), "spec.errors.percent"),
        (
            lasting(json!({"errors": {"routes": ["GET /a?b=c"]}})),
            "spec.errors.routes",
        ),
        (
            lasting(json!({"errors": {"routes": ["GET /a/*"]}})),
            "spec.errors.routes",
        ),
        (
            lasting(json!({"latency": {"delay": "1s", "routes": ["ANY /a"]}})),
            "spec.latency.routes",
        ),
        (lasting(json!({"abort": {"percent": 101}})), "spec.abort.percent"),
        (
            lasting(json!({"cpuStress": {"loadPercent": 0}})),
            "spec.cpuStress.loadPercent",
        ),
        (
            lasting(json!({"memoryStress": {"size": "12MB"}})),
            "spec.memoryStress.size",
        ),
        (lasting(json!({"memoryStress": {}})), "spec.memoryStress.size"),
        (lasting(json!({"latency": {"delay": "2"}})), "spec.latency.delay"),
        (chaos(json!({"refuse": {}, "duration": "5 minutes"})), "spec.duration"),
        (kill(json!({"target": {"service": "Inventory"}})), "spec.target.service"),
        (kill(json!({"target": {"service": ""}})), "spec.target.service"),
        (
            kill(json!({"target": {"service": "inventory", "zone": "west 1"}})),
            "spec.target.zone",
        ),
        (
            kill(json!({"podKill": {"gracePeriodSeconds": -1}})),
            "spec.podKill.gracePeriodSeconds",
        ),
        (kill(json!({"podKill": {"method": "Wish"}})), "spec.podKill.method"),
        (kill(json!({"safety": {"minPodAge": "-3s"}})), "spec.safety.minPodAge"),
        (
            kill(json!({"safety": {"minAvailable": -1}})),
            "spec.safety.minAvailable",
        ),
        (kill(json!({"after": {"experiment": "First"}})), "spec.after.experiment"),
        (
            kill(json!({"after": {"experiment": "first", "verdict": "Passed"}})),
            "spec.after.verdict",
        ),
        (kill(json!({"desired": "Pause"})), "spec.desired"),
        (kill(json!({"schedule": "@daily"})), "spec.schedule"),
        (kill(json!({"schedule": "0 10 * *"})), "spec.schedule"),
        (kill(json!({"schedule": "0 10 * * 5#2"})), "spec.schedule"),
        (kill(json!({"schedule": "0 10 ? * *"})), "spec.schedule"),
        (
            daily(json!({"startingDeadlineSeconds": 9})),
            "spec.startingDeadlineSeconds",
        ),
        (
            daily(json!({"excludedWindows": [{"from": "9:00", "to": "17:00"}]})),
            "spec.excludedWindows[0].from",
        ),
        (
            probe(json!({"failureThreshold": 0, "http": {"service": "order"}})),
            "spec.steadyState.probes[0].failureThreshold",
        ),
        (
            probe(json!({"grpc": {"service": "order"}})),
            "spec.steadyState.probes[0].grpc.port",
        ),
        (http(json!({"path": "api"})), "spec.steadyState.probes[0].http.path"),
        (http(json!({"port": 65536})), "spec.steadyState.probes[0].http.port"),
        (
            http(json!({"expect": {"status": 99}})),
            "spec.steadyState.probes[0].http.expect.status",
        ),
        (
            http(json!({"expect": {"bodyContains": ""}})),
            "spec.steadyState.probes[0].http.expect.bodyContains",
        ),
        (
            probe(json!({"condition": {"name": "Order", "type": "Ready"}})),
            "spec.steadyState.probes[0].condition.name",
        ),
        (
            prometheus(json!({"query": " "})),
            "spec.steadyState.probes[0].prometheus.query",
        ),
        (
            prometheus(json!({"comparator": "="})),
            "spec.steadyState.probes[0].prometheus.comparator",
        ),
    ]
}

fn policies() -> Vec<Row> {
    vec![
        (policy(json!({"databases": []})), "spec.databases"),
        (
            policy(json!({"databases": [{"name": "a b", "connectionSecretRef": {"name": "a"}}]})),
            "spec.databases[0].name",
        ),
        (
            policy(json!({"encryption": {"ageRecipients": []}})),
            "spec.encryption.ageRecipients",
        ),
        (
            policy(json!({"scratch": {"sizeLimit": "many"}})),
            "spec.scratch.sizeLimit",
        ),
        (
            policy(json!({"retention": {"minVerified": 0}})),
            "spec.retention.minVerified",
        ),
    ]
}

fn restores() -> Vec<Row> {
    let policy = |name: &str, rest: Value| json!({"source": merged(json!({"policyRef": {"name": name}}), rest)});
    let hashed = merged(archive("a.tar.zst"), json!({"sha256": "ABC"}));
    vec![
        (
            restore(json!({"mode": "Overwrite"})),
            "Unsupported value: \"Overwrite\"",
        ),
        (restore(json!({"roles": "All"})), "Unsupported value: \"All\""),
        (
            restore(json!({"identity": {"name": "key"}})),
            "unknown field \"spec.identity\"",
        ),
        (restore(json!({"target": {}})), "spec.target.connectionSecretRef"),
        (restore(policy("Nightly", json!({}))), "spec.source.policyRef.name"),
        (
            restore(policy("nightly", json!({"select": "Oldest"}))),
            "Unsupported value: \"Oldest\"",
        ),
        (
            restore(policy("nightly", json!({"select": "Slot", "slot": "21.08.2026"}))),
            "spec.source.slot",
        ),
        (
            restore(json!({"source": {"archive": hashed}})),
            "spec.source.archive.sha256",
        ),
        (
            restore(json!({"source": {"archive": archive("")}})),
            "spec.source.archive.key",
        ),
        (restore(json!({"databases": [{"name": ""}]})), "spec.databases[0].name"),
        (
            restore(json!({"databases": [{"name": "a"}, {"name": "a", "as": "b"}]})),
            "Duplicate value",
        ),
        (replacing(json!({"replace": {}})), "spec.replace.confirm"),
        (
            replacing(json!({"replace": {"confirm": "orders", "keepPrevious": "a week"}})),
            "spec.replace.keepPrevious",
        ),
    ]
}
