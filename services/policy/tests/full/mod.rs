//! Documents with every field set.
#![allow(dead_code, reason = "each test program uses some of them")]

/// Every field of the policy, with the values of the design page.
pub const POLICY: &str = r#"{
  "version": 1, "mode": "Shadow", "chaos": {"admission": "Allowed"},
  "inbound": {
    "timeout": "15s",
    "rateLimit": {"rules": [
      {"name": "demo", "scope": "Distributed", "routes": ["POST /api/orders"], "requests": 5, "window": "10s",
       "algorithm": "Window", "key": {"type": "Claim", "name": "sub"}},
      {"name": "all", "scope": "Service", "requests": 1000, "window": "1s", "burst": 50, "algorithm": "GCRA"},
      {"name": "ip", "requests": 5, "window": "10s", "key": {"type": "ClientIP"}}]},
    "concurrency": {"type": "Adaptive", "max": 200, "min": 10, "initial": 20, "maxQueue": 5, "queueTimeout": "50ms",
      "priorities": {"header": "Lower", "routes": [{"route": "GET /api/suggestions", "priority": "BestEffort"}],
        "defaultPercent": 80, "sheddablePercent": 60, "bestEffortPercent": 40}},
    "idempotency": {"requiredRoutes": ["POST /api/orders"], "ttl": "24h", "lockTimeout": "30s"}},
  "targets": [{
    "name": "inventory", "url": "http://inventory.shop.svc",
    "timeout": {"request": "1s", "attempt": "500ms", "connect": "2s"},
    "retry": {"maxAttempts": 3, "backoff": {"base": "100ms", "max": "2s"}, "budget": {"percent": 20, "minPerSecond": 1}},
    "circuitBreaker": {"consecutiveFailures": 3, "window": {"type": "Time", "duration": "30s"}, "minimumRequests": 20,
      "failureRatePercent": 50, "slowCallDuration": "5s", "slowCallRatePercent": 100, "openDuration": "10s",
      "maxOpenDuration": "1m", "halfOpenPermits": 5, "halfOpenTimeout": "30s", "scope": "Target"},
    "bulkhead": {"maxConcurrent": 100, "maxWait": "0s"},
    "idempotentRoutes": ["POST /api/inventory/deduct"],
    "hedge": {"type": "Percentile", "delay": "100ms", "percentile": 90, "maxHedgedAttempts": 2}, "balancing": {"type": "P2C"},
    "override": {"circuitBreaker": "ForcedOpen", "until": "2026-11-21T10:00:00Z"}}]}"#;

/// Every kind of fault, with every field set.
pub const FAULTS: [&str; 9] = [
    r#"{"latency": {"delay": "2s", "jitter": "500ms", "percent": 50, "routes": ["POST /api/inventory/deduct"]}}"#,
    r#"{"errors": {"percent": 70, "status": 503, "routes": ["GET /"]}}"#,
    r#"{"abort": {"percent": 10, "routes": ["GET /"]}}"#,
    r#"{"refuse": {}}"#,
    r#"{"partition": {"direction": "Egress", "peer": "shop/inventory"}}"#,
    r#"{"crash": {"times": 2}}"#,
    r#"{"cpuStress": {"loadPercent": 80, "workers": 2}}"#,
    r#"{"memoryStress": {"size": "256Mi"}}"#,
    r#"{"podKill": {}}"#,
];

/// A faults document with this fault.
pub fn faults_document(fault: &str) -> serde_json::Value {
    let fault: serde_json::Value = serde_json::from_str(fault).unwrap();
    serde_json::json!({"version": 1, "faults": [{
        "run": "r-1", "podUIDs": ["u"], "duration": "60s", "notAfter": "2026-11-21T10:01:45Z",
        "intentAt": "2026-11-21T10:00:00Z", "fault": fault
    }]})
}
