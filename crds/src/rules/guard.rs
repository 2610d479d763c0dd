//! Guards that are refused: by what they say themselves, and by what stands beside them.

use super::*;

/// A field of the guard with a value, and the remedy.
pub(super) fn by_rule() -> Vec<Row> {
    let ports = |ports: Value| guarded(merged(sidecar(), json!({"inbound": {"ports": ports}})));
    let outbound = |outbound: Value| guarded(merged(sidecar(), json!({"outbound": outbound})));
    let beside = |spec: Value| merged_spec(guarded(sidecar()), spec);
    vec![
        (ports(json!([{"name": "admin"}])), "add the port, or correct the name"),
        (
            ports(json!([{"name": "http"}, {"name": "grpc", "protocol": "H2C"}])),
            "add the port, or correct the name",
        ),
        (
            outbound(json!({"unknownHosts": "Forward"})),
            "a listener of a target knows one host alone",
        ),
        (
            beside(json!({"resilience": {"protocol": "None"}})),
            "remove protocol, or set guard.mode to Off",
        ),
        (
            beside(json!({"resilience": {"reportPort": 15001}})),
            "the guard listens there; choose another",
        ),
        (
            beside(json!({"resilience": {"reportPort": 15299}})),
            "the guard listens there; choose another",
        ),
        (
            beside(json!({"ports": [{"name": "http", "containerPort": 15200}]})),
            "the guard listens there; choose another",
        ),
        (
            guarded_towards(sidecar(), json!({})),
            "write it, or set guard.outbound.targets to None",
        ),
        (
            guarded_towards(json!({}), json!({"url": "tcp://cache:6379"})),
            "set guard.mode to Sidecar and guard.outbound.targets to Auto, or write http://",
        ),
        (
            guarded_towards(json!({}), json!({"url": "https://bank", "tls": {"serverName": "bank"}})),
            "set guard.mode to Sidecar and guard.outbound.targets to Auto, or remove tls",
        ),
    ]
}

/// A field of the guard with a value that it cannot have.
pub(super) fn by_structure() -> Vec<Row> {
    let with = |guard: Value| guarded(merged(sidecar(), guard));
    let port = |port: Value| with(json!({"inbound": {"ports": [port]}}));
    let outbound = |outbound: Value| with(json!({"outbound": outbound}));
    let many: Vec<Value> = (0..17).map(|number| json!({"name": format!("p{number}")})).collect();
    vec![
        (with(json!({"mode": "On"})), "spec.guard.mode"),
        // What YAML makes of Off without quotes.
        (with(json!({"mode": false})), "spec.guard.mode"),
        (with(json!({"mode": "Unknown"})), "spec.guard.mode"),
        (with(json!({"sidecar": true})), "unknown field \"spec.guard.sidecar\""),
        (with(json!({"image": ""})), "spec.guard.image"),
        (with(json!({"image": "a guard"})), "spec.guard.image"),
        (with(json!({"image": "g".repeat(513)})), "spec.guard.image"),
        (with(json!({"inbound": {"ports": many}})), "spec.guard.inbound.ports"),
        (port(json!({})), "spec.guard.inbound.ports[0].name"),
        (port(json!({"name": ""})), "spec.guard.inbound.ports[0].name"),
        (
            port(json!({"name": "p".repeat(16)})),
            "spec.guard.inbound.ports[0].name",
        ),
        (
            port(json!({"name": "http", "protocol": "http"})),
            "spec.guard.inbound.ports[0].protocol",
        ),
        (
            port(json!({"name": "http", "protocol": "UDP"})),
            "spec.guard.inbound.ports[0].protocol",
        ),
        (
            with(json!({"inbound": {"ports": [{"name": "http"}, {"name": "http"}]}})),
            "Duplicate value",
        ),
        (outbound(json!({"targets": "Some"})), "spec.guard.outbound.targets"),
        (outbound(json!({"httpProxy": "yes"})), "spec.guard.outbound.httpProxy"),
        (
            outbound(json!({"httpProxy": true, "unknownHosts": "Drop"})),
            "spec.guard.outbound.unknownHosts",
        ),
    ]
}
