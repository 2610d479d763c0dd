//! Changes that are refused, of objects that were right before.

use super::*;

/// A change that must be refused.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As it was, with its status where that matters.
    pub old: Value,
    /// As it is asked to be.
    pub new: Value,
    /// What the answer must say.
    pub text: &'static str,
}

/// Every change that must be refused, by a rule.
pub fn changed() -> Vec<Changed> {
    let experiment = |phase: &str, spec: Value| {
        let mut object = chaos(spec);
        object["status"] = json!({"observedGeneration": 1, "phase": phase});
        object
    };
    let latency = |delay: &str| json!({"latency": {"delay": delay}, "duration": "20s"});
    let record = |slot: &str| {
        let policy = json!({"name": "shop", "uid": "u"});
        let spec = json!({"policyRef": policy, "slot": slot, "scheduledAt": "2026-08-21T00:00:00Z"});
        object("Backup", "shop-20260821", spec)
    };
    vec![
        Changed {
            old: experiment("Pending", json!({"podKill": {}, "schedule": "0 10 * * *"})),
            new: experiment("Pending", json!({"podKill": {}})),
            text: "set spec.desired: Stop with it",
        },
        Changed {
            old: experiment("Running", latency("3s")),
            new: experiment("Running", latency("30s")),
            text: "frozen while a run is Running or Recovering",
        },
        Changed {
            old: record("2026-08-21"),
            new: record("2026-08-22"),
            text: "spec of a Backup never changes",
        },
        Changed {
            old: restore::restore(json!({})),
            new: restore::restore(json!({"databases": [{"name": "orders"}]})),
            text: "make another Restore",
        },
    ]
}
