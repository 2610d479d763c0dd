//! Probes. Pure.

use super::{Notes, Spec, document::Fields, ports::Ports};
use serde_json::{Value, json};

/// The probe in the form of a ResilientService, or nothing where it asks what cannot be asked.
pub fn convert(found: &Value, field: &str, ports: &mut Ports, notes: &mut Notes) -> Value {
    let mut probe = Fields::of(found);
    let mut wanted = Spec::default();
    if let Some(mut http) = probe.take("httpGet").map(|http| Fields::new(Some(http))) {
        wanted.put("path", http.take("path").unwrap_or_else(|| json!("/")));
        wanted.put_some("scheme", http.take("scheme").filter(|scheme| *scheme != json!("HTTP")));
        wanted.put_some("httpHeaders", http.take("httpHeaders"));
        if !put_port(http.take("port"), field, ports, &mut wanted, notes) {
            return Value::Null;
        }
        notes.leftovers(&format!("{field}.httpGet"), http);
    } else if let Some(tcp) = probe.take("tcpSocket") {
        wanted.put("type", json!("TCP"));
        let mut tcp = Fields::new(Some(tcp));
        if !put_port(tcp.take("port"), field, ports, &mut wanted, notes) {
            return Value::Null;
        }
        notes.leftovers(&format!("{field}.tcpSocket"), tcp);
    } else if let Some(grpc) = probe.take("grpc") {
        wanted.put("type", json!("GRPC"));
        let mut grpc = Fields::new(Some(grpc));
        wanted.put_some("service", grpc.take("service").filter(|service| *service != json!("")));
        if !put_port(grpc.take("port"), field, ports, &mut wanted, notes) {
            return Value::Null;
        }
    } else if let Some(exec) = probe.take("exec") {
        wanted.put("type", json!("Exec"));
        wanted.put("command", exec["command"].clone());
    } else {
        notes.warn(&format!("{field} asks nothing and is left out"));
        return Value::Null;
    }
    for field in [
        "initialDelaySeconds",
        "periodSeconds",
        "failureThreshold",
        "timeoutSeconds",
    ] {
        wanted.put_some(field, probe.take(field));
    }
    probe.forget_defaults(&[("successThreshold", json!(1))]);
    notes.leftovers(field, probe);
    Value::Object(wanted.0)
}

/// Names the port that is asked, unless it is the first, which is asked where none is named.
fn put_port(port: Option<Value>, field: &str, ports: &mut Ports, wanted: &mut Spec, notes: &mut Notes) -> bool {
    let reference = port.unwrap_or_default();
    let Some(name) = ports.find_or_add(&reference).map(|port| port.called()) else {
        notes.warn(&format!(
            "{field} asks port {reference}, which the container does not list, and is left out"
        ));
        return false;
    };
    if !ports.is_first(&name) {
        wanted.put("port", json!(name));
    }
    true
}
